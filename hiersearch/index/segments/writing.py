"""Writing segments: new entries, hierarchies, and old segments made into fewer."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import DamageError
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.bounds.packing import Frame, Packed, packed
from hiersearch.index.formats.entries import Entry
from hiersearch.index.resample import resampled
from hiersearch.index.segments.arranging import Cuts, arranged
from hiersearch.index.segments.columns import CHUNKS
from hiersearch.index.segments.view import View
from hiersearch.index.store.batch import FIRST_BEYOND, NO_IDS_LEFT
from hiersearch.index.store.ids import checked_id
from hiersearch.index.store.snapshot import StoredPlace, StoredSegment
from hiersearch.index.store.store import Store
from hiersearch.partitions.inputs import PartitionLike, as_hard
from hiersearch.partitions.one_measure import under
from hiersearch.partitions.partition import Partition

Id = int | str
FEW = 16
"""So many segments of one order of size are merged into one of the next."""
LARGEST_MERGED = 2**16
"""Segments with more entries are merged only when asked for."""


def checked_labels(
    labels: PartitionLike, grid: tuple[int, ...], name: str, resample: bool
) -> Partition:
    """Return a hard partition on the grid, under no measure of its own."""
    partition = as_hard(labels, name)
    # Values ascend.
    if (largest := int(partition.label_values[-1])) >= 2**63:
        raise ValueError(f"{name} must hold labels below 2**63, got {largest}")
    if partition.grid != grid:
        if not resample:
            raise ValueError(other_grid(name, partition.grid, grid))
        partition = resampled(under(partition, None), grid, name)
    return partition


def other_grid(name: str, found: tuple[int, ...], grid: tuple[int, ...]) -> str:
    """Say that something lies on another grid, and the way out if there is one."""
    if len(found) != len(grid):
        return f"{name} must be {len(grid)}-D like the grid {grid} of the index, got {found}"
    return (
        f"{name} must lie on the grid {grid} of the index, got {found}: say resample=True to have "
        "it brought there"
    )


def batches(
    entries: Iterable[Entry | PartitionLike], grid: tuple[int, ...], memory: int, resample: bool
) -> Iterator[list[Entry]]:
    """Group entries so that each group, with what is made of it, takes about ``memory`` bytes."""
    group: list[Entry] = []
    size = 0
    for i, given in enumerate(entries):
        entry = given if isinstance(given, Entry) else Entry(given)  # type: ignore[arg-type]
        name = f"entries[{i}]" if entry.id is None else f"entry {entry.id!r}"
        partition = checked_labels(entry.labels, grid, name, resample)
        group.append(Entry(partition, entry.id, entry.metadata))
        # Runs and labels as they wait; codes, tiles and masses as they are written, twice.
        size += 10 * partition.n_runs + 32 * partition.n_regions + 5000
        if size >= memory:
            yield group
            group, size = [], 0
    if group:
        yield group


def write(
    store: Store, frame: Frame, entries: Sequence[Entry], removing: Iterable[StoredPlace] = ()
) -> StoredSegment:
    """Write entries, which are checked, as one segment, in one commit."""
    arrays, order = segment_arrays(frame, entries)
    with store.writing():
        # Automatic ids follow the order in which entries came, not that of the blocks.
        ids = _numbered([entry.id for entry in entries], store)
        return store.append(
            [ids[i] for i in order],
            [entries[i].metadata for i in order],
            arrays,
            chunk_bytes=CHUNKS,
            removing=removing,
        )


def segment_arrays(
    frame: Frame, entries: Sequence[Entry]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32]]:
    """Return the arrays of a segment of partitions, and the order that entries have there."""
    partitions = [under(entry.labels, frame.measure) for entry in entries]
    codes = packed(frame, partitions, os.cpu_count() or 1)
    return arranged(frame, codes, Cuts.none(len(entries)))


def _numbered(ids: list[Id | None], store: Store) -> list[Id | None]:
    """Give entries without an id the next automatic integers, in their order."""
    given = [value + 1 for value in ids if isinstance(value, int)]
    first = max([store.next_id, *given])
    if first + ids.count(None) > FIRST_BEYOND:
        raise ValueError(NO_IDS_LEFT)
    following = itertools.count(first)
    return [next(following) if value is None else value for value in ids]


def write_hierarchy(
    store: Store,
    frame: Frame,
    tree: MergeTree,
    id: Id,
    thresholds: Sequence[float] | None,
    metadata: Mapping[str, Any] | None,
) -> list[Id]:
    """Write the cuts of a hierarchy as one segment; return their ids."""
    if not isinstance(tree, MergeTree):
        raise TypeError(f"tree must be a MergeTree, got {type(tree).__name__}")
    if tree.grid != frame.grid:
        raise ValueError(f"tree must lie on the index's grid {frame.grid}, got {tree.grid}")
    id = checked_id(id)
    if thresholds is None:
        altitudes = np.unique(tree.altitudes[tree.n_leaves :])
        # Below all merges lie the leaves themselves.
        lowest = [np.nextafter(altitudes[0], -np.inf)] if altitudes.size else [0.0]
        altitudes = np.concatenate([lowest, altitudes])
    else:
        altitudes = np.unique(np.asarray(thresholds, np.float64))
    if altitudes.size == 0 or np.isnan(altitudes).any():
        raise ValueError(f"thresholds must be numbers, at least one, got {thresholds!r}")
    ids, objects, partitions, kept = [], [], [], []
    before = -1
    for altitude in altitudes.tolist():
        cut = tree.horizontal_cut(altitude)
        if cut.size == before:
            continue
        before = int(cut.size)
        partition = Partition.from_labels(tree.labels_of(cut))
        partitions.append(under(partition, frame.measure))
        ids.append(f"{id}@{before}")
        # JSON knows no infinity.
        shown = altitude if math.isfinite(altitude) else None
        objects.append({"altitude": shown, "regions": before, **(metadata or {})})
        kept.append(altitude)
    found = packed(frame, partitions, os.cpu_count() or 1)
    n = len(ids)
    empty = np.empty(0, np.uint8)
    # The tree stands for their runs.
    found = replace(found, code=[empty] * n)
    cuts = Cuts([tree], np.zeros(n, np.int32), np.array(kept))
    arrays, order = arranged(frame, found, cuts)
    store.append([ids[i] for i in order], [objects[i] for i in order], arrays, chunk_bytes=CHUNKS)
    return list(ids)


def merge_small(
    store: Store, frame: Frame, view: Callable[[StoredSegment], View], unsound: set[int]
) -> None:
    """Merge segments where many of one order of size have come together.

    ``unsound`` holds the numbers of segments that were found damaged: they stay as they are, for
    a repair. The first that is found now is raised in the end, when the others are merged.
    """
    first: DamageError | None = None
    while many := _mergeable(store.segments, unsound):
        try:
            _merge(store, frame, many, view)
        except DamageError as error:
            damaged = {s.number for s in many if str(s.data.path) == error.damage.file}
            if not damaged:
                raise
            unsound |= damaged
            first = first or error
    if first is not None:
        raise first


def waiting(segments: Sequence[StoredSegment]) -> int:
    """Return how many small segments should have been merged. O(segments)."""
    return len(_mergeable(segments, set()))


def _mergeable(segments: Sequence[StoredSegment], unsound: set[int]) -> list[StoredSegment]:
    """Return segments of one order of size, where there are many."""
    orders: dict[int, list[StoredSegment]] = {}
    for segment in segments:
        if segment.n_entries <= LARGEST_MERGED and segment.number not in unsound:
            orders.setdefault(int(math.log(segment.n_entries, FEW)), []).append(segment)
    return next((found for found in orders.values() if len(found) >= FEW), [])


def compact(
    store: Store,
    frame: Frame,
    view: Callable[[StoredSegment], View],
    memory: int,
    progress: Callable[[int], None] | None,
) -> None:
    """Rewrite segments into as few as memory allows, without removed entries."""
    done = 0
    # The groups stay: what is added meanwhile is left alone.
    for numbers in _groups(store.segments, memory):
        with store.writing():
            group = [segment for segment in store.segments if segment.number in numbers]
            if len(group) > 1 or any(segment.removed is not None for segment in group):
                _merge(store, frame, group, view)
        done += sum(segment.n_live for segment in group)
        if progress is not None:
            progress(done)


def _groups(segments: Sequence[StoredSegment], memory: int) -> list[set[int]]:
    """Return the numbers of segments that together take about so many bytes."""
    groups: list[set[int]] = []
    size = 0
    for segment in segments:
        n_bytes = sum(segment.data.unchecked(name).nbytes for name in segment.data.names)
        if not groups or size + n_bytes > memory:
            groups.append(set())
            size = 0
        groups[-1].add(segment.number)
        size += n_bytes
    return groups


def _merge(
    store: Store,
    frame: Frame,
    segments: Sequence[StoredSegment],
    view: Callable[[StoredSegment], View],
) -> None:
    """Put one segment in the place of several."""
    views = [view(segment) for segment in segments]
    chosen = [np.flatnonzero(segment.live) for segment in segments]
    ids: list[Any] = []
    objects: list[Any] = []
    for segment, rows in zip(segments, chosen, strict=True):
        names = segment.all_ids()
        ids += [names[row] for row in rows.tolist()]
        objects += [segment.metadata_at(row) for row in rows.tolist()]
    if not ids:
        store.replace(segments, [], [], {})
        return
    arrays, order = arranged(frame, *gathered(views, chosen))
    store.replace(
        segments,
        [ids[i] for i in order],
        [objects[i] for i in order],
        arrays,
        chunk_bytes=CHUNKS,
    )


def gathered(views: Sequence[View], chosen: Sequence[NDArray[np.intp]]) -> tuple[Packed, Cuts]:
    """Take the arrays of some rows of some segments, as they were before they were written."""
    code: list[Any] = []
    values: list[Any] = []
    masses: list[Any] = []
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "n_runs",
            "n_regions",
            "squares",
            "coarse",
            "middle",
            "coarse_errors",
            "middle_errors",
            "altitude",
        )
    }
    trees: list[MergeTree] = []
    tree: list[NDArray[np.int32]] = []
    for view, rows in zip(views, chosen, strict=True):
        arrays, data = view.arrays, view.stored.data
        for row in rows.tolist():
            begin = int(arrays["code_ends"][row - 1]) if row else 0
            code.append(data.rows("code", begin, int(arrays["code_ends"][row])))
            first, last = view.value_begins[row : row + 2].tolist()
            values.append(data.rows("values", first, last))
            begin = int(arrays["mass_ends"][row - 1]) if row else 0
            masses.append(arrays["masses"][begin : int(arrays["mass_ends"][row])])
        for name, parts in columns.items():
            parts.append(arrays[name][rows])
        mine = arrays["tree"][rows]
        used = np.unique(mine[mine >= 0])
        renumbered = np.full(int(used.max(initial=-1)) + 2, -1, np.int32)
        renumbered[used] = len(trees) + np.arange(used.size, dtype=np.int32)
        trees += [view.tree(int(number)) for number in used]
        tree.append(renumbered[mine])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    altitude = joined.pop("altitude")
    return Packed(code, values, masses, **joined), Cuts(trees, np.concatenate(tree), altitude)
