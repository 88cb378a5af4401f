"""The arrays of a segment: what is written of entries, and how it is read again."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.bounds._search_kernels import decode_rows, exact_overlaps
from hiersearch.index.bounds.blocks import blocks_of
from hiersearch.index.bounds.packing import (
    COARSE,
    MIDDLE,
    PADDING,
    Frame,
    Packed,
    decoded,
    ends_of,
    run_code,
)
from hiersearch.index.segments.columns import PARTITION_COLUMNS
from hiersearch.index.store.columns import Known, begins_of, check_heads, check_values, chunks_of
from hiersearch.index.store.segment import Segment
from hiersearch.index.store.snapshot import StoredSegment
from hiersearch.index.threads import in_slices
from hiersearch.metric.queries import HardQuery
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.runs import RunArrays

CHUNKS = chunks_of(PARTITION_COLUMNS)
"""Bytes under one checksum where arrays are read piecewise; elsewhere the store's default."""
LARGEST_TABLE = 2**19
"""Cells of a contingency table that are cleared for each row; larger tables are made singly."""
ROWS_A_THREAD = 256
"""Rows to decode that are worth a thread."""
KEPT_TREES = 16
"""How many hierarchies of a segment stay decoded."""
_TREES = threading.Lock()
_UNWRITTEN = "a segment that is being written"


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Which entries are cuts of which stored hierarchies."""

    trees: Sequence[MergeTree]
    """The hierarchies."""
    tree: NDArray[np.int32]
    """(n,) number of the hierarchy that each entry is a cut of, -1: of none."""
    altitude: NDArray[np.float64]
    """(n,) the altitude of the cut."""

    @classmethod
    def none(cls, n: int) -> Cuts:
        """Return what says that no entry is a cut."""
        return cls((), np.full(n, -1, np.int32), np.zeros(n))


def arranged(
    frame: Frame, entries: Packed, cuts: Cuts
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32]]:
    """Put entries in the order of their blocks; return a segment's arrays, and that order.

    O(n log n) byte distances, and one exact distance an entry, to its block's pivot; between cuts
    of one hierarchy that is a difference of Σ a².
    """
    n_diagonal = frame.tiling.count(MIDDLE)
    blocks = blocks_of(entries.middle, n_diagonal, cuts.tree, entries.n_regions)
    order = blocks.order
    code = [entries.code[i] for i in order]
    values = _values([entries.values[i] for i in order])
    masses = [entries.masses[i] for i in order]
    arrays: dict[str, NDArray[Any]] = {
        "code": _joined(code, np.uint8, PADDING),
        "code_ends": ends_of(code),
        "values": values,
        "masses": _joined(masses, np.uint8, PADDING),
        "mass_ends": ends_of(masses),
        "block_ends": blocks.ends,
        "block_pivots": blocks.pivots,
        "tree": cuts.tree[order],
        "altitude": cuts.altitude[order],
        **_tree_arrays(cuts.trees),
    }
    for name in ("n_runs", "n_regions", "squares", "coarse", "middle"):
        arrays[name] = np.ascontiguousarray(getattr(entries, name)[order])
    arrays["coarse_errors"] = entries.coarse_errors[order]
    arrays["middle_errors"] = entries.middle_errors[order]
    for array in arrays.values():
        # As they will be when they are read: kernels are compiled for that.
        array.flags.writeable = False
    arrays["ring"] = rings(frame, arrays, blocks.ends, blocks.pivots)
    arrays["block_radii"] = radii(frame, arrays, blocks.ends, blocks.pivots)
    return arrays, order


def _joined(parts: list[NDArray[Any]], dtype: Any, padding: int = 0) -> NDArray[Any]:
    return np.concatenate([*parts, np.zeros(padding, dtype)])


def _values(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Join labels, which are below 2**63, in the smallest integer type that holds all of them."""
    joined = np.concatenate([part.astype(np.int64) for part in parts])
    low, high = int(joined.min()), int(joined.max())
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return joined.astype(dtype)
    raise AssertionError("labels are below 2**63")


def rings(
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    ends: NDArray[np.int32],
    pivots: NDArray[np.int32],
    first: int = 0,
) -> NDArray[np.float64]:
    """Return the exact ρ of entries to their block's pivot, for blocks that follow each other.

    ``ends`` and ``pivots`` are those of the blocks, ``first`` is where the first of them begins.
    """
    ring = np.empty(int(ends[-1]) - first if ends.size else 0)
    squares = arrays["squares"]
    begin = first
    for end, pivot in zip(ends.tolist(), pivots.tolist(), strict=True):
        rows = np.arange(begin, end, dtype=np.int32)
        if arrays["tree"][pivot] >= 0:
            # Nested: ρ is the difference of Σ a².
            found = np.abs(squares[begin:end] - squares[pivot])
        else:
            around = numbered_partition(frame, arrays, pivot)
            overlaps = overlaps_with(frame, arrays, rows, around)
            found = squares[begin:end] + squares[pivot] - 2 * overlaps
        ring[begin - first : end - first] = found
        begin = end
    # Sums in floating point may come out below zero.
    return np.maximum(ring, 0.0)


def radii(
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    ends: NDArray[np.int32],
    pivots: NDArray[np.int32],
    first: int = 0,
) -> NDArray[np.float32]:
    """Return the largest tile distance of blocks' members to their pivot, rounded up."""
    middle = arrays["middle"]
    owner = np.repeat(np.arange(ends.size), np.diff(ends, prepend=first))
    errors = arrays["middle_errors"]
    n_diagonal = frame.tiling.count(MIDDLE)
    reach = np.empty(owner.size)
    for begin in range(0, owner.size, 4096):
        part = slice(first + begin, first + min(begin + 4096, owner.size))
        around = pivots[owner[begin : begin + 4096]]
        off = np.abs(middle[part].astype(np.int32) - middle[around])
        steps = off[:, :n_diagonal].sum(axis=1) + 2 * off[:, n_diagonal:].sum(axis=1)
        own, others = errors[part].astype(np.float64), errors[around].astype(np.float64)
        reach[begin : begin + 4096] = steps * frame.pair_units[1] + own + others
    begins = np.concatenate([[0], ends[:-1] - first])
    largest = np.maximum.reduceat(reach, begins).astype(np.float32)
    above: NDArray[np.float32] = np.nextafter(largest, np.float32(np.inf))
    return above


def overlaps_with(
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    rows: NDArray[np.int32],
    query: Partition,
    file: str = _UNWRITTEN,
) -> NDArray[Any]:
    """Return Σ n_ij² of a partition with rows that have a code of their own.

    O(runs + cells of the contingency table) each; where it has too many, O(runs log runs).
    """
    out = np.empty(rows.size, frame.prefix.dtype)
    cells = arrays["n_regions"][rows].astype(np.int64) * query.n_regions
    large = cells > LARGEST_TABLE
    if large.any():
        single = HardQuery(query, frame.measure)
        for i in np.flatnonzero(large).tolist():
            out[i] = single.overlap(numbered_partition(frame, arrays, int(rows[i]), file))
        if not large.all():
            out[~large] = overlaps_with(frame, arrays, rows[~large], query, file)
        return out
    weighted = frame.measure is not None
    unsound = exact_overlaps(
        arrays["code"],
        arrays["code_ends"],
        arrays["n_runs"],
        arrays["n_regions"],
        rows,
        frame.rows,
        frame.width,
        query.run_starts,
        query.run_labels,
        query.n_regions,
        frame.prefix if weighted else None,
        np.empty(int(cells.max()), frame.prefix.dtype if weighted else np.int32),
        out,
    )
    if unsound >= 0:
        raise unsound_bytes(file, f"the code of entry {unsound}", "code")
    return out


def numbered_partition(
    frame: Frame, arrays: Mapping[str, NDArray[Any]], row: int, file: str = _UNWRITTEN
) -> Partition:
    """Return the partition of a row's code, its regions in the order in which they appear."""
    begin = int(arrays["code_ends"][row - 1]) if row else 0
    n_regions = int(arrays["n_regions"][row])
    code = arrays["code"][begin : int(arrays["code_ends"][row])]
    runs = decoded(code, int(arrays["n_runs"][row]), n_regions, frame.grid)
    if runs is None:
        raise unsound_bytes(file, f"the code of entry {row}", "code")
    return Partition._of_runs(frame.grid, *runs, np.arange(n_regions), frame.measure)


def known_of(frame: Frame, n_entries: int) -> Known:
    """Return the numbers that follow from an index, which the schema's conditions refer to."""
    square = frame.total * frame.total
    return {
        "entries": n_entries,
        "pixels": math.prod(frame.grid),
        "largest square": square if isinstance(square, int) else square * (1 + 1e-9),
        "coarse pairs": frame.n_pairs(COARSE),
        "middle pairs": frame.n_pairs(MIDDLE),
    }


def _check_codes(data: Segment, arrays: dict[str, NDArray[Any]], frame: Frame) -> None:
    """Check what ties the codes of a segment to its index.

    A code has at least a bit for each row of the grid: so entries bear witness to the grid before
    memory for it is taken.
    """
    if arrays["squares"].dtype != frame.prefix.dtype:
        what = f"must be of type {frame.prefix.dtype} under the measure of the index"
        raise data.wrong("squares", what)
    has_cuts = bool(arrays["tree_runs"].size)
    for name, ends in (
        ("code_ends", arrays["code_ends"]),
        ("tree_code_ends", arrays["tree_code_ends"]),
    ):
        sizes = ends - begins_of(ends)
        if has_cuts and name == "code_ends":
            # A cut has no code of its own.
            least = np.where(arrays["tree"] < 0, frame.rows, 0)
            sound = (8 * sizes >= least) & ((least > 0) | (sizes == 0))
            row = -1 if sound.all() else int(np.argmin(sound))
        else:
            shortest = int(np.argmin(sizes)) if sizes.size else -1
            row = -1 if shortest < 0 or 8 * sizes[shortest] >= frame.rows else shortest
        if row >= 0:
            what = (
                f"leaves {sizes[row]} bytes to the code of row {row}, which can't be: a code has "
            )
            what += f"{frame.rows} bits at least, a cut none"
            raise data.wrong(name, what)


def unsound_bytes(file: str, what: str, array: str) -> DamageError:
    """Return the error of bytes that were written and checked, but mean nothing."""
    return DamageError(Damage(file, f"{what} can't be decoded", array))


def _tree_arrays(trees: Sequence[MergeTree]) -> dict[str, NDArray[Any]]:
    """Store hierarchies: their leaves as run code, and their nodes."""
    leaves = [Partition.from_labels(tree.leaf_map) for tree in trees]
    codes = [run_code(partition) for partition in leaves]
    return {
        "tree_code": _joined([code for code, _ in codes], np.uint8, PADDING),
        "tree_code_ends": ends_of([code for code, _ in codes]),
        "tree_runs": np.array([p.n_runs for p in leaves], np.int32),
        "tree_leaves": np.array([p.n_regions for p in leaves], np.int32),
        # The leaf that each number of the code stands for.
        "tree_order": _joined([order for _, order in codes], np.int32).astype(np.int32),
        "tree_parents": _joined([t.parents for t in trees], np.int32).astype(np.int32),
        "tree_altitudes": _joined([t.altitudes for t in trees], np.float64).astype(np.float64),
        "tree_node_ends": ends_of([t.parents for t in trees]),
    }


@dataclass(slots=True, eq=False)
class View:
    """A segment's arrays while it is searched, and the partitions that they stand for."""

    stored: StoredSegment
    """The segment."""
    frame: Frame
    """Grid, measure and tiles."""
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Arrays by name; those read piecewise are checked where they are read."""
    value_begins: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(n + 1,) where each entry's labels begin."""
    block_of: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """(n,) block of each row."""
    checked: NDArray[np.bool_] = field(init=False)
    """(n,) rows whose code was compared with its checksums."""
    trees: OrderedDict[int, MergeTree] = field(default_factory=OrderedDict)
    """Hierarchies that were decoded lately."""

    def __post_init__(self) -> None:
        self.checked = np.zeros(self.stored.n_entries, np.bool_)

    @classmethod
    def of(cls, stored: StoredSegment, frame: Frame) -> View:
        """Map a segment's arrays. O(bytes of the bounds), at the first time, for the checksums.

        Ids and metadata, and what is read piecewise, are not looked at.

        Raises
        ------
        DamageError
            If an array is damaged, or not what the schema says: see
            :mod:`hiersearch.index.segments.columns`. Kernels trust arrays from here on.
        """
        view = cls(stored, frame)
        data = stored.data
        known = check_heads(data, PARTITION_COLUMNS, known_of(frame, stored.n_entries))
        known["last tree"] = known["trees"] - 1
        for column in PARTITION_COLUMNS:
            read = data.array if column.chunk_bytes is None else data.unchecked
            view.arrays[column.name] = read(column.name)
        check_values(data, PARTITION_COLUMNS, view.arrays, known)
        _check_codes(data, view.arrays, frame)
        view.value_begins = np.concatenate(
            [[0], np.cumsum(view.arrays["n_regions"], dtype=np.int64)]
        )
        pivots = view.arrays["block_pivots"]
        # Side by side, since every search reads all of them.
        view.arrays["pivot_middle"] = view.arrays["middle"][pivots]
        view.arrays["pivot_errors"] = view.arrays["middle_errors"][pivots]
        counts = np.diff(view.arrays["block_ends"], prepend=0)
        view.block_of = np.repeat(np.arange(counts.size, dtype=np.int32), counts)
        return view

    @property
    def n_entries(self) -> int:
        """Number of rows, removed ones included."""
        return self.stored.n_entries

    @property
    def file(self) -> str:
        """The segment's file."""
        return str(self.stored.data.path)

    @property
    def has_cuts(self) -> bool:
        """Whether the segment stores hierarchies."""
        return bool(self.arrays["tree_runs"].size)

    def is_cut(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which rows are cuts of stored hierarchies."""
        cuts: NDArray[np.bool_] = self.arrays["tree"][rows] >= 0
        return cuts

    def check_codes(self, rows: NDArray[np.int32]) -> None:
        """Verify the checksums that some rows' codes lie under, each at its first time."""
        pending = rows[~self.checked[rows]]
        if pending.size == 0:
            return
        low, high = int(pending.min()), int(pending.max())
        if high - low + 1 == pending.size:
            # Rows that follow each other lie under the same checksums.
            ends = self.arrays["code_ends"]
            self.stored.data.rows("code", int(ends[low - 1]) if low else 0, int(ends[high]))
        else:
            for row in pending.tolist():
                self._bytes_of(row, "code", "code_ends")
        self.checked[pending] = True

    def _bytes_of(self, row: int, name: str, ends_name: str) -> NDArray[Any]:
        """Return what is a row's of an array that holds one piece after the other."""
        ends = self.arrays[ends_name]
        begin = int(ends[row - 1]) if row else 0
        return self.stored.data.rows(name, begin, int(ends[row]))

    def partition(self, row: int, *, labelled: bool = True) -> Partition:
        """Return the partition of a row; with its original labels, or with numbers."""
        arrays, frame = self.arrays, self.frame
        if arrays["tree"][row] >= 0:
            tree = self.tree(int(arrays["tree"][row]))
            cut = tree.horizontal_cut(float(arrays["altitude"][row]))
            return Partition.from_labels(tree.labels_of(cut))._under(frame.measure)
        self.check_codes(np.array([row], np.int32))
        numbered = numbered_partition(frame, arrays, row, self.file)
        if not labelled:
            return numbered
        first, last = self.value_begins[row : row + 2].tolist()
        values = self.stored.data.rows("values", first, last)
        # Regions are numbered in ascending order of their labels.
        order = np.argsort(values, kind="stable")
        labels = values[order]
        if (labels[1:] == labels[:-1]).any():
            # As a label map it would be another partition than searches compare.
            what = f"gives one label to two regions of entry {row}"
            raise self.stored.data.wrong("values", what)
        rank = np.empty(values.size, np.int32)
        rank[order] = np.arange(values.size, dtype=np.int32)
        return replace(
            numbered,
            run_labels=rank[numbered.run_labels],
            label_values=labels,
            sizes=numbered.sizes[order],
        )

    def run_counts(
        self, rows: NDArray[np.int32] | slice
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many runs, and how many regions, :meth:`run_arrays` gives of rows."""
        cut = self.arrays["tree"][rows] >= 0
        counts = (np.where(cut, 1, self.arrays[name][rows]) for name in ("n_runs", "n_regions"))
        n_runs, n_regions = (count.astype(np.int64) for count in counts)
        return n_runs, n_regions

    def run_arrays(self, rows: NDArray[np.int32]) -> RunArrays:
        """Decode rows. A cut of a hierarchy has no code: a single run stands in its place.

        O(runs), on several cores if there are many.
        """
        arrays, frame = self.arrays, self.frame
        coded = np.flatnonzero(~self.is_cut(rows))
        self.check_codes(rows[coded])
        n_runs, n_regions = self.run_counts(rows)
        ends = np.cumsum(n_runs)
        begins = np.concatenate([[0], ends[:-1]])
        starts, labels = np.zeros(ends[-1], np.int32), np.zeros(ends[-1], np.int32)

        def decode(part: slice) -> int:
            some = coded[part]
            return decode_rows(
                arrays["code"],
                arrays["code_ends"],
                arrays["n_runs"],
                arrays["n_regions"],
                rows[some],
                begins[some],
                frame.rows,
                frame.width,
                starts,
                labels,
            )

        bad = max(in_slices(decode, coded.size, ROWS_A_THREAD))
        if bad >= 0:
            raise unsound_bytes(self.file, f"the code of entry {bad}", "code")
        squares, measure = arrays["squares"][rows], frame.measure
        return RunArrays._unchecked(
            frame.grid, starts, labels, ends, n_regions.astype(np.int32), squares, measure
        )

    def tree(self, number: int) -> MergeTree:
        """Return a stored hierarchy. O(nodes + pixels) at first."""
        with _TREES:
            if number in self.trees:
                self.trees.move_to_end(number)
                return self.trees[number]
        arrays, grid = self.arrays, self.frame.grid
        code = self._bytes_of(number, "tree_code", "tree_code_ends")
        n_leaves = int(arrays["tree_leaves"][number])
        runs = decoded(code, int(arrays["tree_runs"][number]), n_leaves, grid)
        if runs is None:
            raise unsound_bytes(self.file, f"the code of hierarchy {number}", "tree_code")
        first = int(arrays["tree_leaves"][:number].sum(dtype=np.int64))
        leaf_of = arrays["tree_order"][first : first + n_leaves]
        if not np.array_equal(np.sort(leaf_of), np.arange(n_leaves)):
            what = f"the order of the leaves of hierarchy {number}"
            raise unsound_bytes(self.file, what, "tree_order")
        numbered = Partition._of_runs(grid, runs[0], leaf_of[runs[1]], np.arange(n_leaves), None)
        node = int(arrays["tree_node_ends"][number - 1]) if number else 0
        nodes = slice(node, int(arrays["tree_node_ends"][number]))
        try:
            tree = MergeTree.from_parents(
                arrays["tree_parents"][nodes], arrays["tree_altitudes"][nodes], numbered.labels()
            )
        except ValueError as error:
            what = f"hierarchy {number} is none: {error}"
            raise DamageError(Damage(self.file, what, "tree_parents")) from None
        with _TREES:
            self.trees[number] = tree
            if len(self.trees) > KEPT_TREES:
                self.trees.popitem(last=False)
        return tree
