"""Entries of a snapshot by one number each, and exact distances of pairs of them, in batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.bounds.packing import Frame
from hiersearch.index.search._join_kernels import pair_overlaps
from hiersearch.index.segments.decoding import LARGEST_TABLE, unsound_bytes
from hiersearch.index.segments.view import View
from hiersearch.index.store.ids import Id
from hiersearch.index.threads import in_slices
from hiersearch.metric._kernels import ManyRuns
from hiersearch.metric.queries import HardQuery
from hiersearch.partitions.runs import RunArrays

Numbers = NDArray[np.int64]

RUNS_AT_ONCE = 2**22
"""Runs that are decoded at once, 8 bytes each."""
PAIRS_A_THREAD = 64
"""Pairs to compare that are worth a thread."""
MANY = 8
"""All ids of a segment are read at once where more than one in so many is asked for."""


class Entries:
    """The entries of some segments, numbered one segment after the other, removed ones included."""

    def __init__(
        self, views: Sequence[View], frame: Frame, live: Mapping[int, NDArray[np.uint8]]
    ) -> None:
        self.views = tuple(views)
        self.frame = frame
        self.begins: Numbers = np.cumsum([0, *(view.n_entries for view in views)])
        """(views + 1,) number of each view's first row."""
        self.n = int(self.begins[-1])
        self.live = np.ones(self.n, np.bool_)
        """(n,) which are not removed."""
        for view, rows in live.items():
            self.live[self.begins[view] : self.begins[view + 1]] = rows != 0
        self.n_runs = self._column("n_runs", np.int32)
        self.n_regions = self._column("n_regions", np.int32)
        self.squares = self._column("squares", frame.prefix.dtype)
        self.hierarchy = self._hierarchies()
        """(n,) number of the hierarchy that each is a cut of, or -1; None: there are no cuts."""

    def _column(self, name: str, kind: Any) -> NDArray[Any]:
        parts = [view.arrays[name] for view in self.views]
        return np.concatenate([np.empty(0, kind), *parts])

    def _hierarchies(self) -> NDArray[np.int32] | None:
        if not any(view.has_cuts for view in self.views):
            return None
        tree = self._column("tree", np.int32)
        trees = [view.arrays["tree_runs"].size for view in self.views]
        first = np.repeat(np.cumsum([0, *trees[:-1]]), np.diff(self.begins))
        found: NDArray[np.int32] = np.where(tree < 0, tree, tree + first).astype(np.int32)
        return found

    def by_view(self, numbers: Numbers) -> Iterator[tuple[View, NDArray[np.int32], slice]]:
        """Yield for ascending numbers the views that have some, the rows, and their places."""
        edges = np.searchsorted(numbers, self.begins).tolist()
        for number, (begin, end) in enumerate(itertools.pairwise(edges)):
            if begin < end:
                rows = (numbers[begin:end] - self.begins[number]).astype(np.int32)
                yield self.views[number], rows, slice(begin, end)

    def ids(self, numbers: Numbers) -> list[Id]:
        """Return the ids of entries, whose numbers ascend."""
        found: list[Id] = []
        for view, rows, _ in self.by_view(numbers):
            if MANY * rows.size > view.n_entries:
                names = view.stored.all_ids()
                found += [names[row] for row in rows.tolist()]
            else:
                found += [view.stored.id_at(row) for row in rows.tolist()]
        return found

    def distances(self, firsts: Numbers, seconds: Numbers) -> NDArray[Any]:
        """Return ρ of pairs, not divided: int64, or float64 under a measure of such a type.

        O(runs) a pair, and O(runs) for each entry of a batch, which is decoded once; O(pixels) for
        a cut of a hierarchy, but O(1) between two cuts of one.

        Raises
        ------
        DamageError
            If bytes that were needed are damaged.
        """
        # Of nested partitions ρ is the difference of Σ a².
        out: NDArray[Any] = np.abs(self.squares[firsts] - self.squares[seconds])
        pending = np.arange(firsts.size)
        if self.hierarchy is not None:
            tree = self.hierarchy[firsts]
            pending = np.flatnonzero((tree < 0) | (tree != self.hierarchy[seconds]))
        for some in self._in_parts(pending, firsts, seconds):
            out[some] = self._compared(firsts[some], seconds[some])
        return out

    def _in_parts(
        self, pending: NDArray[np.intp], firsts: Numbers, seconds: Numbers
    ) -> Iterator[NDArray[np.intp]]:
        """Cut pairs into parts of so many runs as are decoded at once."""
        runs = self.n_runs[firsts[pending]].astype(np.int64) + self.n_runs[seconds[pending]]
        part = np.cumsum(runs) // RUNS_AT_ONCE
        yield from np.split(pending, np.flatnonzero(np.diff(part)) + 1) if pending.size else ()

    def _compared(self, firsts: Numbers, seconds: Numbers) -> NDArray[Any]:
        """Return ρ of pairs from their runs."""
        numbers, places = np.unique(np.concatenate([firsts, seconds]), return_inverse=True)
        a, b = places[: firsts.size], places[firsts.size :]
        overlaps = self._overlaps(self._runs(numbers), a, b)
        distances: NDArray[Any] = self.squares[firsts] + self.squares[seconds] - 2 * overlaps
        # Sums in floating point may come out below zero.
        return distances if distances.dtype.kind == "i" else np.maximum(distances, 0.0)

    def _overlaps(self, runs: RunArrays, a: Numbers, b: Numbers) -> NDArray[Any]:
        """Return Σ n_ij² of pairs, on several cores if there are many."""
        frame = self.frame
        out = np.empty(a.size, frame.prefix.dtype)
        cells = runs.n_regions[a].astype(np.int64) * runs.n_regions[b]
        for i in np.flatnonzero(cells > LARGEST_TABLE).tolist():
            query = HardQuery(runs.partition(int(a[i])), frame.measure)
            out[i] = query.overlap(runs.partition(int(b[i])))
        tabled = np.flatnonzero(cells <= LARGEST_TABLE)
        weighted = frame.measure is not None

        def write(part: slice) -> None:
            some = tabled[part]
            found = np.empty(some.size, out.dtype)
            pair_overlaps(
                ManyRuns(runs.starts, runs.labels, runs.ends, runs.n_regions),
                a[some],
                b[some],
                frame.prefix.size - 1,
                frame.prefix if weighted else None,
                np.empty(int(cells[some].max()), frame.prefix.dtype if weighted else np.int32),
                found,
            )
            out[some] = found

        if tabled.size:
            in_slices(write, tabled.size, PAIRS_A_THREAD)
        return out

    def _runs(self, numbers: Numbers) -> RunArrays:
        """Decode entries, cuts of hierarchies, too."""
        parts = [_runs_with_cuts(view, rows) for view, rows, _ in self.by_view(numbers)]
        if len(parts) == 1:
            return parts[0]
        before = np.cumsum([0, *(part.starts.size for part in parts[:-1])])
        return RunArrays._unchecked(
            self.frame.grid,
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([p.ends + begin for p, begin in zip(parts, before, strict=True)]),
            np.concatenate([part.n_regions for part in parts]),
            np.concatenate([part.squares for part in parts]),
            self.frame.measure,
        )


def _runs_with_cuts(view: View, rows: NDArray[np.int32]) -> RunArrays:
    """Decode rows of a view, with the runs of cuts where :meth:`View.run_arrays` has none."""
    found = view.run_arrays(rows)
    cuts = np.flatnonzero(view.is_cut(rows)).tolist()
    if not cuts:
        return found
    starts, labels = (np.split(a, found.ends[:-1]) for a in (found.starts, found.labels))
    for i in cuts:
        partition = view.partition(int(rows[i]), labelled=False)
        if partition.n_regions != int(view.arrays["n_regions"][rows[i]]):
            raise unsound_bytes(view.file, f"the cut of entry {rows[i]}", "altitude")
        starts[i], labels[i] = partition.run_starts, partition.run_labels
    return RunArrays._unchecked(
        found.grid,
        np.concatenate(starts),
        np.concatenate(labels),
        np.cumsum([piece.size for piece in starts]),
        view.arrays["n_regions"][rows],
        found.squares,
        found.measure,
    )
