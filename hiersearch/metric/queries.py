"""Queries prepared for many distances."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiersearch.metric import _kernels
from hiersearch.metric._merge_kernels import joined_sum, leaf_order
from hiersearch.partitions._kernels import dense_region_sums, sum_of_squares
from hiersearch.partitions.checks import pair_slices
from hiersearch.partitions.partition import Measure, Partition
from hiersearch.partitions.runs import square_sum
from hiersearch.partitions.soft import Affinities, Memberships, Merges, SoftPartition

# Up to this many cells a contingency table is an array (4 or 8 bytes a cell); beyond, sorted keys.
_LARGEST_TABLE = 2**22


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
    if isinstance(query, Merges):
        return MergesQuery(query)
    raise TypeError(f"query must be a Partition or a SoftPartition, got {type(query).__name__}")


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
            return sum_of_squares(self.table(candidate)[2])
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
        self.squares = float(sum_of_squares(sums))
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


class MergesQuery:
    """Distances from the co-memberships of a hierarchy's merges."""

    def __init__(self, query: Merges) -> None:
        self.query = query
        self.scale = query.total**2
        self.gains = 1 - 2 * query.joined
        self.places, joins = leaf_order(query.parents, query.n_leaves)
        self.highest = _running_maxima(joins)
        self.constant = joined_total(query)

    def rho(self, candidate: Partition) -> float:
        """Return Σ |A − C| over ordered pairs: O(pixels log pixels)."""
        places = self.places[self.query.leaf_map]
        n_leaves = self.query.n_leaves
        keys = candidate.labels.reshape(-1).astype(np.int64) * n_leaves + places
        found, entry = np.unique(keys, return_inverse=True)
        masses = np.bincount(entry.reshape(-1), self.query.measure).astype(np.float64)
        regions, at = np.divmod(found, n_leaves)
        first = np.flatnonzero(regions[1:] == regions[:-1])
        ancestors = self._joins(at[first], at[first + 1])
        order = np.argsort(ancestors, kind="stable")
        joined = joined_sum(masses, first, order, ancestors, self.gains)
        return max(0.0, self.constant + joined)

    def _joins(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lowest common ancestors of leaves at places one < other."""
        if not one.size:
            return np.empty(0, np.int64)
        level = np.frexp(other - one)[1] - 1
        reach = np.left_shift(1, level)
        joins: NDArray[np.int64] = np.maximum(
            self.highest[level, one], self.highest[level, other - reach]
        )
        return joins


def joined_total(query: Merges) -> float:
    """Return Σ C over ordered pairs of pixels, each with itself included. O(pixels + nodes)."""
    squares = query.node_sizes() ** 2
    below = np.bincount(query.parents[:-1], squares[:-1], minlength=query.n_nodes)
    return float(query.joined @ (squares - below))


def _running_maxima(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(levels, n) row k: the largest of 2^k values from each place on. O(n log n)."""
    n = max(values.size, 1)
    table = np.zeros((max(1, int(n).bit_length()), n), np.int64)
    table[0, : values.size] = values
    for k in range(1, len(table)):
        half = 1 << (k - 1)
        table[k] = table[k - 1]
        table[k, : n - half] = np.maximum(table[k - 1, : n - half], table[k - 1, half:])
    return table


def float_measure(partition: Partition | SoftPartition) -> NDArray[np.float64]:
    """Flat measure for kernels on float64: empty where it is 1 everywhere."""
    if partition.measure is None:
        return np.empty(0)
    return partition.measure.astype(np.float64)
