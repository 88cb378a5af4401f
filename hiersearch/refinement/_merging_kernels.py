"""Compiled greedy merging under the metric, and the sums over pairs of pixels that it needs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.hierarchy._agglomerate_kernels import (
    LiveEdges,
    fill_table,
    link_in,
    move_edges,
    remove,
    settle,
    unlink,
)
from hiersearch.hierarchy._graph_kernels import Numbers, scattered

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Labels = NDArray[np.int32]

# Columns of an edge's statistics; `join` adds the first two, keeps the least of the third and the
# largest of the last.
GAIN = 0
STAKE = 1
ALLOWED = 2
OPEN = 3


class MergingRegions(NamedTuple):
    """What merging looks at of regions; used up."""

    sizes: Floats
    """(regions,) measure of each."""
    offsets: Ids
    """(regions + 1,) where each region's row of channel sums begins, and where the last ends."""
    channels: Labels
    """(entries,) channel of each entry of the rows."""
    sums: Floats
    """(entries,) sum of that channel over the region."""
    n_channels: int
    """Number of channels; 0 where there are no memberships."""
    classes: Floats
    """(regions, classes) sums of classes over each; no columns where there are none."""
    groups: Labels
    """(regions,) regions of different groups > 0 never merge."""


class MergingGoal(NamedTuple):
    """What is minimised, and where to stop."""

    prices: Floats
    """(3,) of a pair of pixels, of a pixel under another class name, of a region."""
    by_mean: bool
    """Whether the change of the objective is divided by the weight at stake."""
    wanted: int
    """How many regions are to be left; 0: merge while the objective falls."""


@compiled
def pair_sums(
    leaf_map: Labels,
    sides: tuple[int, int, int],
    steps: Ids,
    values: NDArray[np.float32],
    weights: Floats,
    measure: Floats,
    n_regions: int,
    table: Numbers,
) -> tuple[Labels, Floats, int, Floats]:
    """Sum known pairs of pixels over the pairs of regions that they join.

    Returns ends (m, 2) with u < v; sums (m, 2) of w (2C − 1) and of w; m, or -1 if there are more
    than half of the places of ``table``, zeros, a power of two; and the totals of w (1 − 2C) over
    pairs inside regions, of w C and of w over all pairs.
    """
    depth, height, width = sides
    capacity = table.size
    ends = np.empty((capacity // 2, 2), dtype=np.int32)
    sums = np.empty((capacity // 2, 2))
    totals = np.zeros(3)
    weighted = measure.shape[0] > 0
    count = 0
    for d in range(steps.shape[0]):
        dz, dy, dx = steps[d, 0], steps[d, 1], steps[d, 2]
        jump = (dz * height + dy) * width + dx
        last_u = -1
        last_v = -1
        edge = 0
        for z in range(max(0, -dz), min(depth, depth - dz)):
            for y in range(max(0, -dy), min(height, height - dy)):
                start = (z * height + y) * width
                for pixel in range(start + max(0, -dx), start + min(width, width - dx)):
                    weight = weights[d]
                    if weighted:
                        weight *= measure[pixel] * measure[pixel + jump]
                    affinity = np.float64(values[d, pixel])
                    totals[1] += weight * affinity
                    totals[2] += weight
                    gain = weight * (2.0 * affinity - 1.0)
                    u = min(leaf_map[pixel], leaf_map[pixel + jump])
                    v = max(leaf_map[pixel], leaf_map[pixel + jump])
                    if u == v:
                        totals[0] -= gain
                        continue
                    if u != last_u or v != last_v:
                        slot = scattered(int(u) * n_regions + v, capacity - 1)
                        edge = table[slot] - 1
                        while edge >= 0 and (ends[edge, 0] != u or ends[edge, 1] != v):
                            slot = (slot + 1) & (capacity - 1)
                            edge = table[slot] - 1
                        if edge < 0:
                            if 2 * count == capacity:
                                return ends, sums, -1, totals
                            edge = count
                            count += 1
                            table[slot] = count
                            ends[edge, 0] = u
                            ends[edge, 1] = v
                            sums[edge, 0] = 0.0
                            sums[edge, 1] = 0.0
                        last_u = u
                        last_v = v
                    sums[edge, 0] += gain
                    sums[edge, 1] += weight
    return ends, sums, count, totals


@compiled_part
def largest_sum(classes: Floats, one: int, other: int) -> float:
    """Return the largest class sum of the union of two regions; of one if they are the same."""
    largest = 0.0
    for c in range(classes.shape[1]):
        value = classes[one, c]
        if other != one:
            value += classes[other, c]
        largest = max(largest, value)
    return largest


@compiled_part
def change_of(
    statistics: Floats,
    sizes: Floats,
    classes: Floats,
    prices: Floats,
    edge: int,
    one: int,
    other: int,
    product: float,
) -> tuple[float, float]:
    """Return how much merging changes the objective, and the weight of the pairs at stake.

    ``prices``: of a pair of pixels, of a pixel under another class name, of a region.
    ``product`` is Σ_j n_j,one n_j,other. Regions that must not merge change it by +inf.
    """
    pairs = 2.0 * prices[0] * sizes[one] * sizes[other]
    stake = pairs + statistics[edge, STAKE]
    if statistics[edge, ALLOWED] < 1.0 or statistics[edge, OPEN] < 1.0:
        return np.inf, stake
    change = pairs - 4.0 * prices[0] * product - statistics[edge, GAIN] - prices[2]
    if classes.shape[1] > 0:
        apart = largest_sum(classes, one, one) + largest_sum(classes, other, other)
        change += prices[1] * (apart - largest_sum(classes, one, other))
    return change, stake


@compiled
def merge(
    edges: Labels,
    statistics: Floats,
    regions: MergingRegions,
    goal: MergingGoal,
    numbers: Numbers,
) -> tuple[int, int, Ids, Floats]:
    """Return (merges before the stop, all merges, parents, changes of the objective).

    The live edge with the least (key, edge number) is merged, the key being the change of the
    objective, divided by the weight at stake if ``by_mean``. The stop is where no change is
    negative, or where ``wanted`` > 0 regions are left; merging goes on after it for the sake of the
    tree, while there are edges that may be merged. ``statistics`` (edges, 4) has the columns GAIN,
    STAKE, ALLOWED and OPEN; arguments are used up. Half-edges, two an edge, are numbered in the
    type of ``numbers``, an empty array.

    A region's row moves to the end of the pool when it has outgrown its room, which then doubles:
    entries move O(log) times. ``spread`` holds the row of one region at a time, by channel.
    """
    # Fields are looked up once: a loop that does it again and again is many times slower.
    sizes, offsets, channels, sums = regions.sizes, regions.offsets, regions.channels, regions.sums
    n_channels, classes, groups = regions.n_channels, regions.classes, regions.groups
    prices, by_mean, wanted = goal.prices, goal.by_mean, goal.wanted
    n_leaves = sizes.shape[0]
    n_edges = edges.shape[0]
    parents = np.empty(2 * n_leaves, dtype=np.int64)
    changes = np.zeros(2 * n_leaves)
    for node in range(2 * n_leaves):
        parents[node] = -1
    node_of = np.empty(n_leaves, dtype=np.int64)
    heads = np.empty(n_leaves, dtype=numbers.dtype)
    degrees = np.zeros(n_leaves, dtype=numbers.dtype)
    begin = np.empty(n_leaves, dtype=np.int64)
    length = np.empty(n_leaves, dtype=np.int64)
    room = np.empty(n_leaves, dtype=np.int64)
    for leaf in range(n_leaves):
        node_of[leaf] = leaf
        heads[leaf] = -1
        begin[leaf] = offsets[leaf]
        length[leaf] = offsets[leaf + 1] - offsets[leaf]
        room[leaf] = length[leaf]
    used = offsets[n_leaves]
    spread = np.zeros(n_channels)
    present = np.zeros(n_channels, dtype=np.int8)

    keys = np.empty(n_edges)
    items = np.empty(n_edges, dtype=numbers.dtype)
    place = np.empty(n_edges, dtype=numbers.dtype)
    affected = np.empty(n_edges, dtype=numbers.dtype)
    rings = np.empty((2 * n_edges, 2), dtype=numbers.dtype)
    for edge in range(n_edges):
        keys[edge] = np.inf
        items[edge] = edge
        place[edge] = edge
        link_in(rings, heads, degrees, edges[edge, 0], 2 * edge)
        link_in(rings, heads, degrees, edges[edge, 1], 2 * edge + 1)
    heap = n_edges
    capacity = 16
    while capacity < 4 * n_edges:
        capacity *= 2
    table = np.empty(capacity, dtype=numbers.dtype)
    entries = fill_table(table, edges, n_leaves)
    live = LiveEdges(edges, statistics, rings, heads, degrees, table, keys, items, place, affected)
    # Only memberships and classes look at whole regions; pair sums change where edges are joined.
    regional = n_channels > 0 or classes.shape[1] > 0
    merges = 0
    stop = -1
    fresh = 0
    stays = 0
    n_affected = 0
    while True:
        # At first every region's edges get their keys in turn, then those of the merged one.
        region = fresh if fresh < n_leaves else stays
        whole = regional or fresh < n_leaves
        count = degrees[region] if whole else n_affected
        half = heads[region]
        for i in range(begin[region], begin[region] + length[region]):
            spread[channels[i]] = sums[i]
        for index in range(count):
            edge = half >> 1 if whole else affected[index]
            if whole:
                half = rings[half, 0]
            one = edges[edge, 0]
            other = edges[edge, 1]
            neighbour = other if one == region else one
            product = 0.0
            for i in range(begin[neighbour], begin[neighbour] + length[neighbour]):
                product += spread[channels[i]] * sums[i]
            change, stake = change_of(
                statistics, sizes, classes, prices, int(edge), int(one), int(other), product
            )
            keys[place[edge]] = change / stake if by_mean and stake > 0.0 else change
            settle(keys, items, place, heap, place[edge])
        for i in range(begin[region], begin[region] + length[region]):
            spread[channels[i]] = 0.0
        if fresh < n_leaves:
            fresh += 1
            continue

        # Two regions of different groups stay apart for good: their edge is closed when it is due.
        while heap > 0 and keys[0] < np.inf:
            edge = items[0]
            one_group = groups[edges[edge, 0]]
            other_group = groups[edges[edge, 1]]
            if one_group == 0 or other_group == 0 or one_group == other_group:
                break
            statistics[edge, ALLOWED] = 0.0
            keys[0] = np.inf
            settle(keys, items, place, heap, place[edge])
        ended = heap == 0 or not keys[0] < np.inf
        if stop < 0 and (
            ended or (n_leaves - merges == wanted if wanted > 0 else not keys[0] < 0.0)
        ):
            stop = merges
        if ended:
            return stop, merges, parents, changes

        edge = items[0]
        gone = edges[edge, 0]
        stays = edges[edge, 1]
        key = keys[0]
        if by_mean:
            stake = 2.0 * prices[0] * sizes[gone] * sizes[stays] + statistics[edge, STAKE]
            key *= stake if stake > 0.0 else 1.0
        heap = remove(keys, items, place, heap, int(np.int64(edge)))
        node = n_leaves + merges
        changes[node] = key
        merges += 1
        if degrees[gone] > degrees[stays]:
            gone, stays = stays, gone
        parents[node_of[gone]] = node
        parents[node_of[stays]] = node
        node_of[stays] = node
        unlink(rings, heads, degrees, edges[edge, 0], 2 * edge)
        unlink(rings, heads, degrees, edges[edge, 1], 2 * edge + 1)
        edges[edge, 0] = -1
        sizes[stays] += sizes[gone]
        groups[stays] = max(groups[stays], groups[gone])
        for c in range(classes.shape[1]):
            classes[stays, c] += classes[gone, c]

        # The longer row goes on; what it lacks is appended to it.
        if length[gone] > length[stays]:
            begin[gone], begin[stays] = begin[stays], begin[gone]
            length[gone], length[stays] = length[stays], length[gone]
            room[gone], room[stays] = room[stays], room[gone]
        for i in range(begin[gone], begin[gone] + length[gone]):
            spread[channels[i]] = sums[i]
            present[channels[i]] = 1
        for i in range(begin[stays], begin[stays] + length[stays]):
            sums[i] += spread[channels[i]]
            present[channels[i]] = 0
        lacking = 0
        for i in range(begin[gone], begin[gone] + length[gone]):
            lacking += present[channels[i]]
        if length[stays] + lacking > room[stays]:
            room[stays] = 2 * (length[stays] + lacking)
            if used + room[stays] > channels.shape[0]:
                more = 2 * (used + room[stays])
                more_channels = np.empty(more, dtype=np.int32)
                more_sums = np.empty(more)
                for i in range(used):
                    more_channels[i] = channels[i]
                    more_sums[i] = sums[i]
                channels = more_channels
                sums = more_sums
            for i in range(length[stays]):
                channels[used + i] = channels[begin[stays] + i]
                sums[used + i] = sums[begin[stays] + i]
            begin[stays] = used
            used += room[stays]
        for i in range(begin[gone], begin[gone] + length[gone]):
            if present[channels[i]] == 1:
                channels[begin[stays] + length[stays]] = channels[i]
                sums[begin[stays] + length[stays]] = sums[i]
                length[stays] += 1
                present[channels[i]] = 0
            spread[channels[i]] = 0.0
        length[gone] = 0

        heap, entries, n_affected = move_edges(live, heap, entries, gone, stays)
