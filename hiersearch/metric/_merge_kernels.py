"""Compiled functions of distances to a hierarchy's co-memberships."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled


@compiled
def leaf_order(
    parents: NDArray[np.int64], n_leaves: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay leaves out depth-first: the place of each leaf, and what joins each place to the next.

    Returns (leaves,) places, and (leaves − 1,) the lowest common ancestor of the leaves at places
    i and i + 1. Since parents lie above their children, that of places i < j is the largest of
    those between. O(nodes).
    """
    n_nodes = parents.size
    counts = np.zeros(n_nodes, np.int64)
    counts[:n_leaves] = 1
    for node in range(n_nodes - 1):
        counts[parents[node]] += counts[node]
    starts = np.zeros(n_nodes, np.int64)
    filled = np.zeros(n_nodes, np.int64)
    joins = np.zeros(max(n_leaves - 1, 0), np.int64)
    for node in range(n_nodes - 2, -1, -1):
        parent = parents[node]
        starts[node] = starts[parent] + filled[parent]
        if filled[parent] > 0:
            joins[starts[node] - 1] = parent
        filled[parent] += counts[node]
    return starts[:n_leaves].copy(), joins


@compiled
def joined_sum(
    masses: NDArray[np.float64],
    first: NDArray[np.int64],
    order: NDArray[np.int64],
    ancestors: NDArray[np.int64],
    gains: NDArray[np.float64],
) -> float:
    """Return Σ over ordered pairs of entries of mass · mass · gain of their common ancestor.

    Parameters
    ----------
    masses : (entries,)
        Measure of each entry, of one region and one leaf, in the order of regions and places.
    first : (pairs,)
        The entry before each boundary within a region.
    order : (pairs,)
        The boundaries, those with the lowest ancestors first.
    ancestors : (pairs,)
        The common ancestor of both sides of each boundary.
    gains : (nodes,)
        What an ordered pair of pixels costs that a node joins; −1 within leaves.
    """
    n = masses.size
    leader = np.arange(n)
    mass = masses.copy()
    total = 0.0
    for entry in range(n):
        total -= masses[entry] * masses[entry]
    for at in order:
        one, other = first[at], first[at] + 1
        while leader[one] != one:
            leader[one] = leader[leader[one]]
            one = leader[one]
        while leader[other] != other:
            leader[other] = leader[leader[other]]
            other = leader[other]
        total += 2.0 * mass[one] * mass[other] * gains[ancestors[at]]
        leader[other] = one
        mass[one] += mass[other]
    return total
