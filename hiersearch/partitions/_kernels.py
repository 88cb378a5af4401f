"""Kernels on label maps: run-length encoding and decoding, compaction, sums over regions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled

_BLOCK = 32


@compiled
def run_starts(flat: NDArray[Any], starts: NDArray[np.int32]) -> int:
    """Write the index at which each run of ``flat`` starts into ``starts``; return their number.

    Blocks without a change are passed over by one vectorised comparison, so that real label maps,
    whose runs are tens of pixels long, cost little more than reading them.
    """
    n = flat.size
    starts[0] = 0
    count = 1
    i = 1
    while i + _BLOCK <= n:
        changes = 0
        for j in range(_BLOCK):
            changes += flat[i + j] != flat[i + j - 1]
        if changes != 0:
            for j in range(i, i + _BLOCK):
                if flat[j] != flat[j - 1]:
                    starts[count] = j
                    count += 1
        i += _BLOCK
    while i < n:
        if flat[i] != flat[i - 1]:
            starts[count] = i
            count += 1
        i += 1
    return count


@compiled
def compact_values(
    values: NDArray[np.int64], low: int, span: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number values within [low, low + span) from 0 in ascending order, by a lookup table.

    Returns the number of each value and the distinct values.
    """
    table = np.zeros(span, np.int32)
    for i in range(values.size):
        table[values[i] - low] = 1
    count = 0
    for offset in range(span):
        if table[offset] != 0:
            count += 1
            table[offset] = count
    distinct = np.empty(count, np.int64)
    numbers = np.empty(values.size, np.int32)
    for i in range(values.size):
        number = table[values[i] - low] - 1
        numbers[i] = number
        distinct[number] = values[i]
    return numbers, distinct


@compiled
def decode_runs(
    starts: NDArray[np.int32], labels: NDArray[np.int32], out: NDArray[np.int32]
) -> None:
    """Fill ``out`` with the label of each pixel."""
    for run in range(starts.size):
        end = starts[run + 1] if run + 1 < starts.size else out.size
        out[starts[run] : end] = labels[run]


@compiled
def region_pixel_counts(
    starts: NDArray[np.int32], labels: NDArray[np.int32], n_pixels: int, n_regions: int
) -> NDArray[np.int64]:
    """Count the pixels of each region."""
    counts = np.zeros(n_regions, np.int64)
    for run in range(starts.size):
        end = starts[run + 1] if run + 1 < starts.size else n_pixels
        counts[labels[run]] += end - starts[run]
    return counts


@compiled
def region_weights(
    starts: NDArray[np.int32], labels: NDArray[np.int32], measure: NDArray[Any], n_regions: int
) -> NDArray[Any]:
    """Sum ``measure`` (flat) over each region."""
    sums = np.zeros(n_regions, measure.dtype)
    for run in range(starts.size):
        end = starts[run + 1] if run + 1 < starts.size else measure.size
        for p in range(starts[run], end):
            sums[labels[run]] += measure[p]
    return sums


@compiled
def dense_region_sums(
    values: NDArray[Any],
    measure: NDArray[np.float64],
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
    n_regions: int,
) -> NDArray[np.float64]:
    """Sum measure times ``values`` (k, n) over each region: (n_regions, k).

    An empty ``measure`` means 1 everywhere.
    """
    k, n = values.shape
    sums = np.zeros((n_regions, k))
    weighted = measure.size != 0
    for j in range(k):
        channel = values[j]
        for run in range(starts.size):
            end = starts[run + 1] if run + 1 < starts.size else n
            total = 0.0
            if weighted:
                for p in range(starts[run], end):
                    total += measure[p] * channel[p]
            else:
                for p in range(starts[run], end):
                    total += channel[p]
            sums[labels[run], j] += total
    return sums


@compiled
def check_memberships(values: NDArray[Any], tolerance: float) -> tuple[int, int]:
    """Return (pixel, fault) of the first fault of probabilities (k, n), or (-1, 0).

    Faults: 1 not finite, 2 negative, 3 the sum over k is not 1 within ``tolerance``.
    """
    k, n = values.shape
    sums = np.zeros(n)
    lowest = np.float64(0.0)
    for j in range(k):
        channel = values[j]
        for p in range(n):
            value = np.float64(channel[p])
            lowest = min(lowest, value)
            sums[p] += value
    bad = -1
    for p in range(n):
        if not abs(sums[p] - 1.0) <= tolerance:
            bad = p
            break
    if bad == -1 and lowest >= 0.0:
        return -1, 0
    for p in range(n):
        for j in range(k):
            if not np.isfinite(values[j, p]):
                return p, 1
            if values[j, p] < 0:
                return p, 2
        if not abs(sums[p] - 1.0) <= tolerance:
            return p, 3
    return -1, 0
