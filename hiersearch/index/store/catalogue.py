"""The catalogue: a small SQLite file that alone says what an index holds.

Every row is counted in one digest, changed in the same transaction as the row and summed up again
whenever the catalogue is read; beside it ``catalogue.crc`` holds the checksum of the whole file
as of one generation, which covers the bytes that SQLite does not use.

The journal is SQLite's rollback journal, not its write-ahead log: a damaged frame of that log is
taken for the log's end, so that a commit would be lost without a word, and its readers must be
able to write to the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._json import stored_json
from hiersearch.errors import Damage, DamageError, FormatError, OvertakenError, what_it_is
from hiersearch.index.store.catalogue_rows import check_rows, check_schema, read_rows
from hiersearch.index.store.files import new_file, replaced_file, write_all
from hiersearch.index.store.lock import FORKING
from hiersearch.index.store.sqlite import readable, writable

FORMAT_VERSION = 1
APPLICATION_ID = 0x48534958
"""Marks the SQLite file as the catalogue of an index: the letters HSIX."""

CATALOGUE, CHECK = "catalogue.sqlite", "catalogue.crc"
JOURNAL = f"{CATALOGUE}-journal"
Check = tuple[int, int, int]
"""Generation of a catalogue, CRC-32 of its whole file, bytes of the file."""

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE segments (number INTEGER PRIMARY KEY, entries INTEGER, bytes INTEGER,
    checksum INTEGER, generation INTEGER);
CREATE TABLE removals (number INTEGER PRIMARY KEY, segment INTEGER, positions BLOB);
"""
_TABLES = {
    "facts": "name, value",
    "segments": "number, entries, bytes, checksum, generation",
    "removals": "number, segment, positions",
}
_POSITION = np.dtype("<i4")
_CHECK_BYTES = 1024
"""More than the line of a check has."""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """What the catalogue says of one segment."""

    number: int
    """Its number, never used twice in an index."""
    entries: int
    """Entries in it, removed ones included."""
    n_bytes: int
    """Size of its file."""
    checksum: int
    """What its content is identified by."""
    generation: int
    """Generation of the commit that brought it."""


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """What the catalogue says at one generation."""

    settings: Mapping[str, Any]
    """What the index was created with."""
    generation: int
    """Number of commits so far."""
    next_id: int
    """The next automatic id: larger than all integers that ever were ids."""
    next_segment: int
    """Number of the next segment."""
    next_removal: int
    """Number of the next row of removals."""
    segments: tuple[SegmentRow, ...]
    """The segments, in the order of their numbers."""
    removed: Mapping[int, NDArray[np.bool_]]
    """For segments with removed entries: (entries,) which of them are."""
    digest: int
    """Sum over the hashes of all rows, modulo 2**64."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does; all of it happens, or nothing."""

    next_id: int
    """The next automatic id afterwards."""
    added: SegmentRow | None = None
    """The segment that comes."""
    dropped: tuple[int, ...] = ()
    """Numbers of the segments that go."""
    removed: Mapping[int, NDArray[np.integer[Any]]] = field(default_factory=dict)
    """For segments that stay: positions of the entries that go."""


def segment_name(number: int) -> str:
    """Return the file of a segment, relative to the folder of the index."""
    return f"segments/{number:08d}.seg"


def empty(settings: Mapping[str, Any]) -> CatalogueState:
    """Return what the catalogue of an index without entries says."""
    return CatalogueState(settings, 0, 0, 1, 1, (), {}, 0)


def write_aside(path: Path, state: CatalogueState) -> None:
    """Write a whole catalogue durably as a file of another name, which must not be there."""
    with new_file(path) as descriptor:
        write_all(descriptor, _serialized(state))


def write_anew(folder: Path, state: CatalogueState) -> None:
    """Write a whole catalogue in the place of whatever is there, durably and at once."""
    content = _serialized(state)
    write_check(folder, state.generation, content)
    with replaced_file(folder / CATALOGUE) as descriptor:
        write_all(descriptor, content)


def _serialized(state: CatalogueState) -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        rows = _Rows(connection, 0)
        for name, value in _facts(state).items():
            rows.insert("facts", name, value)
        for row in state.segments:
            rows.insert("segments", *_values(row))
        for number, (segment, mask) in enumerate(sorted(state.removed.items()), 1):
            rows.insert("removals", number, segment, _packed(np.flatnonzero(mask)))
        rows.seal()
        return connection.serialize()


def load(folder: Path, *, whole: bool = True) -> CatalogueState:
    """Read the catalogue and check it.

    Parameters
    ----------
    folder : Path
        The folder of the index.
    whole : bool
        Whether to compare the whole file with ``catalogue.crc``, where that is of the same
        generation, on top of the digest of the rows.

    Raises
    ------
    FormatError
        If it is not a catalogue, or of another format version.
    DamageError
        If it is damaged.
    """
    path = folder / CATALOGUE
    if not path.is_file():
        raise DamageError(Damage(str(path), what_it_is(path)))
    if (folder / JOURNAL).is_dir():
        raise DamageError(Damage(str(folder / JOURNAL), "is a folder"))
    # Read before the catalogue: a commit in between then makes the check older, never newer.
    try:
        check = read_check(folder)
    except DamageError:
        check = None
    with readable(path) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # locks the file
        content = connection.serialize()
        n_bytes = _file_bytes(path, connection)
        # SQLite reads zeros where the last page was cut short.
        _check_format(path, connection, content[:n_bytes], check)
        state = _read(path, connection)
    if whole:
        _compare(path, state.generation, content, n_bytes, check)
    return state


def _read(path: Path, connection: sqlite3.Connection) -> CatalogueState:
    check_schema(path, connection, _SCHEMA)
    n_bytes = _file_bytes(path, connection)
    return _state(path, read_rows(path, connection, _TABLES, n_bytes))


@contextlib.contextmanager
def between_commits(folder: Path) -> Iterator[CatalogueState]:
    """Keep everybody from committing, and give what the catalogue says meanwhile."""
    path = folder / CATALOGUE
    with FORKING, writable(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield _read(path, connection)
        connection.execute("ROLLBACK")


def _file_bytes(path: Path, connection: sqlite3.Connection) -> int:
    """Return the size of the file that a connection reads, which may be a copy."""
    return os.stat(connection.execute("PRAGMA database_list").fetchone()[2] or path).st_size


def _check_format(
    path: Path, connection: sqlite3.Connection, content: bytes, check: Check | None
) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id == APPLICATION_ID and version == FORMAT_VERSION:
        return
    if check is not None and check[1:] != _sums(content):
        raise DamageError(Damage(str(path), f"has format version {version} and another checksum"))
    if application_id != APPLICATION_ID:
        raise FormatError(f"{path} must be the catalogue of an index, got another SQLite file")
    raise FormatError(
        f"{path} must have index format version {FORMAT_VERSION}, got {version}: "
        "a newer hiersearch wrote it"
    )


def commit(
    folder: Path,
    state: CatalogueState,
    change: Change,
    last_look: Callable[[], None] = lambda: None,
) -> CatalogueState:
    """Make a change durable in one transaction and return the state after it.

    Parameters
    ----------
    folder : Path
        The folder of the index.
    state : CatalogueState
        What the catalogue says, as far as the writer knows.
    change : Change
        What to do.
    last_look : function, optional
        Called within the transaction; what it raises undoes everything.

    Raises
    ------
    IndexLockedError
        If the catalogue was changed by somebody else, or readers kept it locked.
    OSError
        If the disk is full or fails: nothing was changed.
    """
    generation = state.generation + 1
    after = _changed(state, change)
    # A child that was forked now would inherit the transaction, and undo it when it ends.
    with FORKING, writable(folder / CATALOGUE) as connection:
        connection.execute("BEGIN IMMEDIATE")
        rows = _Rows(connection, state.digest)
        found = connection.execute("SELECT value FROM facts WHERE name = 'digest'").fetchone()
        if found is None or found[0] != f"{state.digest:016x}":
            raise OvertakenError(f"{folder} was changed by another writer: open it again")
        last_look()
        for number in change.dropped:
            rows.delete("segments", "number", number)
            rows.delete("removals", "segment", number)
        if change.added is not None:
            rows.insert("segments", *_values(change.added))
        removal = state.next_removal
        for segment, positions in sorted(change.removed.items()):
            rows.insert("removals", removal, segment, _packed(positions))
            removal += 1
        for name, value in _facts(after).items():
            rows.delete("facts", "name", name)
            rows.insert("facts", name, value)
        after = replace(after, digest=rows.seal())
        connection.execute("COMMIT")
        content = connection.serialize()
    # The commit stands whether or not its check can be written: an older check proves nothing.
    with contextlib.suppress(OSError):
        write_check(folder, generation, content)
    return after


def _changed(state: CatalogueState, change: Change) -> CatalogueState:
    segments = [row for row in state.segments if row.number not in change.dropped]
    if change.added is not None:
        segments.append(change.added)
    removed = {n: mask for n, mask in state.removed.items() if n not in change.dropped}
    entries = {row.number: row.entries for row in state.segments}
    for number, positions in change.removed.items():
        mask = removed.get(number)
        mask = np.zeros(entries[number], np.bool_) if mask is None else mask.copy()
        mask[positions] = True
        removed[number] = mask
    return replace(
        state,
        generation=state.generation + 1,
        next_id=change.next_id,
        next_segment=state.next_segment + (change.added is not None),
        next_removal=state.next_removal + len(change.removed),
        segments=tuple(segments),
        removed=removed,
    )


# --- rows and their digest ------------------------------------------------------------------


class _Rows:
    """Changes rows in a transaction and keeps the digest of all rows in step."""

    def __init__(self, connection: sqlite3.Connection, digest: int) -> None:
        self._connection, self._digest = connection, digest

    def insert(self, table: str, *values: Any) -> None:
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)
        self._digest += _row_hash(table, values)

    def delete(self, table: str, column: str, value: Any) -> None:
        where = f"FROM {table} WHERE {column} = ?"
        for row in self._connection.execute(
            f"SELECT {_TABLES[table]} {where}", (value,)
        ).fetchall():
            self._digest -= _row_hash(table, row)
        self._connection.execute(f"DELETE {where}", (value,))

    def seal(self) -> int:
        """Write the digest, which is no part of itself, and return it."""
        self._digest %= 2**64
        row = ("digest", f"{self._digest:016x}")
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", row)
        return self._digest


def _row_hash(table: str, values: tuple[Any, ...]) -> int:
    hashed = blake2b(table.encode(), digest_size=8)
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        hashed.update(f"{type(value).__name__}:{len(data)}:".encode())
        hashed.update(data)
    return int.from_bytes(hashed.digest(), "little")


def _facts(state: CatalogueState) -> dict[str, Any]:
    return {
        "settings": json.dumps(dict(state.settings)),
        "generation": state.generation,
        "next_id": state.next_id if state.next_id < 2**63 else str(state.next_id),
        "next_segment": state.next_segment,
        "next_removal": state.next_removal,
    }


def _values(row: SegmentRow) -> tuple[int, ...]:
    return row.number, row.entries, row.n_bytes, row.checksum, row.generation


def _packed(positions: NDArray[np.integer[Any]]) -> bytes:
    return np.asarray(positions, _POSITION).tobytes()


def _state(path: Path, tables: Mapping[str, list[tuple[Any, ...]]]) -> CatalogueState:
    facts = dict(tables["facts"])
    written = facts.pop("digest", None)
    total = sum(_row_hash("facts", row) for row in tables["facts"] if row[0] != "digest")
    for name in ("segments", "removals"):
        total += sum(_row_hash(name, row) for row in tables[name])
    digest = total % 2**64
    if written != f"{digest:016x}":
        raise DamageError(Damage(str(path), "the digest of its rows differs"))
    check_rows(path, tables)
    segments = tuple(SegmentRow(*row) for row in tables["segments"])
    removed = {}
    entries = {row.number: row.entries for row in segments}
    for _, segment, positions in tables["removals"]:
        if segment not in removed:
            removed[segment] = np.zeros(entries[segment], np.bool_)
        gone = np.frombuffer(positions, _POSITION)
        if gone.size and not 0 <= int(gone.min()) <= int(gone.max()) < entries[segment]:
            what = f"removals of segment {segment} must be within 0..{entries[segment] - 1}"
            raise DamageError(Damage(str(path), what))
        removed[segment][gone] = True
    return CatalogueState(
        settings=stored_json(facts["settings"]),
        generation=facts["generation"],
        next_id=int(facts["next_id"]),
        next_segment=facts["next_segment"],
        # Catalogues that were recovered may say less.
        next_removal=max([facts["next_removal"], *(row[0] + 1 for row in tables["removals"])]),
        segments=segments,
        removed=removed,
        digest=digest,
    )


# --- the checksum of the whole file ---------------------------------------------------------


def write_check(folder: Path, generation: int, content: bytes) -> None:
    """Write down the checksum that the whole catalogue has at a generation."""
    with replaced_file(folder / CHECK) as descriptor:
        write_all(descriptor, _check_text(generation, *_sums(content)))


def renew_check(folder: Path, state: CatalogueState) -> None:
    """Write the check of a catalogue whose rows are sound, unless there is one of its generation.

    A writer may have been killed between a commit and its check. Only a writer may call this.
    """
    with contextlib.suppress(DamageError):
        if read_check(folder)[0] == state.generation:
            return
    with readable(folder / CATALOGUE) as connection:
        # Through SQLite: closing the file ourselves would drop its locks.
        content = connection.serialize()
    with contextlib.suppress(OSError):
        write_check(folder, state.generation, content)


def _check_text(generation: int, checksum: int, n_bytes: int) -> bytes:
    line = f"generation {generation} checksum {checksum:08x} bytes {n_bytes}"
    return f"{line} line {zlib.crc32(line.encode()):08x}\n".encode()


def read_check(folder: Path) -> Check:
    """Return generation, checksum and size that ``catalogue.crc`` holds.

    Raises
    ------
    DamageError
        If it is missing or damaged, which alone says nothing against the catalogue.
    """
    path = folder / CHECK
    if path.exists() and not path.is_file():
        raise DamageError(Damage(str(path), what_it_is(path)))
    try:
        with open(path, "rb") as file:
            text = file.read(_CHECK_BYTES)
    except FileNotFoundError as error:
        raise DamageError(Damage(str(path), "is missing")) from error
    except OSError as error:
        # Windows calls it forbidden to read a folder.
        if not path.is_dir():
            raise
        raise DamageError(Damage(str(path), "is a folder")) from error
    words = text.split()
    with contextlib.suppress(ValueError, IndexError):
        found = int(words[1]), int(words[3], 16), int(words[5])
        if _check_text(*found) == text:
            return found
    raise DamageError(Damage(str(path), "is not as it was written"))


def _compare(
    path: Path, generation: int, content: bytes, n_bytes: int, check: Check | None
) -> None:
    what = None
    if n_bytes != len(content):
        # Between transactions the file ends with the last of its pages.
        what = f"must have {len(content)} bytes, has {n_bytes}"
    elif check is not None and check[0] > generation:
        what = f"it is of generation {generation}, while {CHECK} is of {check[0]}"
    elif check is not None and check[0] == generation and check[1:] != _sums(content):
        what = "the checksum of the file differs"
    if what is not None:
        raise DamageError(Damage(str(path), what))


def _sums(content: bytes) -> tuple[int, int]:
    return zlib.crc32(content), len(content)
