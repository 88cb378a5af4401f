"""Connections to the catalogue, and what SQLite's errors mean for an index."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from hiersearch.index.errors import Damage, DamageError, IndexLockedError

PATIENCE = 60.0
"""Seconds to wait while another process reads or commits, which takes milliseconds."""


MOST_STEPS = 10**8
"""Steps of SQLite's machine that opening and one transaction may take, and 100 for each byte."""
_STEPS_BETWEEN = 10**5


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    # Trees that somebody made may lead in circles: SQLite is interrupted, which is damage.
    turns = itertools.count(1)
    most = (MOST_STEPS + 100 * (path.stat().st_size if path.exists() else 0)) // _STEPS_BETWEEN
    connection.set_progress_handler(lambda: next(turns) > most, _STEPS_BETWEEN)
    try:
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA cell_size_check = ON")
        # The first look into the file, at which a killed writer's transaction is rolled back.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def writable(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect for one transaction."""
    with (
        _translated(path, _WRITE_ERRORS),
        contextlib.closing(_connection(path, "rw")) as connection,
    ):
        yield connection


@contextlib.contextmanager
def readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect for reading; the rolling back that a read-only folder forbids is done in a copy."""
    may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    with _translated(path, _ACCESS_ERRORS), contextlib.ExitStack() as stack:
        try:
            connection = _connection(path, "rw" if may_write else "ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory()), path.name)
            for end in ("", "-journal"):
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
            connection = _connection(copy, "rw")
        stack.callback(connection.close)
        yield connection


@contextlib.contextmanager
def _translated(path: Path, system_errors: Mapping[str, int]) -> Iterator[None]:
    """Turn SQLite's errors into what they mean for the index."""
    try:
        yield
    except (sqlite3.Error, MemoryError, UnicodeDecodeError) as error:
        # The last two come of damaged lengths and names.
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise IndexLockedError(
                f"{path} stayed locked by another process for {PATIENCE:g} seconds"
            ) from error
        for prefix, number in system_errors.items():
            if name.startswith(prefix):
                raise OSError(number, str(error), str(path)) from error
        raise DamageError(Damage(str(path), f"SQLite can't read it: {error}")) from error


_ACCESS_ERRORS = {
    "SQLITE_READONLY": errno.EROFS,
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_PERM": errno.EACCES,
}
# An error of the device while reading is damage; while writing it may be the space that is left.
_WRITE_ERRORS = {**_ACCESS_ERRORS, "SQLITE_FULL": errno.ENOSPC, "SQLITE_IOERR": errno.EIO}
