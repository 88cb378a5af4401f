"""Greedy merging of adjacent regions while the metric to a soft output falls."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.hierarchy.agglomerate import check_leaves
from hiersearch.hierarchy.costs import _has_classes
from hiersearch.hierarchy.graph import compact_labels, numbers_of
from hiersearch.hierarchy.matching import DEFAULT_SUPERPIXELS, _changes, _checked_image, _leaves
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.metric.queries import float_measure
from hiersearch.partitions.checks import checked_unit_map, pair_slices
from hiersearch.partitions.inputs import PartitionLike, as_partition
from hiersearch.partitions.output import SoftOutput, connected_components
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, Memberships, SoftPartition
from hiersearch.refinement import _merging_kernels as kernels
from hiersearch.refinement.constraints import ConstrainedLeaves, constrained_leaves
from hiersearch.refinement.merging_problem import MergingProblem, merging_problem
from hiersearch.refinement.refinement import Refinement, Step

Order = Literal["mean", "gain"]
ORDERS: tuple[Order, ...] = ("mean", "gain")


def metric_merging(
    image: ArrayLike | None,
    soft: PartitionLike,
    *,
    reading: str | None = None,
    superpixels: str | ArrayLike = DEFAULT_SUPERPIXELS,
    superpixel_count: int | None = None,
    n_regions: int | None = None,
    price: float = 0.0,
    class_weight: float = 0.0,
    boundary: ArrayLike | None = None,
    boundary_weight: float = 1.0,
    must_link: ArrayLike | None = None,
    cannot_link: ArrayLike | None = None,
    hard_boundary: ArrayLike | None = None,
    order: Order = "mean",
    long_range: Literal["vote", "merge"] = "vote",
) -> Refinement:
    """Merge the regions of an image, pair by pair, while that brings them nearer to a soft output.

    What falls is the objective

        ρ(soft, partition) / scale  +  class_weight · pixels under another class than their region's
        +  boundary_weight · disagreement with the boundary map  +  price · regions

    each of the first three within [0, 1]. What two regions change when they merge is known in
    closed form: 2 a₁ a₂ − 4 Σ_j n_j1 n_j2 of ρ for channels, Σ w (1 − 2C) over the pairs of
    pixels between them for affinities. For affinities this is greedy additive edge contraction.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels; or None
        What superpixels are made of, together with the soft output.
    soft : SoftOutput, SoftPartition, Partition, label map, or float array with its reading
        What to come near to. Its measure counts.
    reading : {"regions", "classes", "boundaries", "objects"}, optional
        What the channels of an array mean, (k, *grid).
    superpixels, superpixel_count
        As in :func:`hiersearch.hierarchy.matching.match`: a method, or a label map.
    n_regions : int, optional
        Merge until this many are left; until no merge lowers the objective where omitted.
    price : float
        Cost of a region, in units of the normalised distance. A negative price rewards regions.
    class_weight : float
        λ ≥ 0 of the class property term, for soft partitions whose channels are classes.
    boundary : array, shape of the grid, optional
        Evidence of boundaries within [0, 1] beside the soft output. Two neighbouring pixels are
        apart with the probability of the larger of their values.
    boundary_weight : float
        Weight ≥ 0 of that evidence: at 1 all faces between pixels weigh as much as all of ρ.
    must_link : integer array on the grid, or pairs of pixels (pairs, 2, axes), optional
        Pixels with one non-zero marker, or the two of a pair, end in one region.
    cannot_link : likewise, optional
        Pixels with different non-zero markers, or the two of a pair, end in different regions.
    hard_boundary : bool array, shape of the grid, optional
        Pixels that nothing merges across. Unmarked pixels that no path of unmarked neighbours
        (4 in an image, 6 in a volume) connects never share a region; superpixels are divided
        where they straddle marked pixels, and a marked pixel belongs to the part nearest to it.
    order : {"mean", "gain"}
        What merges first: the pair of regions with the largest gain per weight of the pairs of
        pixels between them, as in average linkage; or with the largest gain. Both stop at the
        same criterion.
    long_range : {"vote", "merge"}
        Of affinities between regions that do not touch: "vote" counts them once both regions
        are about to share a region by way of their neighbours, "merge" lets them merge regions
        that do not touch, too.

    Returns
    -------
    Refinement
        Probabilities are the means over each region (for affinities and boundaries what the
        partition says: 0 or 1). The step's ``tree`` goes on above the result, in the same order,
        to as few regions as may merge; an inner node's altitude is the change of the objective that
        it made. Regions that may not merge hang from a root 1 above the highest other node. The
        step's figures: regions and objective before and after, merges, seconds.

    Raises
    ------
    ValueError, TypeError
        If shapes or values do not fit, a constraint contradicts another (the message names both),
        or ``n_regions`` cannot be reached.

    Notes
    -----
    Ties go to the pair that touches first in the order of superpixels. O(k · pixels) for the sums;
    merging O(m log m) for affinities, and O(k · edges of both regions) a merge for channels, where
    k is the number of channels that a region knows. Kernighan and Lin's moves are not made: the
    result is greedy; the best cut of the returned tree is never worse. Keuper et al., "Efficient
    decomposition of image and mesh graphs by lifted multicuts", ICCV 2015 (greedy additive edge
    contraction).

    Examples
    --------
    >>> import numpy as np
    >>> inside = np.array([[0.9, 0.8, 0.9, 0.1, 0.2, 0.1]])
    >>> soft = SoftPartition.from_regions(np.stack([1 - inside, inside]))
    >>> found = metric_merging(None, soft, superpixels="pixels")
    >>> found.labels.tolist(), found.trace[0].figures["merges"]
    ([[0, 0, 0, 1, 1, 1]], 4)
    """
    began = time.perf_counter()
    goal = as_partition(soft, "soft", reading=reading)
    _validate.checked_choice(order, ORDERS, "order")
    _validate.checked_choice(long_range, ("vote", "merge"), "long_range")
    for name, value, low in (
        ("price", price, -np.inf),
        ("class_weight", class_weight, 0.0),
        ("boundary_weight", boundary_weight, 0.0),
    ):
        if not (np.isfinite(value) and value >= low):
            bound = "" if low < 0 else " of at least 0"
            raise ValueError(f"{name} must be a number{bound}, got {value!r}")
    if class_weight > 0 and not _has_classes(goal):
        raise TypeError(
            f"class_weight needs a soft partition whose channels are classes, got {goal!r}"
        )
    evidence = None if boundary is None else checked_unit_map(boundary, "boundary", goal.grid)
    leaf_map = _superpixels(image, goal, superpixels, superpixel_count)
    leaves = constrained_leaves(leaf_map, must_link, cannot_link, hard_boundary)
    problem = merging_problem(
        goal, leaves, (price, class_weight), evidence, boundary_weight, long_range == "merge"
    )
    n_leaves = problem.sizes.size
    if n_regions is not None:
        _validate.checked_count(n_regions, "n_regions", 1)
        if n_regions > n_leaves:
            raise ValueError(
                f"n_regions must be at most the number of superpixels, {n_leaves}, got {n_regions}"
            )
    seconds = {"sums": time.perf_counter() - began}
    tree, merges, altogether = _merged(problem, leaves, order == "mean", n_regions or 0)
    seconds["merging"] = time.perf_counter() - began - seconds["sums"]
    if n_regions is not None and n_leaves - merges != n_regions:
        raise ValueError(
            f"n_regions must be at least {n_leaves - altogether}: fewer are forbidden by "
            f"constraints, or do not touch; got {n_regions}"
        )
    after = problem.objective + float(tree.altitudes[n_leaves : n_leaves + merges].sum())
    figures = {
        "regions_before": n_leaves,
        "regions_after": n_leaves - merges,
        "merges": merges,
        "objective_before": problem.objective,
        "objective_after": after,
        "seconds": seconds,
    }
    labels = tree.labels_of(tree.cut_with_regions(n_leaves - merges))
    found = refined(soft, goal, labels)
    step = Step("metric_merging", figures, time.perf_counter() - began, tree)
    return Refinement(*found, (step,))


def _superpixels(
    image: ArrayLike | None,
    goal: Partition | SoftPartition,
    superpixels: str | ArrayLike,
    count: int | None,
) -> NDArray[np.int32]:
    field = None if image is None else _checked_image(image, goal.grid)
    chosen = _leaves(field, goal, superpixels, count)
    if isinstance(chosen, str):
        return np.arange(goal.n_pixels, dtype=np.int32).reshape(goal.grid)
    labels = _validate.checked_labels(chosen, "superpixels")
    _validate.checked_same_grid(labels.shape, goal.grid, "superpixels", "soft")
    return compact_labels(labels)[0]


def _merged(
    problem: MergingProblem, leaves: ConstrainedLeaves, by_mean: bool, wanted: int
) -> tuple[MergeTree, int, int]:
    """Run the kernel; return the tree, the merges before the stop and all that were possible."""
    offsets, channels, sums, n_channels = problem.rows
    n = problem.sizes.size
    check_leaves(n)
    merges, altogether, parents, changes = kernels.merge(
        problem.edges.copy(),
        problem.statistics.copy(),
        kernels.MergingRegions(
            problem.sizes.copy(),
            offsets,
            channels,
            sums.astype(np.float64),
            n_channels,
            problem.classes,
            problem.groups.copy(),
        ),
        kernels.MergingGoal(problem.prices, by_mean, wanted),
        np.empty(0, numbers_of(2 * problem.edges.shape[0])),
    )
    n_nodes = n + altogether
    if altogether < n - 1:
        # What may not merge, or does not touch, hangs from one root above all the others.
        parents[:n_nodes][parents[:n_nodes] < 0] = n_nodes
        changes[n_nodes] = changes[:n_nodes].max() + 1
        n_nodes += 1
    parents = parents[:n_nodes].copy()
    parents[-1] = n_nodes - 1
    tree = MergeTree._of(parents, changes[:n_nodes].copy(), leaves.leaf_map, problem.sizes)
    return tree, merges, altogether


def refined(
    soft: object, goal: Partition | SoftPartition, labels: NDArray[np.int32]
) -> tuple[SoftOutput, NDArray[np.int32], Partition]:
    """Return the output brought to a partition, its labels, and the partition.

    Rows of probabilities become their means over the regions; of class channels the labels are
    classes and the partition their components. Boundary maps, and label maps, become 1 at pixels
    beside another region, affinities 1 for pairs within a region.

    Parameters
    ----------
    soft : object
        What was given; where it is a `SoftOutput`, a foreground goes on with the affinities.
    goal : Partition or SoftPartition
        What it was read as.
    labels : int32 array, shape of the grid
        The partition, numbered from 0.
    """
    grid = labels.shape
    measure = None if goal.measure is None else goal.measure.reshape(grid)
    if isinstance(goal, Memberships) and not goal.reads_boundaries:
        means = _region_means(goal, labels.reshape(-1))
        rows = np.ascontiguousarray(means[:, labels.reshape(-1)]).reshape(-1, *grid)
        if goal.rows_are_classes:
            named = means.argmax(axis=0).astype(np.int32)[labels]
            return SoftOutput(rows, "classes", measure=measure), named, connected_components(named)
        output = SoftOutput(rows, "regions", measure=measure)
    elif isinstance(goal, Affinities):
        shown = np.zeros((goal.offsets.shape[0], *grid), np.float32)
        for joined, offset in zip(shown, goal.offsets, strict=True):
            source, target = pair_slices(offset, grid)
            joined[source] = labels[source] == labels[target]
        output = SoftOutput.of_partition(goal).with_channels(shown)
        if isinstance(soft, SoftOutput) and soft.foreground_map is not None:
            output = soft.with_channels(np.concatenate([soft.foreground_map[None], shown]))
    else:
        output = SoftOutput(_changes(labels)[None], "boundaries", measure=measure)
    partition = Partition.from_labels(labels)
    return output, partition.labels, partition


def _region_means(goal: Memberships, flat: NDArray[np.int32]) -> NDArray[np.float32]:
    """Mean of each row of probabilities over each region, (rows, regions)."""
    from hiersearch.hierarchy._cost_kernels import dense_leaf_sums

    n = int(flat.max()) + 1
    measure = float_measure(goal)
    sizes = np.bincount(flat, measure if measure.size else None)
    if not sizes.all():
        # A region without measure has means by pixels.
        measure, sizes = np.empty(0), np.bincount(flat)
    means: NDArray[np.float32] = (dense_leaf_sums(goal.values, flat, measure, n) / sizes).astype(
        np.float32
    )
    return means
