"""Finding entries that cannot be decoded, and salvaging the rest of a damaged index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiersearch.index import catalogue, writing
from hiersearch.index.entries import Entry
from hiersearch.index.errors import Damage, DamageError
from hiersearch.index.layout import CHUNKS, View
from hiersearch.index.packing import Frame
from hiersearch.index.snapshot import StoredSegment
from hiersearch.index.store import Store

_NEEDED = ("code_ends", "n_runs", "n_regions", "tree", "altitude")


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


def undecodable(views: Sequence[View]) -> list[Damage]:
    """Decode every live entry; return those whose bytes are sound but whose code is not."""
    damages = []
    for view in views:
        for row in np.flatnonzero(view.stored.live).tolist():
            try:
                view.partition(row)
            except DamageError as error:
                damages.append(error.damage)
    return damages


def repair(path: Path, frame_of: Callable[[Store], Frame]) -> Repair:
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
            unsound = [] if damaged else undecodable([View.of(segment, frame)])
            damages += unsound
            if damaged or unsound:
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
    named = segment.sound_entries()
    kept: list[Entry] = []
    lost: list[int | str | None] = []
    view = _salvageable(segment, frame)
    for row in np.flatnonzero(segment.live).tolist():
        id = segment.id_at(row) if segment.ids.sound()[row] else None
        partition = None
        if view is not None and named[row]:
            try:
                partition = view.partition(row)
            except (DamageError, IndexError, KeyError, ValueError):
                # What is left of a damaged segment may not fit together.
                partition = None
        if partition is None:
            lost.append(id)
        else:
            kept.append(Entry(partition, id, segment.metadata_at(row)))
    if kept:
        arrays, order = writing.segment_arrays(frame, kept)
        ids: list[Any] = [kept[i].id for i in order]
        store.replace([segment], ids, [kept[i].metadata for i in order], arrays, chunk_bytes=CHUNKS)
    else:
        store.replace([segment], [], [], {})
    return lost


def _salvageable(segment: StoredSegment, frame: Frame) -> View | None:
    """Return a view of what decoding needs, or None where that itself is damaged."""
    view = View(segment, frame)
    data = segment.data
    for name in data.names:
        if name in CHUNKS:
            view.arrays[name] = data.unchecked(name)
            continue
        if name in _NEEDED or name.startswith("tree_"):
            try:
                view.arrays[name] = data.array(name)
            except DamageError:
                if name in _NEEDED:
                    return None
                # Without its trees a segment keeps what is not a cut.
                continue
    view.value_begins = np.concatenate([[0], np.cumsum(view.arrays["n_regions"], dtype=np.int64)])
    return view
