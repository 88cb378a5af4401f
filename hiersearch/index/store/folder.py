"""What may lie in the folder of an index, how it is made, and what killed writers leave there."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hiersearch.errors import Damage, DamageError, FormatError
from hiersearch.index.store import catalogue
from hiersearch.index.store.catalogue import CatalogueState
from hiersearch.index.store.files import give_name, sync_folder, temporary_name
from hiersearch.index.store.lock import ATTEMPTS, LOCK, MARKER, WriterLock

SEGMENTS = "segments"

_SEGMENT = re.compile(r"(\d{8,})\.seg")
_TEMPORARY = re.compile(r"catalogue\.(sqlite|crc)\.[0-9a-f]{8}\.tmp")


def check_is_index(folder: Path) -> None:
    """Raise unless a folder has a catalogue."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist: an index is a folder")
    if not folder.is_dir():
        raise FormatError(f"{folder} must be an index, which is a folder, got a file")
    if not (folder / catalogue.CATALOGUE).exists():
        if any((folder / SEGMENTS).glob("*.seg")):
            raise DamageError(Damage(str(folder / catalogue.CATALOGUE), "is missing"))
        raise FormatError(f"{folder} must be an index, got a folder without {catalogue.CATALOGUE}")


# --- making one -----------------------------------------------------------------------------


def make_index(folder: Path, settings: Mapping[str, Any]) -> tuple[CatalogueState, WriterLock]:
    """Make an index without entries in a new or empty folder; return what it says and its lock.

    Of several processes that make one at the same moment one succeeds, the others raise. A
    creation that was killed can be made again; one that fails leaves what was there before.

    Raises
    ------
    ValueError
        If the folder holds something already.
    IndexLockedError
        If another process is making an index there.
    OSError
        If it cannot be written.
    """
    check_empty(folder)
    temporary = temporary_name(folder / catalogue.CATALOGUE)
    made: list[Path] = []
    lock = own = None
    try:
        lock = _lock_of_new(folder, made)
        # Only now nobody else can be making one.
        check_empty(folder)
        for left in _left_of_catalogues(folder):
            left.unlink(missing_ok=True)
        _make_folder(folder / SEGMENTS, made)
        catalogue.write_aside(temporary, catalogue.empty(settings))
        own = temporary.stat()
        _name(temporary, folder)
        state = catalogue.load(folder)
        catalogue.renew_check(folder, state)
        # Also where the folder was there before: its own name may be as new as what it holds.
        _sync_parent(folder)
        return state, lock
    except BaseException:
        _unmake(folder, temporary, own, lock, made)
        raise


def check_empty(folder: Path) -> None:
    """Raise unless a folder is missing, empty, or what a killed creation left."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"path must be a new or empty folder, got a file: {folder}")
    if os.path.lexists(folder / catalogue.CATALOGUE):
        raise _not_empty(folder)
    found = [file.name for file in folder.iterdir()]
    known = {SEGMENTS, LOCK, catalogue.CHECK}
    foreign = [
        name
        for name in found
        if name not in known and not name.startswith(MARKER) and not _TEMPORARY.fullmatch(name)
    ]
    segments = folder / SEGMENTS
    if foreign or (segments.exists() and not segments.is_dir()) or any(segments.glob("*")):
        raise ValueError(
            f"path must be a new or empty folder, got one with {len(found)} files: {folder}"
        )


def _not_empty(folder: Path) -> ValueError:
    return ValueError(f"path must be a new or empty folder, got one with an index: {folder}")


def _lock_of_new(folder: Path, made: list[Path]) -> WriterLock:
    for _ in range(ATTEMPTS):
        try:
            _make_folder(folder, made)
            return WriterLock(folder)
        except FileNotFoundError:
            # Another creation failed and has just removed the folder that it had made.
            continue
    return WriterLock(folder)


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, durably; note those that were made."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        # Noted before, lest an interruption right after it leave a folder that nobody knows of.
        made.append(one)
        try:
            one.mkdir()
        except FileExistsError:
            made.remove(one)
        else:
            _sync_parent(one)


def _sync_parent(folder: Path) -> None:
    # A folder that may be entered and not be read can't be synced.
    with contextlib.suppress(PermissionError):
        sync_folder(folder.absolute().parent)


def _name(temporary: Path, folder: Path) -> None:
    try:
        give_name(temporary, folder / catalogue.CATALOGUE)
    except FileExistsError:
        raise _not_empty(folder) from None


def _unmake(
    folder: Path,
    temporary: Path,
    own: os.stat_result | None,
    lock: WriterLock | None,
    made: list[Path],
) -> None:
    """Remove what a creation that failed had made, and nothing else."""
    path = folder / catalogue.CATALOGUE
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
    if lock is None and folder in made:
        # Interrupted while it made the lock file? Only who has the lock may delete that.
        with contextlib.suppress(OSError, ValueError):
            lock = WriterLock(folder)
            lock.made = True
    if lock is not None:
        with contextlib.suppress(OSError):
            if own is not None and os.path.samestat(own, path.stat()):
                # First: where somebody has written a segment already, everything stays.
                (folder / SEGMENTS).rmdir()
                path.unlink()
                (folder / catalogue.CHECK).unlink(missing_ok=True)
        if not os.path.lexists(path):
            lock.remove()
        lock.release()
    if os.path.lexists(path):
        return
    for one in reversed(made):
        # Those that somebody else uses by now are not empty.
        with contextlib.suppress(OSError):
            one.rmdir()


# --- what is left over ----------------------------------------------------------------------


def delete_left_overs(folder: Path) -> None:
    """Delete files of commits that never came to be, and of segments that were replaced.

    Only a writer may call this. Even if another one were about to commit, which no lock kept away,
    its segment would be noticed to be gone within its transaction.
    """
    # Where syncing failed or a writer was killed right after its commit, a loss of power may still
    # bring the journal back, and with it a catalogue that names what would be deleted now.
    try:
        sync_folder(folder)
    except OSError:
        return
    with catalogue.between_commits(folder) as state:
        known = {row.number for row in state.segments}
        for file in (folder / SEGMENTS).iterdir():
            match = _SEGMENT.fullmatch(file.name)
            # What has a larger number than the next commit would write was not left by a writer.
            if match and int(match[1]) not in known and int(match[1]) <= state.next_segment:
                # On Windows a file that a reader has open stays for now.
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
        for file in [*_left_of_catalogues(folder), folder / catalogue.JOURNAL]:
            # A journal that meant anything was rolled back when the catalogue was read.
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def withdraw(folder: Path, number: int, own: os.stat_result) -> None:
    """Delete a segment that was not committed, as long as its file is the one that was written."""
    path = folder / catalogue.segment_name(number)
    with catalogue.between_commits(folder) as state, contextlib.suppress(FileNotFoundError):
        if all(row.number != number for row in state.segments) and os.path.samestat(
            own, path.stat()
        ):
            path.unlink()


def _left_of_catalogues(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if _TEMPORARY.fullmatch(file.name)]
