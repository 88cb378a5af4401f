"""Kernels for region costs: sums of a target over leaves and their accumulation up the tree.

Trees come as ``parents`` (n_nodes,), parents[i] > i, root its own parent; leaves first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled
from hiersearch.hierarchy._tree_kernels import common_ancestor


@compiled
def dense_leaf_sums(
    values: NDArray[Any],
    leaf_map: NDArray[np.int32],
    measure: NDArray[np.float64],
    n_leaves: int,
) -> NDArray[np.float64]:
    """Sum measure times ``values`` (k, n) over each leaf: (k, n_leaves).

    Runs of one leaf are summed before they are added, so that consecutive pixels don't wait for
    each other's store.
    """
    k, n = values.shape
    sums = np.zeros((k, n_leaves))
    weighted = measure.size != 0
    for j in range(k):
        channel = values[j]
        row = sums[j]
        leaf = leaf_map[0]
        total = 0.0
        for p in range(n):
            if leaf_map[p] != leaf:
                row[leaf] += total
                leaf = leaf_map[p]
                total = 0.0
            if weighted:
                total += measure[p] * channel[p]
            else:
                total += channel[p]
        row[leaf] += total
    return sums


@compiled
def dense_costs(
    parents: NDArray[np.int64], sums: NDArray[Any], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cost a² − 2 Σ n² of each node from the channel sums of the leaves (n_leaves, k)."""
    n_leaves, k = sums.shape
    n_nodes = parents.size
    inner = np.zeros((n_nodes - n_leaves, k))
    costs = np.empty(n_nodes)
    for node in range(n_nodes):
        squares = 0.0
        parent = parents[node] - n_leaves
        # Two loops alike, because leaves and inner nodes live in arrays of different types.
        if node < n_leaves:
            for j in range(k):
                value = np.float64(sums[node, j])
                squares += value * value
                if parent >= 0:
                    inner[parent, j] += value
        else:
            row = node - n_leaves
            for j in range(k):
                value = inner[row, j]
                squares += value * value
                if parent != row:
                    inner[parent, j] += value
        costs[node] = sizes[node] * sizes[node] - 2.0 * squares
    return costs


@compiled
def class_costs(
    parents: NDArray[np.int64], sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Measure a − max n that each node's best class misses, and that class."""
    n_leaves, k = sums.shape
    n_nodes = parents.size
    every = np.zeros((n_nodes, k))
    every[:n_leaves] = sums
    missed = np.empty(n_nodes)
    names = np.empty(n_nodes, np.int32)
    for node in range(n_nodes):
        best = 0
        for j in range(k):
            if every[node, j] > every[node, best]:
                best = j
            if node < n_nodes - 1:
                every[parents[node], j] += every[node, j]
        names[node] = best
        missed[node] = max(0.0, sizes[node] - every[node, best])
    return missed, names


@compiled
def sparse_leaf_sums(
    values: NDArray[Any],
    channels: NDArray[np.int32],
    leaf_map: NDArray[np.int32],
    measure: NDArray[np.float64],
    n_leaves: int,
    n_channels: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Channel sums of each leaf as compressed rows: offsets, channels (in any order), sums.

    O(m · n).
    """
    m, n = channels.shape
    weighted = measure.size != 0
    # Pixels by leaf (counting sort), so that one scratch row of all channels serves every leaf.
    first = np.zeros(n_leaves + 1, np.int64)
    for p in range(n):
        first[leaf_map[p] + 1] += 1
    for leaf in range(n_leaves):
        first[leaf + 1] += first[leaf]
    order = np.empty(n, np.int32)
    place = np.empty(n_leaves, np.int64)
    for leaf in range(n_leaves):
        place[leaf] = first[leaf]
    for p in range(n):
        order[place[leaf_map[p]]] = p
        place[leaf_map[p]] += 1
    scratch = np.zeros(n_channels)
    seen = np.zeros(n_channels, np.bool_)
    touched = np.empty(min(n_channels, m * n), np.int32)
    offsets = np.zeros(n_leaves + 1, np.int64)
    capacity = max(16, 2 * n_leaves)
    out_channels = np.empty(capacity, np.int32)
    out_sums = np.empty(capacity)
    for leaf in range(n_leaves):
        count = 0
        for at in range(first[leaf], first[leaf + 1]):
            p = order[at]
            weight = measure[p] if weighted else 1.0
            for row in range(m):
                channel = channels[row, p]
                if not seen[channel]:
                    seen[channel] = True
                    touched[count] = channel
                    count += 1
                scratch[channel] += weight * values[row, p]
        start = offsets[leaf]
        if start + count > capacity:
            capacity = max(2 * capacity, start + count)
            more_channels = np.empty(capacity, np.int32)
            more_sums = np.empty(capacity)
            # Loops, here and below: assignments of slices take seconds to compile.
            for i in range(start):
                more_channels[i] = out_channels[i]
                more_sums[i] = out_sums[i]
            out_channels = more_channels
            out_sums = more_sums
        for i in range(count):
            channel = touched[i]
            out_channels[start + i] = channel
            out_sums[start + i] = scratch[channel]
            scratch[channel] = 0.0
            seen[channel] = False
        offsets[leaf + 1] = start + count
    used = offsets[n_leaves]
    return offsets, out_channels[:used], out_sums[:used]


@compiled
def child_order(
    parents: NDArray[np.int64], weights: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lay the leaves out depth-first, the heaviest child of each node last.

    ``weights`` (n_nodes,) is additive up the tree. Returns (offsets, children, starts): the
    children of a node, heaviest first, are children[offsets[i]:offsets[i + 1]]; starts[i] is the
    sum of weights before the node's first leaf, so that node i owns
    [starts[i], starts[i] + weights[i]) and a node's heaviest child sits at the end of it, the
    others before it, the next heaviest nearest.
    """
    n_nodes = parents.size
    offsets = np.zeros(n_nodes + 1, np.int64)
    for node in range(n_nodes - 1):
        offsets[parents[node] + 1] += 1
    for node in range(n_nodes):
        offsets[node + 1] += offsets[node]
    children = np.empty(n_nodes - 1, np.int64)
    filled = np.empty(n_nodes, np.int64)
    for node in range(n_nodes):
        filled[node] = offsets[node]
    for node in range(n_nodes - 1):
        parent = parents[node]
        at = filled[parent]
        filled[parent] += 1
        # Insertion keeps children sorted, heaviest first; nodes have few children.
        while at > offsets[parent] and weights[children[at - 1]] < weights[node]:
            children[at] = children[at - 1]
            at -= 1
        children[at] = node
    starts = np.zeros(n_nodes, np.int64)
    for node in range(n_nodes - 1, -1, -1):
        here = starts[node] + weights[node]
        for at in range(offsets[node], offsets[node + 1]):
            child = children[at]
            here -= weights[child]
            starts[child] = here
    return offsets, children, starts


@compiled
def sparse_costs(
    parents: NDArray[np.int64],
    leaf_offsets: NDArray[np.int64],
    leaf_channels: NDArray[np.int32],
    leaf_sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Cost a² − 2 Σ n² of each node from sparse channel sums of the leaves.

    Each node's sparse vector lives inside its own range of one buffer (see ``child_order``): a
    light child's entries are added to its heavy sibling's vector in place where the channels are
    there already, and merged into the room that the light child leaves otherwise. The sum of
    squares is kept up to date entry by entry.
    """
    n_nodes = parents.size
    n_leaves = leaf_offsets.size - 1
    weights = np.zeros(n_nodes, np.int64)
    for leaf in range(n_leaves):
        weights[leaf] = leaf_offsets[leaf + 1] - leaf_offsets[leaf]
    for node in range(n_nodes - 1):
        weights[parents[node]] += weights[node]
    offsets, children, starts = child_order(parents, weights)
    channels = np.empty(leaf_channels.size, np.int32)
    sums = np.empty(leaf_sums.size)
    begin = np.empty(n_nodes, np.int64)
    length = np.zeros(n_nodes, np.int64)
    squares = np.zeros(n_nodes)
    merged_channels = np.empty(256, np.int32)
    merged_sums = np.empty(256)
    for node in range(n_nodes):
        if node < n_leaves:
            begin[node] = starts[node]
            length[node] = weights[node]
            for i in range(weights[node]):
                value = leaf_sums[leaf_offsets[node] + i]
                channels[starts[node] + i] = leaf_channels[leaf_offsets[node] + i]
                sums[starts[node] + i] = value
                squares[node] += value * value
            continue
        heavy = children[offsets[node]]
        at = begin[heavy]
        count = length[heavy]
        total = squares[heavy]
        for c in range(offsets[node] + 1, offsets[node + 1]):
            light = children[c]
            found = 0
            for i in range(begin[light], begin[light] + length[light]):
                # Binary search by hand: NumPy's takes seconds to compile.
                position = at
                beyond = at + count
                while position < beyond:
                    middle = (position + beyond) // 2
                    if channels[middle] < channels[i]:
                        position = middle + 1
                    else:
                        beyond = middle
                if position < at + count and channels[position] == channels[i]:
                    total += sums[i] * (2.0 * sums[position] + sums[i])
                    sums[position] += sums[i]
                    sums[i] = 0.0
                    found += 1
                else:
                    total += sums[i] * sums[i]
            if found == length[light]:
                continue
            if count + length[light] > merged_channels.size:
                merged_channels = np.empty(2 * (count + length[light]), np.int32)
                merged_sums = np.empty(2 * (count + length[light]))
            a = begin[light]
            b = at
            filled = 0
            while a < begin[light] + length[light] or b < at + count:
                if b == at + count or (
                    a < begin[light] + length[light] and channels[a] < channels[b]
                ):
                    merged_channels[filled] = channels[a]
                    merged_sums[filled] = sums[a]
                    a += 1
                else:
                    merged_channels[filled] = channels[b]
                    merged_sums[filled] = sums[b]
                    if a < begin[light] + length[light] and channels[a] == channels[b]:
                        a += 1
                    b += 1
                filled += 1
            at = starts[light]
            count = filled
            for i in range(count):
                channels[at + i] = merged_channels[i]
                sums[at + i] = merged_sums[i]
        begin[node] = at
        length[node] = count
        squares[node] = total
    costs = np.empty(n_nodes)
    for node in range(n_nodes):
        costs[node] = sizes[node] * sizes[node] - 2.0 * squares[node]
    return costs


@compiled
def add_pair_terms(
    gains: NDArray[np.float64],
    leaves: NDArray[np.int32],
    partners: NDArray[np.int32],
    affinities: NDArray[Any],
    weights: NDArray[np.float64],
    parents: NDArray[np.int64],
    heads: NDArray[np.int64],
) -> None:
    """Add w (1 − 2C) of each pair of pixels to the lowest common ancestor of their leaves.

    ``heads`` comes from ``path_heads``: O(log nodes) a pair at worst.
    """
    for i in range(leaves.size):
        one, other = int(np.int64(leaves[i])), int(np.int64(partners[i]))
        node = common_ancestor(parents, heads, one, other)
        gains[node] += weights[i] * (1.0 - 2.0 * affinities[i])


@compiled
def nodes_holding_several(
    parents: NDArray[np.int64], leaf_map: NDArray[np.int32], markers: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Mark the nodes that hold two different non-zero markers or more."""
    marker = np.zeros(parents.size, np.int32)
    several = np.zeros(parents.size, np.bool_)
    for p in range(leaf_map.size):
        if markers[p] != 0:
            leaf = leaf_map[p]
            if marker[leaf] == 0:
                marker[leaf] = markers[p]
            elif marker[leaf] != markers[p]:
                several[leaf] = True
    for node in range(parents.size - 1):
        parent = parents[node]
        several[parent] |= several[node]
        if marker[node] != 0:
            if marker[parent] == 0:
                marker[parent] = marker[node]
            elif marker[parent] != marker[node]:
                several[parent] = True
    return several
