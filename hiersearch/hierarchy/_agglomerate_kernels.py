"""Compiled greedy merging of adjacent regions: a heap of edges, and rings of edges a region."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.hierarchy._graph_kernels import Numbers, scattered

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Labels = NDArray[np.int32]
Edges = NDArray[np.int32]

AVERAGE = 0
COMPLETE = 1
WARD = 2
MIX = 3
CUSTOM = 4

MERGED = 0
NOT_FINITE = 1


class LinkageForm(NamedTuple):
    """Which linkage, and what weighs in it."""

    code: int
    """AVERAGE, COMPLETE, WARD, MIX or CUSTOM."""
    weights: Floats
    """(3,) of MIX: of the distance of colours, of the other features, of the contrast."""
    split: int
    """How many features are colours; the others come after them."""


class RegionSums(NamedTuple):
    """What linkages look at of regions and of the edges between them; grows with merges."""

    sizes: Floats
    """(regions,) measure of each."""
    features: Floats
    """(regions, features) sums of features over each."""
    boundaries: Floats
    """(edges, 4) length of the boundary, sum of contrasts, least and largest contrast."""


class LiveEdges(NamedTuple):
    """Edges between regions that are being merged: rings for each region, a table, and a heap.

    Half-edges 2e and 2e + 1 are the sides of edge e at its first and its second region.
    """

    ends: Edges
    """(edges, 2) the regions that each joins; −1 first for one that is gone."""
    statistics: Floats
    """(edges, 4) what :func:`join` adds up of each."""
    rings: Numbers
    """(half-edges, 2) the next and the previous half-edge of the same region."""
    heads: Numbers
    """(regions,) one half-edge of each, −1: it has none."""
    degrees: Numbers
    """(regions,) number of edges of each."""
    table: Numbers
    """(a power of two,) 1 + edge, found by the regions that it joins; 0: free."""
    keys: Floats
    """(edges,) keys of the heap, four children a node."""
    items: Numbers
    """(edges,) the edge of each key."""
    place: Numbers
    """(edges,) where in the heap each edge is."""
    affected: Numbers
    """(edges,) edges whose keys are to be computed anew, as many as is said beside it."""


@compiled_part
def mean_distances(
    sizes: Floats, sums: Floats, one: int, other: int, split: int
) -> tuple[float, float]:
    """Return the squared Euclidean distance of the first ``split`` means and L1 of the others.

    A region without measure has no mean; it is at distance 0 from every other.
    """
    squared = 0.0
    absolute = 0.0
    if sizes[one] > 0.0 and sizes[other] > 0.0:
        scale_one = 1.0 / sizes[one]
        scale_other = 1.0 / sizes[other]
        for channel in range(sums.shape[1]):
            step = sums[one, channel] * scale_one - sums[other, channel] * scale_other
            if channel < split:
                squared += step * step
            else:
                absolute += abs(step)
    return squared, absolute


@compiled_part
def dissimilarity(
    form: LinkageForm,
    function: Callable[..., float] | None,
    regions: RegionSums,
    edge: int,
    one: int,
    other: int,
) -> float:
    """Return the linkage of two adjacent regions."""
    code, weights = form.code, form.weights
    sizes, sums, statistics = regions.sizes, regions.features, regions.boundaries
    if code == AVERAGE:
        return float(statistics[edge, 1] / statistics[edge, 0])
    if code == COMPLETE:
        return float(statistics[edge, 3])
    if function is not None:
        return function(
            sizes[one],
            sizes[other],
            sums[one],
            sums[other],
            statistics[edge, 0],
            statistics[edge, 1],
            statistics[edge, 2],
            statistics[edge, 3],
        )
    squared, absolute = mean_distances(sizes, sums, one, other, form.split)
    if code == WARD:
        total = sizes[one] + sizes[other]
        return float(sizes[one] * sizes[other] / total * squared) if total > 0.0 else 0.0
    mean_contrast = statistics[edge, 1] / statistics[edge, 0]
    return float(weights[0] * np.sqrt(squared) + weights[1] * absolute + weights[2] * mean_contrast)


@compiled_part
def settle(keys: Floats, items: Numbers, place: Numbers, count: int, position: int) -> None:
    """Move an entry of the heap, four children a node, to where its key belongs.

    Among equal keys the lower item is the smaller.
    """
    key = keys[position]
    item = items[position]
    while position > 0:
        above = (position - 1) >> 2
        if keys[above] < key or (keys[above] == key and items[above] < item):
            break
        keys[position] = keys[above]
        items[position] = items[above]
        place[items[position]] = position
        position = above
    # An entry that moved up is below all it has passed, so this ends at once.
    while 4 * position + 1 < count:
        below = 4 * position + 1
        for child in range(below + 1, min(below + 4, count)):
            if keys[child] < keys[below] or (
                keys[child] == keys[below] and items[child] < items[below]
            ):
                below = child
        if key < keys[below] or (key == keys[below] and item < items[below]):
            break
        keys[position] = keys[below]
        items[position] = items[below]
        place[items[position]] = position
        position = below
    keys[position] = key
    items[position] = item
    place[item] = position


@compiled_part
def remove(keys: Floats, items: Numbers, place: Numbers, count: int, item: int) -> int:
    """Take an item out of the heap and return how many remain."""
    count -= 1
    position = place[item]
    if position < count:
        keys[position] = keys[count]
        items[position] = items[count]
        settle(keys, items, place, count, position)
    return count


@compiled_part
def slot_of(table: Numbers, edges: Edges, one: int, other: int, n_leaves: int) -> int:
    """Return the position in the table of the edge between two regions, or of a free place.

    Entries whose edge has moved on since are passed over: its present ends do not match.
    """
    mask = table.shape[0] - 1
    slot = scattered(int(min(one, other)) * n_leaves + int(max(one, other)), mask)
    while table[slot] > 0:
        edge = table[slot] - 1
        if edges[edge, 0] == one and edges[edge, 1] == other:
            break
        if edges[edge, 0] == other and edges[edge, 1] == one:
            break
        slot = (slot + 1) & mask
    return slot


@compiled_part
def fill_table(table: Numbers, edges: Edges, n_leaves: int) -> int:
    """Enter all live edges into an emptied table and return how many there are."""
    count = 0
    for slot in range(table.shape[0]):
        table[slot] = 0
    for edge in range(edges.shape[0]):
        if edges[edge, 0] >= 0:
            slot = slot_of(table, edges, edges[edge, 0], edges[edge, 1], n_leaves)
            table[slot] = edge + 1
            count += 1
    return count


@compiled_part
def link_in(rings: Numbers, heads: Numbers, degrees: Numbers, region: int, half: int) -> None:
    """Put a half-edge into the ring of a region's half-edges (columns: next, previous)."""
    head = heads[region]
    if head < 0:
        heads[region] = half
        rings[half, 0] = half
        rings[half, 1] = half
    else:
        last = rings[head, 1]
        rings[last, 0] = half
        rings[half, 1] = last
        rings[half, 0] = head
        rings[head, 1] = half
    degrees[region] += 1


@compiled_part
def unlink(rings: Numbers, heads: Numbers, degrees: Numbers, region: int, half: int) -> None:
    """Take a half-edge out of its region's ring."""
    after = rings[half, 0]
    if after == half:
        heads[region] = -1
    else:
        before = rings[half, 1]
        rings[before, 0] = after
        rings[after, 1] = before
        if heads[region] == half:
            heads[region] = after
    degrees[region] -= 1


@compiled_part
def join(statistics: Floats, kept: int, dropped: int) -> None:
    """Add the boundary statistics of one edge to another's."""
    statistics[kept, 0] += statistics[dropped, 0]
    statistics[kept, 1] += statistics[dropped, 1]
    statistics[kept, 2] = min(statistics[kept, 2], statistics[dropped, 2])
    statistics[kept, 3] = max(statistics[kept, 3], statistics[dropped, 3])


@compiled_part
def move_edges(
    live: LiveEdges, heap: int, entries: int, gone: int, stays: int
) -> tuple[int, int, int]:
    """Hand all edges of one region to another; edges that become parallel go on as one.

    The lower edge number goes on, and is listed in ``affected``. Returns how many edges the heap
    holds, how many entries the table (both before: ``heap``, ``entries``), and how many edges are
    affected.
    """
    # Fields are looked up once: a loop that does it again and again is many times slower.
    edges, statistics, rings, heads = live.ends, live.statistics, live.rings, live.heads
    degrees, table, affected = live.degrees, live.table, live.affected
    keys, items, place = live.keys, live.items, live.place
    n_leaves = heads.shape[0]
    n_affected = 0
    half = heads[gone]
    for _ in range(degrees[gone]):
        following = rings[half, 0]
        kept = half >> 1
        neighbour = edges[kept, 1 - (half & 1)]
        slot = slot_of(table, edges, stays, neighbour, n_leaves)
        parallel = table[slot] - 1
        if parallel >= 0:
            # The lower number goes on: `half` becomes the half-edge of what is kept.
            dropped = max(kept, parallel)
            kept = min(kept, parallel)
            join(statistics, kept, dropped)
            affected[n_affected] = kept
            n_affected += 1
            side = 0 if edges[dropped, 0] == neighbour else 1
            unlink(rings, heads, degrees, neighbour, 2 * dropped + side)
            if kept != parallel:
                side = 0 if edges[parallel, 0] == stays else 1
                unlink(rings, heads, degrees, stays, 2 * parallel + side)
            edges[dropped, 0] = -1
            heap = remove(keys, items, place, heap, int(np.int64(dropped)))
        if kept != parallel:
            edges[kept, half & 1] = stays
            link_in(rings, heads, degrees, stays, int(np.int64(half)))
            if table[slot] == 0:
                entries += 1
            table[slot] = kept + 1
            if 5 * entries > 3 * table.shape[0]:
                entries = fill_table(table, edges, n_leaves)
        half = following
    return heap, entries, n_affected


@compiled
def agglomerate(
    edges: Edges,
    regions: RegionSums,
    form: LinkageForm,
    function: Callable[..., float] | None,
    numbers: Numbers,
) -> tuple[int, int, int, int, Ids, Floats]:
    """Return (status, merges, one node, other node, parents, altitudes); arguments are used up.

    The live edge with the least (dissimilarity, edge number) is merged, where edges that become
    parallel go on under the lower number. The region with fewer edges moves its edges to the
    other's ring, so that an edge moves O(log n) times; the table finds parallel edges. Half-edges,
    two an edge, are numbered in the type of ``numbers``, an empty array. Conversions to int64 in
    calls spare the compilation of the callee for a second type.
    """
    sizes, sums = regions.sizes, regions.features
    n_leaves = sizes.shape[0]
    n_edges = edges.shape[0]
    n_nodes = 2 * n_leaves - 1
    parents = np.empty(n_nodes, dtype=np.int64)
    altitudes = np.zeros(n_nodes)
    node_of = np.empty(n_leaves, dtype=np.int64)
    heads = np.empty(n_leaves, dtype=numbers.dtype)
    degrees = np.zeros(n_leaves, dtype=numbers.dtype)
    for leaf in range(n_leaves):
        node_of[leaf] = leaf
        heads[leaf] = -1
    parents[n_nodes - 1] = n_nodes - 1

    # Equal keys in the order of the items are a heap; all edges wait for their first key.
    keys = np.empty(n_edges)
    items = np.empty(n_edges, dtype=numbers.dtype)
    place = np.empty(n_edges, dtype=numbers.dtype)
    affected = np.empty(n_edges, dtype=numbers.dtype)
    rings = np.empty((2 * n_edges, 2), dtype=numbers.dtype)
    for edge in range(n_edges):
        keys[edge] = np.inf
        items[edge] = edge
        place[edge] = edge
        affected[edge] = edge
        link_in(rings, heads, degrees, edges[edge, 0], 2 * edge)
        link_in(rings, heads, degrees, edges[edge, 1], 2 * edge + 1)
    heap = n_edges
    n_affected = n_edges
    capacity = 16
    while capacity < 4 * n_edges:
        capacity *= 2
    table = np.empty(capacity, dtype=numbers.dtype)
    entries = fill_table(table, edges, n_leaves)
    # Only these linkages look at the regions; the others change where edges are joined.
    regional = form.code >= WARD
    live = LiveEdges(
        edges, regions.boundaries, rings, heads, degrees, table, keys, items, place, affected
    )
    merges = 0
    while True:
        for index in range(n_affected):
            edge = affected[index]
            one = edges[edge, 0]
            other = edges[edge, 1]
            if node_of[one] > node_of[other]:
                one, other = other, one
            key = dissimilarity(form, function, regions, edge, one, other)
            if not abs(key) < np.inf:
                return NOT_FINITE, merges, node_of[one], node_of[other], parents, altitudes
            keys[place[edge]] = key
            settle(keys, items, place, heap, place[edge])

        if heap == 0:
            return MERGED, merges, 0, 0, parents, altitudes
        edge = items[0]
        node = n_leaves + merges
        altitudes[node] = keys[0]
        heap = remove(keys, items, place, heap, int(np.int64(edge)))
        merges += 1

        gone = edges[edge, 0]
        stays = edges[edge, 1]
        if degrees[gone] > degrees[stays]:
            gone, stays = stays, gone
        parents[node_of[gone]] = node
        parents[node_of[stays]] = node
        node_of[stays] = node
        unlink(rings, heads, degrees, edges[edge, 0], 2 * edge)
        unlink(rings, heads, degrees, edges[edge, 1], 2 * edge + 1)
        edges[edge, 0] = -1
        sizes[stays] += sizes[gone]
        for channel in range(sums.shape[1]):
            sums[stays, channel] += sums[gone, channel]

        heap, entries, n_affected = move_edges(live, heap, entries, gone, stays)

        if regional:
            n_affected = degrees[stays]
            half = heads[stays]
            for index in range(n_affected):
                affected[index] = half >> 1
                half = rings[half, 0]
