"""Soft partitions: what a network says about which pixels belong together.

A network's channels can mean four different things, and the reading is an explicit choice of the
caller (never guessed from the values): :meth:`SoftPartition.from_regions`, ``from_classes``,
``from_boundaries`` and ``from_affinities``. The first three give :class:`Memberships`, the last
:class:`Affinities`.

An array is one image or one volume, never a batch: (a, b, H, W) is read as a channels on a volume
of b slices, and (a, H, W) as a channels on an image. The images of a batch go in one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch._sealed import Sealed, private, sealed
from hiersearch.partitions import _kernels
from hiersearch.partitions.partition import Measure, Partition, as_measure, flat_measure

Reading = Literal["regions", "classes", "boundaries", "affinities"]
READINGS: tuple[Reading, ...] = ("regions", "classes", "boundaries", "affinities")

SUM_TOLERANCE = 2e-3
"""How far probabilities may be from summing to 1: half precision stays within it."""


@dataclass(frozen=True, slots=True, eq=False)
class SoftPartition(Sealed):
    """A soft partition of a grid; build one with a ``from_...`` constructor.

    Subclasses say how co-membership is stored: :class:`Memberships` (probabilities of channels)
    or :class:`Affinities` (co-membership itself, on pairs of pixels at given offsets). Their
    constructors check what they are given, as ``from_...`` does.

    Probabilities are many, so those of the right type are not copied: who changes the array
    afterwards changes the soft partition, and its distances with it. Whatever numbers pixels,
    channels or offsets is copied and read-only.
    """

    grid: tuple[int, ...]
    """Shape of the image or volume, (H, W) or (D, H, W)."""
    measure: Measure | None
    """(n,) measure of each pixel of the flattened grid, or None for 1 everywhere."""
    reading: Reading
    """What the channels were read as."""

    def __post_init__(self) -> None:
        raise TypeError("a SoftPartition is built with SoftPartition.from_..., not by its name")

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the grid."""
        return math.prod(self.grid)

    @property
    def total(self) -> float:
        """Measure of the whole grid, M."""
        return float(self.n_pixels if self.measure is None else self.measure.sum())

    @staticmethod
    def from_regions(probabilities: ArrayLike, *, measure: ArrayLike | None = None) -> Memberships:
        """Read each channel as one region (instances, colourings, soft superpixels).

        Parameters
        ----------
        probabilities : float array, shape (k, H, W) or (k, D, H, W)
            Of one image or volume; non-negative, summing to 1 over the first axis within 0.002.
            Values are used as given. A single probability p of the second of two regions is
            ``np.stack([1 - p, p])``.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel; 1 where omitted.

        Raises
        ------
        ValueError
            If a value is not finite or negative, or if a pixel's sum is not 1 (the message names
            the pixel), or if the shapes do not fit.

        Notes
        -----
        O(k · pixels). A single-precision array is kept without a copy.

        Examples
        --------
        >>> import numpy as np
        >>> soft = SoftPartition.from_regions(np.full((2, 4, 5), 0.5))
        >>> soft.n_channels, soft.grid
        (2, (4, 5))
        """
        values, grid = checked_probabilities(probabilities)
        weights = None if measure is None else as_measure(measure, grid)
        return Memberships._of_table(grid, weights, "regions", values, None, values.shape[0])

    @staticmethod
    def from_sparse(
        values: ArrayLike,
        channels: ArrayLike,
        *,
        n_channels: int | None = None,
        measure: ArrayLike | None = None,
    ) -> Memberships:
        """Read sparse region channels: at each pixel m (channel, probability) pairs.

        Parameters
        ----------
        values : float array, shape (m, H, W) or (m, D, H, W)
            Probabilities, non-negative, summing to 1 over the first axis.
        channels : integer array of the same shape
            The channel of each probability, 0..n_channels - 1. A channel may come up twice at one
            pixel: its probabilities add up.
        n_channels : int, optional
            Number of channels; the largest one found plus one where omitted.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel.

        Raises
        ------
        ValueError, TypeError
            As :meth:`from_regions`, and if channels are not integers within the range.
        """
        checked, grid = checked_probabilities(values, name="values")
        index = _validate.as_array(channels, "channels")
        if index.shape != (checked.shape[0], *grid):
            raise ValueError(
                f"channels must have the shape of values {(checked.shape[0], *grid)}, "
                f"got {index.shape}"
            )
        flat, count = _checked_channels(index.reshape(checked.shape), n_channels)
        weights = None if measure is None else as_measure(measure, grid)
        return Memberships._of_table(grid, weights, "regions", checked, flat, count)

    @staticmethod
    def from_classes(probabilities: ArrayLike, *, measure: ArrayLike | None = None) -> Memberships:
        """Read each channel as a class: its regions are the components of its arg-max map.

        See :func:`hiersearch.partitions.readings.class_memberships`, which this calls.
        """
        from hiersearch.partitions.readings import class_memberships

        return class_memberships(probabilities, measure=measure)

    @staticmethod
    def from_boundaries(
        boundary: ArrayLike,
        *,
        spread: Literal["passes", "random-walk"] = "passes",
        depth: float = 0.1,
        softness: float = 0.03,
        neighbours: int = 4,
        measure: ArrayLike | None = None,
    ) -> Memberships:
        """Read one channel as the probability of a boundary; its basins become the regions.

        See :func:`hiersearch.partitions.readings.boundary_memberships`, which this calls.
        """
        from hiersearch.partitions.readings import boundary_memberships

        return boundary_memberships(
            boundary,
            spread=spread,
            depth=depth,
            softness=softness,
            neighbours=neighbours,
            measure=measure,
        )

    @staticmethod
    def from_affinities(
        affinities: ArrayLike,
        offsets: Sequence[Sequence[int]],
        *,
        weights: ArrayLike | None = None,
        measure: ArrayLike | None = None,
    ) -> Affinities:
        """Read channel d as the probability that pixels p and p + offsets[d] share a region.

        Parameters
        ----------
        affinities : float array, shape (d, H, W) or (d, D, H, W)
            Of one image or volume; within [0, 1]. Values whose partner lies outside the grid are
            not used.
        offsets : sequence of d offsets, each of as many integers as the grid has axes
            Distinct pairs of pixels: no zero offset, no offset beside its own negative.
        weights : array, shape (d,), optional
            Non-negative weight of each offset's pairs; 1 where omitted.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel: a pair weighs the product of its pixels.

        Raises
        ------
        ValueError
            If a value is not finite or outside [0, 1], if offsets do not fit the channels or the
            grid, or if no pair has positive weight.

        Notes
        -----
        The metric restricted to these pairs is a pseudo-metric: partitions that agree on all of
        them have distance 0. O(d · pixels).
        """
        flat, grid = _checked_affinities(affinities)
        steps = checked_offsets(offsets, flat.shape[0], grid)
        pair_weights = _checked_pair_weights(weights, flat.shape[0])
        pixel_weights = None if measure is None else as_measure(measure, grid)
        soft = Affinities._unchecked(grid, pixel_weights, "affinities", flat, steps, pair_weights)
        soft._check_pairs()
        return soft


@dataclass(frozen=True, slots=True, eq=False)
class Memberships(SoftPartition):
    """A soft partition as probabilities P of k channels, dense or sparse per pixel."""

    values: NDArray[np.float32] | NDArray[np.float64]
    """(m, n) probabilities; dense: row j is channel j."""
    channels: NDArray[np.int32] | None
    """(m, n) the channel of each probability, or None where dense."""
    n_channels: int
    """Number of channels, k."""

    def __post_init__(self) -> None:
        grid = _validate.checked_grid(self.grid, "grid")
        kinds = tuple(kind for kind in READINGS if kind != "affinities")
        _validate.checked_choice(self.reading, kinds, "reading")
        table = _checked_table(self.values, grid)
        checked_probabilities(table.reshape(-1, *grid), name="values")
        channels, count = None, table.shape[0]
        if self.channels is not None:
            index = _validate.as_array(self.channels, "channels")
            if index.shape != table.shape:
                raise ValueError(
                    f"channels must have the shape of values {table.shape}, got {index.shape}"
                )
            channels, count = _checked_channels(index, self.n_channels)
        if self.n_channels != count:
            raise ValueError(
                f"n_channels must be the number of rows of dense values, {count}, "
                f"got {self.n_channels}"
            )
        measure = None if self.measure is None else flat_measure(self.measure, grid)
        self._keep(grid=grid, measure=measure, values=table, channels=channels, n_channels=count)

    @classmethod
    def _of_table(
        cls,
        grid: tuple[int, ...],
        measure: Measure | None,
        reading: Reading,
        values: NDArray[Any],
        channels: NDArray[np.int32] | None,
        n_channels: int,
    ) -> Memberships:
        """Make memberships of sound arrays, of which ``values`` may be the caller's."""
        # A view, since the caller's own array must not become read-only.
        return cls._unchecked(grid, measure, reading, values.view(), channels, n_channels)

    def probabilities(self) -> NDArray[Any]:
        """Return the dense probabilities, shape (k, *grid). O(k · pixels)."""
        if self.channels is None:
            return self.values.reshape(self.n_channels, *self.grid)
        dense = np.zeros((self.n_channels, self.n_pixels), self.values.dtype)
        pixels = np.arange(self.n_pixels)
        for row, channel in zip(self.values, self.channels, strict=True):
            np.add.at(dense, (channel, pixels), row)
        return dense.reshape(self.n_channels, *self.grid)

    def hard(self) -> Partition:
        """Return the partition by most probable channel, of equals the first in ``values``.

        O(k · pixels) dense, O(m² · pixels) from m pairs a pixel, as a channel may come up twice.
        """
        if self.channels is None:
            labels = self.values.argmax(axis=0)
        else:
            labels = _kernels.most_probable(self.values, self.channels)
        return Partition.from_labels(labels.reshape(self.grid))._under(self.measure)

    def with_measure(self, measure: ArrayLike | None) -> Memberships:
        """Return the same soft partition under another measure (None: 1 everywhere)."""
        return self._under(None if measure is None else as_measure(measure, self.grid))

    def _under(self, weights: Measure | None) -> Memberships:
        return self._unchecked(
            self.grid, weights, self.reading, self.values, self.channels, self.n_channels
        )

    def __repr__(self) -> str:
        """Name grid, channels and reading."""
        size = "×".join(str(side) for side in self.grid)
        form = "dense" if self.channels is None else f"{self.values.shape[0]} a pixel"
        return f"<Memberships {size}: {self.n_channels} channels ({form}), read as {self.reading}>"


@dataclass(frozen=True, slots=True, eq=False)
class Affinities(SoftPartition):
    """A soft partition known on pairs of pixels: the probability that each pair is joined."""

    values: NDArray[np.float32]
    """(d, n) probability that pixel p and pixel p + offsets[d] share a region."""
    offsets: NDArray[np.int64]
    """(d, axes) step from a pixel to its partner."""
    weights: NDArray[np.float64]
    """(d,) weight of each offset's pairs."""

    def __post_init__(self) -> None:
        grid = _validate.checked_grid(self.grid, "grid")
        _validate.checked_choice(self.reading, ("affinities",), "reading")
        flat, _ = _checked_affinities(_checked_table(self.values, grid).reshape(-1, *grid))
        self._keep(
            grid=grid,
            measure=None if self.measure is None else flat_measure(self.measure, grid),
            values=flat,
            offsets=checked_offsets(self.offsets, flat.shape[0], grid),
            weights=_checked_pair_weights(self.weights, flat.shape[0]),
        )
        self._check_pairs()

    def _check_pairs(self) -> None:
        if not self.pair_total > 0:
            raise ValueError(
                f"affinities must know a pair of pixels with positive weight, got none on grid "
                f"{self.grid} with offsets {self.offsets.tolist()}"
            )

    @property
    def pair_total(self) -> float:
        """Sum of the weights of all pairs inside the grid: what distances are divided by."""
        return float(sum(self.pair_weights(d).sum() for d in range(self.weights.size)))

    def pair_weights(self, d: int) -> NDArray[np.float64]:
        """Weights of the pairs of offset ``d`` that lie inside the grid, on their sub-grid."""
        source, target = pair_slices(self.offsets[d], self.grid)
        if self.measure is None:
            shape = np.empty(self.grid, np.bool_)[source].shape
            return np.full(shape, self.weights[d])
        field = self.measure.reshape(self.grid).astype(np.float64)
        weighted: NDArray[np.float64] = self.weights[d] * field[source] * field[target]
        return weighted

    def with_measure(self, measure: ArrayLike | None) -> Affinities:
        """Return the same affinities under another measure (None: 1 everywhere)."""
        return self._under(None if measure is None else as_measure(measure, self.grid))

    def _under(self, weights: Measure | None) -> Affinities:
        return self._unchecked(
            self.grid, weights, self.reading, self.values, self.offsets, self.weights
        )

    def __repr__(self) -> str:
        """Name grid and offsets."""
        size = "×".join(str(side) for side in self.grid)
        return f"<Affinities {size}: {self.offsets.shape[0]} offsets>"


def pair_slices(
    offset: NDArray[np.int64], grid: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of a grid that line up each pixel with its partner at ``offset``."""
    source, target = [], []
    for step, side in zip(offset.tolist(), grid, strict=True):
        source.append(slice(max(0, -step), max(0, min(side, side - step))))
        target.append(slice(max(0, step), max(0, min(side, side + step))))
    return tuple(source), tuple(target)


def checked_probabilities(
    probabilities: ArrayLike, name: str = "probabilities"
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Validate probabilities (k, *grid) and return them flat, (k, n), with their grid."""
    array = _validate.as_array(probabilities, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    if array.ndim not in (3, 4) or array.shape[0] == 0:
        raise ValueError(
            f"{name} must have shape (k, H, W) or (k, D, H, W) with the channels first, "
            f"got {array.shape}"
        )
    grid = _validate.checked_grid(array.shape[1:], f"{name}' grid")
    kind = np.float64 if array.dtype.itemsize > 4 else np.float32
    flat = np.ascontiguousarray(array.reshape(array.shape[0], -1), dtype=kind)
    with np.errstate(over="ignore", invalid="ignore"):
        # NaN fails both comparisons; infinities make a sum that is infinite or NaN.
        sound = np.abs(flat.sum(axis=0) - 1) <= SUM_TOLERANCE
        if float(flat.min()) >= 0 and sound.all():
            return flat, grid
        faulty = ~(sound & np.greater_equal(flat, 0).all(axis=0))
    pixel = int(faulty.argmax())
    where = tuple(int(i) for i in np.unravel_index(pixel, grid))
    column: NDArray[Any] = flat[:, pixel]
    for expected, bad in (("be finite", ~np.isfinite(column)), ("not be negative", column < 0)):
        if bad.any():
            j = int(bad.argmax())
            raise ValueError(
                f"{name} must {expected}, got {column[j]:g} in channel {j} at pixel {where}"
            )
    raise ValueError(
        f"{name} must sum to 1 over the channels (axis 0) at every pixel, "
        f"got {column.sum(dtype=np.float64):g} at pixel {where}{_axis_hint(flat, array, name)}"
    )


def _axis_hint(flat: NDArray[Any], array: NDArray[Any], name: str) -> str:
    """Say what was probably meant: a single channel, a batch, or channels on another axis."""
    if not np.isfinite(flat).all():
        return ""
    if name == "probabilities" and array.shape[0] == 1 and flat.max() <= 1:
        return ": of the single channel p of two classes give np.stack([1 - p, p])"
    for axis in range(1, array.ndim):
        if np.allclose(array.sum(axis=axis, dtype=np.float64), 1.0, atol=SUM_TOLERANCE):
            batch = (
                ", or give the images of a batch one by one" if (axis, array.ndim) == (1, 4) else ""
            )
            return f" (they do over axis {axis}: move it to the front{batch})"
    return ""


def checked_offsets(
    offsets: Sequence[Sequence[int]] | NDArray[Any], n_channels: int, grid: tuple[int, ...]
) -> NDArray[np.int64]:
    """Validate offsets against the number of channels and the grid."""
    array = _validate.as_array(offsets, "offsets")
    if array.ndim != 2 or array.shape != (n_channels, len(grid)) or array.dtype.kind not in "iu":
        hint = ""
        if len(grid) == 3 and array.shape == (grid[0], 2):
            hint = ": give the images of a batch one by one"
        raise ValueError(
            f"offsets must be whole numbers, one offset of length {len(grid)} for each of the "
            f"{n_channels} channels, got shape {array.shape} and dtype {array.dtype}{hint}"
        )
    seen: set[tuple[int, ...]] = set()
    for row in array.tolist():
        step = tuple(row)
        if not any(step):
            raise ValueError(f"offsets must not be zero, got {step}")
        if step in seen or tuple(-s for s in step) in seen:
            raise ValueError(f"offsets must name each pair once, got {step} twice (up to sign)")
        seen.add(step)
    return sealed(array.astype(np.int64))


def _checked_pair_weights(weights: ArrayLike | None, n_channels: int) -> NDArray[np.float64]:
    if weights is None:
        return sealed(np.ones(n_channels))
    array = _validate.checked_finite(weights, "weights").astype(np.float64)
    if array.shape != (n_channels,):
        raise ValueError(
            f"weights must be {n_channels} numbers, one for each offset, got shape {array.shape}"
        )
    if array.min() < 0:
        raise ValueError(f"weights must be non-negative numbers, got {array.min():g}")
    return sealed(array)


def _checked_affinities(affinities: ArrayLike) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Validate affinities (d, *grid) and return them flat, (d, n), with their grid."""
    shape = _validate.as_array(affinities, "affinities").shape
    if len(shape) not in (3, 4):
        raise ValueError(f"affinities must have shape (d, H, W) or (d, D, H, W), got {shape}")
    grid = _validate.checked_grid(shape[1:], "affinities' grid")
    values = _validate.checked_finite(affinities, "affinities")
    if values.size and (values.min() < 0 or values.max() > 1):
        worst = int(values.argmin() if values.min() < 0 else values.argmax())
        where = tuple(int(i) for i in np.unravel_index(worst, values.shape))
        raise ValueError(
            f"affinities must be within [0, 1], got {values[where]:g} at index {where}"
        )
    flat = np.ascontiguousarray(values.reshape(values.shape[0], -1), dtype=np.float32)
    return flat.view(), grid


def _checked_table(values: ArrayLike, grid: tuple[int, ...]) -> NDArray[Any]:
    """Return a private table (m, n) of single or double precision, its values not looked at."""
    array = _validate.as_array(values, "values")
    n_pixels = math.prod(grid)
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != n_pixels:
        raise ValueError(
            f"values must have a row for each channel and a column for each of the {n_pixels} "
            f"pixels, got shape {array.shape}"
        )
    kept = private(array)
    if kept.dtype not in (np.float32, np.float64):
        raise TypeError(f"values must be float32 or float64, got dtype {array.dtype}")
    return kept


def _checked_channels(
    channels: NDArray[Any], n_channels: int | None
) -> tuple[NDArray[np.int32], int]:
    """Return channel numbers (m, n) as int32, a private copy, and how many channels there are."""
    if channels.dtype.kind not in "iu":
        raise TypeError(f"channels must be of integer type, got dtype {channels.dtype}")
    low, high = int(channels.min()), int(channels.max())
    count = high + 1
    if n_channels is not None:
        count = _validate.checked_count(n_channels, "n_channels", 1)
    if count > _validate.LARGEST_INT32:
        raise ValueError(f"channels must be fewer than 2**31, got {count}: renumber them")
    if low < 0 or high >= count:
        raise ValueError(f"channels must be within 0..{count - 1}, got {low}..{high}")
    return private(channels, np.int32), count
