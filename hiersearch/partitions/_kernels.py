"""Kernels on label maps: run-length encoding and decoding, compaction, sums over regions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled


@compiled
def run_starts(changed: NDArray[np.uint8], n_runs: int) -> NDArray[np.int32]:
    """Return the index at which each of ``n_runs`` runs starts.

    ``changed`` (n - 1,) is 1 where pixel p + 1 differs from pixel p. It is read eight pixels at a
    time, since the runs of real label maps are tens of pixels long.
    """
    # One place more than needed: a start is written before it is known to be one.
    starts = np.empty(n_runs + 1, np.int32)
    starts[0] = 0
    count = 1
    words = changed[: changed.size // 8 * 8].view(np.uint64)
    for w in range(words.size):
        if words[w] != 0:
            for p in range(8 * w, 8 * w + 8):
                starts[count] = p + 1
                count += changed[p]
    for p in range(8 * words.size, changed.size):
        starts[count] = p + 1
        count += changed[p]
    return starts[:count]


@compiled
def compact_values(
    values: NDArray[np.int64], low: int, span: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the number of each value, from 0 in ascending order, and the distinct values.

    Values lie within [low, low + span) and are numbered by a lookup table.
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
def sum_of_squares(values: NDArray[Any]) -> Any:
    """Sum of squares, in the type of ``values``."""
    total = values[0] * values[0]
    for i in range(1, values.size):
        total += values[i] * values[i]
    return total


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
def most_probable(values: NDArray[Any], channels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the channel of each pixel whose ``values`` (m, n) add up to most, first of equals."""
    m, n = values.shape
    out = np.empty(n, np.int32)
    for p in range(n):
        best = np.float64(-1.0)
        winner = channels[0, p]
        for row in range(m):
            channel = channels[row, p]
            total = np.float64(0.0)
            for other in range(m):
                if channels[other, p] == channel:
                    total += values[other, p]
            if total > best:
                best = total
                winner = channel
        out[p] = winner
    return out


@compiled
def best_channel(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the channel of the largest of (k, n) values at each pixel, of equals the first.

    O(k · n).
    """
    k, n = values.shape
    labels = np.zeros(n, np.int32)
    best = values[0].copy()
    # Pieces that stay in the cache from one channel to the next.
    for start in range(0, n, 4096):
        highest, label = best[start : start + 4096], labels[start : start + 4096]
        for j in range(1, k):
            value, number = values[j, start : start + 4096], np.int32(j)
            for i in range(value.size):
                label[i] = number if value[i] > highest[i] else label[i]
                highest[i] = max(highest[i], value[i])
    return labels


@compiled
def sum_up(parents: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    """Add, in place, each node's value to its parent's, leaves first."""
    for node in range(parents.size - 1):
        values[parents[node]] += values[node]


@compiled
def costs_of_merges(
    parents: NDArray[np.int64], sizes: NDArray[np.float64], gains: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Costs of a tree's nodes as regions: Σ pairs · gain over the merges inside. O(nodes).

    ``sizes`` (nodes,) are measures; ``gains`` (nodes,) is what each ordered pair of pixels costs
    that a node joins, −1 within leaves.
    """
    n_nodes = parents.size
    costs = np.zeros(n_nodes)
    below = np.zeros(n_nodes)
    for node in range(n_nodes):
        square = sizes[node] * sizes[node]
        costs[node] += gains[node] * (square - below[node])
        if node < n_nodes - 1:
            parent = parents[node]
            below[parent] += square
            costs[parent] += costs[node]
    return costs


@compiled
def cheapest_cut(
    parents: NDArray[np.int64], costs: NDArray[np.float64], n_leaves: int
) -> NDArray[np.int32]:
    """Return the region of each leaf in the cut of least cost, of equals with fewest. O(nodes)."""
    n_nodes = parents.size
    best = np.zeros(n_nodes)
    whole = np.zeros(n_nodes, np.bool_)
    for node in range(n_nodes):
        if node < n_leaves or costs[node] <= best[node]:
            best[node] = costs[node]
            whole[node] = True
        if node < n_nodes - 1:
            best[parents[node]] += best[node]
    region = np.full(n_nodes, -1, np.int32)
    for node in range(n_nodes - 1, -1, -1):
        above = region[parents[node]] if node < n_nodes - 1 else np.int32(-1)
        if above >= 0:
            region[node] = above
        elif whole[node]:
            region[node] = node
    return region[:n_leaves]
