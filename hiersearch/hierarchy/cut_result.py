"""What searches over cuts share: targets, constraints, costs made ready, and the cut found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch.device.choice import resolved
from hiersearch.hierarchy import _cut_kernels as kernels
from hiersearch.hierarchy.costs import RegionCosts, forbidden_nodes, region_costs
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions.inputs import PartitionLike
from hiersearch.partitions.partition import Partition

Target = PartitionLike | RegionCosts
Apart = ArrayLike | Sequence[tuple[Sequence[int], Sequence[int]]] | None


@dataclass(frozen=True, slots=True, eq=False)
class CutResult:
    """A cut that a search found: the nearest among the partitions that it stands for."""

    tree: MergeTree
    """The tree that was cut."""
    nodes: NDArray[np.int64]
    """(regions,) node ids of the cut, ascending."""
    distance: float
    """Distance to the target, normalised: in [0, 1) for ρ (without a class term)."""
    log10_candidates: float
    """Common logarithm of the number of partitions that this is the best of."""
    altitude: float | None = None
    """For a horizontal cut, the altitude at which it begins (−inf: the leaves)."""
    classes: NDArray[np.int32] | None = None
    """(regions,) class of each region, where classes counted; else None."""

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return int(self.nodes.size)

    @property
    def labels(self) -> NDArray[np.int32]:
        """Label map at full resolution: pixels of ``nodes[i]`` have label i. O(pixels)."""
        return self.tree.labels_of(self.nodes)

    @property
    def partition(self) -> Partition:
        """The partition at full resolution. O(pixels)."""
        return Partition.from_labels(self.labels)

    @property
    def candidates(self) -> str:
        """The number of partitions that this is the best of, in words: "17" or "3.2e+41"."""
        return in_words(self.log10_candidates)

    def __repr__(self) -> str:
        """Name distance, regions and what it is the best of."""
        return (
            f"<CutResult: distance {self.distance:.6g}, {self.n_regions} regions, "
            f"best of {self.candidates}>"
        )


def in_words(log10: float) -> str:
    """Return a number given by its common logarithm: exact below 10¹⁵, else like 3.2e+41."""
    if log10 < 15:
        return str(round(10.0**log10))
    exponent = math.floor(log10)
    return f"{10.0 ** (log10 - exponent):.1f}e+{exponent}"


def prepared_costs(
    tree: MergeTree,
    target: Target,
    class_weight: float = 0.0,
    minimum_size: float = 0.0,
    apart: Apart = None,
    device: str | None = "cpu",
) -> RegionCosts:
    """Costs of ``target`` on ``tree`` under the constraints; ready costs are taken as they are."""
    resolved(device)
    if isinstance(target, RegionCosts):
        costs = target
        costs.check_fits(tree, "target")
        if class_weight:
            raise ValueError("class_weight must be given when the costs are made, not to a search")
    else:
        costs = region_costs(tree, target, class_weight=class_weight, device=device)
    if minimum_size == 0 and apart is None:
        return costs
    return costs.forbidding(forbidden_nodes(tree, minimum_size=minimum_size, apart=apart))


def finished(
    tree: MergeTree,
    costs: RegionCosts,
    nodes: NDArray[np.int64],
    log10_candidates: float,
    altitude: float | None = None,
) -> CutResult:
    """Return the result for a cut, its distance summed anew over its nodes."""
    raw = costs.constant + float(costs.costs[nodes].sum())
    distance = max(0.0, raw / costs.scale)
    classes = None if costs.classes is None else costs.classes[nodes]
    return CutResult(tree, nodes, distance, log10_candidates, altitude, classes)


def log10_cuts(tree: MergeTree, costs: RegionCosts | None = None) -> float:
    """Return log10 of the number of cuts of a tree, of those allowed if costs are given.

    Examples
    --------
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> round(10 ** log10_cuts(tree))
    3
    """
    allowed = np.ones(tree.n_nodes, np.bool_)
    if costs is not None:
        costs.check_fits(tree, "costs")
        allowed = np.isfinite(costs.costs)
    counts = kernels.log_counts(tree.parents, allowed, tree.n_leaves)
    return float(counts[tree.root]) / math.log(10.0)
