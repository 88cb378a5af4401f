"""Many hard partitions as one set of run-length arrays, for distances in batches."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch._sealed import Sealed, private
from hiersearch.metric import _kernels
from hiersearch.metric.queries import (
    HardQuery,
    PartitionLike,
    Query,
    SoftQuery,
    as_hard,
    as_partition,
    prepared_query,
    shared_measure,
    square_sum,
    under,
)
from hiersearch.partitions.partition import Measure, Partition, flat_measure

LARGEST_TABLE = 2**22
"""Most cells of a contingency table that is an array; larger ones are sorted keys."""


@dataclass(frozen=True, slots=True, eq=False)
class RunArrays(Sealed):
    """Partitions of one grid, their runs one after the other.

    Build them with :meth:`of`. The constructor takes what that would have found, copies and checks
    it, O(runs), with a measure O(pixels); the arrays are read-only.

    Examples
    --------
    >>> import numpy as np
    >>> maps = [np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])]
    >>> many = RunArrays.of([Partition.from_labels(labels) for labels in maps])
    >>> many.distances(np.array([[0, 0, 0, 0]]), normalized=False)
    array([8, 6])
    """

    grid: tuple[int, ...]
    """Shape that all share."""
    starts: NDArray[np.int32]
    """(runs,) index of the first pixel of each run."""
    labels: NDArray[np.int32]
    """(runs,) region of each run."""
    ends: NDArray[np.int64]
    """(n,) where each partition's runs end."""
    n_regions: NDArray[np.int32]
    """(n,) number of regions of each."""
    squares: NDArray[Any]
    """(n,) Σ a²."""
    measure: Measure | None
    """(pixels,) measure that all share, or None for 1 everywhere."""

    def __post_init__(self) -> None:
        grid = _validate.checked_grid(self.grid, "grid")
        measure = None if self.measure is None else flat_measure(self.measure, grid)
        starts, ends = _checked_runs(self.starts, self.ends, math.prod(grid))
        labels, n_regions = _checked_regions(self.labels, self.n_regions, ends)
        checked = self._unchecked(grid, starts, labels, ends, n_regions, np.empty(0), measure)
        squares = _checked_squares(self.squares, [square_sum(p) for p in checked._each()])
        self._keep(
            grid=grid,
            starts=starts,
            labels=labels,
            ends=ends,
            n_regions=n_regions,
            squares=squares,
            measure=measure,
        )

    @classmethod
    def of(cls, partitions: Sequence[PartitionLike]) -> RunArrays:
        """Pack partitions. O(runs).

        Raises
        ------
        TypeError, ValueError
            If one is not a hard partition, there are none, or grids or measures differ.
        """
        hard = [as_hard(p, f"partitions[{i}]") for i, p in enumerate(partitions)]
        if not hard:
            raise ValueError("partitions must hold at least one, got none")
        first = hard[0]
        carrier = next((p for p in hard if p.measure is not None), first)
        for i, partition in enumerate(hard):
            _validate.checked_same_grid(
                first.grid, partition.grid, "partitions[0]", f"partitions[{i}]"
            )
            shared_measure(carrier, partition, None)
        measure = carrier.measure
        hard = [under(p, measure) for p in hard]
        return cls._unchecked(
            first.grid,
            np.concatenate([p.run_starts for p in hard]),
            np.concatenate([p.run_labels for p in hard]),
            np.cumsum([p.n_runs for p in hard], dtype=np.int64),
            np.array([p.n_regions for p in hard], np.int32),
            np.array([square_sum(p) for p in hard]),
            measure,
        )

    def __len__(self) -> int:
        """Return how many partitions there are."""
        return self.ends.size

    def _each(self) -> Iterator[Partition]:
        return (self.partition(i) for i in range(len(self)))

    def partition(self, i: int) -> Partition:
        """Return one of them, its regions labelled by their numbers.

        Raises
        ------
        TypeError, ValueError
            If ``i`` is not a whole number within 0..len − 1.
        """
        _validate.checked_count(i, "i", 0, len(self) - 1)
        begin = int(self.ends[i - 1]) if i else 0
        runs = slice(begin, int(self.ends[i]))
        numbers = np.arange(self.n_regions[i])
        return Partition._of_runs(
            self.grid, self.starts[runs], self.labels[runs], numbers, self.measure
        )

    def distances(
        self,
        query: PartitionLike,
        *,
        normalized: bool = True,
        threads: int | None = None,
        device: str | None = None,
    ) -> NDArray[Any]:
        """Return the distance of one partition, hard or soft, to each.

        Parameters
        ----------
        query : Partition, SoftPartition or integer array
            On the same grid; it is taken under the measure of these partitions.
        normalized : bool
            Divide by M²; else ρ, int64 between hard partitions under measures of integer type.
        threads : int, optional
            How many threads share the work; as many as there are cores where omitted.
        device : str, optional
            What computes: "cpu", "cuda", "cuda:N" or "auto", see
            :func:`hiersearch.device.choice.resolved`.

        Returns
        -------
        array, shape (n,)

        Notes
        -----
        O(runs of both) for each, for soft queries O(runs · k) after O(pixels · k). A GPU gives the
        same integers, and floating-point numbers within
        :func:`hiersearch.device.runs.rounding` · M². Affinities, and sparse memberships of more
        than 256 channels, are always left to the CPU.
        """
        ready = [self._taken(query, "query")]
        found: NDArray[Any] = self._matrix(ready, normalized, threads, device)[0]
        return found

    def distances_many(
        self,
        queries: Sequence[PartitionLike],
        *,
        normalized: bool = True,
        threads: int | None = None,
        device: str | None = None,
    ) -> NDArray[Any]:
        """Return the distances of many partitions to each: all at once on a GPU.

        Parameters
        ----------
        queries : sequence of Partition, SoftPartition or integer array
            On the same grid; taken under the measure of these partitions.
        normalized, threads, device
            As in :meth:`distances`.

        Returns
        -------
        array, shape (len(queries), n)
            int64 if all distances are exact integers and are not divided, else float64.

        Examples
        --------
        >>> import numpy as np
        >>> many = RunArrays.of([np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])])
        >>> many.distances_many([np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]])])
        array([[0.5  , 0.375],
               [0.375, 0.5  ]])
        """
        ready = [self._taken(query, f"queries[{i}]") for i, query in enumerate(queries)]
        return self._matrix(ready, normalized, threads, device)

    def _taken(self, query: PartitionLike, name: str) -> Any:
        """Return a query under the measure of these partitions."""
        partition = as_partition(query, name)
        _validate.checked_same_grid(partition.grid, self.grid, name, "the partitions")
        return under(partition, self.measure)

    def _matrix(
        self, queries: list[Any], normalized: bool, threads: int | None, device: str | None
    ) -> NDArray[Any]:
        """Return the distances of queries that were brought under the measure."""
        rows = self._raw_on_device(queries, device)
        for i, query in enumerate(queries):
            if i in rows:
                scale = float(query.total) ** 2
            else:
                prepared = prepared_query(query, self.measure, prefix=True)
                scale = prepared.scale
                rows[i] = self._raw_on_cpu(prepared, threads or os.cpu_count() or 1)
            if normalized:
                rows[i] = rows[i] / scale
        kind = np.result_type(*rows.values()) if rows else np.float64
        matrix = np.empty((len(queries), len(self)), kind)
        for i, row in rows.items():
            matrix[i] = row
        return matrix

    def _raw_on_device(self, queries: list[Any], device: str | None) -> dict[int, NDArray[Any]]:
        """Return ρ to each partition, of those queries that a device takes."""
        from hiersearch.device.choice import resolved

        rows: dict[int, NDArray[Any]] = {}
        if resolved(device).on_kernels and device != "auto":
            return rows
        from hiersearch.device.distances import distance_matrix, distance_work
        from hiersearch.device.runs import fits

        for hard in (True, False):
            mine = [
                i for i, q in enumerate(queries) if fits(q) and isinstance(q, Partition) == hard
            ]
            group = [queries[i] for i in mine]
            if not group:
                continue
            chosen = resolved(device, distance_work(group, self.starts.size, len(self)))
            if not chosen.on_kernels:
                rows.update(zip(mine, distance_matrix(group, self, chosen), strict=True))
        return rows

    def _raw_on_cpu(self, query: Query, threads: int) -> NDArray[Any]:
        """Return ρ to each partition, by kernels."""
        if not isinstance(query, (HardQuery, SoftQuery)) or (
            isinstance(query, SoftQuery) and query.prefix is None
        ):
            return np.array([query.rho(self.partition(i)) for i in range(len(self))], np.float64)
        overlaps = np.empty(len(self), self.squares.dtype)
        if isinstance(query, SoftQuery):
            overlaps = np.empty(len(self), np.float64)
        threads = threads if len(self) >= 64 else 1
        edges = np.linspace(0, len(self), threads + 1).astype(np.int64).tolist()

        def write(part: tuple[int, int]) -> None:
            if isinstance(query, SoftQuery):
                self._soft_overlaps(query, *part, overlaps)
            else:
                self._overlaps(query, *part, overlaps)

        if threads == 1:
            write((0, len(self)))
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(write, itertools.pairwise(edges)))
        distances: NDArray[Any] = query.squares + self.squares - 2 * overlaps
        return np.maximum(distances, 0.0) if distances.dtype.kind == "f" else distances

    def _soft_overlaps(self, query: SoftQuery, first: int, last: int, out: NDArray[Any]) -> None:
        """Write Σ n_jR² of partitions first..last − 1."""
        if first == last:
            return
        assert query.prefix is not None
        _kernels.dense_overlap_square_sums(
            query.prefix,
            self.starts,
            self.labels,
            self.ends,
            self.n_regions,
            first,
            last,
            np.empty((int(self.n_regions[first:last].max()), query.query.n_channels)),
            out,
        )

    def _overlaps(self, query: HardQuery, first: int, last: int, out: NDArray[Any]) -> None:
        """Write Σ n_ij² of partitions first..last − 1."""
        if first == last:
            return
        cells = int(self.n_regions[first:last].max()) * query.query.n_regions
        if cells > LARGEST_TABLE:
            for i in range(first, last):
                out[i] = query.overlap(self.partition(i))
            return
        _kernels.overlap_square_sums(
            query.query.run_starts,
            query.query.run_labels,
            query.query.n_regions,
            self.starts,
            self.labels,
            self.ends,
            self.n_regions,
            first,
            last,
            query.query.n_pixels,
            query.prefix,
            np.zeros(cells, query.kind),
            out,
        )


def _checked_runs(
    starts: Any, ends: Any, n_pixels: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the starts of all runs and where each partition's runs end, both private."""
    first = _validate.checked_column(starts, "starts", np.int32, 0, n_pixels - 1, None)
    last = _validate.checked_column(ends, "ends", np.int64, 1, first.size, None)
    if (np.diff(last) <= 0).any() or last[-1] != first.size:
        raise ValueError(
            f"ends must ascend to the number of runs, {first.size}, got {np.array_str(last)}"
        )
    begins = np.concatenate([[0], last[:-1]])
    if first[begins].any():
        i = int(np.flatnonzero(first[begins])[0])
        raise ValueError(
            f"starts must begin with 0 in each partition, got {first[begins[i]]} in partition {i}"
        )
    rising = np.diff(first.astype(np.int64)) > 0
    rising[last[:-1] - 1] = True
    if not rising.all():
        run = int(np.flatnonzero(~rising)[0])
        raise ValueError(
            f"starts must ascend in each partition, got {first[run + 1]} after {first[run]} at "
            f"index {run + 1}"
        )
    return private(first), private(last)


def _checked_regions(
    labels: Any, n_regions: Any, ends: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the region of each run and the number of regions of each partition, both private."""
    n_runs = np.diff(ends, prepend=0)
    most = int(n_runs.max())
    counts = _validate.checked_column(n_regions, "n_regions", np.int32, 1, most, ends.size)
    if (counts > n_runs).any():
        i = int(np.flatnonzero(counts > n_runs)[0])
        raise ValueError(
            f"n_regions must be at most the number of runs, {n_runs[i]} in partition {i}, "
            f"got {counts[i]}"
        )
    numbers = _validate.checked_column(labels, "labels", np.int32, 0, most - 1, int(ends[-1]))
    outside = np.flatnonzero(numbers >= np.repeat(counts, n_runs))
    if outside.size:
        i = int(np.searchsorted(ends, outside[0], side="right"))
        raise ValueError(
            f"labels must be within 0..{counts[i] - 1} in partition {i}, got {numbers[outside[0]]} "
            f"at index {outside[0]}"
        )
    bases = np.cumsum(counts, dtype=np.int64) - counts
    used = np.bincount(np.repeat(bases, n_runs) + numbers, minlength=int(bases[-1] + counts[-1]))
    absent = np.flatnonzero(used == 0)
    if absent.size:
        i = int(np.searchsorted(bases, absent[0], side="right")) - 1
        raise ValueError(
            f"labels must hold every region, but region {absent[0] - bases[i]} of partition {i} "
            f"has no run"
        )
    return private(numbers), private(counts)


def _checked_squares(squares: Any, expected: list[Any]) -> NDArray[Any]:
    found, right = private(_validate.as_array(squares, "squares")), np.array(expected)
    if found.shape != right.shape or found.dtype != right.dtype:
        raise ValueError(
            f"squares must be {right.dtype} of shape {right.shape}, one for each partition, "
            f"got {found.dtype} of shape {found.shape}"
        )
    tolerance = 1e-9 * right if right.dtype.kind == "f" else 0
    close = np.abs(found - right) <= tolerance
    if not close.all():
        i = int(np.flatnonzero(~close)[0])
        raise ValueError(
            f"squares must be the sums of squared sizes, {right[i]} of partition {i}, "
            f"got {found[i]}"
        )
    return found
