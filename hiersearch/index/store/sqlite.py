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

from hiersearch.errors import Damage, DamageError, IndexLockedError, what_it_is

PATIENCE = 60.0
"""Seconds to wait while another process reads or commits, which takes milliseconds."""


MOST_STEPS = 10**8
"""Steps of SQLite's machine that opening and one transaction may take, and 100 for each byte."""
_STEPS_BETWEEN = 10**5


FOREIGN_ENDS = ("-wal", "-shm")
"""Ends of files that SQLite would read beside a catalogue, but no writer of an index leaves."""
_NAMED_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""What ends a journal that names another one: SQLite deletes the file of that name."""


def _check_files(path: Path) -> None:
    """Check what SQLite would trust beside a catalogue, before it is opened.

    A journal may name a further file, that of a commit to several databases, which is deleted when
    the journal is rolled back: any file at all. A write-ahead log is read in place of the file,
    and its index mapped. Writers of an index leave neither.

    Raises
    ------
    DamageError
        If there is such a journal or log, or one of the files is none.
    """
    journal = Path(f"{path}-journal")
    for file in (path, journal):
        # Opening a pipe would wait for somebody to write to it.
        if file.exists() and not file.is_file():
            raise DamageError(Damage(str(file), what_it_is(file)))
    for end in FOREIGN_ENDS:
        if os.path.lexists(f"{path}{end}"):
            raise DamageError(Damage(f"{path}{end}", "is not a file of an index"))
    with contextlib.suppress(FileNotFoundError), open(journal, "rb") as stream:
        stream.seek(-min(len(_NAMED_JOURNAL), os.fstat(stream.fileno()).st_size), os.SEEK_END)
        if stream.read() == _NAMED_JOURNAL:
            raise DamageError(Damage(str(journal), "names another file, which no writer does"))


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    _check_files(path)
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
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            raise DamageError(Damage(str(path), "has a write-ahead log, must have a journal"))
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
