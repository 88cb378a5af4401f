"""Compiled costs of regions whose target is a hierarchy's co-memberships."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.hierarchy._tree_kernels import common_ancestor


class Entries(NamedTuple):
    """Where the leaves of the tree that is cut meet those of the target's tree."""

    ends: NDArray[np.int64]
    """(leaves + 1,) the entries of each leaf of the tree that is cut, in depth-first order."""
    leaves: NDArray[np.int64]
    """(entries,) leaf of the target's tree."""
    masses: NDArray[np.float64]
    """(entries,) measure of what both share."""


class Paths(NamedTuple):
    """Heavy paths of the target's tree, each laid out from its top down."""

    heads: NDArray[np.int64]
    """(nodes,) topmost node of each node's path."""
    places: NDArray[np.int64]
    """(nodes,) place of each node."""
    steps: NDArray[np.float64]
    """(nodes + 1,) sums, up to each place, of how much more a pair costs at a node than above."""


@compiled
def path_places(parents: NDArray[np.int64], heads: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lay the heavy paths out one after the other, each from its top down. O(nodes)."""
    n_nodes = parents.size
    lengths = np.zeros(n_nodes, np.int64)
    for node in range(n_nodes):
        lengths[heads[node]] += 1
    places = np.zeros(n_nodes, np.int64)
    begin = 0
    for node in range(n_nodes - 1, -1, -1):
        if heads[node] == node:
            places[node] = begin
            begin += lengths[node]
        else:
            places[node] = places[parents[node]] + 1
    return places


@compiled_part
def _tree_add(sums: NDArray[np.float64], place: int, value: float) -> None:
    at = place + 1
    while at < sums.size:
        sums[at] += value
        at += at & -at


@compiled_part
def _tree_sum(sums: NDArray[np.float64], place: int) -> float:
    """Sum of the values before a place."""
    total = 0.0
    at = place
    while at > 0:
        total += sums[at]
        at -= at & -at
    return total


@compiled_part
def _weighted(
    counts: NDArray[np.float64], moved: NDArray[np.float64], steps: NDArray[np.float64], place: int
) -> float:
    """Σ over places before ``place`` of step · mass there."""
    total: float = steps[place] * _tree_sum(counts, place) - _tree_sum(moved, place)
    return total


@compiled
def costs_of_other_tree(
    parents: NDArray[np.int64],
    order: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    entries: Entries,
    target_parents: NDArray[np.int64],
    paths: Paths,
) -> NDArray[np.float64]:
    """Costs of the nodes of a tree, Σ over ordered pairs of pixels inside of 1 − 2 C.

    Along each heavy path of the tree, leaves are put in from its bottom up; what a leaf adds is
    read off the masses that are in already under each node of the target's tree that lies above
    it. ``order`` is ``child_order`` of the tree with its numbers of leaves.
    O(entries · log entries · log² nodes).
    """
    offsets, children, starts = order
    n_nodes = parents.size
    target_root = target_parents.size - 1
    counts = np.zeros(target_parents.size + 2)
    moved = np.zeros(target_parents.size + 2)
    costs = np.zeros(n_nodes)
    leaves_under = np.zeros(n_nodes, np.int64)
    for node in range(n_nodes):
        if offsets[node] == offsets[node + 1]:
            leaves_under[node] = 1
        if node < n_nodes - 1:
            leaves_under[parents[node]] += leaves_under[node]
    heads, places, steps = paths.heads, paths.places, paths.steps
    for top in range(n_nodes - 1, -1, -1):
        is_head = top == n_nodes - 1 or children[offsets[parents[top]]] != top
        if not is_head:
            continue
        bottom = top
        while offsets[bottom] < offsets[bottom + 1]:
            bottom = children[offsets[bottom]]
        cost = 0.0
        node = bottom
        end = starts[bottom] + 1
        while True:
            # What is new under this node lies before what was there: the heaviest child is last.
            for e in range(entries.ends[starts[node]], entries.ends[end]):
                mass, leaf = entries.masses[e], entries.leaves[e]
                beside = 0.0
                at = leaf
                while True:
                    head = heads[at]
                    begin, place = places[head], places[at] + 1
                    beside += _weighted(counts, moved, steps, place)
                    beside -= _weighted(counts, moved, steps, begin)
                    _tree_add(counts, begin, mass)
                    _tree_add(moved, begin, mass * steps[begin])
                    _tree_add(counts, place, -mass)
                    _tree_add(moved, place, -mass * steps[place])
                    if head == target_root:
                        break
                    at = target_parents[head]
                cost += 2.0 * mass * beside - mass * mass
            costs[node] = cost
            end = starts[node]
            if node == top:
                break
            node = parents[node]
        for e in range(entries.ends[starts[top]], entries.ends[starts[top] + leaves_under[top]]):
            mass, at = entries.masses[e], entries.leaves[e]
            while True:
                head = heads[at]
                begin, place = places[head], places[at] + 1
                _tree_add(counts, begin, -mass)
                _tree_add(moved, begin, -mass * steps[begin])
                _tree_add(counts, place, mass)
                _tree_add(moved, place, mass * steps[place])
                if head == target_root:
                    break
                at = target_parents[head]
    return costs


@compiled
def ancestors_of_pairs(
    parents: NDArray[np.int64],
    heads: NDArray[np.int64],
    one: NDArray[np.int32],
    other: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Return the lowest common ancestors of pairs of leaves. O(pairs · log nodes)."""
    found = np.empty(one.size, np.int64)
    for pair in range(one.size):
        if one[pair] == other[pair]:
            found[pair] = one[pair]
        else:
            found[pair] = common_ancestor(parents, heads, one[pair], other[pair])
    return found
