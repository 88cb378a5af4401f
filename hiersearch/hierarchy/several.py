"""Several hierarchies of one image, searched together for the nearest horizontal cut.

The horizontal cuts of one tree are a chain: for s finer than t, ρ(s, t) = S_t − S_s with S = Σ a²,
which costs nothing. So once the distances of two cuts to the target are known, the triangle
inequality bounds those of all cuts between them: at x they are at least ρ(s) − (S_x − S_s) and
ρ(t) − (S_t − S_x), and nowhere less than (ρ(s) + ρ(t) − (S_t − S_s)) / 2. The search looks at the
interval of the least bound first, of whatever tree, and stops when no bound is below the best.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.hierarchy.costs import (
    RegionCosts,
    channel_sums_of_leaves,
    leaf_counts,
    leaf_layout,
)
from hiersearch.hierarchy.cut_result import CutResult
from hiersearch.hierarchy.cuts import horizontal_curve, nearest_horizontal_cut
from hiersearch.hierarchy.tree import MergeTree, node_sizes
from hiersearch.metric.queries import float_measure
from hiersearch.partitions.inputs import PartitionLike, as_partition
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, Merges, SoftPartition

# Where leaves times channels are more, a tree is searched by its costs instead.
_LARGEST_TABLE = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class SeveralResult:
    """The nearest horizontal cut of several hierarchies."""

    tree: int
    """Which hierarchy it is a cut of."""
    cut: CutResult
    """The cut."""
    candidates: int
    """Horizontal cuts of all hierarchies together."""
    looked_at: int
    """How many of them had their distance computed; the chains' bounds ruled out the others."""


@dataclass(frozen=True, slots=True, eq=False)
class _Chain:
    """The horizontal cuts of one tree, from the leaves to the root."""

    altitudes: NDArray[np.float64]
    """(cuts,) altitude of each."""
    squares: NDArray[np.float64]
    """(cuts,) Σ a² of each, ascending."""
    distance: Callable[[int], float]
    """Return ρ of a cut, not divided."""


def nearest_of_hierarchies(trees: Sequence[MergeTree], target: PartitionLike) -> SeveralResult:
    """Find the horizontal cut nearest to a target among those of several hierarchies; exact.

    Parameters
    ----------
    trees : sequence of MergeTree
        On the target's grid.
    target : SoftPartition, Partition or integer array
        What to come near to; its measure counts.

    Returns
    -------
    SeveralResult
        Ties go to the first tree that was found to hold one.

    Raises
    ------
    ValueError, TypeError
        If there is no tree, grids differ, or the target is no partition.

    Notes
    -----
    O(k · pixels) a tree for the sums of its leaves, then O(nodes + k · regions) for each cut that
    is looked at. Affinities know no such chain bound here: all their cuts are looked at, in one
    sweep a tree.

    Examples
    --------
    >>> one = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> two = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1, 1, 1]])
    >>> found = nearest_of_hierarchies([two, one], np.array([[0, 0, 1, 1]]))
    >>> found.tree, found.cut.n_regions, found.cut.distance, found.candidates
    (1, 2, 0.0, 5)
    """
    goal = as_partition(target, "target")
    listed = list(trees)
    if not listed:
        raise ValueError("trees must hold at least one hierarchy, got none")
    for i, tree in enumerate(listed):
        if not isinstance(tree, MergeTree):
            raise TypeError(f"trees[{i}] must be a MergeTree, got {type(tree).__name__}")
        _validate.checked_same_grid(goal.grid, tree.grid, "target", f"trees[{i}]")
    if isinstance(goal, (Affinities, Merges)):
        return _by_sweeps(listed, goal)
    chains = [_chain(tree, goal) for tree in listed]
    scale = float(goal.total) ** 2
    best, place, looked_at = _search(chains)
    tree = listed[place[0]]
    altitude = float(chains[place[0]].altitudes[place[1]])
    candidates = sum(chain.squares.size for chain in chains)
    cut = CutResult(
        tree,
        tree.horizontal_cut(altitude),
        max(0.0, best) / scale,
        float(np.log10(candidates)),
        altitude,
    )
    return SeveralResult(place[0], cut, candidates, looked_at)


def _by_sweeps(trees: list[MergeTree], goal: Affinities | Merges) -> SeveralResult:
    found = [nearest_horizontal_cut(tree, goal) for tree in trees]
    candidates = round(sum(10.0**cut.log10_candidates for cut in found))
    nearest = min(range(len(found)), key=lambda i: found[i].distance)
    return SeveralResult(nearest, found[nearest], candidates, candidates)


def _search(chains: list[_Chain]) -> tuple[float, tuple[int, int], int]:
    """Return the least ρ, (chain, cut) where it is, and how many cuts were looked at."""
    best, place, looked_at = np.inf, (0, 0), 0
    order = itertools.count()
    heap: list[tuple[float, int, int, int, int, float, float]] = []

    def look(chain: int, cut: int) -> float:
        nonlocal best, place, looked_at
        distance = chains[chain].distance(cut)
        looked_at += 1
        if distance < best:
            best, place = distance, (chain, cut)
        return distance

    def push(chain: int, low: int, high: int, at_low: float, at_high: float) -> None:
        if high - low > 1:
            squares = chains[chain].squares
            bound = (at_low + at_high - (squares[high] - squares[low])) / 2
            heapq.heappush(heap, (bound, next(order), chain, low, high, at_low, at_high))

    for i, chain in enumerate(chains):
        last = chain.squares.size - 1
        ends = look(i, 0), look(i, last) if last else 0.0
        push(i, 0, last, *ends)
    while heap and heap[0][0] < best:
        _, _, i, low, high, at_low, at_high = heapq.heappop(heap)
        squares = chains[i].squares
        # The bounds from both ends meet here: the cut of the least bound.
        meeting = (squares[low] + squares[high] + at_low - at_high) / 2
        middle = int(np.searchsorted(squares[low + 1 : high], meeting)) + low + 1
        middle = min(max(middle, low + 1), high - 1)
        distance = look(i, middle)
        push(i, low, middle, at_low, distance)
        push(i, middle, high, distance, at_high)
    return best, place, looked_at


def _chain(tree: MergeTree, goal: Partition | SoftPartition) -> _Chain:
    measure = float_measure(goal)
    weights = measure if measure.size else None
    sizes = node_sizes(tree.parents, np.bincount(tree.leaf_map.reshape(-1), weights))
    # With a² as costs and nothing else the curve is Σ a².
    curve = horizontal_curve(tree, RegionCosts._unchecked(sizes * sizes, 0.0, 1.0, None))
    sums = channel_sums_of_leaves(tree, goal, _LARGEST_TABLE)
    if sums is None:
        whole = horizontal_curve(tree, goal)
        scale = float(sizes[tree.root]) ** 2
        return _Chain(
            curve.altitudes, curve.distances, lambda cut: float(whole.distances[cut]) * scale
        )
    # Depth-first, the leaves of every node are neighbours: a region's sums are a difference.
    _, _, starts = leaf_layout(tree)
    counts = leaf_counts(tree)
    prefix = np.zeros((tree.n_leaves + 1, sums.shape[1]))
    order = np.argsort(starts[: tree.n_leaves], kind="stable")
    np.cumsum(sums[order], axis=0, out=prefix[1:])
    constant = float(np.square(prefix[-1]).sum())

    def distance(cut: int) -> float:
        nodes = tree.horizontal_cut(float(curve.altitudes[cut]))
        shared = prefix[starts[nodes] + counts[nodes]] - prefix[starts[nodes]]
        return constant + float(curve.distances[cut]) - 2 * float(np.square(shared).sum())

    return _Chain(curve.altitudes, curve.distances, distance)
