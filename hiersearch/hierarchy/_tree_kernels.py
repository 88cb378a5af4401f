"""Compiled passes over merge trees: every one is a single sweep over nodes or pixels.

All take ``parents`` as int64 with ``parents[i] > i`` and the root as its own parent, unless
they are the pass that checks exactly this.
"""

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Labels = NDArray[np.int32]

VALID = 0
PARENT_OUT_OF_RANGE = 1
PARENT_NOT_LATER = 2
ROOT_NOT_OWN_PARENT = 3
SECOND_ROOT = 4
INNER_BEFORE_LEAF = 5
SINGLE_CHILD = 6

COVERED_TWICE = 1
NOT_COVERED = 2


@compiled
def check_parents(parents: Ids) -> tuple[int, int, int]:
    """Return (rule that is broken or VALID, offending node, number of leaves)."""
    n_nodes = parents.shape[0]
    degree = np.zeros(n_nodes, dtype=np.int64)
    root = n_nodes - 1
    for node in range(n_nodes):
        parent = parents[node]
        if parent < 0 or parent >= n_nodes:
            return PARENT_OUT_OF_RANGE, node, 0
        if node == root:
            if parent != node:
                return ROOT_NOT_OWN_PARENT, node, 0
        elif parent == node:
            return SECOND_ROOT, node, 0
        elif parent < node:
            return PARENT_NOT_LATER, node, 0
        else:
            degree[parent] += 1
    n_leaves = 0
    while n_leaves < n_nodes and degree[n_leaves] == 0:
        n_leaves += 1
    for node in range(n_leaves, n_nodes):
        if degree[node] == 0:
            return INNER_BEFORE_LEAF, node, n_leaves
        if degree[node] == 1:
            return SINGLE_CHILD, node, n_leaves
    return VALID, 0, n_leaves


@compiled
def first_unused_leaf(leaf_map: Labels, n_leaves: int) -> int:
    """Return the first leaf without a pixel, or -1 if every leaf has one."""
    used = np.zeros(n_leaves, dtype=np.bool_)
    for pixel in range(leaf_map.shape[0]):
        used[leaf_map[pixel]] = True
    for leaf in range(n_leaves):
        if not used[leaf]:
            return leaf
    return -1


@compiled
def first_wrong_size(parents: Ids, sizes: Floats, n_leaves: int) -> int:
    """Return the first inner node whose size is not the sum of its children's, or -1."""
    n_nodes = parents.shape[0]
    sums = np.zeros(n_nodes)
    for node in range(n_nodes - 1):
        sums[parents[node]] += sizes[node]
    for node in range(n_leaves, n_nodes):
        if abs(sums[node] - sizes[node]) > 1e-9 * max(sums[node], sizes[node]):
            return node
    return -1


@compiled
def is_identity(leaf_map: Labels) -> bool:
    """Return whether pixel p is leaf p throughout."""
    pixel = 0
    while pixel < leaf_map.shape[0] and leaf_map[pixel] == pixel:
        pixel += 1
    return pixel == leaf_map.shape[0]


@compiled
def first_inversion(parents: Ids, altitudes: Floats) -> int:
    """Return the first node that lies above its parent, or -1."""
    for node in range(parents.shape[0]):
        if altitudes[node] > altitudes[parents[node]]:
            return node
    return -1


@compiled
def sizes_from_counts(parents: Ids, leaf_map: Labels) -> Floats:
    """Return the number of pixels under every node."""
    sizes = np.zeros(parents.shape[0])
    for pixel in range(leaf_map.shape[0]):
        sizes[leaf_map[pixel]] += 1.0
    for node in range(parents.shape[0] - 1):
        sizes[parents[node]] += sizes[node]
    return sizes


@compiled
def sizes_from_measure(parents: Ids, leaf_map: Labels, measure: Floats) -> Floats:
    """Return the sum of ``measure`` over the pixels under every node."""
    sizes = np.zeros(parents.shape[0])
    for pixel in range(leaf_map.shape[0]):
        sizes[leaf_map[pixel]] += measure[pixel]
    for node in range(parents.shape[0] - 1):
        sizes[parents[node]] += sizes[node]
    return sizes


@compiled
def child_lists(parents: Ids) -> tuple[Ids, Ids]:
    """Return the children of every node as (offsets, nodes), each list ascending."""
    n_nodes = parents.shape[0]
    offsets = np.zeros(n_nodes + 1, dtype=np.int64)
    for node in range(n_nodes - 1):
        offsets[parents[node] + 1] += 1
    for node in range(n_nodes):
        offsets[node + 1] += offsets[node]
    nodes = np.empty(n_nodes - 1, dtype=np.int64)
    filled = offsets[:-1].copy()
    for node in range(n_nodes - 1):
        parent = parents[node]
        nodes[filled[parent]] = node
        filled[parent] += 1
    return offsets, nodes


@compiled
def running_maximum(parents: Ids, altitudes: Floats) -> Floats:
    """Return, for every node, the largest altitude at or under it."""
    highest = altitudes.copy()
    for node in range(parents.shape[0] - 1):
        parent = parents[node]
        if highest[node] > highest[parent]:
            highest[parent] = highest[node]
    return highest


@compiled
def nodes_below(parents: Ids, highest: Floats, altitude: float, n_leaves: int) -> Ids:
    """Return the largest nodes whose running maximum is at most ``altitude``, else leaves."""
    n_nodes = parents.shape[0]
    found = np.empty(n_leaves, dtype=np.int64)
    count = 0
    for node in range(n_nodes):
        kept = node < n_leaves or highest[node] <= altitude
        if kept and (node == n_nodes - 1 or highest[parents[node]] > altitude):
            found[count] = node
            count += 1
    return found[:count].copy()


@compiled
def first_nodes_kept(parents: Ids, n_leaves: int, regions: int) -> Ids:
    """Return the cut left after undoing merges from the root on, with at most ``regions``."""
    n_nodes = parents.shape[0]
    degree = np.zeros(n_nodes, dtype=np.int64)
    for node in range(n_nodes - 1):
        degree[parents[node]] += 1
    end = n_nodes
    count = 1
    while end > n_leaves and count + degree[end - 1] - 1 <= regions:
        count += degree[end - 1] - 1
        end -= 1
    found = np.empty(count, dtype=np.int64)
    filled = 0
    for node in range(end):
        if parents[node] >= end or node == n_nodes - 1:
            found[filled] = node
            filled += 1
    return found


@compiled
def leaf_positions(parents: Ids, cut: Ids, n_leaves: int) -> tuple[int, int, int, Labels]:
    """Return (rule, node, other node, position in the cut of every leaf's region).

    ``cut`` holds distinct node ids within range.
    """
    n_nodes = parents.shape[0]
    position = np.full(n_nodes, -1, dtype=np.int32)
    for index in range(cut.shape[0]):
        position[cut[index]] = index
    for node in range(n_nodes - 2, -1, -1):
        inherited = position[parents[node]]
        if inherited >= 0:
            if position[node] >= 0:
                return COVERED_TWICE, node, cut[inherited], position[:n_leaves]
            position[node] = inherited
    for leaf in range(n_leaves):
        if position[leaf] < 0:
            return NOT_COVERED, leaf, 0, position[:n_leaves]
    return VALID, 0, 0, position[:n_leaves].copy()


@compiled
def spread(leaf_values: Labels, leaf_map: Labels) -> Labels:
    """Return each pixel's value: that of its leaf."""
    values = np.empty(leaf_map.shape[0], dtype=np.int32)
    for pixel in range(leaf_map.shape[0]):
        values[pixel] = leaf_values[leaf_map[pixel]]
    return values


@compiled
def capped_by_ancestors(parents: Ids, altitudes: Floats) -> Floats:
    """Return each node's altitude, lowered to the lowest one above it."""
    capped = altitudes.copy()
    for node in range(parents.shape[0] - 2, -1, -1):
        if capped[parents[node]] < capped[node]:
            capped[node] = capped[parents[node]]
    return capped
