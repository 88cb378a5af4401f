"""The best cut of a hierarchy under metric, class and price terms, exact: one pass over the tree.

The objective is that of :func:`hiersearch.refinement.metric_merging.metric_merging`; there it is
lowered greedily over all partitions of a region graph, here it is minimal over all cuts of a tree.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import ArrayLike

from hiersearch import _validate
from hiersearch.device.choice import resolved
from hiersearch.hierarchy.costs import RegionCosts, class_terms, region_costs
from hiersearch.hierarchy.cuts import nearest_cut
from hiersearch.hierarchy.matching import (
    DEFAULT_LINKAGE,
    DEFAULT_SUPERPIXELS,
    _checked_image,
    _hierarchy,
)
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions.output import SoftOutput, as_soft_partition
from hiersearch.partitions.soft import Memberships, SoftPartition
from hiersearch.refinement.metric_merging import refined
from hiersearch.refinement.refinement import Refinement, Step

CLASS_PRICE = 5.0
"""What a region of a class map costs unless given: pixels that it must set right to pay."""


def best_cut(
    image: ArrayLike | None,
    soft: SoftOutput | SoftPartition | ArrayLike,
    *,
    reading: str | None = None,
    tree: MergeTree | None = None,
    metric_weight: float | None = None,
    class_weight: float | None = None,
    price: float | None = None,
    device: str | None = "cpu",
) -> Refinement:
    """Refine a soft output to the best cut of a hierarchy, exactly.

    Among all cuts of the tree it minimises

        metric_weight · ρ / scale  +  class_weight · Σ_R Σ_{p in R} μ_p (1 − P_p,c(R)) / M
        +  price · regions,

    where c(R), the best class of region R, becomes the label of all its pixels.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels
        What the tree is made of; may be None where ``tree`` is given.
    soft : SoftOutput, SoftPartition or float array
        Channels; an array as in :func:`hiersearch.refinement.refine`.
    reading : {"regions", "classes", "boundaries"}, optional
        What the channels of an array mean.
    tree : MergeTree, optional
        The hierarchy; where omitted, that of :func:`hiersearch.hierarchy.matching.match`:
        superpixels guided by image and soft output. (Pixels as leaves under single linkage suit
        voting but not cuts: pixels that stand out join late, one by one, and each costs a region.)
    metric_weight : float, optional
        0 for classes, whose labels the metric says nothing of, else 1.
    class_weight : float, optional
        1 for classes, else 0, as other channels are no classes.
    price : float, optional
        Cost of a region; for classes 5 / pixels where omitted, so that a region must set 5 pixels
        right to pay, else 0.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        What does the costs of the tree's nodes: see
        :func:`hiersearch.hierarchy.costs.region_costs`.

    Returns
    -------
    Refinement
        Labels of class channels are classes, of others regions. Probabilities: of class and region
        channels the means over each region; of a boundary map 1 beside another region and 0
        elsewhere; of affinities 1 or 0 for pairs inside a region or not.

    Raises
    ------
    TypeError, ValueError
        If the arguments don't fit each other, values are not finite, or weights are negative,
        all zero, or asked of a reading that lacks the term, or there is no such device.

    Notes
    -----
    O(k · nodes) after the tree. Mean class probabilities of a region are highest for its class.

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> bright = np.array([[0.9, 0.4, 0.2, 0.1]])
    >>> soft = np.stack([1 - bright, bright])
    >>> best_cut(None, soft, reading="classes", tree=tree, price=0.1).labels
    array([[1, 1, 0, 0]], dtype=int32)
    """
    goal = as_soft_partition(soft, reading)
    is_class = goal.rows_are_classes
    metric, classes = _weights(metric_weight, class_weight, is_class)
    if price is None:
        price = CLASS_PRICE / goal.total if is_class else 0.0
    if not np.isfinite(price):
        raise ValueError(f"price must be a finite number, got {price!r}")
    resolved(device)
    begin = time.perf_counter()
    if tree is None:
        tree = _tree(image, goal)
    made = time.perf_counter()
    _validate.checked_same_grid(goal.grid, tree.grid, "soft", "tree")
    costs = _costs(tree, goal, (metric, classes, price), device)
    cut = nearest_cut(tree, costs)
    figures = {
        "regions": cut.n_regions,
        "objective": (costs.constant + float(costs.costs[cut.nodes].sum())) / costs.scale,
        "metric_weight": metric,
        "class_weight": classes,
        "price": price,
        "candidates_log10": cut.log10_candidates,
    }
    trace = (
        Step("hierarchy", {"nodes": tree.n_nodes}, made - begin, tree),
        Step("best_cut", figures, time.perf_counter() - made, tree),
    )
    return Refinement(*refined(soft, goal, cut.labels), trace)


def _weights(metric: float | None, classes: float | None, is_class: bool) -> tuple[float, float]:
    metric = (0.0 if is_class else 1.0) if metric is None else metric
    classes = (1.0 if is_class else 0.0) if classes is None else classes
    for name, value in (("metric_weight", metric), ("class_weight", classes)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    if metric == classes == 0:
        raise ValueError("metric_weight and class_weight must not both be 0")
    if classes > 0 and not is_class:
        raise ValueError(f"class_weight needs channels read as classes, got {classes!r}")
    return float(metric), float(classes)


def _tree(image: ArrayLike | None, goal: SoftPartition) -> MergeTree:
    if image is None:
        raise ValueError("image must be given where no tree is, got None")
    field = _checked_image(image, goal.grid)
    return _hierarchy(field, goal, DEFAULT_SUPERPIXELS, None, DEFAULT_LINKAGE, {})


def _costs(
    tree: MergeTree,
    goal: SoftPartition,
    weights: tuple[float, float, float],
    device: str | None,
) -> RegionCosts:
    """Return costs whose distance is the objective, weighed by metric, classes and price."""
    metric, classes, price = weights
    if metric > 0:
        costs = region_costs(tree, goal, class_weight=classes / metric, device=device)
        return RegionCosts._unchecked(
            costs.costs * metric + price * costs.scale,
            costs.constant * metric,
            costs.scale,
            costs.classes,
        )
    assert isinstance(goal, Memberships)
    # Of a soft partition read as classes row c holds class c, whatever its components.
    missed, names = class_terms(tree, goal, device)
    total = goal.total
    return RegionCosts._unchecked(classes * missed / total + price, 0.0, 1.0, names)
