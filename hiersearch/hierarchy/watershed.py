"""Hierarchical watersheds: basins merge in the order of their area, volume or dynamics.

Cousty and Najman, "Incremental algorithm for hierarchical minimum spanning forests and saliency
of watershed cuts", ISMM 2011; Najman, Cousty and Perret, "Playing with Kruskal: algorithms for
morphological trees in edge-weighted graphs", ISMM 2013.
"""

import numpy as np
from numpy.typing import ArrayLike

from hiersearch._sealed import sealed
from hiersearch._validate import checked_choice, checked_finite
from hiersearch.hierarchy import _tree_kernels as kernels
from hiersearch.hierarchy._graph_kernels import stable_order
from hiersearch.hierarchy.agglomerate import check_leaves, spanning_tree
from hiersearch.hierarchy.graph import RegionGraph, numbers_of
from hiersearch.hierarchy.tree import MergeTree

ATTRIBUTES = ("area", "volume", "dynamics")

_CODES = {
    "area": kernels.AREA,
    "volume": kernels.VOLUME,
    "dynamics": kernels.DYNAMICS,
}


def watershed_tree(
    graph: RegionGraph, attribute: str = "area", *, weights: ArrayLike | None = None
) -> MergeTree:
    """Return the hierarchical watershed of a region adjacency graph.

    Flood the graph, edge weights being heights: basins grow from the local minima (connected
    sets of edges of one weight with higher ones around) and meet at passes. When two meet, the
    one with the smaller attribute is absorbed, and this attribute, its persistence, is the
    altitude at which they merge. Regions that belong to the same basin merge at altitude 0.

    Parameters
    ----------
    graph : RegionGraph
        Connected graph; its regions become the leaves.
    attribute : {"area", "volume", "dynamics"}
        What a basin is worth when its flood reaches a pass: the measure of its regions; the
        measure times water depth under the pass, summed; or its depth, the height of the pass
        above the basin's lowest edge. The floor of the volume is the weight at which each part
        of the basin was joined to it.
    weights : array_like of finite non-negative numbers, shape (m,), optional
        Height of each edge; the mean contrast along each boundary if left out.

    Returns
    -------
    MergeTree
        Binary and increasing, with persistences as altitudes: in units of measure, of measure
        times weight, or of weight.

    Raises
    ------
    TypeError
        If ``weights`` does not hold real numbers.
    ValueError
        If the attribute is unknown, weights are missing, negative, not finite or of another
        shape, or the graph is not connected.

    Notes
    -----
    O(m) radix passes and O(m α(m)) union-find: Kruskal's tree of the weights gives each merge
    its persistence, the smaller of the two children's attributes; Kruskal's tree of the
    spanning tree's edges weighted so is the result. At a plateau, a chain of merges of one
    weight, only the last holds the attribute; those under it pass on their largest child's.

    Examples
    --------
    >>> from hiersearch.hierarchy.graph import region_graph
    >>> graph = region_graph([[0, 1, 2, 3]], [[0, 1, 9, 9]])
    >>> watershed_tree(graph, "area").altitudes.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    """
    checked_choice(attribute, ATTRIBUTES, "attribute")
    if weights is None:
        if not graph.has_contrast:
            raise ValueError(
                "a watershed needs edge weights, but the graph has no contrast: build it with an "
                "image or a boundary map, or give weights"
            )
        heights = graph.contrast_mean
    else:
        heights = np.ascontiguousarray(checked_finite(weights, "weights"), dtype=np.float64)
    if heights.shape != (graph.n_edges,):
        raise ValueError(
            f"weights must have one value per edge, shape ({graph.n_edges},), got {heights.shape}"
        )
    if heights.size and heights.min() < 0:
        worst = int(heights.argmin())
        raise ValueError(f"weights must not be negative, got {heights[worst]} at edge {worst}")
    n_regions = graph.n_regions
    check_leaves(n_regions)
    heights = sealed(heights.view())
    order = stable_order(heights, np.empty(0, numbers_of(heights.size)))
    merges, parents, altitudes, used = kernels.kruskal(n_regions, graph.edges, heights, order)
    if merges < n_regions - 1:
        raise ValueError(
            f"the graph must be connected, but its {n_regions} regions form "
            f"{n_regions - merges} components"
        )
    persistence = kernels.persistences(parents, altitudes, graph.sizes, _CODES[attribute])
    return spanning_tree(graph.leaf_map, graph.edges[used], persistence, graph.sizes)
