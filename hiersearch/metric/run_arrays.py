"""Many hard partitions as one set of run-length arrays, for distances in batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.metric import _kernels
from hiersearch.metric.queries import (
    HardQuery,
    PartitionLike,
    as_hard,
    shared_measure,
    square_sum,
    under,
)
from hiersearch.partitions.partition import Measure, Partition

LARGEST_TABLE = 2**22
"""Most cells of a contingency table that is an array; larger ones are sorted keys."""


@dataclass(frozen=True, slots=True, eq=False)
class RunArrays:
    """Partitions of one grid, their runs one after the other.

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
        measure = first.measure
        for i, partition in enumerate(hard):
            _validate.checked_same_grid(
                first.grid, partition.grid, "partitions[0]", f"partitions[{i}]"
            )
            measure = shared_measure(first, partition, None) if i else measure
        hard = [under(p, measure) for p in hard]
        return cls(
            first.grid,
            np.concatenate([p.run_starts for p in hard]),
            np.concatenate([p.run_labels for p in hard]),
            np.cumsum([p.n_runs for p in hard]),
            np.array([p.n_regions for p in hard], np.int32),
            np.array([square_sum(p) for p in hard]),
            measure,
        )

    def __len__(self) -> int:
        """Return how many partitions there are."""
        return self.ends.size

    def partition(self, i: int) -> Partition:
        """Return one of them, its regions labelled by their numbers."""
        begin = int(self.ends[i - 1]) if i else 0
        runs = slice(begin, int(self.ends[i]))
        numbers = np.arange(self.n_regions[i])
        bare = Partition(
            self.grid, self.starts[runs], self.labels[runs], numbers, np.empty(0, np.int64), None
        )
        return bare._under(self.measure)

    def distances(
        self,
        query: PartitionLike,
        *,
        normalized: bool = True,
        threads: int | None = None,
    ) -> NDArray[Any]:
        """Return the distance of one hard partition to each. O(runs of both) for each.

        Parameters
        ----------
        query : Partition or integer array
            On the same grid; it is taken under the measure of these partitions.
        normalized : bool
            Divide by M²; else ρ, int64 under measures of integer type.
        threads : int, optional
            How many threads share the work; as many as there are cores where omitted.

        Returns
        -------
        array, shape (n,)
        """
        hard = as_hard(query, "query")
        _validate.checked_same_grid(hard.grid, self.grid, "query", "the partitions")
        prepared = HardQuery(under(hard, self.measure), self.measure)
        workers = threads or os.cpu_count() or 1
        kind = np.int64 if prepared.prefix is None else prepared.prefix.dtype
        overlaps = np.empty(len(self), kind)
        bounds = np.linspace(0, len(self), workers + 1).astype(np.int64)
        if workers == 1 or len(self) < 64:
            self._overlaps(prepared, 0, len(self), overlaps)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(
                    pool.map(
                        lambda part: self._overlaps(prepared, part[0], part[1], overlaps),
                        zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True),
                    )
                )
        distances: NDArray[Any] = prepared.squares + self.squares - 2 * overlaps
        if distances.dtype.kind == "f":
            distances = np.maximum(distances, 0.0)
        return distances / prepared.scale if normalized else distances

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
