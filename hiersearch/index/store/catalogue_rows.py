"""What rows of a catalogue must be: their digest tells that they were written, not written well."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hiersearch._json import stored_json
from hiersearch.errors import Damage, DamageError
from hiersearch.index.store.facts import (
    LARGEST_COUNT,
    LARGEST_NEXT_ID,
    LARGEST_NUMBER,
    MOST_ENTRIES,
    is_whole,
)

Tables = Mapping[str, list[tuple[Any, ...]]]
"""Rows of each table."""

_LEAST_ROW = 4
"""Bytes that a row takes in the file at least."""
_LARGEST = 2**63 - 1
POSITION_BYTES = 4
"""Bytes of a removed position."""


def read_rows(
    path: Path, connection: sqlite3.Connection, tables: Mapping[str, str], n_bytes: int
) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of tables, no more than a file of its size can hold.

    In a file that somebody made pages may be shared by many places of a tree, which would come to
    far more rows than there are bytes.

    Raises
    ------
    DamageError
        If there are more rows, or more bytes in them.
    """
    found: dict[str, list[tuple[Any, ...]]] = {}
    left = 2 * n_bytes
    for name, columns in tables.items():
        rows = found[name] = []
        for row in connection.execute(f"SELECT {columns} FROM {name} ORDER BY 1"):
            left -= _LEAST_ROW + sum(len(v) for v in row if isinstance(v, str | bytes))
            if left < 0:
                raise _wrong(path, f"table {name} must fit into the file's {n_bytes} bytes")
            rows.append(row)
    return found


def check_schema(path: Path, connection: sqlite3.Connection, statements: str) -> None:
    """Raise DamageError unless a catalogue has the tables that statements make, and nothing else.

    A view in the place of a table would be somebody's program.
    """
    query = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    # Read no further than needed.
    found = connection.execute(query).fetchmany(16)
    memory = sqlite3.connect(":memory:")
    try:
        memory.executescript(statements)
        expected = memory.execute(query).fetchall()
    finally:
        memory.close()
    if found != expected:
        shown = ", ".join(f"{kind} {name}" for kind, name, _ in found)[:80]
        raise _wrong(path, f"must have the tables of a catalogue, has {shown or 'none'}")


def check_rows(path: Path, tables: Tables) -> None:
    """Hold rows of a catalogue against what a writer puts there. O(rows + bytes).

    Raises
    ------
    DamageError
        Naming the first row that is not what a writer puts there.
    """
    facts: dict[Any, Any] = dict(tables["facts"])
    _check_facts(path, facts)
    entries: dict[int, int] = {}
    for row in tables["segments"]:
        number, count, n_bytes, checksum, generation = row
        holds = (
            is_whole(number, 1, min(LARGEST_NUMBER, facts["next_segment"] - 1))
            and is_whole(n_bytes, 1, _LARGEST)
            # An entry takes more than a byte.
            and is_whole(count, 1, min(MOST_ENTRIES, n_bytes))
            and is_whole(checksum, 0, 2**32 - 1)
            and is_whole(generation, 0, facts["generation"])
        )
        if not holds:
            raise _wrong(path, f"a row of segments can't be: {_shown(row)}")
        entries[number] = count
    if sum(entries.values()) > MOST_ENTRIES:
        raise _wrong(path, f"segments must have at most {MOST_ENTRIES} entries together")
    for row in tables["removals"]:
        number, segment, positions = row
        holds = (
            is_whole(number, 1, LARGEST_COUNT)
            and segment in entries
            and isinstance(positions, bytes)
            and len(positions) % POSITION_BYTES == 0
        )
        if not holds:
            raise _wrong(path, f"a row of removals can't be: {_shown(row)}")


def _check_facts(path: Path, facts: Mapping[str, Any]) -> None:
    expected = {"settings", "generation", "next_id", "next_segment", "next_removal", "digest"}
    if set(facts) != expected:
        raise _wrong(path, f"facts must be {sorted(expected)}, are {sorted(map(str, facts))}")
    try:
        is_object = isinstance(facts["settings"], str) and isinstance(
            stored_json(facts["settings"]), dict
        )
    except ValueError:
        is_object = False
    if not is_object:
        raise _wrong(path, f"settings must be a JSON object, are {_shown(facts['settings'])}")
    for name, low, high in (
        ("generation", 0, LARGEST_COUNT),
        ("next_segment", 1, LARGEST_NUMBER + 1),
        ("next_removal", 1, LARGEST_COUNT),
    ):
        if not is_whole(facts[name], low, high):
            raise _wrong(path, f"{name} must be within {low}..{high}, is {_shown(facts[name])}")
    # SQLite has no integer for the last one.
    next_id = LARGEST_NEXT_ID if facts["next_id"] == str(LARGEST_NEXT_ID) else facts["next_id"]
    if not is_whole(next_id, 0, LARGEST_NEXT_ID):
        raise _wrong(path, f"next_id must be within 0..2**63, is {_shown(facts['next_id'])}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _wrong(path: Path, what: str) -> DamageError:
    return DamageError(Damage(str(path), what))
