"""Finding what is wrong with segments, and salvaging the rest of a damaged index."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError
from hiersearch.index.bounds.packing import Frame
from hiersearch.index.formats.entries import Entry
from hiersearch.index.segments import writing
from hiersearch.index.segments.columns import CHUNKS, known_of, needed_for
from hiersearch.index.segments.recomputing import differences
from hiersearch.index.segments.view import View
from hiersearch.index.store import catalogue
from hiersearch.index.store.columns import Column, check_heads, check_values, sound_rows
from hiersearch.index.store.segment import Progress, Segment
from hiersearch.index.store.snapshot import StoredSegment, find_many
from hiersearch.index.store.store import Store


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did."""

    kept: int
    """Entries that the index has now."""
    lost: tuple[int | str | None, ...]
    """Ids of entries that could not be salvaged; None where the id itself was lost."""
    damages: tuple[Damage, ...]
    """What was damaged."""
    removals_known: bool
    """False where the catalogue was lost: entries removed earlier may be back."""


def checked(
    stored: StoredSegment,
    view_of: Callable[[StoredSegment], View],
    deep: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Damage]:
    """Return what is wrong with a segment whose bytes are all as they were written.

    Its ids and metadata are read and every live entry is decoded; with ``deep`` every entry is,
    and all that searches go by is recomputed. ``progress`` is called with the entries done so far.
    """
    damages = stored.check_tables()
    try:
        view = view_of(stored)
    except DamageError as error:
        return [*damages, error.damage]
    if deep:
        return damages + differences(view, progress)
    for done, row in enumerate(np.flatnonzero(stored.live).tolist(), 1):
        try:
            view.partition(row)
        except DamageError as error:
            damages.append(error.damage)
        if progress is not None:
            progress(done)
    return damages


def first_half(progress: Progress | None) -> Progress | None:
    """Return what reports the first of two passes over the bytes."""
    return None if progress is None else lambda done, total: progress(done, 2 * total)


def wrong(
    segments: Sequence[StoredSegment],
    view_of: Callable[[StoredSegment], View],
    deep: bool,
    progress: Progress | None,
) -> list[Damage]:
    """Return what is wrong with segments, as :func:`checked`; ``deep`` is a second pass."""
    total = sum(segment.data.n_bytes for segment in segments)
    damages: list[Damage] = []
    done = total
    for segment in segments:
        report = _share(progress, done, 2 * total, segment) if deep and progress else None
        damages += checked(segment, view_of, deep, report)
        done += segment.data.n_bytes
    return damages


def _share(
    progress: Progress, before: int, total: int, segment: StoredSegment
) -> Callable[[int], None]:
    """Return what reports entries of a segment as their share of its bytes."""
    size, n_entries = segment.data.n_bytes, segment.n_entries
    return lambda entries: progress(before + size * entries // n_entries, total)


def repair(path: Path, frame_of: Callable[[Store], Frame], deep: bool = False) -> Repair:
    """Salvage what is sound; see :meth:`PartitionIndex.repair`."""
    damages = Store.inspect(path)
    lost: list[int | str | None] = []
    known = True
    if damages:
        before = _live_entries(path)
        recovery = Store.recover(path)
        known = recovery.removals_known
        gone = set(before) - set(recovery.segments)
        # Of segments that were left out not even the ids are left.
        lost += [None] * sum(before[number] for number in gone)
    with Store.open(path, writable=True) as store:
        frame = frame_of(store)
        for segment in store.segments:
            damaged = bool(segment.data.verify())
            found = [] if damaged else checked(segment, lambda one: View.of(one, frame), deep)
            damages += found
            if damaged or found:
                lost += _rewritten(store, frame, segment)
        return Repair(len(store), tuple(lost), tuple(damages), known)


def _live_entries(path: Path) -> dict[int, int]:
    """Return how many live entries each segment has; none where the catalogue is lost, too."""
    try:
        state = catalogue.load(path, whole=False)
    except DamageError:
        return {}
    return {
        row.number: row.entries - int(np.count_nonzero(state.removed.get(row.number, 0)))
        for row in state.segments
    }


def _rewritten(store: Store, frame: Frame, segment: StoredSegment) -> list[int | str | None]:
    """Make a damaged segment anew from its sound entries; return the ids of the lost ones."""
    has_id, has_metadata = segment.ids.sound(), segment.metadata.sound()
    view, decodable = _salvageable(segment, frame)
    elsewhere = [one for one in store.segments if one.number != segment.number]
    kept: list[Entry] = []
    lost: list[int | str | None] = []
    seen: set[int | str] = set()
    for row in np.flatnonzero(segment.live).tolist():
        id = segment.id_at(row) if has_id[row] else None
        # An id that is another entry's, or none, was not written by a store.
        if id is None or id == "" or id in seen or find_many(elsewhere, [id]) != [None]:
            lost.append(id)
            continue
        partition = None
        if has_metadata[row] and decodable[row]:
            # What is left of a damaged segment may not fit together.
            with contextlib.suppress(DamageError, IndexError):
                partition = view.partition(row)
        if partition is None:
            lost.append(id)
        else:
            seen.add(id)
            kept.append(Entry(partition, id, segment.metadata_at(row)))
    if kept:
        arrays, order = writing.segment_arrays(frame, kept)
        ids: list[Any] = [kept[i].id for i in order]
        store.replace([segment], ids, [kept[i].metadata for i in order], arrays, chunk_bytes=CHUNKS)
    else:
        store.replace([segment], [], [], {})
    return lost


def _salvageable(segment: StoredSegment, frame: Frame) -> tuple[View, NDArray[np.bool_]]:
    """Return a view of what decoding needs, and which rows the schema lets be decoded."""
    view = View(segment, frame)
    data, known = segment.data, known_of(frame, segment.n_entries)
    nothing = np.zeros(segment.n_entries, np.bool_)
    trees = needed_for("cuts")
    try:
        known |= check_heads(data, trees, known)
        arrays = _sound_arrays(data, trees)
        check_values(data, trees, arrays, known)
        view.arrays.update(arrays)
        known["last tree"] = known["trees"] - 1
    except DamageError:
        # Without its trees a segment keeps what is not a cut.
        known["last tree"] = -1
    columns = needed_for("entries")
    try:
        known |= check_heads(data, columns, known)
        arrays = _sound_arrays(data, columns)
    except DamageError:
        return view, nothing
    view.arrays.update(arrays)
    if int(arrays["n_regions"].sum(dtype=np.int64)) != known["regions"]:
        # Nobody can tell whose the labels are.
        return view, nothing
    view.value_begins = np.concatenate([[0], np.cumsum(arrays["n_regions"], dtype=np.int64)])
    decodable = ~nothing
    for column in columns:
        if column.chunk_bytes is None:
            known[column.name] = arrays[column.name]
            decodable &= sound_rows(column, arrays[column.name], known)
    return view, decodable


def _sound_arrays(data: Segment, columns: Iterable[Column]) -> dict[str, NDArray[Any]]:
    """Return arrays of a segment; those read piecewise are checked where they are read."""
    return {
        column.name: data.array(column.name)
        if column.chunk_bytes is None
        else data.unchecked(column.name)
        for column in columns
    }
