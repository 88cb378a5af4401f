"""Compiled passes over merge trees, each a sweep over nodes or pixels, and Kruskal's tree.

All take ``parents`` as int64 with ``parents[i] > i`` and the root as its own parent, unless
they are the pass that checks exactly this.
"""

from typing import Any

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

AREA = 0
VOLUME = 1
DYNAMICS = 2

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
def first_inversion(parents: Ids, altitudes: Floats) -> int:
    """Return the first node that lies above its parent, or -1."""
    for node in range(parents.shape[0]):
        if altitudes[node] > altitudes[parents[node]]:
            return node
    return -1


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
def leaf_intervals(parents: Ids, n_leaves: int) -> tuple[Ids, Ids]:
    """Places of the first and the last leaf of each node, the leaves laid out depth-first.

    A leaf's two places are its own. O(nodes).
    """
    n_nodes = parents.size
    counts = np.zeros(n_nodes, dtype=np.int64)
    for leaf in range(n_leaves):
        counts[leaf] = 1
    for node in range(n_nodes - 1):
        counts[parents[node]] += counts[node]
    first = np.zeros(n_nodes, dtype=np.int64)
    # Where the next child of each node begins.
    free = np.zeros(n_nodes, dtype=np.int64)
    last = np.empty(n_nodes, dtype=np.int64)
    last[n_nodes - 1] = n_leaves - 1
    for node in range(n_nodes - 2, -1, -1):
        parent = parents[node]
        first[node] = free[parent]
        free[node] = free[parent]
        free[parent] += counts[node]
        last[node] = free[parent] - 1
    return first, last


@compiled
def topmost(parents: Ids, taken: NDArray[np.bool_]) -> Ids:
    """Nodes that are taken while no ancestor is, ascending. O(nodes)."""
    n_nodes = parents.size
    covered = np.zeros(n_nodes, dtype=np.bool_)
    chosen = np.zeros(n_nodes, dtype=np.bool_)
    count = 0
    for node in range(n_nodes - 1, -1, -1):
        above = node != n_nodes - 1 and covered[parents[node]]
        if not above and taken[node]:
            chosen[node] = True
            count += 1
        covered[node] = above or taken[node]
    nodes = np.empty(count, dtype=np.int64)
    filled = 0
    for node in range(n_nodes):
        if chosen[node]:
            nodes[filled] = node
            filled += 1
    return nodes


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
def capped_by_ancestors(parents: Ids, altitudes: Floats) -> Floats:
    """Return each node's altitude, lowered to the lowest one above it."""
    capped = altitudes.copy()
    for node in range(parents.shape[0] - 2, -1, -1):
        if capped[parents[node]] < capped[node]:
            capped[node] = capped[parents[node]]
    return capped


@compiled
def path_heads(parents: Ids) -> Ids:
    """Return the topmost node of each node's heavy path.

    The heavy path of a node goes on to the child with the most nodes under it, so that any way
    to the root meets O(log nodes) paths.
    """
    n_nodes = parents.shape[0]
    below = np.zeros(n_nodes, dtype=np.int64)
    heavy = np.zeros(n_nodes, dtype=np.int64)
    heads = np.empty(n_nodes, dtype=np.int64)
    heads[n_nodes - 1] = n_nodes - 1
    most = np.zeros(n_nodes, dtype=np.int64)
    for node in range(n_nodes - 1):
        parent = parents[node]
        below[node] += 1
        below[parent] += below[node]
        if below[node] > most[parent]:
            most[parent] = below[node]
            heavy[parent] = node
    for node in range(n_nodes - 2, -1, -1):
        parent = parents[node]
        heads[node] = heads[parent] if heavy[parent] == node else node
    return heads


@compiled
def common_ancestor(parents: Ids, heads: Ids, one: int, other: int) -> int:
    """Return the lowest common ancestor of two nodes.

    The path whose head has the lower id cannot hold an ancestor of the other path's head,
    because ids rise towards the root: it is the one to leave.
    """
    while heads[one] != heads[other]:
        if heads[one] < heads[other]:
            one = parents[heads[one]]
        else:
            other = parents[heads[other]]
    return max(one, other)


@compiled
def contours(leaf_map: NDArray[np.int32], parents: Ids, heads: Ids, altitudes: Floats) -> Floats:
    """Return the altitudes of the faces between the pixels of a 2-D grid, on doubled indices."""
    height, width = leaf_map.shape
    faces = np.zeros((2 * height + 1, 2 * width + 1))
    for i in range(height):
        for j in range(width):
            leaf = leaf_map[i, j]
            if j + 1 < width and leaf_map[i, j + 1] != leaf:
                node = common_ancestor(parents, heads, leaf, leaf_map[i, j + 1])
                faces[2 * i + 1, 2 * j + 2] = altitudes[node]
            if i + 1 < height and leaf_map[i + 1, j] != leaf:
                node = common_ancestor(parents, heads, leaf, leaf_map[i + 1, j])
                faces[2 * i + 2, 2 * j + 1] = altitudes[node]
    return faces


@compiled
def component(links: Labels, item: int) -> int:
    """Return the representative of an item's component; links of others are >= 0."""
    while links[item] >= 0:
        parent = links[item]
        if links[parent] >= 0:
            links[item] = links[parent]
        item = parent
    return item


@compiled
def kruskal(
    n_leaves: int, edges: NDArray[np.int32], weights: Floats, order: NDArray[np.signedinteger[Any]]
) -> tuple[int, Ids, Floats, Ids]:
    """Return (number of merges, parents, altitudes, edge that made each merge).

    Edges are taken in the given order; with fewer than ``n_leaves - 1`` merges the graph is not
    connected and the arrays are of no use.
    """
    n_nodes = 2 * n_leaves - 1
    parents = np.empty(n_nodes, dtype=np.int64)
    altitudes = np.zeros(n_nodes)
    used = np.empty(n_leaves - 1, dtype=np.int64)
    links = np.empty(n_leaves, dtype=np.int32)
    node_of = np.empty(n_leaves, dtype=np.int32)
    for leaf in range(n_leaves):
        links[leaf] = -1
        node_of[leaf] = leaf
    merges = 0
    for position in range(order.shape[0]):
        edge = order[position]
        one = component(links, edges[edge, 0])
        other = component(links, edges[edge, 1])
        if one == other:
            continue
        node = n_leaves + merges
        parents[node_of[one]] = node
        parents[node_of[other]] = node
        altitudes[node] = weights[edge]
        used[merges] = edge
        merges += 1
        # Negative links of representatives count their items; the larger component stays.
        if links[one] > links[other]:
            one, other = other, one
        links[one] += links[other]
        links[other] = one
        node_of[one] = node
        if merges == n_leaves - 1:
            break
    parents[n_nodes - 1] = n_nodes - 1
    return merges, parents, altitudes, used


@compiled
def persistences(parents: Ids, altitudes: Floats, leaf_sizes: Floats, attribute: int) -> Floats:
    """Return, for every merge of Kruskal's tree, its smaller child's attribute as a basin."""
    n_leaves = leaf_sizes.shape[0]
    n_nodes = parents.shape[0]
    root = n_nodes - 1
    area = np.zeros(n_nodes)
    volume = np.zeros(n_nodes)
    lowest = np.empty(n_nodes)
    # A leaf is no basin, and a node under one of its own altitude is only a part of one: its
    # worth is that of the largest basin within.
    within = np.zeros(n_nodes)
    least = np.empty(n_nodes)
    for node in range(n_nodes):
        lowest[node] = altitudes[node] if node >= n_leaves else np.inf
        least[node] = np.inf
        if node < n_leaves:
            area[node] = leaf_sizes[node]
    for node in range(n_nodes):
        parent = parents[node]
        worth = 0.0
        if node >= n_leaves:
            volume[node] += area[node] * (altitudes[parent] - altitudes[node])
            if node != root and altitudes[parent] == altitudes[node]:
                worth = within[node]
            elif attribute == AREA:
                worth = area[node]
            elif attribute == VOLUME:
                worth = volume[node]
            else:
                worth = altitudes[parent] - lowest[node]
        if node != root:
            area[parent] += area[node]
            volume[parent] += volume[node]
            lowest[parent] = min(lowest[parent], lowest[node])
            within[parent] = max(within[parent], worth)
            least[parent] = min(least[parent], worth)
    return least[n_leaves:].copy()
