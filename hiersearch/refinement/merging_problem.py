"""What greedy merging has to know of the leaves and of their pairs, summed from the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.hierarchy import _cost_kernels
from hiersearch.hierarchy.costs import _as_channels
from hiersearch.hierarchy.graph import RegionGraph, numbers_of, region_graph, sides_of
from hiersearch.metric.queries import float_measure
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, Memberships, SoftPartition
from hiersearch.refinement import _merging_kernels as kernels
from hiersearch.refinement.constraints import ConstrainedLeaves

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MergingProblem:
    """The sums that merging needs, in the kernel's form; everything normalised but the sums."""

    edges: NDArray[np.int32]
    """(m, 2) pairs of leaves that touch, share known pairs of pixels, or are to stay apart."""
    statistics: Floats
    """(m, 4) gain and weight of known pairs, whether they may merge, whether they touch."""
    sizes: Floats
    """(leaves,) measure."""
    rows: tuple[NDArray[np.int64], NDArray[np.int32], Floats, int]
    """Channel sums of the leaves as compressed rows, and the number of channels."""
    classes: Floats
    """(leaves, c) class sums, c = 0 where classes do not count."""
    groups: NDArray[np.int32]
    """(leaves,) leaves of different groups above 0 stay apart."""
    prices: Floats
    """Of a pair of pixels, of a pixel under another class name, of a region."""
    objective: float
    """Of the leaves."""


def merging_problem(
    goal: Partition | SoftPartition,
    leaves: ConstrainedLeaves,
    prices: tuple[float, float],
    evidence: NDArray[np.float64] | None,
    boundary_weight: float,
    touching_or_not: bool,
) -> MergingProblem:
    """Sum up what merging needs to know of the leaves and of their pairs."""
    leaf_map, flat = leaves.leaf_map, leaves.leaf_map.reshape(-1)
    graph = region_graph(leaf_map, boundary=leaves.closed, colours=False)
    n, measure = graph.n_regions, float_measure(goal)
    sizes = np.bincount(flat, measure if measure.size else None).astype(np.float64)
    pairs = np.zeros((graph.n_edges, 4))
    # A face is open between two unmarked pixels; on a graph without marks all contrasts are 0.
    pairs[:, kernels.OPEN] = graph.contrast_min == 0
    objective = prices[0] * n
    total = float(sizes.sum())
    pair_price = 0.0
    rows = (np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0), 0)
    edges = graph.edges
    if evidence is not None and boundary_weight > 0:
        objective += _add_evidence(pairs, leaf_map, evidence, boundary_weight)
    if isinstance(goal, Affinities):
        known, sums, base = _affinity_sums(goal, leaf_map, n)
        objective += base
        if touching_or_not:
            sums[:, kernels.OPEN] = 1
        edges, pairs = _joined(edges, pairs, known, sums, n)
    else:
        values, channels, n_channels = _as_channels(goal)
        rows = _rows(values, channels, flat, measure, n, n_channels)
        pair_price = 1 / total**2
        squares = np.square(np.bincount(rows[1], rows[2], n_channels)).sum()
        objective += float(squares + sizes @ sizes - 2 * (rows[2] @ rows[2])) * pair_price
    if leaves.apart.size:
        forbidden = np.zeros((leaves.apart.shape[0], 4))
        forbidden[:, kernels.ALLOWED] = 1
        edges, pairs = _joined(edges, pairs, np.sort(leaves.apart, axis=1), forbidden, n)
    # Summed like the others: what is forbidden once is forbidden.
    pairs[:, kernels.ALLOWED] = pairs[:, kernels.ALLOWED] == 0
    pairs[:, kernels.OPEN] = pairs[:, kernels.OPEN] > 0
    classes = np.empty((n, 0))
    if prices[1] > 0:
        assert isinstance(goal, Memberships)
        by_class = _cost_kernels.dense_leaf_sums(goal.values, flat, measure, n)
        classes = np.ascontiguousarray(by_class.T)
        objective += prices[1] * float((sizes - classes.max(axis=1)).sum()) / total
    of_kinds = np.array([pair_price, prices[1] / total, prices[0]])
    return MergingProblem(edges, pairs, sizes, rows, classes, leaves.groups, of_kinds, objective)


def _rows(
    values: NDArray[Any],
    channels: NDArray[np.int32] | None,
    flat: NDArray[np.int32],
    measure: Floats,
    n: int,
    n_channels: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats, int]:
    if channels is not None:
        sparse = _cost_kernels.sparse_leaf_sums(values, channels, flat, measure, n, n_channels)
        return (*sparse, n_channels)
    dense = _cost_kernels.dense_leaf_sums(values, flat, measure, n)
    offsets = np.arange(n + 1, dtype=np.int64) * n_channels
    names = np.tile(np.arange(n_channels, dtype=np.int32), n)
    return offsets, names, np.ascontiguousarray(dense.T).reshape(-1), n_channels


def _add_evidence(
    pairs: Floats, leaf_map: NDArray[np.int32], evidence: NDArray[np.float64], weight: float
) -> float:
    """Add the gain of the faces between regions; return the disagreement of the leaves."""
    graph: RegionGraph = region_graph(leaf_map, boundary=evidence, colours=False)
    faces, heights = 0, 0.0
    for axis in range(evidence.ndim):
        along = np.moveaxis(evidence, axis, 0)
        higher = np.maximum(along[1:], along[:-1])
        faces, heights = faces + higher.size, heights + float(higher.sum())
    unit = weight / max(1, faces)
    pairs[:, kernels.GAIN] += unit * (graph.boundary_length - 2 * graph.contrast_sum)
    pairs[:, kernels.STAKE] += unit * graph.boundary_length
    between = float(graph.contrast_sum.sum())
    return unit * (heights - 2 * between + float(graph.boundary_length.sum()))


def _affinity_sums(
    goal: Affinities, leaf_map: NDArray[np.int32], n: int
) -> tuple[NDArray[np.int32], Floats, float]:
    """Return pairs of leaves, their (m, 4) statistics and the distance of the leaves."""
    steps = np.zeros((goal.offsets.shape[0], 3), np.int64)
    steps[:, 3 - len(goal.grid) :] = goal.offsets
    capacity = 1 << max(10, (8 * n - 1).bit_length())
    while True:
        table = np.zeros(capacity, numbers_of(capacity // 2))
        ends, sums, count, totals = kernels.pair_sums(
            leaf_map.reshape(-1),
            sides_of(goal.grid),
            steps,
            goal.values,
            goal.weights,
            float_measure(goal),
            n,
            table,
        )
        if count >= 0:
            break
        capacity *= 4
    statistics = np.zeros((count, 4))
    statistics[:, : kernels.STAKE + 1] = sums[:count] / totals[2]
    return ends[:count], statistics, float((totals[0] + totals[1]) / totals[2])


def _joined(
    edges: NDArray[Any], pairs: Floats, more: NDArray[Any], values: Floats, n: int
) -> tuple[NDArray[np.int32], Floats]:
    """Add the statistics of further pairs of leaves to those of the edges, sorted."""
    both = np.concatenate((edges.astype(np.int64), more.astype(np.int64)))
    keys, number = np.unique(both[:, 0] * n + both[:, 1], return_inverse=True)
    every = np.concatenate((pairs, values))
    summed = np.stack([np.bincount(number, column, keys.size) for column in every.T], axis=1)
    ends = np.stack((keys // n, keys % n), axis=1).astype(np.int32)
    return ends, np.ascontiguousarray(summed)
