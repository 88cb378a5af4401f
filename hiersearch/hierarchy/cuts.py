"""Searches for the one nearest cut of a merge tree: horizontal, any, constrained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.device.choice import resolved
from hiersearch.hierarchy import _cut_kernels as kernels
from hiersearch.hierarchy import device_trees as trees
from hiersearch.hierarchy._tree_kernels import running_maximum, topmost
from hiersearch.hierarchy.curve import nearest_cuts_by_regions
from hiersearch.hierarchy.cut_result import (
    Apart,
    CutResult,
    Target,
    finished,
    log10_cuts,
    prepared_costs,
)
from hiersearch.hierarchy.tree import MergeTree


@dataclass(frozen=True, slots=True, eq=False)
class HorizontalCurve:
    """All horizontal cuts of a tree, from the leaves to the root."""

    altitudes: NDArray[np.float64]
    """(cuts,) altitude at which each cut begins; the first is −inf, the leaves."""
    regions: NDArray[np.int64]
    """(cuts,) number of regions of each."""
    distances: NDArray[np.float64]
    """(cuts,) normalised distance of each; +inf where a constraint is broken."""


def horizontal_curve(
    tree: MergeTree,
    target: Target,
    *,
    class_weight: float = 0.0,
    minimum_size: float = 0.0,
    apart: Apart = None,
    device: str | None = "cpu",
) -> HorizontalCurve:
    """Distance of every horizontal cut, in one sweep over the thresholds.

    Parameters
    ----------
    tree, target, class_weight, minimum_size, apart
        As in :func:`nearest_cut`.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        What does the costs and the sweep. A GPU's distances are the CPU's bit for bit for hard
        targets whose measure is of integers; else they differ by at most
        (pixels + nodes + channels) · 2^-50 more than the costs do.

    Returns
    -------
    HorizontalCurve
        One entry for each distinct cut; altitudes are those of :meth:`MergeTree.monotone`.

    Notes
    -----
    O(nodes log nodes) after the costs.

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> curve = horizontal_curve(tree, np.array([[0, 0, 1, 1]]))
    >>> curve.regions.tolist(), curve.distances.tolist()
    ([3, 2, 1], [0.125, 0.0, 0.5])
    """
    costs = prepared_costs(tree, target, class_weight, minimum_size, apart, device)
    heights = _inner_running_maximum(tree)[tree.n_leaves :]
    begins, regions, totals, faults = _swept(tree, heights, costs.costs, device)
    distances = np.maximum(0.0, (costs.constant + totals) / costs.scale)
    return HorizontalCurve(begins, regions, np.where(faults > 0, np.inf, distances))


def _swept(
    tree: MergeTree, heights: NDArray[np.float64], costs: NDArray[np.float64], device: str | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Begin, regions, summed costs and forbidden regions of all cuts, the leaves first."""
    n_leaves = tree.n_leaves
    where = resolved(device, trees.work_of_sweep(tree.n_nodes))
    if not where.on_kernels:
        return trees.swept_levels(tree.parents, heights, costs, n_leaves, where)
    order = np.argsort(heights, kind="stable")
    levels = heights[order]
    # Merging a node's children into it changes regions, cost and broken constraints by fixed
    # amounts; forbidden nodes are counted apart, since infinities don't cancel.
    broken = np.isinf(costs)
    changes = []
    for values in (np.ones(tree.n_nodes), np.where(broken, 0.0, costs), broken.astype(np.float64)):
        of_children = np.bincount(
            tree.parents[: tree.root], weights=values[: tree.root], minlength=tree.n_nodes
        )
        steps = (values - of_children)[n_leaves:][order]
        changes.append(np.cumsum(np.concatenate([[values[:n_leaves].sum()], steps])))
    # Of the merges at one altitude only the last ends in a horizontal cut.
    last = np.append(np.flatnonzero(np.diff(levels)), levels.size - 1)[: levels.size] + 1
    cuts = np.concatenate([[0], last])
    regions, totals, faults = (values[cuts] for values in changes)
    begins = np.concatenate([[-np.inf], levels[last - 1]])
    return begins, np.rint(regions).astype(np.int64), totals, np.rint(faults).astype(np.int64)


def _inner_running_maximum(tree: MergeTree) -> NDArray[np.float64]:
    """Largest altitude of a merge at or under each node; −inf at leaves."""
    altitudes = tree.altitudes.copy()
    altitudes[: tree.n_leaves] = -np.inf
    return running_maximum(tree.parents, altitudes)


def nearest_horizontal_cut(
    tree: MergeTree,
    target: Target,
    *,
    class_weight: float = 0.0,
    minimum_size: float = 0.0,
    apart: Apart = None,
    device: str | None = "cpu",
) -> CutResult:
    """Nearest of the tree's horizontal cuts (thresholds of altitude); exact.

    Parameters
    ----------
    tree, target, class_weight, minimum_size, apart
        As in :func:`nearest_cut`.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        As in :func:`horizontal_curve`; of cuts whose distances differ by rounding alone, another
        one may be found.

    Returns
    -------
    CutResult
        Of equally near cuts, the one with fewest regions.

    Raises
    ------
    ValueError
        As :func:`nearest_cut`; also if no horizontal cut meets the constraints.

    Notes
    -----
    O(nodes log nodes) after the costs.

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> nearest_horizontal_cut(tree, np.array([[0, 0, 1, 1]]))
    <CutResult: distance 0, 2 regions, best of 3>
    """
    costs = prepared_costs(tree, target, class_weight, minimum_size, apart, device)
    curve = horizontal_curve(tree, costs, device=device)
    if not np.isfinite(curve.distances).any():
        raise ValueError("constraints must allow a horizontal cut of the tree, got none")
    # Reversed, so that among equals the coarsest comes first.
    best = curve.distances.size - 1 - int(np.argmin(curve.distances[::-1]))
    altitude = float(curve.altitudes[best])
    allowed = int(np.isfinite(curve.distances).sum())
    nodes = tree.horizontal_cut(altitude)
    return finished(tree, costs, nodes, math.log10(allowed), altitude)


def nearest_cut(
    tree: MergeTree,
    target: Target,
    *,
    class_weight: float = 0.0,
    minimum_size: float = 0.0,
    apart: Apart = None,
    n_regions: int | None = None,
    device: str | None = "cpu",
) -> CutResult:
    """Nearest to ``target`` of *all* cuts of the tree; exact.

    Parameters
    ----------
    tree : MergeTree
        The hierarchy.
    target : Partition, SoftPartition, integer array or RegionCosts
        What to come near to, on the tree's grid.
    class_weight : float
        λ of the class property term; see :func:`region_costs`.
    minimum_size : float
        Smallest size of a region, in the unit of ``tree.sizes`` (pixels, or measure).
    apart : integer array on the grid, or pairs of pixels, optional
        Regions must not hold two different non-zero markers, or both pixels of a pair.
    n_regions : int, optional
        The exact number of regions; any where omitted.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        What does the costs, see :func:`region_costs`; the pass over the tree is the CPU's.

    Returns
    -------
    CutResult
        Of equally near cuts, the one with fewest regions.

    Raises
    ------
    ValueError
        If grids differ, constraints can't be met, ``n_regions`` is out of range, or there is no
        such device.
    TypeError
        If an argument is of the wrong type.

    Notes
    -----
    best(R) = min(c(R), Σ best(children)) in one pass, O(nodes), after the costs; with ``n_regions``
    O(leaves · n_regions), see :func:`nearest_cuts_by_regions`. Source: Guigues,
    Cocquerez & Le Men, "Scale-sets image analysis", IJCV 2006.

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> result = nearest_cut(tree, np.array([[7, 7, 9, 9]]))
    >>> result, result.nodes.tolist(), result.labels.tolist()
    (<CutResult: distance 0, 2 regions, best of 3>, [2, 3], [[1, 1, 0, 0]])
    """
    costs = prepared_costs(tree, target, class_weight, minimum_size, apart, device)
    n_leaves = tree.n_leaves
    if n_regions is not None:
        _validate.checked_count(n_regions, "n_regions", 1, n_leaves)
        return nearest_cuts_by_regions(tree, costs, n_regions).cut(n_regions)
    best, taken = kernels.best_below(tree.parents, costs.costs, n_leaves)
    if not np.isfinite(best[tree.root]):
        raise ValueError("constraints must allow a cut of the tree, got none")
    nodes = topmost(tree.parents, taken)
    return finished(tree, costs, nodes, log10_cuts(tree, costs))
