"""Many hard partitions as one set of run-length arrays: the form in which batches compute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch._sealed import Sealed, private
from hiersearch.partitions._kernels import sum_of_squares
from hiersearch.partitions.inputs import PartitionLike, as_hard
from hiersearch.partitions.one_measure import shared_measure, under
from hiersearch.partitions.partition import Measure, Partition, flat_measure


@dataclass(frozen=True, slots=True, eq=False)
class RunArrays(Sealed):
    """Partitions of one grid, their runs one after the other.

    Build them with :meth:`of`. The constructor takes what that would have found, copies and checks
    it, O(runs), with a measure O(pixels); the arrays are read-only. What asks for the distances of
    others to them is :func:`hiersearch.metric.run_distances`.

    Examples
    --------
    >>> import numpy as np
    >>> maps = [np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])]
    >>> many = RunArrays.of([Partition.from_labels(labels) for labels in maps])
    >>> len(many), many.starts.tolist(), many.ends.tolist(), many.squares.tolist()
    (2, [0, 2, 0, 1], [2, 4], [8, 10])
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


def square_sum(partition: Partition) -> Any:
    """Return Σ a_i², an integer where the measure is of integer type."""
    return sum_of_squares(partition.sizes)


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
