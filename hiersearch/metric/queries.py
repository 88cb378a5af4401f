"""Queries prepared for many distances, and what both sides of a distance are brought under."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.metric import _kernels
from hiersearch.partitions._kernels import dense_region_sums
from hiersearch.partitions.checks import pair_slices
from hiersearch.partitions.output import Offsets, SoftOutput, as_soft_partition
from hiersearch.partitions.partition import Measure, Partition, as_measure
from hiersearch.partitions.soft import Affinities, Memberships, SoftPartition

PartitionLike = Partition | SoftPartition | SoftOutput | NDArray[Any]

# Up to this many cells a contingency table is an array (4 or 8 bytes a cell); beyond, sorted keys.
_LARGEST_TABLE = 2**22


def as_partition(
    value: PartitionLike | ArrayLike,
    name: str,
    *,
    reading: str | None = None,
    offsets: Offsets | None = None,
) -> Partition | SoftPartition:
    """Take a partition as it is and read a network's output; an integer array is a label map.

    Parameters
    ----------
    value : Partition, SoftPartition, SoftOutput or array
        An array of channels comes with its reading.
    name : str
        What messages call it.
    reading, offsets : optional
        What the channels of an array mean, as :class:`~hiersearch.partitions.SoftOutput` takes it.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    if isinstance(value, Partition) and reading is None and offsets is None:
        return value
    if isinstance(value, Partition):
        raise ValueError(f"reading must be given with a network's output, got {name} {value!r}")
    if isinstance(value, (SoftPartition, SoftOutput)) or reading is not None or offsets is not None:
        return as_soft_partition(value, reading, offsets=offsets)
    array = _validate.as_array(value, name)
    if array.dtype.kind == "f":
        raise TypeError(
            f"{name} must be a Partition, a SoftPartition or an integer label map, got an array of "
            f"{array.dtype}: pass a label map of whole numbers as {name}.astype(int), and of a "
            f"network's output say how its channels are read, e.g. SoftOutput({name}, reading)"
        )
    return Partition.from_labels(_validate.checked_labels(array, name))


def as_hard(value: PartitionLike, name: str) -> Partition:
    """Take a partition or an integer array; refuse soft partitions."""
    partition = as_partition(value, name)
    if isinstance(partition, SoftPartition):
        raise TypeError(f"{name} must be a hard partition, got {partition!r}")
    return partition


def under_one_measure(a: Any, b: Any, measure: ArrayLike | None) -> tuple[Any, Any, Measure | None]:
    """Bring two partitions of one grid under one measure."""
    _validate.checked_same_grid(a.grid, b.grid, "a", "b")
    weights = shared_measure(a, b, measure)
    return under(a, weights), under(b, weights), weights


def all_under(measure: ArrayLike | None, **collections: list[Any]) -> list[list[Any]]:
    """Bring collections of partitions under one measure, validated once; None: as they are."""
    named = [(f"{key}[{i}]", p) for key, c in collections.items() for i, p in enumerate(c)]
    if measure is None or not named:
        return list(collections.values())
    for name, partition in named[1:]:
        _validate.checked_same_grid(named[0][1].grid, partition.grid, named[0][0], name)
    weights = as_measure(measure, named[0][1].grid)
    return [[under(partition, weights) for partition in c] for c in collections.values()]


def shared_measure(
    a: Partition | SoftPartition, b: Partition | SoftPartition, measure: ArrayLike | None
) -> Measure | None:
    """Return the measure under which two partitions are compared, flat, or None for 1."""
    if measure is not None:
        return as_measure(measure, a.grid)
    if a.measure is None or b.measure is None or a.measure is b.measure:
        return b.measure if a.measure is None else a.measure
    if np.array_equal(a.measure, b.measure):
        return a.measure
    raise ValueError(
        "a and b must carry the same measure, or one of them none, got two different ones: "
        "pass measure=..."
    )


def under(partition: Any, weights: Measure | None) -> Any:
    """Return the partition under a flat measure, itself if it carries that very array."""
    if partition.measure is weights:
        return partition
    return partition._under(weights)


class Query(Protocol):
    """One side of many distances, with what can be computed before the other is known."""

    scale: float
    """What ρ is divided by."""

    def rho(self, candidate: Partition) -> float | int:
        """Return the distance before normalisation; both are under one measure."""


def prepared_query(query: Any, weights: Measure | None, prefix: bool) -> Query:
    """Prepare a partition of any kind; with ``prefix`` so that many candidates pay off."""
    if isinstance(query, Partition):
        return HardQuery(query, weights)
    if isinstance(query, Affinities):
        return AffinityQuery(query)
    if isinstance(query, Memberships):
        return SoftQuery(query, prefix)
    raise TypeError(f"query must be a Partition or a SoftPartition, got {type(query).__name__}")


def square_sum(partition: Partition) -> Any:
    """Return Σ a_i², an integer where the measure is of integer type."""
    return _kernels.sum_of_squares(partition.sizes)


class HardQuery:
    """Distances from one hard partition, whose measure's prefix sums are made once."""

    def __init__(self, query: Partition, weights: Measure | None) -> None:
        self.query = query
        self.prefix = None if weights is None else _kernels.prefix_sums(weights)
        # Pixels are counted in int32, which halves what a large table costs.
        self.kind = np.int32 if self.prefix is None else self.prefix.dtype
        self.scale = float(query.total) ** 2
        self.squares = square_sum(query)

    def overlap(self, candidate: Partition) -> Any:
        """Return Σ n_ij²."""
        cells = self.query.n_regions * candidate.n_regions
        if cells > _LARGEST_TABLE:
            return _kernels.sum_of_squares(self.table(candidate)[2])
        return _kernels.overlap_square_sum(
            self.query.run_starts,
            self.query.run_labels,
            candidate.run_starts,
            candidate.run_labels,
            self.query.n_pixels,
            candidate.n_regions,
            self.prefix,
            np.zeros(cells, self.kind),
        )

    def table(
        self, candidate: Partition
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
        """Return the sparse contingency table."""
        keys, ends = _kernels.overlaps(
            self.query.run_starts,
            self.query.run_labels,
            candidate.run_starts,
            candidate.run_labels,
            self.query.n_pixels,
            candidate.n_regions,
        )
        weights = _kernels.weights_between(ends, self.prefix)
        order = np.argsort(keys, kind="stable")
        keys, weights = keys[order], weights[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        i, j = np.divmod(keys[first], candidate.n_regions)
        return i, j, np.add.reduceat(weights, first)

    def rho(self, candidate: Partition) -> float | int:
        """Return ρ: O(runs)."""
        value = self.squares + square_sum(candidate) - 2 * self.overlap(candidate)
        # A sum of squares below zero can only be rounding: integers make none.
        return max(0.0, value) if isinstance(value, float) else int(value)


class SoftQuery:
    """Distances from one soft partition; with ``prefix``, prefix sums serve many candidates."""

    def __init__(self, query: Memberships, prefix: bool) -> None:
        self.query = query
        self.measure = float_measure(query)
        self.scale = query.total**2
        channels = query.channels
        none = np.empty((0, 0), np.int32)
        sums = _kernels.channel_sums(
            query.values, none if channels is None else channels, self.measure, query.n_channels
        )
        self.squares = float(_kernels.sum_of_squares(sums))
        self.prefix: NDArray[np.float64] | None = None
        if prefix and channels is None:
            self.prefix = _kernels.channel_prefix_sums(query.values, self.measure)

    def rho(self, candidate: Partition) -> float:
        """Return ρ: O(runs · k) from prefix sums, else O(k · pixels)."""
        starts, labels = candidate.run_starts, candidate.run_labels
        query = self.query
        if query.channels is not None:
            both = float(
                _kernels.sparse_overlap_square_sum(
                    query.values,
                    query.channels,
                    self.measure,
                    starts,
                    labels,
                    query.n_channels,
                )
            )
        elif self.prefix is not None:
            table = np.zeros((candidate.n_regions, query.n_channels))
            both = _kernels.dense_overlap_square_sum(self.prefix, starts, labels, table)
        else:
            sums = dense_region_sums(
                query.values, self.measure, starts, labels, candidate.n_regions
            )
            both = float(np.square(sums).sum())
        return max(0.0, self.squares + float(square_sum(candidate)) - 2 * both)


class AffinityQuery:
    """Disagreement with one map of affinities, on the pairs that it knows."""

    def __init__(self, query: Affinities) -> None:
        self.query = query
        self.scale = query.pair_total
        if not self.scale > 0:
            raise ValueError("measure must leave a pair of pixels with positive weight, got none")

    def rho(self, candidate: Partition) -> float:
        """Return Σ w |C − A| over the known pairs: O(offsets · pixels)."""
        labels = candidate.labels
        total = 0.0
        for d, offset in enumerate(self.query.offsets):
            source, target = pair_slices(offset, self.query.grid)
            joined = labels[source] == labels[target]
            affinity = self.query.values[d].reshape(self.query.grid)[source].astype(np.float64)
            weights = self.query.pair_weights(d)
            total += float((weights * np.abs(affinity - joined)).sum())
        return total


def float_measure(partition: Partition | SoftPartition) -> NDArray[np.float64]:
    """Flat measure for kernels on float64: empty where it is 1 everywhere."""
    if partition.measure is None:
        return np.empty(0)
    return partition.measure.astype(np.float64)
