"""Faults that are planted into a writer, so that a simulation shows that it would find them.

Each is a mistake that was made in real storage code. They reach the store from outside, through
the functions that it calls, so that they stay planted whatever its own code looks like.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Callable
from typing import Any

_fsync = os.fsync
_connect = sqlite3.connect


def plant(fault: str) -> None:
    """Plant a fault, one of :data:`FAULTS` or "none", in this process for good."""
    if fault != "none":
        FAULTS[fault]()


def _without_syncing_files() -> None:
    os.fsync = lambda descriptor: _fsync(descriptor) if _is_folder(descriptor) else None


def _without_syncing_folders() -> None:
    os.fsync = lambda descriptor: None if _is_folder(descriptor) else _fsync(descriptor)


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def _with_setting(name: str, value: str) -> None:
    """Open all SQLite files with another setting than the one asked for."""

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *arguments: Any) -> Any:
            found = super().execute(statement, *arguments)
            if re.match(r"PRAGMA synchronous *=", statement):
                super().execute(f"PRAGMA {name} = {value}").fetchall()
            return found

    sqlite3.connect = lambda *a, **o: _connect(*a, **{**o, "factory": Connection})


FAULTS: dict[str, Callable[[], None]] = {
    "files are not synced": _without_syncing_files,
    "folders are not synced": _without_syncing_folders,
    "SQLite syncs nothing": lambda: _with_setting("synchronous", "OFF"),
    "SQLite keeps no journal": lambda: _with_setting("journal_mode", "OFF"),
    "SQLite keeps its journal in memory": lambda: _with_setting("journal_mode", "MEMORY"),
}
"""What may be planted."""
