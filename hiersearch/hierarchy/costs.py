"""What each node of a merge tree costs as a region, for a target partition.

ρ(P, cut) = constant + Σ_{R in cut} c(R) with c(R) = a_R² − 2 Σ_j n_jR², and likewise for affinities
with the pairs inside R: every search over cuts stands on these sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch._sealed import Sealed, private
from hiersearch.device.choice import Device, DeviceWork, resolved
from hiersearch.hierarchy import _cost_kernels as kernels
from hiersearch.hierarchy import _merge_cost_kernels as merge_kernels
from hiersearch.hierarchy import _tree_kernels as tree_kernels
from hiersearch.hierarchy import device_trees as trees
from hiersearch.hierarchy.tree import MergeTree, node_sizes
from hiersearch.metric.queries import float_measure, joined_total
from hiersearch.partitions._kernels import sum_up
from hiersearch.partitions.checks import pair_slices
from hiersearch.partitions.inputs import PartitionLike, as_partition
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, Memberships, Merges, SoftPartition

# Up to this many regions a hard target is summed densely, one column a region.
_DENSE_REGIONS = 12


@dataclass(frozen=True, slots=True, eq=False)
class RegionCosts(Sealed):
    """Additive costs of the nodes of one tree: distance = (constant + Σ costs) / scale.

    The constructor checks its arrays and copies them, O(nodes); they are read-only.
    """

    costs: NDArray[np.float64]
    """(n_nodes,) cost of each node as a region; +inf where it must not be one."""
    constant: float
    """What every partition costs."""
    scale: float
    """What normalises the distance: M², or the weight of all known pairs."""
    classes: NDArray[np.int32] | None = None
    """(n_nodes,) best class of each node, where classes count; else None."""

    def __post_init__(self) -> None:
        costs = _validate.as_array(self.costs, "costs")
        if costs.dtype.kind not in "fiub":
            raise TypeError(f"costs must be real numbers, got dtype {costs.dtype}")
        if costs.ndim != 1 or costs.size == 0:
            raise ValueError(f"costs must be 1-D, one for each node, got shape {costs.shape}")
        wrong = np.flatnonzero(~(costs > -np.inf))
        if wrong.size:
            node = int(wrong[0])
            raise ValueError(f"costs must be finite or +inf, got {costs[node]} of node {node}")
        with np.errstate(over="ignore"):
            largest = float(np.abs(costs[np.isfinite(costs)], dtype=np.float64).sum())
        if not np.isfinite(largest):
            raise ValueError(f"costs must have a sum within float64, got {largest}: scale them")
        if not np.isfinite(self.constant):
            raise ValueError(f"constant must be a finite number, got {self.constant!r}")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be a positive number, got {self.scale!r}")
        classes = self.classes
        if classes is not None:
            classes = _validate.checked_column(
                classes, "classes", np.int32, 0, _validate.LARGEST_INT32, costs.size
            )
            classes = private(classes)
        self._keep(
            costs=private(costs, np.float64),
            constant=float(self.constant),
            scale=float(self.scale),
            classes=classes,
        )

    def check_fits(self, tree: MergeTree, name: str) -> None:
        """Raise unless there is a cost for each node of a tree."""
        if self.costs.shape != (tree.n_nodes,):
            raise ValueError(
                f"{name} must have a cost for each of the {tree.n_nodes} nodes, "
                f"got {self.costs.shape}"
            )

    def forbidding(self, nodes: NDArray[np.bool_]) -> RegionCosts:
        """Return the costs with +inf where ``nodes`` (n_nodes,) is true."""
        costs = np.where(nodes, np.inf, self.costs)
        return self._unchecked(costs, self.constant, self.scale, self.classes)


def region_costs(
    tree: MergeTree,
    target: PartitionLike,
    *,
    class_weight: float = 0.0,
    device: str | None = "cpu",
) -> RegionCosts:
    """Cost of every node of ``tree`` as a region of a partition to be compared with ``target``.

    Parameters
    ----------
    tree : MergeTree
        On the target's grid. Its sizes play no part: measures are the target's.
    target : Partition, SoftPartition or integer array
        What cuts are compared with; its measure counts.
    class_weight : float
        λ ≥ 0 of the class property term: each region is named after its most probable class, and
        λ times the mean probability that pixels give to other classes is added to the distance.
        Needs a soft target whose channels are classes (dense, or read as classes).
    device : {"cpu", "cuda", "cuda:N", "auto"}
        What sums the target up the tree; see :mod:`hiersearch.hierarchy.device_trees`. Affinities
        are summed on the CPU in any case.

    Returns
    -------
    RegionCosts
        In the CPU's memory. A GPU's are those of the CPU bit for bit for hard targets whose measure
        is of integers; else distances of cuts differ by at most
        (pixels + channels + regions) · 2^-50 (measured: 1e-15).

    Raises
    ------
    ValueError
        If the grids differ, ``class_weight`` is negative or not finite, or there is no such device.
    TypeError
        If ``class_weight`` is positive and the target has no classes.

    Notes
    -----
    O(k · (pixels + nodes)) for k dense channels, and on a GPU for any; on the CPU sparse channels
    and hard targets cost what their non-zeros cost; affinities O(d · pixels + nodes log nodes).

    Examples
    --------
    >>> import numpy as np
    >>> tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 0, 1]])
    >>> found = region_costs(tree, np.array([[5, 5, 9]]))
    >>> found.costs.tolist(), found.constant, found.scale
    ([-4.0, -1.0, -1.0], 5.0, 9.0)
    """
    goal = as_partition(target, "target")
    _validate.checked_same_grid(goal.grid, tree.grid, "target", "tree")
    if not (np.isfinite(class_weight) and class_weight >= 0):
        raise ValueError(f"class_weight must be a number of at least 0, got {class_weight!r}")
    if class_weight > 0 and not _has_classes(goal):
        raise TypeError(
            f"class_weight needs a soft target whose channels are classes, got {goal!r}"
        )
    where = resolved(device, _work(tree, goal))
    if isinstance(goal, Affinities):
        return _affinity_costs(tree, goal)
    if isinstance(goal, Merges):
        return _merge_costs(tree, goal)
    if not where.on_kernels:
        return _device_costs(tree, goal, class_weight, where)
    return _membership_costs(tree, goal, class_weight)


def _has_classes(goal: Partition | SoftPartition) -> bool:
    return isinstance(goal, Memberships) and (goal.channels is None or goal.rows_are_classes)


def _membership_costs(
    tree: MergeTree, goal: Partition | SoftPartition, class_weight: float
) -> RegionCosts:
    measure = float_measure(goal)
    sizes = _node_sizes(tree, measure)
    values, channels, n_channels = _as_channels(goal)
    total = float(sizes[tree.root])
    if channels is None:
        sums = _dense_leaf_sums(tree, values, measure)
        costs = kernels.dense_costs(tree.parents, sums, sizes)
        of_channels = sums.sum(axis=0, dtype=np.float64)
    else:
        rows = _sparse_leaf_sums(tree, values, channels, measure, n_channels)
        costs = kernels.sparse_costs(tree.parents, *rows, sizes)
        of_channels = np.bincount(rows[1], weights=rows[2], minlength=n_channels)
    names: NDArray[np.int32] | None = None
    if class_weight > 0:
        assert isinstance(goal, Memberships)
        missed, names = class_terms(tree, goal)
        costs = costs + class_weight * total * missed
    return RegionCosts._unchecked(costs, float(np.square(of_channels).sum()), total**2, names)


def _device_costs(
    tree: MergeTree, goal: Partition | SoftPartition, class_weight: float, where: Device
) -> RegionCosts:
    """As `_membership_costs`, on a device."""
    values: NDArray[Any]
    channels: NDArray[np.int32] | None
    if isinstance(goal, Partition):
        channels, n_channels = goal.labels.reshape(1, -1), goal.n_regions
        values = np.ones(channels.shape, np.float32)
    else:
        assert isinstance(goal, Memberships)
        values, channels, n_channels = goal.values, goal.channels, goal.n_channels
    here = trees.DeviceTree.of(tree.parents, tree.leaf_map, tree.n_leaves, where)
    there = trees.Target.of(values, channels, n_channels, goal.measure, where)
    costs, constant = trees.metric_costs(here, there)
    total = float(goal.total)
    names: NDArray[np.int32] | None = None
    if class_weight > 0:
        assert isinstance(goal, Memberships)
        missed, names = class_terms(tree, goal, where.name)
        costs = costs + class_weight * total * missed
    return RegionCosts._unchecked(costs, constant, total**2, names)


def _work(tree: MergeTree, goal: Partition | SoftPartition) -> DeviceWork | None:
    """Count what the costs take; None where the CPU does them in any case."""
    if isinstance(goal, Partition):
        return trees.work_of_costs(goal.n_pixels, tree.n_nodes, 1, goal.n_regions, sparse=True)
    if isinstance(goal, Memberships):
        rows, sparse = goal.values.shape[0], goal.channels is not None
        return trees.work_of_costs(
            goal.n_pixels, tree.n_nodes, rows, goal.n_channels, sparse=sparse
        )
    return None


def class_terms(
    tree: MergeTree, goal: Memberships, device: str | None = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return what each node's best class misses, Σ μ (1 − P), and that class. O(k · pixels)."""
    _validate.checked_same_grid(goal.grid, tree.grid, "goal", "tree")
    n_classes = goal.values.shape[0]
    work = trees.work_of_costs(goal.n_pixels, tree.n_nodes, n_classes, n_classes, sparse=False)
    where = resolved(device, work)
    if not where.on_kernels:
        here = trees.DeviceTree.of(tree.parents, tree.leaf_map, tree.n_leaves, where)
        target = trees.Target.of(goal.values, None, n_classes, goal.measure, where)
        return trees.class_costs(here, target)
    measure = float_measure(goal)
    # Of a target read as classes, too, row c holds class c, whatever its components.
    of_classes = _dense_leaf_sums(tree, goal.values, measure).astype(np.float64, copy=False)
    return kernels.class_costs(tree.parents, of_classes, _node_sizes(tree, measure))


def channel_sums_of_leaves(
    tree: MergeTree, goal: Partition | SoftPartition, most: int
) -> NDArray[np.float64] | None:
    """Return the measure of each channel in each leaf, (leaves, k), or None above ``most`` cells.

    O(k · pixels), or O(pixels) for sparse channels and hard targets.
    """
    _validate.checked_same_grid(goal.grid, tree.grid, "goal", "tree")
    values, channels, n_channels = _as_channels(goal)
    if tree.n_leaves * n_channels > most:
        return None
    measure = float_measure(goal)
    if channels is None:
        return _dense_leaf_sums(tree, values, measure).astype(np.float64, copy=False)
    offsets, columns, sums = _sparse_leaf_sums(tree, values, channels, measure, n_channels)
    dense = np.zeros((tree.n_leaves, n_channels))
    dense[np.repeat(np.arange(tree.n_leaves), np.diff(offsets)), columns] = sums
    return dense


def _as_channels(
    goal: Partition | SoftPartition,
) -> tuple[NDArray[Any], NDArray[np.int32] | None, int]:
    """Values (m, n), channels (m, n) or None where dense, and the number of channels."""
    if isinstance(goal, Memberships):
        return goal.values, goal.channels, goal.n_channels
    assert isinstance(goal, Partition)
    labels = goal.labels.reshape(1, -1)
    if goal.n_regions <= _DENSE_REGIONS:
        regions = np.arange(goal.n_regions, dtype=np.int32)[:, None]
        return (labels == regions).astype(np.float32), None, goal.n_regions
    return np.ones(labels.shape, np.float32), labels, goal.n_regions


def _dense_leaf_sums(
    tree: MergeTree, values: NDArray[Any], measure: NDArray[np.float64]
) -> NDArray[Any]:
    if tree.has_pixel_leaves:
        by_pixel = np.ascontiguousarray(values.T)
        return by_pixel if measure.size == 0 else by_pixel * measure[:, None]
    by_channel = kernels.dense_leaf_sums(values, tree.leaf_map.reshape(-1), measure, tree.n_leaves)
    return np.ascontiguousarray(by_channel.T)


def _sparse_leaf_sums(
    tree: MergeTree,
    values: NDArray[Any],
    channels: NDArray[np.int32],
    measure: NDArray[np.float64],
    n_channels: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Channel sums of the leaves as compressed rows (offsets, channels ascending, sums)."""
    leaf_map = tree.leaf_map.reshape(-1)
    offsets, columns, sums = kernels.sparse_leaf_sums(
        values, channels, leaf_map, measure, tree.n_leaves, n_channels
    )
    keys = np.repeat(np.arange(tree.n_leaves, dtype=np.int64), np.diff(offsets))
    keys = keys * n_channels + columns
    if (np.diff(keys) < 0).any():
        order = np.argsort(keys, kind="stable")
        columns, sums = columns[order], sums[order]
    return offsets, columns, sums


def _node_sizes(tree: MergeTree, measure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure of each node under the target's measure."""
    weights = measure if measure.size else None
    return node_sizes(tree.parents, np.bincount(tree.leaf_map.reshape(-1), weights))


def _affinity_costs(tree: MergeTree, goal: Affinities) -> RegionCosts:
    """Each known pair's term goes to the lowest common ancestor of its ends, then up the tree."""
    heads = tree_kernels.path_heads(tree.parents)
    gains = np.zeros(tree.n_nodes)
    constant = 0.0
    for d, offset in enumerate(goal.offsets):
        source, target = pair_slices(offset, goal.grid)
        affinities = goal.values[d].reshape(goal.grid)[source].astype(np.float64).reshape(-1)
        weights = goal.pair_weights(d).reshape(-1)
        constant += float(weights @ affinities)
        kernels.add_pair_terms(
            gains,
            np.ascontiguousarray(tree.leaf_map[source]).reshape(-1),
            np.ascontiguousarray(tree.leaf_map[target]).reshape(-1),
            affinities,
            weights,
            tree.parents,
            heads,
        )
    sum_up(tree.parents, gains)
    return RegionCosts._unchecked(gains, constant, goal.pair_total, None)


def _merge_costs(tree: MergeTree, goal: Merges) -> RegionCosts:
    """Costs under the co-memberships of a hierarchy: of the tree itself, or of another one."""
    total = float(goal.total)
    own = goal.parents.size == tree.parents.size and np.array_equal(goal.parents, tree.parents)
    if own and np.array_equal(goal.leaf_map, tree.leaf_map.reshape(-1)):
        return RegionCosts._unchecked(goal.node_costs(), joined_total(goal), total**2, None)
    order = leaf_layout(tree)
    gains = 1 - 2 * goal.joined
    above = np.append(gains[goal.parents[:-1]], 0.0)
    heads = tree_kernels.path_heads(goal.parents)
    places = merge_kernels.path_places(goal.parents, heads)
    steps = np.zeros(goal.n_nodes + 1)
    steps[places + 1] = gains - above
    paths = merge_kernels.Paths(heads, places, np.cumsum(steps))
    entries = _leaf_entries(order[2][: tree.n_leaves][tree.leaf_map.reshape(-1)], goal)
    costs = merge_kernels.costs_of_other_tree(tree.parents, order, entries, goal.parents, paths)
    return RegionCosts._unchecked(costs, joined_total(goal), total**2, None)


def _leaf_entries(places: NDArray[np.int64], goal: Merges) -> merge_kernels.Entries:
    """Return what leaves at depth-first places share with the leaves of a target's tree."""
    n_leaves = goal.n_leaves
    keys, entry = np.unique(places * n_leaves + goal.leaf_map, return_inverse=True)
    masses = np.bincount(entry.reshape(-1), goal.measure).astype(np.float64)
    at, leaves = np.divmod(keys, n_leaves)
    ends = np.searchsorted(at, np.arange(int(places.max()) + 2))
    return merge_kernels.Entries(ends.astype(np.int64), leaves, masses)


def leaf_layout(
    tree: MergeTree,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Depth-first layout of the leaves, the child with most leaves last; see ``child_order``."""
    return kernels.child_order(tree.parents, leaf_counts(tree))


def leaf_counts(tree: MergeTree) -> NDArray[np.int64]:
    """Count the leaves under each node. O(nodes)."""
    return node_sizes(tree.parents, np.ones(tree.n_leaves)).astype(np.int64)


def forbidden_nodes(
    tree: MergeTree,
    *,
    minimum_size: float = 0.0,
    apart: ArrayLike | Sequence[tuple[Sequence[int], Sequence[int]]] | None = None,
) -> NDArray[np.bool_]:
    """Nodes that must not be regions under the constraints.

    Parameters
    ----------
    tree : MergeTree
        Whose nodes.
    minimum_size : float
        Nodes with a smaller size (``tree.sizes``: pixels, unless a measure was given) are out.
    apart : integer array on the grid, or sequence of pairs of pixels, optional
        As markers: nodes that hold two different non-zero markers are out. As pairs: nodes that
        hold both pixels of a pair are out.

    Returns
    -------
    bool array, shape (n_nodes,)

    Raises
    ------
    ValueError, TypeError
        If a constraint does not fit the grid, or asks two pixels of one leaf to stay apart.

    Notes
    -----
    O(nodes + pixels), plus O(log nodes) for each pair.
    """
    if not (np.isfinite(minimum_size) and minimum_size >= 0):
        raise ValueError(f"minimum_size must be a number of at least 0, got {minimum_size!r}")
    forbidden = tree.sizes < minimum_size
    if apart is None:
        return forbidden
    if isinstance(apart, np.ndarray) and apart.shape == tree.grid:
        apart_nodes = _holding_several_markers(tree, apart)
    else:
        apart_nodes = _holding_both_of_a_pair(tree, apart)
    leaf = np.flatnonzero(apart_nodes[: tree.n_leaves])
    if leaf.size:
        raise ValueError(
            f"apart must be met by the tree's leaves, but leaf {leaf[0]} holds pixels that are to "
            f"stay apart"
        )
    return forbidden | apart_nodes


def _holding_several_markers(tree: MergeTree, markers: NDArray[Any]) -> NDArray[np.bool_]:
    labels = _validate.checked_labels(markers, "apart")
    distinct, numbers = np.unique(labels, return_inverse=True)
    # 0 must stay "no marker" whatever other labels there are, negative ones included.
    zero = int(np.searchsorted(distinct, 0))
    has_zero = zero < distinct.size and distinct[zero] == 0
    compact = numbers.reshape(-1).astype(np.int32) + 1
    if has_zero:
        compact[compact == zero + 1] = 0
    return kernels.nodes_holding_several(tree.parents, tree.leaf_map.reshape(-1), compact)


def _holding_both_of_a_pair(tree: MergeTree, pairs: Any) -> NDArray[np.bool_]:
    array = _validate.as_array(pairs, "apart")
    axes = len(tree.grid)
    if array.dtype.kind not in "iu" or array.ndim != 3 or array.shape[1:] != (2, axes):
        raise ValueError(
            f"apart must be a marker map of shape {tree.grid} or pairs of pixels of shape "
            f"(pairs, 2, {axes}), got shape {array.shape} and dtype {array.dtype}"
        )
    outside = np.argwhere(((array < 0) | (array >= np.array(tree.grid))).any(axis=2))
    if outside.size:
        i, j = (int(x) for x in outside[0])
        raise ValueError(
            f"apart must hold pixels of the grid {tree.grid}, got {array[i, j].tolist()}"
        )
    above = np.zeros(tree.n_nodes)
    heads = tree_kernels.path_heads(tree.parents)
    for a, b in array:
        u, v = int(tree.leaf_map[tuple(a)]), int(tree.leaf_map[tuple(b)])
        above[tree_kernels.common_ancestor(tree.parents, heads, u, v)] = 1
    # What holds a pair is held by all ancestors.
    sum_up(tree.parents, above)
    return above > 0
