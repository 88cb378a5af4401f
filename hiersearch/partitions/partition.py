"""The hard partition: a label map, kept as runs over the flattened grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch._sealed import Sealed, private, sealed
from hiersearch.partitions import _kernels

Measure = NDArray[np.int64] | NDArray[np.float64]

# Beyond this total, twice the square of an integer measure leaves int64.
LARGEST_EXACT_TOTAL = 2**31 - 1


def as_measure(measure: ArrayLike, grid: tuple[int, ...]) -> Measure:
    """Validate a measure and return it flat: int64 where it is of integer type, else float64.

    Parameters
    ----------
    measure : array, shape of the grid
        Non-negative, finite, positive somewhere. Integer or boolean measures keep distances
        exact integers.
    grid : tuple of int
        The shape that ``measure`` must have.

    Returns
    -------
    array, shape (n,), int64 or float64
        Read-only, and no view of ``measure``.

    Raises
    ------
    ValueError
        If the shape differs from ``grid``, a value is negative or not finite, or all are zero, or
        if the total is too large or too small to be squared.
    """
    array = _validate.as_array(measure, "measure")
    # A copy, so that the partition keeps what it was measured with.
    checked = _validate.checked_measure(array, grid).copy()
    with np.errstate(over="ignore"):
        total = float(checked.sum())
    if array.dtype.kind in "iub":
        if total > LARGEST_EXACT_TOTAL:
            raise ValueError(
                f"measure of integer type must have a total of at most {LARGEST_EXACT_TOTAL}, so "
                f"that distances are exact integers, got {total:g}: pass it as float64"
            )
        return sealed(array.reshape(-1).astype(np.int64))
    if not 0 < total * total < math.inf:
        raise ValueError(
            f"measure must have a total whose square is a float64, got {total:g}: rescale it"
        )
    return sealed(checked).reshape(-1)


def compact(values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Return the number of each value, from 0 in ascending order, and the distinct values.

    O(n) by a lookup table where the values lie close together, else O(n log n) by sorting.
    """
    low, high = int(values.min()), int(values.max())
    if high - low < 4 * values.size + 4096 and high < 2**62:
        numbers, distinct = _kernels.compact_values(
            values.astype(np.int64, copy=False), low, high - low + 1
        )
        return numbers, distinct.astype(values.dtype)
    distinct, inverse = np.unique(values, return_inverse=True)
    return inverse.astype(np.int32), distinct


@dataclass(frozen=True, slots=True, eq=False)
class Partition(Sealed):
    """A partition of a 2-D or 3-D grid into regions, in run-length form.

    Build one with :meth:`from_labels`. Regions are numbered 0, 1, ... in ascending order of the
    labels they came from; equality, distances and searches ignore the labels themselves.

    The constructor takes what `from_labels` would have found, copies and checks it: O(runs), with
    a measure O(pixels). A partition's arrays are read-only.

    Examples
    --------
    >>> import numpy as np
    >>> a = Partition.from_labels(np.array([[7, 7, -1], [7, -1, -1]]))
    >>> a.n_regions, a.n_runs, a.sizes.tolist(), a.label_values.tolist()
    (2, 4, [3, 3], [-1, 7])
    >>> a == Partition.from_labels(np.array([[0, 0, 5], [0, 5, 5]]))
    True
    """

    grid: tuple[int, ...]
    """Shape of the image or volume, (H, W) or (D, H, W)."""
    run_starts: NDArray[np.int32]
    """(n_runs,) index of the first pixel of each run in the flattened grid; the first is 0."""
    run_labels: NDArray[np.int32]
    """(n_runs,) region number of each run, 0..n_regions - 1."""
    label_values: NDArray[Any]
    """(n_regions,) the label that each region had in the label map."""
    sizes: NDArray[np.int64] | NDArray[np.float64]
    """(n_regions,) measure of each region; pixel counts (int64) where the measure is 1."""
    measure: Measure | None = None
    """(n,) measure of each pixel of the flattened grid, or None for 1 everywhere."""

    def __post_init__(self) -> None:
        grid = _validate.checked_grid(self.grid, "grid")
        n_pixels = math.prod(grid)
        starts = _checked_starts(self.run_starts, n_pixels)
        values = _checked_label_values(self.label_values, starts.size)
        labels = _checked_run_labels(self.run_labels, starts.size, values.size)
        measure = None if self.measure is None else flat_measure(self.measure, grid)
        expected = _sizes(starts, labels, n_pixels, values.size, measure)
        self._keep(
            grid=grid,
            run_starts=starts,
            run_labels=labels,
            label_values=values,
            sizes=_checked_sizes(self.sizes, expected),
            measure=measure,
        )

    @classmethod
    def _of_runs(
        cls,
        grid: tuple[int, ...],
        starts: NDArray[np.int32],
        labels: NDArray[np.int32],
        values: NDArray[Any],
        measure: Measure | None,
    ) -> Partition:
        """Make a partition of sound runs, measured anew. O(runs), with a measure O(pixels)."""
        # Sealed before they are measured, so that the kernels meet one kind of array.
        sealed(starts)
        sealed(labels)
        sizes = _sizes(starts, labels, math.prod(grid), values.size, measure)
        return cls._unchecked(grid, starts, labels, values, sizes, measure)

    @classmethod
    def from_labels(
        cls,
        labels: ArrayLike,
        *,
        measure: ArrayLike | None = None,
        ignore: int | None = None,
    ) -> Partition:
        """Encode a label map. O(pixels + runs), plus O(runs log runs) for labels spread widely.

        Parameters
        ----------
        labels : integer or boolean array, shape (H, W) or (D, H, W)
            Any integers: negative, sparse, 64-bit. A region need not be connected. Three axes are
            one volume: the maps of a batch go in one by one.
        measure : array of the same shape, optional
            Non-negative weight of each pixel; 1 where omitted. Integer types keep distances exact.
        ignore : int, optional
            Pixels with this label get measure zero.

        Raises
        ------
        TypeError
            If ``labels`` or ``ignore`` is not of integer type.
        ValueError
            If the grid is empty or not 2-D or 3-D, if ``measure`` does not fit, or if every pixel
            is ignored.
        """
        array = _validate.checked_labels(labels, "labels")
        weights = None if measure is None else as_measure(measure, array.shape)
        if ignore is not None:
            if not isinstance(ignore, (int, np.integer)):
                raise TypeError(f"ignore must be a label, a whole number, got {ignore!r}")
            kept = (array != ignore).reshape(-1)
            if not kept.any():
                raise ValueError(f"labels must have a pixel besides ignore={ignore}, got none")
            weights = kept.astype(np.int64) if weights is None else weights * kept
            if not weights.any():
                raise ValueError("measure must be positive at a pixel that is not ignored")
        return cls._encode(array, weights)

    @classmethod
    def _encode(cls, array: NDArray[Any], measure: Measure | None) -> Partition:
        flat = array.reshape(-1)
        changed = flat[1:] != flat[:-1]
        starts = _kernels.run_starts(changed.view(np.uint8), int(np.count_nonzero(changed)) + 1)
        run_labels, values = compact(flat[starts])
        return cls._of_runs(array.shape, starts, run_labels, values, measure)

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return int(self.label_values.size)

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return int(self.run_starts.size)

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the grid."""
        return math.prod(self.grid)

    @property
    def total(self) -> int | float:
        """Measure of the whole grid, M."""
        return self.n_pixels if self.measure is None else self.sizes.sum().item()

    @property
    def labels(self) -> NDArray[np.int32]:
        """Return the region number of each pixel, shape of the grid. O(pixels)."""
        out = np.empty(self.n_pixels, np.int32)
        _kernels.decode_runs(self.run_starts, self.run_labels, out)
        return out.reshape(self.grid)

    @property
    def original_labels(self) -> NDArray[Any]:
        """Return the label map that the partition was encoded from. O(pixels)."""
        restored: NDArray[Any] = self.label_values[self.labels]
        return restored

    def with_measure(self, measure: ArrayLike | None) -> Partition:
        """Return the same partition under another measure (None: 1 everywhere)."""
        weights = None if measure is None else as_measure(measure, self.grid)
        return self._under(weights)

    def _under(self, weights: Measure | None) -> Partition:
        return self._of_runs(
            self.grid, self.run_starts, self.run_labels, self.label_values, weights
        )

    def __eq__(self, other: object) -> bool:
        """Whether both cut the same grid into the same regions, whatever their labels."""
        if not isinstance(other, Partition):
            return NotImplemented
        if self.grid != other.grid or self.n_regions != other.n_regions:
            return False
        if not np.array_equal(self.run_starts, other.run_starts):
            return False
        renamed = np.empty(self.n_regions, np.int32)
        renamed[self.run_labels] = other.run_labels
        # As many regions on both sides: a renaming that fits every run is one to one.
        return np.array_equal(renamed[self.run_labels], other.run_labels)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Name grid, regions and runs."""
        size = "×".join(str(side) for side in self.grid)
        weighted = "" if self.measure is None else f", total measure {self.total:g}"
        return f"<Partition {size}: {self.n_regions} regions, {self.n_runs} runs{weighted}>"


def flat_measure(measure: ArrayLike, grid: tuple[int, ...]) -> Measure:
    """Return a flat measure (n,) as `as_measure` does, itself where nobody else can write to it.

    Raises
    ------
    ValueError
        If it is not flat, or as `as_measure`.
    """
    array = _validate.as_array(measure, "measure")
    if array.shape != (math.prod(grid),):
        raise ValueError(f"measure must be flat, of shape ({math.prod(grid)},), got {array.shape}")
    checked = as_measure(array.reshape(grid), grid)
    kept = private(array)
    return kept if kept is array and array.dtype == checked.dtype else checked


def _checked_starts(starts: ArrayLike, n_pixels: int) -> NDArray[np.int32]:
    checked = _validate.checked_column(starts, "run_starts", np.int32, 0, n_pixels - 1, None)
    if checked[0] != 0:
        raise ValueError(f"run_starts must begin with 0, got {checked[0]}")
    falls = np.flatnonzero(checked[1:] <= checked[:-1])
    if falls.size:
        i = int(falls[0])
        raise ValueError(
            f"run_starts must ascend, got {checked[i + 1]} after {checked[i]} at index {i + 1}"
        )
    return private(checked)


def _checked_run_labels(labels: ArrayLike, n_runs: int, n_regions: int) -> NDArray[np.int32]:
    checked = _validate.checked_column(labels, "run_labels", np.int32, 0, n_regions - 1, n_runs)
    absent = np.flatnonzero(np.bincount(checked, minlength=n_regions) == 0)
    if absent.size:
        raise ValueError(f"run_labels must hold every region, but region {absent[0]} has no run")
    # Equality compares runs one by one, so that each must be as long as can be.
    same = np.flatnonzero(checked[1:] == checked[:-1])
    if same.size:
        raise ValueError(
            f"run_labels must change from run to run, got {checked[same[0]]} twice in a row at "
            f"index {same[0] + 1}"
        )
    return private(checked)


def _checked_label_values(values: ArrayLike, n_runs: int) -> NDArray[Any]:
    array = _validate.as_array(values, "label_values")
    if array.dtype.kind not in "iu":
        raise TypeError(f"label_values must be whole numbers, got dtype {array.dtype}")
    if array.ndim != 1 or not 1 <= array.size <= n_runs:
        raise ValueError(
            f"label_values must be 1-D, one for each region of the {n_runs} runs, "
            f"got shape {array.shape}"
        )
    falls = np.flatnonzero(array[1:] <= array[:-1])
    if falls.size:
        i = int(falls[0])
        raise ValueError(f"label_values must ascend, got {array[i + 1]} after {array[i]}")
    return private(array)


def _sizes(
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
    n_pixels: int,
    n_regions: int,
    measure: Measure | None,
) -> Measure:
    """Return the measure of each region."""
    sizes: Measure
    if measure is None:
        sizes = _kernels.region_pixel_counts(starts, labels, n_pixels, n_regions)
    else:
        sizes = _kernels.region_weights(starts, labels, measure, n_regions)
    return sizes


def _checked_sizes(sizes: ArrayLike, expected: Measure) -> Measure:
    array = private(_validate.as_array(sizes, "sizes"))
    if array.dtype != expected.dtype or array.shape != expected.shape:
        raise ValueError(
            f"sizes must be {expected.dtype} of shape {expected.shape}, a measure for each region, "
            f"got {array.dtype} of shape {array.shape}"
        )
    # Sums in floating point may have been added up in another order.
    tolerance = 1e-9 * float(expected.sum()) if expected.dtype.kind == "f" else 0
    wrong = np.flatnonzero(~(np.abs(array - expected) <= tolerance))
    if wrong.size:
        region = int(wrong[0])
        raise ValueError(
            f"sizes must be what the regions measure, {expected[region]} for region {region}, "
            f"got {array[region]}"
        )
    return array
