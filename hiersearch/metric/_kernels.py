"""Kernels of the partition metric: merges of run lists and gathers from prefix sums.

All work on the flattened grid. A partition comes as ``starts`` (n_runs,) and ``labels`` (n_runs,),
or as :class:`RunList`, many as :class:`ManyRuns`; a measure as its prefix sums (n + 1,) or None for
1 everywhere, or beside a soft partition as it is, (n,), or empty for 1 everywhere.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.partitions._kernels import sum_of_squares


class RunList(NamedTuple):
    """One partition of a grid."""

    starts: NDArray[np.int32]
    """(n_runs,) first pixel of each run."""
    labels: NDArray[np.int32]
    """(n_runs,) region of each run, 0..n_regions − 1."""
    n_regions: int
    """Number of regions."""


class ManyRuns(NamedTuple):
    """Partitions of one grid, their runs one after the other."""

    starts: NDArray[np.int32]
    """(runs,) first pixel of each run."""
    labels: NDArray[np.int32]
    """(runs,) region of each run."""
    ends: NDArray[np.int64]
    """(n,) where each partition's runs end."""
    n_regions: NDArray[np.int32]
    """(n,) number of regions of each."""


@compiled
def prefix_sums(values: NDArray[Any]) -> NDArray[Any]:
    """Prefix sums with a leading zero, (n + 1,), in the type of ``values``."""
    sums = np.empty(values.size + 1, values.dtype)
    sums[0] = 0
    for i in range(values.size):
        sums[i + 1] = sums[i] + values[i]
    return sums


@compiled
def overlap_square_sum(
    starts_a: NDArray[np.int32],
    labels_a: NDArray[np.int32],
    starts_b: NDArray[np.int32],
    labels_b: NDArray[np.int32],
    n_pixels: int,
    n_b: int,
    prefix: NDArray[Any] | None,
    table: NDArray[Any],
) -> Any:
    """Sum of n_ij² over the contingency table of two partitions: O(runs of both).

    ``table`` (n_a · n_b,) must be zero; int32 serves where ``prefix`` is None, since it counts
    pixels. The square of a cell is kept up to date while it grows, (n + w)² = n² + w (2n + w), so
    that no second pass over a large table is needed. The loop has no branch that data decide.
    """
    i = 0
    j = 0
    here = np.int64(0)
    total = 0 if prefix is None else prefix[0]
    while here < n_pixels:
        end_a = np.int64(starts_a[i + 1]) if i + 1 < starts_a.size else n_pixels
        end_b = np.int64(starts_b[j + 1]) if j + 1 < starts_b.size else n_pixels
        end = np.int64(min(end_a, end_b))
        cell = np.int64(labels_a[i]) * n_b + labels_b[j]
        weight = end - here if prefix is None else prefix[end] - prefix[here]
        old = table[cell]
        # The weight stands first: an int32 cell becomes int64 before it is multiplied.
        total += weight * (weight + old + old)
        table[cell] = old + weight
        i += end == end_a
        j += end == end_b
        here = end
    return total


@compiled
def overlap_square_sums(
    one: RunList,
    many: ManyRuns,
    first: int,
    last: int,
    n_pixels: int,
    prefix: NDArray[Any] | None,
    table: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Write Σ n_ij² of one partition with each of some others: ``out[first:last]``.

    ``table`` has room for the largest contingency table.
    """
    starts, labels, ends, n_regions = many.starts, many.labels, many.ends, many.n_regions
    for i in range(first, last):
        begin = ends[i - 1] if i > 0 else 0
        for cell in range(one.n_regions * np.int64(n_regions[i])):
            table[cell] = 0
        out[i] = overlap_square_sum(
            one.starts,
            one.labels,
            starts[begin : ends[i]],
            labels[begin : ends[i]],
            n_pixels,
            int(n_regions[i]),
            prefix,
            table,
        )


@compiled
def overlaps(
    starts_a: NDArray[np.int32],
    labels_a: NDArray[np.int32],
    starts_b: NDArray[np.int32],
    labels_b: NDArray[np.int32],
    n_pixels: int,
    n_b: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys i · n_b + j of the overlaps of runs along the grid, and the pixel where each ends."""
    most = starts_a.size + starts_b.size
    keys = np.empty(most, np.int64)
    ends = np.empty(most, np.int64)
    i = 0
    j = 0
    here = np.int64(0)
    count = 0
    while here < n_pixels:
        end_a = np.int64(starts_a[i + 1]) if i + 1 < starts_a.size else n_pixels
        end_b = np.int64(starts_b[j + 1]) if j + 1 < starts_b.size else n_pixels
        here = np.int64(min(end_a, end_b))
        keys[count] = np.int64(labels_a[i]) * n_b + labels_b[j]
        ends[count] = here
        count += 1
        i += here == end_a
        j += here == end_b
    return keys[:count], ends[:count]


def weights_between(ends: NDArray[np.int64], prefix: NDArray[Any] | None) -> NDArray[Any]:
    """Measure of the pixels from each end to the next, the first from pixel 0."""
    return np.diff(ends, prepend=0) if prefix is None else np.diff(prefix[ends], prepend=prefix[0])


@compiled
def channel_prefix_sums(values: NDArray[Any], measure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prefix sums over pixels of measure times ``values`` (k, n): (n + 1, k), channels last."""
    k, n = values.shape
    sums = np.empty((n + 1, k))
    sums[0] = 0.0
    weighted = measure.size != 0
    block = 64
    for first in range(0, n, block):
        last = min(n, first + block)
        for j in range(k):
            running = sums[first, j]
            for p in range(first, last):
                weight = measure[p] if weighted else 1.0
                running += weight * values[j, p]
                sums[p + 1, j] = running
    return sums


@compiled
def dense_overlap_square_sum(
    prefix: NDArray[np.float64],
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
    table: NDArray[np.float64],
) -> float:
    """Sum of n_ji² of a dense soft partition and a partition: O(runs · k).

    ``prefix`` (n + 1, k) comes from :func:`channel_prefix_sums`; ``table`` (n_regions, k) must be
    zero.
    """
    n = prefix.shape[0] - 1
    k = prefix.shape[1]
    for run in range(starts.size):
        start = starts[run]
        end = starts[run + 1] if run + 1 < starts.size else n
        region = labels[run]
        for j in range(k):
            table[region, j] += prefix[end, j] - prefix[start, j]
    total = 0.0
    for region in range(table.shape[0]):
        for j in range(k):
            total += table[region, j] * table[region, j]
    return total


@compiled
def dense_overlap_square_sums(
    prefix: NDArray[np.float64],
    many: ManyRuns,
    first: int,
    last: int,
    table: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write Σ n_ji² of a dense soft partition with each of some partitions: ``out[first:last]``.

    ``table`` has a row for each region of the partition that has most.
    """
    starts, labels, ends, n_regions = many.starts, many.labels, many.ends, many.n_regions
    k = prefix.shape[1]
    for i in range(first, last):
        begin = ends[i - 1] if i > 0 else 0
        regions = np.int64(n_regions[i])
        for region in range(regions):
            for j in range(k):
                table[region, j] = 0.0
        out[i] = dense_overlap_square_sum(
            prefix,
            starts[begin : ends[i]],
            labels[begin : ends[i]],
            table[:regions],
        )


@compiled
def sparse_overlap_square_sum(
    values: NDArray[Any],
    channels: NDArray[np.int32],
    measure: NDArray[np.float64],
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
    n_channels: int,
) -> Any:
    """Sum of n_ji² of a sparse soft partition (m, n) and a partition: O(m · n) hash insertions.

    The table is an open-addressing hash over (region, channel), since the product of their
    numbers may be far larger than the pairs that occur.
    """
    m, n = values.shape
    capacity = 1024
    keys = np.full(capacity, np.int64(-1))
    sums = np.zeros(capacity)
    used = 0
    weighted = measure.size != 0
    for row in range(m):
        for run in range(starts.size):
            end = starts[run + 1] if run + 1 < starts.size else n
            p = starts[run]
            while p < end:
                # Channels come in runs, too: gather one before touching the hash.
                channel = channels[row, p]
                total = 0.0
                while p < end and channels[row, p] == channel:
                    total += values[row, p] * (measure[p] if weighted else 1.0)
                    p += 1
                key = np.int64(labels[run]) * n_channels + channel
                slot = _slot(keys, key)
                if keys[slot] != key:
                    keys[slot] = key
                    used += 1
                sums[slot] += total
                if 2 * used > capacity:
                    capacity *= 2
                    new_keys = np.full(capacity, np.int64(-1))
                    new_sums = np.zeros(capacity)
                    for old in range(keys.size):
                        if keys[old] >= 0:
                            slot = _slot(new_keys, keys[old])
                            new_keys[slot] = keys[old]
                            new_sums[slot] = sums[old]
                    keys = new_keys
                    sums = new_sums
    return sum_of_squares(sums)


@compiled_part
def _slot(keys: NDArray[np.int64], key: Any) -> Any:
    """Slot of ``key`` in an open-addressing table whose size is a power of two, or a free one."""
    mask = keys.size - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mixed >> np.uint64(20)) & mask
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & mask
    return slot


@compiled
def channel_sums(
    values: NDArray[Any],
    channels: NDArray[np.int32],
    measure: NDArray[np.float64],
    n_channels: int,
) -> NDArray[np.float64]:
    """Sum of measure times probability of each channel; ``channels`` is empty where dense."""
    sums = np.zeros(n_channels)
    m, n = values.shape
    dense = channels.size == 0
    weighted = measure.size != 0
    for row in range(m):
        total = 0.0
        for p in range(n):
            weight = measure[p] if weighted else 1.0
            if dense:
                total += weight * values[row, p]
            else:
                sums[channels[row, p]] += weight * values[row, p]
        if dense:
            sums[row] = total
    return sums
