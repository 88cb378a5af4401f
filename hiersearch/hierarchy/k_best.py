"""The k nearest distinct cuts of a merge tree, found lazily."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.hierarchy import _cut_kernels as kernels
from hiersearch.hierarchy.costs import RegionCosts
from hiersearch.hierarchy.cut_result import (
    Apart,
    CutResult,
    Target,
    finished,
    log10_cuts,
    prepared_costs,
)
from hiersearch.hierarchy.tree import MergeTree


def nearest_cuts(
    tree: MergeTree,
    target: Target,
    k: int,
    *,
    class_weight: float = 0.0,
    minimum_size: float = 0.0,
    apart: Apart = None,
) -> list[CutResult]:
    """Return the ``k`` nearest distinct cuts of the tree, nearest first; exact.

    Parameters
    ----------
    tree, target, class_weight, minimum_size, apart
        As in :func:`nearest_cut`.
    k : int
        How many; where the tree has fewer cuts, all of them come.

    Returns
    -------
    list of CutResult

    Raises
    ------
    ValueError, TypeError
        As :func:`nearest_cut`, and if ``k`` is not at least 1.

    Notes
    -----
    O(nodes) for the first, then O(depth · log) for each: only the subtrees along which the next
    cut differs are asked for their next best (the lazy k-best scheme of Huang & Chiang, 2005).

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> for result in nearest_cuts(tree, np.array([[0, 0, 1, 1]]), 5):
    ...     print(result.distance, result.nodes.tolist())
    0.0 [2, 3]
    0.125 [0, 1, 2]
    0.5 [4]
    """
    _validate.checked_count(k, "k", 1)
    costs = prepared_costs(tree, target, class_weight, minimum_size, apart)
    total = log10_cuts(tree, costs)
    if math.isinf(total):
        raise ValueError("constraints must allow a cut of the tree, got none")
    found = []
    for nodes in _cuts_in_order(tree, costs):
        found.append(finished(tree, costs, nodes, total))
        if len(found) == k:
            break
    return found


def _cuts_in_order(tree: MergeTree, costs: RegionCosts) -> Iterator[NDArray[np.int64]]:
    search = _LazyCuts(tree, costs)
    rank = 0
    while search.ensure(tree.root, rank):
        yield search.nodes(tree.root, rank)
        rank += 1


# An alternative of a node: (cost, None) for the node itself, (cost, ranks) for a combination of
# its children's cuts, one rank for each child.
_Alternative = tuple[float, tuple[int, ...] | None]

# A waiting alternative: cost, place of the rank raised last (-1 for the node itself), ranks.
_Candidate = tuple[float, int, tuple[int, ...]]


class _LazyCuts:
    """For each node asked about, its cuts in order of cost, as many as were needed so far.

    A node's cuts are itself and all combinations of its children's cuts. The combinations are
    enumerated from ranks (0, ..., 0): raising one rank at a time, never one before the last raised
    place, reaches each combination once, and never a dearer one first.
    """

    def __init__(self, tree: MergeTree, costs: RegionCosts) -> None:
        self.costs = costs.costs
        self.n_leaves = tree.n_leaves
        self.offsets, self.children = tree.children()
        self.best, self.taken = kernels.best_below(tree.parents, costs.costs, tree.n_leaves)
        self.ranked: dict[int, list[_Alternative]] = {}
        self.waiting: dict[int, list[_Candidate]] = {}
        # The alternative settled last, while its successors are not yet among the waiting: they
        # need further cuts of the children, which must not be asked for before they are needed.
        self.unfollowed: dict[int, _Candidate] = {}

    def _children(self, node: int) -> list[int]:
        kids: list[int] = self.children[self.offsets[node] : self.offsets[node + 1]].tolist()
        return kids

    def _open(self, node: int) -> None:
        """Start a node's list with its first combination and itself."""
        self.ranked[node] = []
        heap: list[_Candidate] = []
        own = float(self.costs[node])
        if math.isfinite(own):
            # Rank order breaks ties: the node itself (no ranks) before combinations.
            heap.append((own, -1, ()))
        if node >= self.n_leaves:
            kids = self._children(node)
            cost = math.fsum(float(self.best[kid]) for kid in kids)
            if math.isfinite(cost):
                heap.append((cost, 0, (0,) * len(kids)))
        heapq.heapify(heap)
        self.waiting[node] = heap

    def _known(self, node: int, rank: int) -> bool:
        """Whether it is settled if the node has a cut of this rank, and which."""
        if node not in self.ranked:
            self._open(node)
        if len(self.ranked[node]) > rank:
            return True
        return not self.waiting[node] and node not in self.unfollowed

    def ensure(self, node: int, rank: int) -> bool:
        """Extend the node's list to ``rank`` if it has so many cuts; say whether it has.

        An explicit stack stands in for recursion, since trees may be deep.
        """
        stack = [(node, rank)]
        while stack:
            at, wanted = stack[-1]
            if self._known(at, wanted):
                stack.pop()
                continue
            if at in self.unfollowed:
                pending = self._follow(at)
                if pending:
                    stack.extend(pending)
                    continue
            if self.waiting[at]:
                candidate = heapq.heappop(self.waiting[at])
                cost, last, ranks = candidate
                self.ranked[at].append((cost, None if last < 0 else ranks))
                if last >= 0:
                    self.unfollowed[at] = candidate
        return len(self.ranked[node]) > rank

    def _follow(self, node: int) -> list[tuple[int, int]]:
        """Put the successors of the alternative settled last among the waiting.

        Returns the (child, rank) that must be settled before this can be done; none if it is done.
        """
        _, last, ranks = self.unfollowed[node]
        kids = self._children(node)
        raised = range(last, len(kids))
        pending = [
            (kids[i], ranks[i] + 1) for i in raised if not self._known(kids[i], ranks[i] + 1)
        ]
        if pending:
            return pending
        del self.unfollowed[node]
        for i in raised:
            if len(self.ranked[kids[i]]) > ranks[i] + 1:
                successor = (*ranks[:i], ranks[i] + 1, *ranks[i + 1 :])
                costs = [self._cost(kid, r) for kid, r in zip(kids, successor, strict=True)]
                heapq.heappush(self.waiting[node], (math.fsum(costs), i, successor))
        return []

    def _cost(self, node: int, rank: int) -> float:
        """Cost of a settled cut; of rank 0, also where the node was never asked."""
        listed = self.ranked.get(node, [])
        return listed[rank][0] if rank < len(listed) else float(self.best[node])

    def nodes(self, node: int, rank: int) -> NDArray[np.int64]:
        """Return the node ids of a settled cut, ascending."""
        found: list[int] = []
        stack = [(node, rank)]
        while stack:
            at, r = stack.pop()
            if at < self.n_leaves:
                found.append(at)
                continue
            if at not in self.ranked or r >= len(self.ranked[at]):
                # Only rank 0 may be asked of a node that was never opened: its best cut.
                if self.taken[at]:
                    found.append(at)
                else:
                    stack.extend((kid, 0) for kid in self._children(at))
                continue
            ranks = self.ranked[at][r][1]
            if ranks is None:
                found.append(at)
            else:
                stack.extend(zip(self._children(at), ranks, strict=True))
        return np.sort(np.array(found, np.int64))
