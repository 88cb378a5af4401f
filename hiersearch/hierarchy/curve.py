"""Searches whose answer is a curve: nearest cut for each number of regions, and its hull."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch._sealed import Sealed, private
from hiersearch.hierarchy import _cut_kernels as kernels
from hiersearch.hierarchy._tree_kernels import capped_by_ancestors, topmost
from hiersearch.hierarchy.costs import RegionCosts, leaf_counts, leaf_layout
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
class RegionCurve(Sealed):
    """Nearest cut for every number of regions 1..K, as `nearest_cuts_by_regions` finds them."""

    tree: MergeTree
    """The tree that was searched."""
    costs: RegionCosts
    """The costs it was searched with."""
    distances: NDArray[np.float64]
    """(K,) normalised distance of the nearest cut into k regions, at k − 1; +inf: there is none."""
    places: NDArray[np.int64]
    """(n_nodes,) where the splits of a node's siblings begin in ``choices``."""
    choices: NDArray[np.unsignedinteger[Any]]
    """Numbers of regions, less one, that light children get in the best splits."""

    def __post_init__(self) -> None:
        self.costs.check_fits(self.tree, "costs")
        n_nodes, n_leaves = self.tree.n_nodes, self.tree.n_leaves
        distances = _checked_numbers(self.distances, "distances", None)
        if distances.size > n_leaves:
            raise ValueError(
                f"distances must be at most as many as leaves, {n_leaves}, got {distances.size}"
            )
        choices = private(_validate.as_array(self.choices, "choices"))
        if choices.ndim != 1 or choices.dtype not in (np.uint16, np.uint32):
            raise ValueError(
                f"choices must be 1-D of uint16 or uint32, got shape {choices.shape} and dtype "
                f"{choices.dtype}"
            )
        places = _validate.checked_column(self.places, "places", np.int64, 0, choices.size, n_nodes)
        self._keep(distances=distances, places=private(places), choices=choices)

    def cut(self, regions: int) -> CutResult:
        """Return the nearest cut into exactly ``regions`` regions.

        Raises
        ------
        ValueError
            If ``regions`` is outside 1..K, or there is no such cut.

        Notes
        -----
        O(nodes) for the cut; counting what it is the best of costs O(leaves · regions) more.
        """
        _validate.checked_count(regions, "regions", 1, self.distances.size)
        if not np.isfinite(self.distances[regions - 1]):
            raise ValueError(f"regions must allow a cut of the tree, got {regions}: there is none")
        offsets, children, _ = leaf_layout(self.tree)
        nodes = kernels.cut_by_regions(
            regions, offsets, children, leaf_counts(self.tree), self.places, self.choices
        )
        if nodes.size != regions:
            raise ValueError(f"choices must tell of a cut into {regions} regions, got other splits")
        counts = log10_cuts_by_regions(self.tree, regions, self.costs)
        return finished(self.tree, self.costs, nodes, float(counts[regions - 1]))

    def best(self) -> CutResult:
        """Return the nearest of the cuts on the curve, the coarsest of equals."""
        return self.cut(int(np.argmin(self.distances)) + 1)


def nearest_cuts_by_regions(
    tree: MergeTree,
    target: Target,
    most: int | None = None,
    *,
    class_weight: float = 0.0,
    minimum_size: float = 0.0,
    apart: Apart = None,
) -> RegionCurve:
    """Nearest cut for every number of regions 1..``most``, the whole curve; exact.

    Parameters
    ----------
    tree, target, class_weight, minimum_size, apart
        As in :func:`nearest_cut`.
    most : int, optional
        K, at most the number of leaves, which it is where omitted.

    Returns
    -------
    RegionCurve

    Raises
    ------
    ValueError, TypeError
        As :func:`nearest_cut`, and if ``most`` is outside 1..n_leaves.

    Notes
    -----
    Min-plus convolution over the tree with tables bounded by min(K, leaves below): time
    O(leaves · K) at worst, and O(1) wherever a single leaf joins; memory O(leaves) and two bytes
    for each entry of the tables where several leaves join.

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> curve = nearest_cuts_by_regions(tree, np.array([[0, 0, 1, 1]]))
    >>> curve.distances.tolist(), curve.cut(2).nodes.tolist()
    ([0.5, 0.0, 0.125], [2, 3])
    """
    n_leaves = tree.n_leaves
    bound = n_leaves if most is None else _validate.checked_count(most, "most", 1, n_leaves)
    costs = prepared_costs(tree, target, class_weight, minimum_size, apart)
    offsets, children, starts = leaf_layout(tree)
    leaves = leaf_counts(tree)
    places, n_choices = kernels.choice_layout(offsets, children, leaves, bound)
    kind: type[np.unsignedinteger[Any]] = np.uint16 if bound <= 2**16 else np.uint32
    choices = np.empty(n_choices, kind)
    table = kernels.tables_by_regions(
        costs.costs, offsets, children, starts, leaves, bound, places, choices, False
    )
    distances = np.full(bound, np.inf)
    distances[: table.size] = np.maximum(0.0, (costs.constant + table) / costs.scale)
    return RegionCurve._unchecked(tree, costs, distances, places, choices)


def log10_cuts_by_regions(
    tree: MergeTree, most: int, costs: RegionCosts | None = None
) -> NDArray[np.float64]:
    """Return log10 of the numbers of cuts into 1..``most`` regions; −inf where there is none.

    Parameters
    ----------
    tree : MergeTree
        Whose cuts.
    most : int
        Largest number of regions, 1..n_leaves.
    costs : RegionCosts, optional
        Only cuts without forbidden nodes count.

    Notes
    -----
    O(leaves · most).

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> np.round(10 ** log10_cuts_by_regions(tree, 3)).tolist()
    [1.0, 1.0, 1.0]
    """
    bound = _validate.checked_count(most, "most", 1, tree.n_leaves)
    units = np.zeros(tree.n_nodes)
    if costs is not None:
        costs.check_fits(tree, "costs")
        units[np.isinf(costs.costs)] = np.inf
    offsets, children, starts = leaf_layout(tree)
    table = kernels.tables_by_regions(
        units,
        offsets,
        children,
        starts,
        leaf_counts(tree),
        bound,
        np.zeros(tree.n_nodes, np.int64),
        np.empty(0, np.uint16),
        True,
    )
    counts = np.full(bound, -np.inf)
    counts[: table.size] = -table / math.log(10.0)
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class TradeOff(Sealed):
    """Lower convex hull of distance against number of regions, over all cuts of a tree.

    Vertex i minimises distance + price · regions for prices from ``prices[i]`` up to that of the
    vertex before it (without bound for the first, the fewest regions).
    """

    tree: MergeTree
    """The tree that was searched."""
    costs: RegionCosts
    """The costs it was searched with."""
    regions: NDArray[np.int64]
    """(vertices,) numbers of regions, ascending."""
    distances: NDArray[np.float64]
    """(vertices,) normalised distances."""
    prices: NDArray[np.float64]
    """(vertices,) lowest price, in normalised distance a region, at which each is best."""
    node_prices: NDArray[np.float64]
    """(n_nodes,) price from which on a node is the best cut of its own subtree."""

    def __post_init__(self) -> None:
        self.costs.check_fits(self.tree, "costs")
        n_leaves = self.tree.n_leaves
        regions = _validate.checked_column(self.regions, "regions", np.int64, 1, n_leaves, None)
        self._keep(
            regions=private(regions),
            distances=_checked_numbers(self.distances, "distances", regions.size),
            prices=_checked_numbers(self.prices, "prices", regions.size),
            node_prices=_checked_numbers(self.node_prices, "node_prices", self.tree.n_nodes),
        )

    def at(self, price: float) -> CutResult:
        """Return the cut that minimises distance + price · regions, the coarsest of equals.

        Raises
        ------
        ValueError
            If ``price`` is NaN.
        """
        if math.isnan(price):
            raise ValueError("price must be a number, got nan")
        nodes = topmost(self.tree.parents, self.node_prices <= price)
        return finished(self.tree, self.costs, nodes, log10_cuts(self.tree, self.costs))

    def cut(self, vertex: int) -> CutResult:
        """Return the cut at a vertex of the hull."""
        _validate.checked_count(vertex, "vertex", 0, self.regions.size - 1)
        return self.at(float(self.prices[vertex]))

    def hierarchy(self) -> MergeTree:
        """Return the tree whose horizontal cuts at a price are the best cuts for that price.

        Its altitudes are prices, raised to be at least 0 and increasing: nodes that are best below
        price 0 already share altitude 0, so its cut at 0 is the nearest of all cuts.
        """
        altitudes = np.maximum(self.node_prices, 0.0)
        altitudes[: self.tree.n_leaves] = 0.0
        if not np.isfinite(altitudes).all():
            raise ValueError("hierarchy must have a price for every node, but some are forbidden")
        # A node is on no best cut below a cheaper ancestor: it appears with that ancestor.
        capped = capped_by_ancestors(self.tree.parents, altitudes)
        return self.tree._with_altitudes(capped)


def trade_off(
    tree: MergeTree,
    target: Target,
    *,
    class_weight: float = 0.0,
    minimum_size: float = 0.0,
    apart: Apart = None,
) -> TradeOff:
    """Best cuts under distance + price · regions, for every price at once; exact.

    Parameters
    ----------
    tree, target, class_weight, minimum_size, apart
        As in :func:`nearest_cut`.

    Returns
    -------
    TradeOff

    Raises
    ------
    ValueError, TypeError
        As :func:`nearest_cut`.

    Notes
    -----
    O(nodes log nodes) after the costs. Source: Guigues, Cocquerez & Le Men, "Scale-sets image
    analysis", IJCV 2006; prices may be negative here, so the hull reaches from one region to the
    most that the constraints allow.

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> hull = trade_off(tree, np.array([[0, 0, 1, 1]]))
    >>> hull.regions.tolist(), hull.distances.tolist(), hull.prices.tolist()
    ([1, 2, 3], [0.5, 0.0, 0.125], [0.5, -0.125, -inf])
    """
    costs = prepared_costs(tree, target, class_weight, minimum_size, apart)
    prices, begin, regions, totals = kernels.scale_set(tree.parents, costs.costs, tree.n_leaves)
    if not np.isfinite(totals[0]):
        raise ValueError("constraints must allow a cut of the tree, got none")
    # Nodes with one price in different subtrees change together: only the ends are vertices.
    vertices = np.flatnonzero(np.diff(begin, prepend=np.inf) < 0)
    return TradeOff._unchecked(
        tree,
        costs,
        regions[vertices],
        np.maximum(0.0, (costs.constant + totals[vertices]) / costs.scale),
        begin[vertices] / costs.scale,
        prices / costs.scale,
    )


def _checked_numbers(values: ArrayLike, name: str, size: int | None) -> NDArray[np.float64]:
    """Return a private float64 array of ``size`` numbers, infinities among them; None: any."""
    array = private(_validate.as_array(values, name))
    if array.dtype != np.float64 or array.ndim != 1 or size not in (None, array.size):
        raise ValueError(
            f"{name} must be float64 of shape ({'k' if size is None else size},), "
            f"got {array.dtype} of shape {array.shape}"
        )
    missing = np.flatnonzero(np.isnan(array))
    if missing.size:
        raise ValueError(f"{name} must be numbers, got nan at index {missing[0]}")
    return array
