"""Kernels that search the cuts of a merge tree, given an additive cost of each region.

Trees come as ``parents`` (n_nodes,), parents[i] > i, root its own parent; leaves first. Costs are
float64, +inf for a node that must not be a region.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part


@compiled
def best_below(
    parents: NDArray[np.int64], costs: NDArray[np.float64], n_leaves: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cost of the best cut of each node's subtree, and whether it is the node itself.

    Of equal costs the node itself wins: fewer regions. +inf where no cut is allowed. O(nodes).
    """
    n_nodes = parents.size
    best = np.zeros(n_nodes)
    taken = np.empty(n_nodes, np.bool_)
    for node in range(n_nodes):
        own = costs[node]
        if node < n_leaves or own <= best[node]:
            taken[node] = True
            best[node] = own
        else:
            taken[node] = False
        if node != n_nodes - 1:
            best[parents[node]] += best[node]
    return best, taken


@compiled
def log_counts(
    parents: NDArray[np.int64], allowed: NDArray[np.bool_], n_leaves: int
) -> NDArray[np.float64]:
    """Natural logarithm of the number of allowed cuts of each node's subtree. O(nodes)."""
    n_nodes = parents.size
    counts = np.zeros(n_nodes)
    for node in range(n_nodes):
        if node < n_leaves:
            counts[node] = 0.0 if allowed[node] else -np.inf
        elif allowed[node]:
            below = counts[node]
            # log(1 + e^below) without overflow; below is a logarithm of a count, so >= 0 or -inf.
            counts[node] = below + np.log1p(np.exp(-below)) if below >= 0 else 0.0
        if node != n_nodes - 1:
            counts[parents[node]] += counts[node]
    return counts


@compiled
def choice_layout(
    offsets: NDArray[np.int64], children: NDArray[np.int64], leaves: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], int]:
    """Where ``tables_by_regions`` writes the splits of each light child, and how many in all."""
    n_nodes = leaves.size
    places = np.zeros(n_nodes, np.int64)
    total = 0
    for node in range(n_nodes):
        if offsets[node] == offsets[node + 1]:
            continue
        together = leaves[children[offsets[node]]]
        for c in range(offsets[node] + 1, offsets[node + 1]):
            light = children[c]
            together += leaves[light]
            if leaves[light] > 1:
                places[light] = total
                total += min(most, together)
    return places, total


@compiled
def tables_by_regions(
    costs: NDArray[np.float64],
    offsets: NDArray[np.int64],
    children: NDArray[np.int64],
    starts: NDArray[np.int64],
    leaves: NDArray[np.int64],
    most: int,
    places: NDArray[np.int64],
    choices: NDArray[Any],
    counting: bool,
) -> NDArray[np.float64]:
    """Best cost of the tree cut into 1, 2, ..., ``most`` regions, by min-plus convolution.

    The table of a node is kept inside its own range of one buffer with a slot for each leaf
    (``child_order`` with weight 1 a leaf): entry j stands for j + 1 regions, relative to the
    node's shift. Joining a single leaf then only moves the shift and puts the node's own cost in
    front of its sibling's table, O(1). Otherwise O(min(most, a) · min(most, b)) for a and b
    leaves: O(leaves · most) in all. For every light child of several leaves the number of its
    regions in each best split, less one, is written to ``choices`` at ``places``.

    With ``counting`` and costs of 0 (or +inf) the sum −log(e^−a + e^−b) replaces the minimum: the
    tables are then minus the logarithms of the numbers of cuts, and no choices are written.
    """
    n_nodes = costs.size
    buffer = np.empty(leaves[n_nodes - 1])
    position = np.empty(n_nodes, np.int64)
    shift = np.zeros(n_nodes)
    length = np.ones(n_nodes, np.int64)
    joined = np.empty(most + 1)
    split = np.empty(most + 1, choices.dtype)
    for node in range(n_nodes):
        position[node] = starts[node]
        if offsets[node] == offsets[node + 1]:
            buffer[starts[node]] = costs[node]
            continue
        heavy = children[offsets[node]]
        at = position[heavy]
        count = length[heavy]
        moved = shift[heavy]
        fewest = 1
        possible = True
        for c in range(offsets[node] + 1, offsets[node + 1]):
            light = children[c]
            first = position[light]
            fewest += 1
            if leaves[light] == 1:
                # Entry j of the heavy table stands for one region more from now on.
                own = buffer[first]
                possible &= not np.isinf(own)
                moved += own
                count = min(count, most - fewest + 1)
                continue
            size = min(length[light] + count - 1, most - fewest + 1)
            for j in range(size):
                joined[j] = np.inf
                split[j] = 0
            for i in range(min(length[light], size)):
                extra = buffer[first + i]
                if counting:
                    for j in range(min(count, size - i)):
                        value = extra + buffer[at + j]
                        low = min(value, joined[i + j])
                        high = max(value, joined[i + j])
                        if not np.isinf(low):
                            joined[i + j] = low - np.log1p(np.exp(low - high))
                else:
                    for j in range(min(count, size - i)):
                        value = extra + buffer[at + j]
                        better = value < joined[i + j]
                        joined[i + j] = value if better else joined[i + j]
                        split[i + j] = i if better else split[i + j]
            moved += shift[light]
            at = starts[light] + fewest - 1
            for j in range(size):
                buffer[at + j] = joined[j]
                if not counting:
                    choices[places[light] + j] = split[j]
            count = size
        if not possible or count <= 0:
            buffer[starts[node]] = costs[node]
            continue
        # In front: the node as one region, then the numbers of regions that no split reaches.
        for j in range(fewest - 1):
            buffer[at - 1 - j] = np.inf
        at -= fewest - 1
        buffer[at] = costs[node] - moved
        position[node] = at
        shift[node] = moved
        length[node] = min(most, count + fewest - 1)
    root = n_nodes - 1
    table: NDArray[np.float64] = buffer[position[root] : position[root] + length[root]]
    return table + np.float64(shift[root])


@compiled
def cut_by_regions(
    regions: int,
    offsets: NDArray[np.int64],
    children: NDArray[np.int64],
    leaves: NDArray[np.int64],
    places: NDArray[np.int64],
    choices: NDArray[Any],
) -> NDArray[np.int64]:
    """Follow the choices of ``tables_by_regions`` down from the root. O(nodes visited).

    Empty where they tell of no such cut, as of other tables.
    """
    nodes = np.empty(regions, np.int64)
    filled = 0
    stack = [(leaves.size - 1, regions)]
    while len(stack) > 0:
        node, wanted = stack.pop()
        if wanted < 1 or wanted > leaves[node]:
            return nodes[:0]
        if wanted == 1:
            nodes[filled] = node
            filled += 1
            continue
        for c in range(offsets[node + 1] - 1, offsets[node], -1):
            light = children[c]
            own = 1
            if leaves[light] > 1:
                place = places[light] + wanted - (c - offsets[node] + 1)
                if place < 0 or place >= choices.size:
                    return nodes[:0]
                own = int(np.int64(choices[place])) + 1
            stack.append((light, own))
            wanted -= own
        stack.append((children[offsets[node]], wanted))
    return np.sort(nodes[:filled])


@compiled_part
def _melt(
    a: int,
    b: int,
    keys: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> int:
    """Join two skew heaps (largest key on top; -1 is empty) and return the new top."""
    if a < 0:
        return b
    if b < 0:
        return a
    if keys[a] < keys[b]:
        a, b = b, a
    top = a
    # Walk down the right spine; each node passed swaps its children, as skew heaps do.
    while True:
        below = right[a]
        right[a] = left[a]
        if below < 0:
            left[a] = b
            return top
        if keys[below] < keys[b]:
            below, b = b, below
        left[a] = below
        a = below


@compiled
def scale_set(
    parents: NDArray[np.int64], costs: NDArray[np.float64], n_leaves: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Best cuts under cost + price · regions for every price at once.

    The optimum of a subtree as a function of the price is concave and piecewise linear; its
    breakpoints are kept in a mergeable heap, the largest price on top. A node replaces its
    subtree's optimum from the price on where the two cross: the breakpoints above are dropped.
    O(nodes log nodes). Source: Guigues, Cocquerez & Le Men, "Scale-sets image analysis" (2006).

    Returns
    -------
    price of each node from which on it is the best cut of its own subtree (-inf for leaves, +inf
    where forbidden), and the vertices of the hull from few regions to many: the prices at which
    each begins, the numbers of regions, the costs.
    """
    n_nodes = parents.size
    prices = np.full(n_nodes, -np.inf)
    left = np.full(n_nodes, np.int64(-1))
    right = np.full(n_nodes, np.int64(-1))
    more_regions = np.zeros(n_nodes, np.int64)
    less_cost = np.zeros(n_nodes)
    heap = np.full(n_nodes, np.int64(-1))
    # The last piece (highest prices) of the optimum of the children together.
    slope = np.zeros(n_nodes, np.int64)
    level = np.zeros(n_nodes)
    for node in range(n_nodes):
        own = costs[node]
        if node < n_leaves or np.isinf(level[node]):
            heap[node] = -1
            slope[node] = 1
            level[node] = own
        elif np.isinf(own):
            prices[node] = np.inf
        else:
            top = heap[node]
            crossing = (own - level[node]) / (slope[node] - 1)
            while top >= 0 and prices[top] >= crossing:
                slope[node] += more_regions[top]
                level[node] += less_cost[top]
                top = _melt(left[top], right[top], prices, left, right)
                crossing = (own - level[node]) / (slope[node] - 1)
            prices[node] = crossing
            more_regions[node] = slope[node] - 1
            less_cost[node] = level[node] - own
            left[node] = top
            heap[node] = node
            slope[node] = 1
            level[node] = own
        if node != n_nodes - 1:
            parent = parents[node]
            slope[parent] += slope[node]
            level[parent] += level[node]
            heap[parent] = _melt(heap[parent], heap[node], prices, left, right)
    root = n_nodes - 1
    begin = np.empty(n_nodes)
    regions = np.empty(n_nodes, np.int64)
    totals = np.empty(n_nodes)
    count = 0
    top = heap[root]
    here = slope[root]
    total = level[root]
    while True:
        begin[count] = prices[top] if top >= 0 else -np.inf
        regions[count] = here
        totals[count] = total
        count += 1
        if top < 0:
            break
        here += more_regions[top]
        total += less_cost[top]
        top = _melt(left[top], right[top], prices, left, right)
    return prices, begin[:count], regions[:count], totals[:count]
