"""Kernels of tree voting: the tree of an image's pixels, one pass up and one down, the winner.

Trees come as ``parents`` (n_nodes,), parents[i] > i, root its own parent; leaves first. Tables of
votes have a row of k channels for each node, so that a visit reads one piece of memory.
"""

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.hierarchy._tree_kernels import component

Table = NDArray[np.float32]
Levels = NDArray[np.uint16]
Counts = NDArray[np.int32]

# Pixels that are turned between columns and rows at a time: 3 kB for 12 channels.
TILE = 64


@compiled_part
def row_weights(one: Levels, other: Levels, weights: Levels, counts: Counts) -> float:
    """Write the largest channel difference of each pair of two rows; count; sum the squares."""
    squares = 0.0
    for x in range(one.shape[0]):
        largest = 0
        for c in range(one.shape[1]):
            gap = abs(int(np.int64(one[x, c])) - int(np.int64(other[x, c])))
            largest = max(largest, gap)
        weights[x] = largest
        counts[largest + 1] += 1
        squares += float(largest) * float(largest)
    return squares


@compiled
def grid_tree(
    levels: Levels, sides: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]:
    """Kruskal's tree of the pixels: parents, altitudes, numbers of pixels; and Σ weight².

    ``levels`` (n, c) are whole numbers, so that pairs of neighbours are sorted by counting; the
    weight of a pair is the largest difference of a channel. Ties go to the pair whose first pixel
    comes first, then to the faster axis. O(n · c).
    """
    n = levels.shape[0]
    depth, height, width = sides
    steps = (1, width, width * height)
    weights = np.empty((3, n), np.uint16)
    first = np.zeros(65537, np.int32)
    squares = 0.0
    for row in range(depth * height):
        at = row * width
        squares += row_weights(
            levels[at : at + width - 1], levels[at + 1 : at + width], weights[0, at:], first
        )
        for axis in (1, 2):
            last = row % height + 1 == height if axis == 1 else row + height >= depth * height
            if not last:
                to = at + steps[axis]
                squares += row_weights(
                    levels[at : at + width], levels[to : to + width], weights[axis, at:], first
                )
    for value in range(65536):
        first[value + 1] += first[value]
    order = np.empty(first[65536], np.int32)
    pixel = 0
    for row in range(depth * height):
        below = row % height + 1 < height
        behind = row + height < depth * height
        for x in range(width):
            if x + 1 < width:
                weight = weights[0, pixel]
                order[first[weight]] = 4 * pixel
                first[weight] += 1
            if below:
                weight = weights[1, pixel]
                order[first[weight]] = 4 * pixel + 1
                first[weight] += 1
            if behind:
                weight = weights[2, pixel]
                order[first[weight]] = 4 * pixel + 2
                first[weight] += 1
            pixel += 1
    parents = np.empty(2 * n - 1, np.int64)
    altitudes = np.empty(2 * n - 1)
    sizes = np.empty(2 * n - 1)
    links = np.empty(n, np.int32)
    node_of = np.empty(n, np.int32)
    for leaf in range(n):
        links[leaf] = -1
        node_of[leaf] = leaf
        altitudes[leaf] = 0.0
        sizes[leaf] = 1.0
    node = n
    for position in range(order.shape[0]):
        if node == 2 * n - 1:
            break
        axis = order[position] & 3
        pixel = order[position] >> 2
        one = component(links, pixel)
        other = component(links, pixel + steps[axis])
        if one == other:
            continue
        parents[node_of[one]] = node
        parents[node_of[other]] = node
        altitudes[node] = weights[axis, pixel]
        # Negative links of representatives count their pixels; the larger component stays.
        if links[one] > links[other]:
            one, other = other, one
        links[one] += links[other]
        links[other] = one
        node_of[one] = node
        sizes[node] = -links[one]
        node += 1
    parents[2 * n - 2] = 2 * n - 2
    return parents, altitudes, sizes, squares


@compiled
def pruned(
    parents: NDArray[np.int64], worths: Table, n_leaves: int, tolerance: float
) -> tuple[NDArray[np.int64], Table]:
    """Leave out inner nodes whose worth is at most 1 + ``tolerance`` times that of what holds them.

    What holds a node is its lowest ancestor that stays: worths then fall towards the root. That of
    two leaves' lowest common ancestor that stays is at least 1 / (1 + ``tolerance``) times the
    largest of all their common ancestors'. O(nodes).
    """
    n_nodes = parents.size
    holder = np.empty(n_nodes, np.int32)
    holder[n_nodes - 1] = n_nodes - 1
    factor = np.float32(1.0 + tolerance)
    staying = 1
    for node in range(n_nodes - 2, n_leaves - 1, -1):
        above = holder[parents[node]]
        stays = worths[node] > factor * worths[above]
        holder[node] = node if stays else above
        staying += stays
    new_parents = np.empty(n_leaves + staying, np.int64)
    new_worths = np.empty(n_leaves + staying, np.float32)
    number = np.empty(n_nodes, np.int32)
    count = n_leaves + staying
    for node in range(n_nodes - 1, n_leaves - 1, -1):
        if holder[node] == node:
            count -= 1
            number[node] = count
            new_parents[count] = number[holder[parents[node]]]
            new_worths[count] = worths[node]
    for leaf in range(n_leaves):
        new_parents[leaf] = number[holder[parents[leaf]]]
        new_worths[leaf] = worths[leaf]
    return new_parents, new_worths


@compiled
def as_rows(columns: Table) -> Table:
    """Turn (k, n) into (n, k), a tile at a time. O(k · n)."""
    k, n = columns.shape
    rows = np.empty((n, k), np.float32)
    for start in range(0, n, TILE):
        for j in range(k):
            column = columns[j, start : start + TILE]
            for i in range(column.size):
                rows[start + i, j] = column[i]
    return rows


@compiled
def mean_votes(
    parents: NDArray[np.int64], worths: Table, leaf_votes: Table, leaf_weights: Table
) -> Table:
    """Mean vote of the regions over each leaf: (k, n_leaves).

    ``leaf_votes`` (n_leaves, k) and ``leaf_weights`` (n_leaves,) are summed up the tree. On the way
    down each node adds its sums, times what its worth exceeds its parent's by, to what came from
    above. Worths fall towards the root, but may be lower at leaves. Leaves without any weight above
    them get zeros. At least two leaves. O(nodes · k).
    """
    n_leaves, k = leaf_votes.shape
    n_inner = parents.size - n_leaves
    above = parents[n_leaves:] - n_leaves
    inner_worths = worths[n_leaves:]
    votes = np.zeros((n_inner, k), np.float32)
    weights = np.zeros(n_inner, np.float32)
    # Rows are taken out as arrays of their own: their loops then need no checks of indices.
    for leaf in range(n_leaves):
        node = parents[leaf] - n_leaves
        weights[node] += leaf_weights[leaf]
        own, sums = leaf_votes[leaf], votes[node]
        for j in range(k):
            sums[j] += own[j]
    for node in range(n_inner - 1):
        weights[above[node]] += weights[node]
        own, sums = votes[node], votes[above[node]]
        for j in range(k):
            sums[j] += own[j]
    root = n_inner - 1
    weights[root] *= inner_worths[root]
    for j in range(k):
        votes[root, j] *= inner_worths[root]
    for node in range(root - 1, -1, -1):
        share = inner_worths[node] - inner_worths[above[node]]
        weights[node] = share * weights[node] + weights[above[node]]
        own, sums = votes[node], votes[above[node]]
        for j in range(k):
            own[j] = share * own[j] + sums[j]
    means = np.empty((k, n_leaves), np.float32)
    tile = np.empty((TILE, k), np.float32)
    for start in range(0, n_leaves, TILE):
        end = min(n_leaves, start + TILE)
        for leaf in range(start, end):
            node = parents[leaf] - n_leaves
            share = max(np.float32(0.0), worths[leaf] - inner_worths[node])
            total = share * leaf_weights[leaf] + weights[node]
            scale = np.float32(1.0) / total if total > 0 else np.float32(0.0)
            own, sums, mean = leaf_votes[leaf], votes[node], tile[leaf - start]
            for j in range(k):
                mean[j] = (share * own[j] + sums[j]) * scale
        for j in range(k):
            column = means[j, start:end]
            for i in range(column.size):
                column[i] = tile[i, j]
    return means
