"""What refining works on: the channels of a soft output as a table, whatever they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.partitions.partition import Measure, Partition, as_measure
from hiersearch.partitions.soft import (
    READINGS,
    Memberships,
    Reading,
    SoftPartition,
    checked_probabilities,
)

MOST_VALUES = 2**29
"""Values that a sparse soft partition may have once it is written out (2 GiB)."""


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """Probabilities of channels that sum to 1 at each pixel, and what they mean."""

    values: NDArray[np.float32]
    """(k, n) probabilities; of a boundary map b two rows, 1 − b and b."""
    grid: tuple[int, ...]
    """Shape of the image or volume."""
    measure: Measure | None
    """(n,) measure of each pixel, or None for 1 everywhere."""
    reading: Reading
    """"regions", "classes" or "boundaries"."""

    def changed_to(self, values: NDArray[np.float32]) -> Channels:
        """Return channels of the same meaning with other probabilities."""
        return replace(self, values=values)

    def labels(self) -> NDArray[np.int32]:
        """Return the most probable channel of each pixel, (n,); of equals the first. O(k · n)."""
        from hiersearch.refinement._voting_kernels import best_channel

        return best_channel(self.values)

    def probabilities(self) -> NDArray[np.float32]:
        """Return what came in, refined: (k, *grid), of boundary maps (1, *grid)."""
        if self.reading == "boundaries":
            return self.values[1:].reshape(1, *self.grid)
        return self.values.reshape(-1, *self.grid)

    def result(self, winners: NDArray[np.int32]) -> tuple[NDArray[np.int32], Partition]:
        """Return the labels and the partition of a `Refinement`, given :meth:`labels`."""
        if self.reading == "boundaries":
            partition = SoftPartition.from_boundaries(self.values[1].reshape(self.grid)).hard()
            return partition.labels(), partition
        labels = winners.reshape(self.grid)
        if self.reading == "classes":
            return labels, components(labels)
        partition = Partition.from_labels(labels)
        return partition.labels(), partition


def components(labels: NDArray[Any]) -> Partition:
    """Return the partition into 4-connected (in 3-D 6-connected) pieces of equal labels."""
    from skimage import measure

    pieces: Any = measure.label(labels, background=-1, connectivity=1)
    return Partition.from_labels(pieces)


def as_channels(
    soft: SoftPartition | ArrayLike, reading: str | None, measure: ArrayLike | None, method: str
) -> Channels:
    """Validate a soft output that has channels at pixels.

    Parameters
    ----------
    soft : SoftPartition or float array
        An array comes with its reading: (k, *grid) for regions and classes, (1, *grid) or
        ``grid`` for boundaries.
    reading : {"regions", "classes", "boundaries"}, optional
        What an array's channels mean; a soft partition knows it.
    measure : array, shape of the grid, optional
        With an array only.
    method : str
        Who asks: messages name it.

    Raises
    ------
    TypeError, ValueError
        If the reading is missing, contradicts the soft partition or has no channels at pixels
        (affinities); if a soft partition's channels are too many to write out; and as the
        constructors of `SoftPartition`.
    """
    if isinstance(soft, SoftPartition):
        if reading is not None and reading != soft.reading:
            raise _other_reading(soft, reading)
        if measure is not None:
            raise ValueError("measure must be given with the soft partition, not beside it")
        return _of_soft_partition(soft, method)
    chosen = _checked_reading(reading)
    if chosen == "affinities":
        raise _no_affinities(method)
    if chosen == "boundaries":
        values, grid = _two_rows(soft)
    else:
        flat, grid = checked_probabilities(soft)
        values = flat.astype(np.float32, copy=False)
    weights = None if measure is None else as_measure(measure, grid)
    return Channels(values, grid, weights, chosen)  # type: ignore[arg-type]


def soft_partition(soft: SoftPartition | ArrayLike, reading: str | None) -> SoftPartition:
    """Return a soft output as a soft partition; arrays come with their reading.

    Raises
    ------
    TypeError, ValueError
        If the reading is missing, contradicts the soft partition or needs offsets (affinities);
        and as the constructors of `SoftPartition`.
    """
    if isinstance(soft, SoftPartition):
        if reading is not None and reading != soft.reading:
            raise _other_reading(soft, reading)
        return soft
    chosen = _checked_reading(reading)
    if chosen == "affinities":
        raise TypeError(
            "affinities need their offsets: give SoftPartition.from_affinities(...), not an array"
        )
    if chosen == "boundaries":
        field = _validate.as_array(soft, "soft")
        one_channel = field.ndim in (3, 4) and field.shape[0] == 1
        return SoftPartition.from_boundaries(field[0] if one_channel else field)
    if chosen == "classes":
        return SoftPartition.from_classes(soft)
    return SoftPartition.from_regions(soft)


def _checked_reading(reading: str | None) -> str:
    if reading is None:
        raise ValueError(
            f"reading must say what the channels of an array mean, one of {', '.join(READINGS)}"
        )
    return _validate.checked_choice(reading, READINGS, "reading")


def _other_reading(soft: SoftPartition, reading: str) -> ValueError:
    return ValueError(
        f"reading must be that of the soft partition, {soft.reading!r}, got {reading!r}"
    )


def _of_soft_partition(soft: SoftPartition, method: str) -> Channels:
    if not isinstance(soft, Memberships):
        raise _no_affinities(method)
    if soft.reading == "classes" or soft.channels is None:
        # The class reading keeps class c in row c, whatever its components.
        values = soft.values
    else:
        count = soft.n_channels * math.prod(soft.grid)
        if count > MOST_VALUES:
            raise ValueError(
                f"soft must have at most {MOST_VALUES} values once written out, got {count} of "
                f"{soft!r}; give a boundary map as an array with reading='boundaries'"
            )
        values = soft.probabilities().reshape(soft.n_channels, -1)
    # Basins of a boundary map are region channels.
    reading: Reading = "classes" if soft.reading == "classes" else "regions"
    flat = np.ascontiguousarray(values, dtype=np.float32)
    return Channels(flat, soft.grid, soft.measure, reading)


def _two_rows(boundary: Any) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    field = _validate.checked_finite(boundary, "boundary")
    if field.ndim in (3, 4) and field.shape[0] == 1:
        field = field[0]
    _validate.checked_grid(field.shape, "boundary")
    if field.min() < 0 or field.max() > 1:
        worst = int(field.argmin() if field.min() < 0 else field.argmax())
        where = tuple(int(i) for i in np.unravel_index(worst, field.shape))
        raise ValueError(f"boundary must be within [0, 1], got {field[where]:g} at index {where}")
    flat = field.reshape(-1).astype(np.float32)
    return np.stack([1 - flat, flat]), field.shape


def _no_affinities(method: str) -> TypeError:
    return TypeError(
        f"{method} needs channels at pixels (regions, classes or boundaries), got affinities "
        "between pixels: use metric_merging"
    )
