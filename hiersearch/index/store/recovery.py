"""Damage of a whole store: finding all of it, and making the store open again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError, FormatError
from hiersearch.index.store import catalogue
from hiersearch.index.store.catalogue import CatalogueState, SegmentRow, segment_name
from hiersearch.index.store.facts import check_facts
from hiersearch.index.store.files import sync_folder
from hiersearch.index.store.folder import SEGMENTS, check_is_index
from hiersearch.index.store.ids import Id, IdTable
from hiersearch.index.store.lock import LOCK, WriterLock
from hiersearch.index.store.segment import Progress, Segment
from hiersearch.index.store.snapshot import ATTEMPTS, StoredSegment, open_file
from hiersearch.index.store.sqlite import FOREIGN_ENDS

SET_ASIDE = "set-aside"
"""Folder for files that a recovery leaves out; nothing ever deletes them."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery made of a damaged store."""

    segments: tuple[int, ...]
    """Numbers of the segments that the store has now; chunks of them may be damaged."""
    left_out: tuple[Damage, ...]
    """Segments that could not be opened, and why; their files were set aside."""
    removals_known: bool
    """False if the catalogue was lost: entries that had been removed may be back."""


def inspect(folder: Path, progress: Progress | None = None) -> list[Damage]:
    """Read all files of a store and return what is damaged, whether or not it opens. O(bytes).

    Raises
    ------
    FileNotFoundError, FormatError
        If the folder is no store.
    """
    generation = -1
    for _ in range(ATTEMPTS):
        damages = [Damage(str(one), "is a folder") for one in _folders_as_files(folder, LOCK)]
        try:
            check_is_index(folder)
            state = catalogue.load(folder)
        except DamageError as error:
            files = sorted((folder / SEGMENTS).glob("*.seg"))
            found, _ = _inspect_segments(folder, dict.fromkeys(files), progress)
            return [*damages, error.damage, *found]
        try:
            catalogue.read_check(folder)
        except DamageError as error:
            # A creation may have been killed before it wrote its check; the first commit does.
            if state.generation or os.path.lexists(folder / catalogue.CHECK):
                damages.append(error.damage)
        expected = {folder / segment_name(row.number): row for row in state.segments}
        found, is_missing = _inspect_segments(folder, expected, progress)
        # A writer may have replaced segments since the catalogue was read: look again.
        if not is_missing or state.generation == generation:
            return damages + found
        generation = state.generation
    raise TimeoutError(f"{folder} changes faster than it can be verified")


def _inspect_segments(
    folder: Path,
    expected: dict[Path, SegmentRow] | dict[Path, None],
    progress: Progress | None,
) -> tuple[list[Damage], bool]:
    """Return the damage of segment files and whether one is missing."""
    sizes = {path: _n_bytes(path) for path in expected}
    total, before = sum(sizes.values()), 0
    damages: list[Damage] = []
    is_missing = False
    for path, row in expected.items():
        start = before

        def report(done: int, _: int, start: int = start) -> None:
            if progress is not None:
                progress(start + done, total)

        try:
            segment = _opened_segment(folder, path, row)
            damages += segment.verify(report)
        except DamageError as error:
            damages.append(error.damage)
        except FileNotFoundError:
            damages.append(Damage(str(path), "is missing"))
            is_missing = True
        before += sizes[path]
    return damages, is_missing


def _n_bytes(path: Path) -> int:
    """Return the size of a file, 0 for one that a writer has just deleted."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _folders_as_files(folder: Path, *names: str) -> list[Path]:
    """Return what should be a file of an index and is a folder."""
    return [folder / name for name in names if (folder / name).is_dir()]


def recover(folder: Path) -> Recovery:
    """Make a damaged store open again, from the segments whose head is sound. O(entries).

    Where the rows of the catalogue are sound, only segments that don't open are left out. Where
    the catalogue is lost, it is rebuilt from the heads of the segments: the newest says which
    others were there when it was committed. What can't be known then: removals of entries that
    were not added again, which come back; and whether a segment that a killed writer left was
    committed, so that it is taken in. Of entries with one id the newest counts.

    Damaged chunks inside of segments stay: see ``sound_rows`` and ``sound_entries``.

    Raises
    ------
    FileNotFoundError, FormatError
        If the folder is no store, of a newer format, or nothing is left to recover from.
    IndexLockedError, OSError
        If the store is being written, or can't be.
    """
    with contextlib.suppress(DamageError):
        check_is_index(folder)
    # Nobody can hold a lock that is a folder.
    _set_aside(folder, _folders_as_files(folder, LOCK))
    lock = WriterLock(folder)
    try:
        _set_aside(folder, _folders_as_files(folder, catalogue.CHECK, catalogue.JOURNAL))
        state = _readable_state(folder)
        removals_known = state is not None
        rows = None if state is None else {_file(folder, row): row for row in state.segments}
        segments, left_out = _opened(
            folder, sorted(rows or (folder / SEGMENTS).glob("*.seg")), rows
        )
        if state is None:
            state = _rebuilt(folder, segments)
            ends = ("", "-journal", *FOREIGN_ENDS)
            _set_aside(folder, [folder / f"{catalogue.CATALOGUE}{end}" for end in ends])
        else:
            state = _restricted(state, {segment.facts["number"] for segment in segments})
        kept = [_file(folder, row) for row in state.segments]
        _set_aside(folder, set((folder / SEGMENTS).glob("*.seg")).difference(kept))
        _make_segments_folder(folder)
        # A journal that is left belongs to the old catalogue, which was read with it.
        (folder / catalogue.JOURNAL).unlink(missing_ok=True)
        catalogue.write_anew(folder, state)
    finally:
        lock.release()
    return Recovery(tuple(row.number for row in state.segments), tuple(left_out), removals_known)


def _make_segments_folder(folder: Path) -> None:
    segments = folder / SEGMENTS
    if segments.exists() and not segments.is_dir():
        _set_aside(folder, [segments])
    segments.mkdir(exist_ok=True)


def _file(folder: Path, row: SegmentRow) -> Path:
    return folder / segment_name(row.number)


def _readable_state(folder: Path) -> CatalogueState | None:
    try:
        check_is_index(folder)
        return catalogue.load(folder, whole=False)
    except DamageError:
        return None


def _opened_segment(folder: Path, path: Path, row: SegmentRow | None) -> Segment:
    """Open a segment as a reader does, or, where no row of a catalogue is known, alone."""
    return open_file(path, None) if row is None else StoredSegment.open(folder, row, None).data


def _opened(
    folder: Path, paths: Iterable[Path], rows: Mapping[Path, SegmentRow] | None
) -> tuple[list[Segment], list[Damage]]:
    segments, left_out = [], []
    for path in paths:
        try:
            segment = _opened_segment(folder, path, None if rows is None else rows[path])
            check_facts(segment)
            if segment_name(segment.facts["number"]) != f"segments/{path.name}":
                raise DamageError(Damage(str(path), "is another segment than its name says"))
            segments.append(segment)
        except DamageError as error:
            left_out.append(error.damage)
        except FileNotFoundError:
            left_out.append(Damage(str(path), "is missing"))
    return segments, left_out


def _restricted(state: CatalogueState, numbers: set[int]) -> CatalogueState:
    return replace(
        state,
        generation=state.generation + 1,
        segments=tuple(row for row in state.segments if row.number in numbers),
        removed={n: mask for n, mask in state.removed.items() if n in numbers},
    )


def _rebuilt(folder: Path, segments: Sequence[Segment]) -> CatalogueState:
    """Return what the heads of the segments tell about a lost catalogue."""
    if not segments:
        raise FormatError(f"{folder} can't be recovered: neither catalogue nor a segment is sound")
    newest_first = sorted(segments, key=lambda segment: -int(segment.facts["generation"]))
    newest = newest_first[0].facts
    kept = [segment for segment in newest_first if segment.facts["number"] in newest["segments"]]
    rows = [
        SegmentRow(
            number=segment.facts["number"],
            entries=segment.facts["entries"],
            n_bytes=segment.n_bytes,
            checksum=segment.checksum,
            generation=segment.facts["generation"],
        )
        for segment in kept
    ]
    removed = _older_versions(kept)
    files = [int(path.stem) for path in (folder / SEGMENTS).glob("*.seg") if path.stem.isdigit()]
    return CatalogueState(
        settings=newest["settings"],
        generation=newest["generation"] + 1,
        next_id=max(segment.facts["next_id"] for segment in segments),
        next_segment=max(files) + 1,
        next_removal=len(removed) + 1,
        segments=tuple(sorted(rows, key=lambda row: row.number)),
        removed=removed,
        digest=0,
    )


def _older_versions(newest_first: Iterable[Segment]) -> dict[int, NDArray[np.bool_]]:
    """Mark the entries whose id a newer segment has. Ids that can't be read mark nothing."""
    seen: set[Id] = set()
    removed = {}
    for segment in newest_first:
        table = IdTable(segment)
        sound = np.flatnonzero(table.sound()).tolist()
        names = [table[position] for position in sound]
        mask = np.zeros(segment.facts["entries"], np.bool_)
        mask[[position for position, name in zip(sound, names, strict=True) if name in seen]] = True
        seen.update(names)
        if mask.any():
            removed[segment.facts["number"]] = mask
    return removed


def _set_aside(folder: Path, files: Iterable[Path]) -> None:
    """Move files where nothing looks for them, under names that are not taken."""
    there = [path for path in dict.fromkeys(files) if os.path.lexists(path)]
    if not there:
        return
    target = folder / SET_ASIDE
    target.mkdir(exist_ok=True)
    for path in there:
        free = (target / f"{path.name}{end}" for end in ("", *(f".{i}" for i in range(1, 10**6))))
        os.replace(path, next(name for name in free if not os.path.lexists(name)))
    sync_folder(target)
    sync_folder(folder)
