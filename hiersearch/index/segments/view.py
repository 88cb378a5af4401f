"""A segment while it is searched: its arrays, checked once, and what they stand for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.bounds._overlap_kernels import StoredMasses
from hiersearch.index.bounds._search_kernels import EntryTiles, Pivots
from hiersearch.index.bounds.packing import Frame
from hiersearch.index.segments.columns import PARTITION_COLUMNS, known_of
from hiersearch.index.segments.decoding import decoded_runs, decoded_tree, numbered_partition
from hiersearch.index.store.columns import begins_of, check_heads, check_values
from hiersearch.index.store.segment import Segment
from hiersearch.index.store.snapshot import StoredSegment
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.runs import RunArrays

KEPT_TREES = 16
"""How many hierarchies of a segment stay decoded."""
_TREES = threading.Lock()


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
    pivots: Pivots = field(init=False)
    """What bounds of blocks are made of."""
    tiles: EntryTiles = field(init=False)
    """What tile bounds of rows are made of."""
    masses: StoredMasses = field(init=False)
    """What overlap bounds of rows are made of."""
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
        arrays, pivots = view.arrays, view.arrays["block_pivots"]
        # Side by side, since every search reads all of them.
        view.pivots = Pivots(
            arrays["middle"][pivots], arrays["middle_errors"][pivots], arrays["block_radii"]
        )
        view.tiles = EntryTiles(*(arrays[name] for name in EntryTiles._fields))
        view.masses = StoredMasses(
            arrays["masses"], arrays["mass_ends"], arrays["n_regions"], arrays["squares"]
        )
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
        starts, labels = decoded_runs(
            frame, arrays, rows[coded], begins[coded], int(ends[-1]), self.file
        )
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
        code = self._bytes_of(number, "tree_code", "tree_code_ends")
        tree = decoded_tree(self.frame.grid, self.arrays, number, code, self.file)
        with _TREES:
            self.trees[number] = tree
            if len(self.trees) > KEPT_TREES:
                self.trees.popitem(last=False)
        return tree


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
