"""The property term: colour, texture or class of regions as a second metric beside ρ.

Each region carries a property vector, and each pixel inherits its region's. The term

    λ · Σ_p μ_p ‖w_α(p) − w_β(p)‖₁ / (M · c)

with c the largest possible ‖·‖₁ is a metric between weighted partitions (an L1 distance between
fields over the pixels), so ρ/M² plus the term is one, too. This weighting is the project's own
construction: a multiplier of region properties *inside* the double sum of ρ breaks the triangle
inequality for nearly every choice and is not offered; see tests/metric/test_properties.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.metric import _kernels
from hiersearch.partitions._kernels import dense_region_sums
from hiersearch.partitions.checks import SUM_TOLERANCE
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Memberships, SoftPartition


@dataclass(frozen=True, slots=True, eq=False)
class RegionProperties:
    """One property vector for each region of a hard partition."""

    values: NDArray[np.float64]
    """(n_regions, d) property vectors."""
    bound: float
    """c, the largest possible ‖w − w'‖₁ between two vectors of this kind."""
    kind: str
    """What the vectors are: "colour", "texture", "class" or the user's own word."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelProperties:
    """One property vector for each pixel: what a soft query says of classes, pixel by pixel."""

    values: NDArray[np.float64]
    """(d, n) property vectors."""
    bound: float
    """c, the largest possible ‖w − w'‖₁ between two vectors of this kind."""
    kind: str
    """What the vectors are."""


Properties = RegionProperties | PixelProperties


def region_properties(
    partition: Partition, values: ArrayLike, *, low: ArrayLike, high: ArrayLike, kind: str = "own"
) -> RegionProperties:
    """Attach property vectors of the user's own to the regions of a partition.

    Parameters
    ----------
    partition : Partition
        Whose regions, in the order of their numbers.
    values : array, shape (n_regions, d)
        Finite; each component within [low, high].
    low, high : float or array, shape (d,)
        Range of each component; their distance summed over components is the bound c.
    kind : str
        A word that both partitions must share to be compared.

    Raises
    ------
    ValueError
        If the shape does not fit, or a value is not finite or outside its range: then c would not
        be the largest difference.
    """
    array = _validate.checked_finite(values, "values").astype(np.float64)
    if array.ndim != 2 or array.shape[0] != partition.n_regions:
        raise ValueError(
            f"values must have shape ({partition.n_regions}, d), a vector for each region, "
            f"got {array.shape}"
        )
    lows = np.broadcast_to(np.asarray(low, np.float64), array.shape[1:])
    highs = np.broadcast_to(np.asarray(high, np.float64), array.shape[1:])
    bound = float((highs - lows).sum())
    if not (np.isfinite(bound) and bound > 0 and (highs >= lows).all()):
        raise ValueError(f"low and high must span a finite range, got {low!r} and {high!r}")
    outside = np.argwhere((array < lows) | (array > highs))
    if outside.size:
        i, j = (int(x) for x in outside[0])
        raise ValueError(
            f"values must be within [{lows[j]:g}, {highs[j]:g}] in component {j}, "
            f"got {array[i, j]:g} for region {i}"
        )
    return RegionProperties(array, bound, kind)


def colour_properties(partition: Partition, image: ArrayLike) -> RegionProperties:
    """Mean colour of each region: one component for each channel of the image.

    Parameters
    ----------
    partition : Partition
        Of the image's grid.
    image : array, shape of the grid, with or without a last axis of channels
        Integer images are scaled by the range of their type; floating images must be in [0, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit or a value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> partition = Partition.from_labels(np.array([[0, 0, 1]]))
    >>> colour_properties(partition, np.array([[0, 255, 255]], np.uint8)).values.tolist()
    [[0.5], [1.0]]
    """
    channels = _unit_channels(image, partition.grid)
    means = _region_means(partition, channels)
    return region_properties(partition, means, low=0.0, high=1.0, kind="colour")


def texture_properties(partition: Partition, image: ArrayLike) -> RegionProperties:
    """Texture of each region: per channel, the standard deviation and the mean step to neighbours.

    Parameters
    ----------
    partition, image
        As in :func:`colour_properties`.

    Raises
    ------
    ValueError
        As :func:`colour_properties`.

    Notes
    -----
    Standard deviations of values within [0, 1] are at most 1/2; steps are the mean absolute
    difference to the next pixel along the axes, at most 1.
    """
    channels = _unit_channels(image, partition.grid)
    field = channels.reshape(-1, *partition.grid)
    steps = np.zeros_like(field)
    for axis in range(1, field.ndim):
        # The last pixel along an axis repeats itself: its step is 0.
        last = np.take(field, [-1], axis=axis)
        steps += np.abs(np.diff(field, axis=axis, append=last)) / (field.ndim - 1)
    stacked = np.concatenate([channels, channels**2, steps.reshape(channels.shape)])
    means = _region_means(partition, stacked)
    k = channels.shape[0]
    deviation = np.sqrt(np.maximum(0.0, means[:, k : 2 * k] - means[:, :k] ** 2))
    values = np.concatenate([np.minimum(deviation, 0.5), means[:, 2 * k :]], axis=1)
    high = np.repeat([0.5, 1.0], k)
    return region_properties(partition, values, low=0.0, high=high, kind="texture")


def class_properties(
    partition: Partition | Memberships, classes: ArrayLike | None = None, n_classes: int = 0
) -> Properties:
    """Class of each region as a one-hot vector; of a soft partition, its probabilities.

    Parameters
    ----------
    partition : Partition or dense Memberships
        Of a soft partition each channel counts as a class, and the property of a pixel is P_p.
    classes : integer array, shape (n_regions,)
        Class of each region of a hard partition, 0..n_classes - 1.
    n_classes : int
        Number of classes, for a hard partition.

    Raises
    ------
    ValueError
        If classes are missing, of the wrong length, or out of range.
    TypeError
        If classes are not integers, or the soft partition is sparse.
    """
    if isinstance(partition, Memberships):
        # The class reading keeps class c in row c, split into components by its channels.
        if partition.channels is not None and not partition.rows_are_classes:
            raise TypeError(f"partition must have one channel a class, got {partition!r}")
        return PixelProperties(partition.values.astype(np.float64), 2.0, "class")
    if not isinstance(partition, Partition):
        raise TypeError(f"partition must be a Partition or Memberships, got {partition!r}")
    array = _validate.as_array(classes, "classes")
    if classes is None or array.dtype.kind not in "iu":
        got = "none" if classes is None else f"dtype {array.dtype}"
        raise TypeError(f"classes must be an integer array, one for each region, got {got}")
    if array.shape != (partition.n_regions,):
        raise ValueError(
            f"classes must have shape ({partition.n_regions},), one for each region, "
            f"got {array.shape}"
        )
    if array.min() < 0 or array.max() >= n_classes:
        raise ValueError(
            f"classes must be within 0..{n_classes - 1}, got {array.min()}..{array.max()}"
        )
    return RegionProperties(np.eye(n_classes)[array], 2.0, "class")


def mean_property_difference(
    a: Partition | SoftPartition, of_a: Properties, b: Partition, of_b: Properties
) -> float:
    """Σ_p μ_p ‖w_a(p) − w_b(p)‖₁ / (M · c): in [0, 1].

    ``a`` and ``b`` are under one measure. O(runs · d) between hard partitions, O(pixels · d) from
    per-pixel properties.

    Raises
    ------
    ValueError
        If the two are not of one kind, length and bound, or do not fit their partitions.
    """
    if of_a.kind != of_b.kind or of_a.bound != of_b.bound:
        raise ValueError(
            f"properties must be of one kind and bound, got {of_a.kind!r} within {of_a.bound:g} "
            f"and {of_b.kind!r} within {of_b.bound:g}"
        )
    if not isinstance(of_b, RegionProperties):
        raise ValueError("properties of a hard partition must be given region by region")
    d_a = of_a.values.shape[1 if isinstance(of_a, RegionProperties) else 0]
    if d_a != of_b.values.shape[1]:
        raise ValueError(
            f"properties must have one length, got {d_a} and {of_b.values.shape[1]} components"
        )
    for partition, own in ((a, of_a), (b, of_b)):
        if isinstance(own, RegionProperties):
            fits = isinstance(partition, Partition) and partition.n_regions == len(own.values)
        else:
            fits = own.values.shape[1] == partition.n_pixels
        if not fits:
            raise ValueError(
                f"properties must fit their partition {partition!r}, "
                f"got vectors of shape {own.values.shape}"
            )
    if isinstance(of_a, RegionProperties) and isinstance(a, Partition):
        prefix = None if b.measure is None else _kernels.prefix_sums(_floats(b))
        keys, ends = _kernels.overlaps(
            a.run_starts, a.run_labels, b.run_starts, b.run_labels, a.n_pixels, b.n_regions
        )
        weights = _kernels.weights_between(ends, prefix)
        i, j = np.divmod(keys, b.n_regions)
        gaps = np.abs(of_a.values[i] - of_b.values[j]).sum(axis=1)
        total = float(weights @ gaps)
    else:
        gaps = np.abs(of_a.values - of_b.values[b.labels.reshape(-1)].T).sum(axis=0)
        total = float(gaps.sum() if b.measure is None else gaps @ b.measure)
    if gaps.max() > of_a.bound * (1 + SUM_TOLERANCE):
        raise ValueError(
            f"properties must differ by at most their bound {of_a.bound:g}, got {gaps.max():g}: "
            f"give both one range"
        )
    return total / (float(b.total) * of_a.bound)


def _floats(partition: Partition) -> NDArray[np.float64]:
    assert partition.measure is not None
    return partition.measure.astype(np.float64)


def _unit_channels(image: ArrayLike, grid: tuple[int, ...]) -> NDArray[np.float64]:
    """Image as (channels, n) float64 within [0, 1]."""
    array = _validate.as_array(image, "image")
    if array.shape[: len(grid)] != grid or array.ndim not in (len(grid), len(grid) + 1):
        raise ValueError(
            f"image must have the grid {grid}, with or without a last axis of channels, "
            f"got shape {array.shape}"
        )
    values = _validate.checked_finite(array, "image").astype(np.float64)
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        values = (values - info.min) / (float(info.max) - float(info.min))
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"image must be within [0, 1] if floating, got {values.min():g}..{values.max():g}"
        )
    return np.ascontiguousarray(values.reshape(int(np.prod(grid)), -1).T)


def _region_means(partition: Partition, channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each channel over each region, under the measure; 0 where a region's is zero."""
    weights = np.empty(0) if partition.measure is None else _floats(partition)
    sums = dense_region_sums(
        channels, weights, partition.run_starts, partition.run_labels, partition.n_regions
    )
    sizes = np.asarray(partition.sizes, np.float64)[:, None]
    means: NDArray[np.float64] = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    return np.clip(means, channels.min(), channels.max())
