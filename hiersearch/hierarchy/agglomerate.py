"""Greedy merging of a region adjacency graph into a merge tree."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._validate import (
    Grid,
    checked_choice,
    checked_count,
    checked_finite,
    checked_measure,
)
from hiersearch.hierarchy import _agglomerate_kernels as kernels
from hiersearch.hierarchy import _graph_kernels as pixel_kernels
from hiersearch.hierarchy._tree_kernels import kruskal
from hiersearch.hierarchy.graph import RegionGraph, checked_channels, sides_of
from hiersearch.hierarchy.linkage import Linkage, compiled_linkage
from hiersearch.hierarchy.tree import MergeTree, node_sizes

_CODES = {
    "average": kernels.AVERAGE,
    "complete": kernels.COMPLETE,
    "ward": kernels.WARD,
    "mean-colour": kernels.MIX,
    "mix": kernels.MIX,
}


def agglomerate(
    graph: RegionGraph,
    linkage: str | Linkage | Callable[..., float] = "average",
    *,
    colour_channels: int | None = None,
) -> MergeTree:
    """Merge the two least unlike adjacent regions until one is left.

    Parameters
    ----------
    graph : RegionGraph
        Connected graph of the regions, which become the leaves.
    linkage : str, Linkage or callable
        See `Linkage` for the names and `compiled_linkage` for functions.
    colour_channels : int, optional
        How many of the graph's leading feature columns are colours; those behind are soft
        outputs. All columns if left out.

    Returns
    -------
    MergeTree
        Binary; the altitude of an inner node is its children's linkage when they were merged.

    Raises
    ------
    TypeError
        If ``linkage`` is of another type or does not compile.
    ValueError
        If the graph breaks a rule, lacks what the linkage needs or is not connected, or if the
        linkage is not finite for a pair of regions.

    Notes
    -----
    Ties go to the pair joined by the edge that comes first in ``graph.edges``; regions without
    measure have no mean and are at colour distance 0. "single" is Kruskal's minimum spanning
    tree. O(m log m log n) for the boundary linkages, since a region's edges move to that of
    the two regions with more of them; linkages of region means also look again at every
    boundary of a merged region, O(log m) each.

    Examples
    --------
    >>> from hiersearch.hierarchy.graph import region_graph
    >>> graph = region_graph([[0, 1, 2]], [[10, 13, 90]])
    >>> agglomerate(graph, "average").altitudes.tolist()
    [0.0, 0.0, 0.0, 3.0, 77.0]
    >>> agglomerate(graph, "mean-colour").altitudes.tolist()
    [0.0, 0.0, 0.0, 3.0, 78.5]
    """
    graph.validate()
    chosen = Linkage(linkage) if isinstance(linkage, str) else linkage
    if isinstance(chosen, Linkage):
        _check_needs(graph, chosen, colour_channels)
        if chosen.name == "single":
            return kruskal_tree(graph.leaf_map, graph.edges, graph.contrast_min, graph.sizes)
        code, function = _CODES[chosen.name], None
        colour = 1.0 if chosen.name == "mean-colour" else chosen.colour
        weights = np.array([colour, chosen.soft, chosen.boundary])
    else:
        code, function, weights = kernels.CUSTOM, compiled_linkage(chosen), np.zeros(3)
    width = graph.feature_sums.shape[1]
    split = width if colour_channels is None else colour_channels
    statistics = (
        graph.boundary_length,
        graph.contrast_sum,
        graph.contrast_min,
        graph.contrast_max,
    )
    status, merges, one, other, parents, altitudes = kernels.agglomerate(
        graph.edges.copy(),
        np.stack(statistics, axis=1),
        graph.sizes.copy(),
        graph.feature_sums.copy(),
        code,
        weights,
        split,
        function,
    )
    if status == kernels.NOT_FINITE:
        raise ValueError(
            f"the linkage of regions {one} and {other} is not finite or raised (regions from "
            f"{graph.n_regions} on are merged ones, numbered in the order of merging)"
        )
    _check_connected(merges, graph.n_regions)
    return MergeTree(parents, altitudes, node_sizes(parents, graph.sizes), graph.leaf_map)


def kruskal_tree(
    leaf_map: NDArray[np.int32],
    edges: NDArray[np.int32],
    weights: NDArray[np.float64],
    sizes: NDArray[np.float64],
) -> MergeTree:
    """Return the single-linkage tree of a connected graph: Kruskal's merges, in their order.

    Parameters
    ----------
    leaf_map : ndarray of int32, shape ``grid``
        Region of each pixel.
    edges : ndarray of int32, shape (m, 2)
        Joined regions.
    weights : ndarray of float64, shape (m,)
        Finite weight of each edge.
    sizes : ndarray of float64, shape (n,)
        Measure of each region.

    Returns
    -------
    MergeTree
        Binary and increasing; altitudes are the weights of the minimum spanning tree.

    Raises
    ------
    ValueError
        If the graph is not connected, an edge leads elsewhere, or a weight is not finite.

    Notes
    -----
    O(m α(m) + m): radix sort, then union-find. Ties go to the earlier edge.

    Examples
    --------
    >>> edges = np.array([[0, 1], [1, 2]], dtype=np.int32)
    >>> leaf_map = np.array([[0, 1, 2]], dtype=np.int32)
    >>> kruskal_tree(leaf_map, edges, np.array([5.0, 2.0]), np.ones(3)).parents.tolist()
    [4, 3, 3, 4, 4]
    """
    if edges.size and (int(edges.min()) < 0 or int(edges.max()) >= sizes.size):
        raise ValueError(f"edges must join regions within 0..{sizes.size - 1}")
    if weights.shape != (edges.shape[0],):
        raise ValueError(f"weights must have shape ({edges.shape[0]},), got {weights.shape}")
    checked_finite(weights, "weights")
    order = pixel_kernels.stable_order(weights)
    merges, parents, altitudes, _ = kruskal(sizes.size, edges, weights, order)
    _check_connected(merges, sizes.size)
    return MergeTree(parents, altitudes, node_sizes(parents, sizes), leaf_map)


def pixel_tree(
    image: ArrayLike,
    grid: Grid | None = None,
    *,
    measure: ArrayLike | None = None,
    contrast: str = "max",
    boundary: bool = False,
) -> MergeTree:
    """Return the single-linkage tree whose leaves are the pixels of an image.

    Parameters
    ----------
    image : array_like of finite numbers, shape ``grid`` or ``grid + (channels,)``
        Image, or boundary map if ``boundary`` is true.
    grid : tuple of int, optional
        Shape of the grid: tells a volume (D, H, W) from an image with channels. If left out,
        a 3-D array is an image with channels, as everywhere in scikit-image.
    measure : array_like of finite non-negative numbers, shape ``grid``, optional
        Measure of each pixel; 1 if left out.
    contrast : {"max", "euclidean"}
        Weight of a pair of neighbours: largest absolute channel difference, or Euclidean
        distance.
    boundary : bool
        Whether the weight is the larger of the pair's values instead.

    Returns
    -------
    MergeTree
        Leaf p is pixel p of the flattened grid.

    Raises
    ------
    TypeError, ValueError
        If the image does not fit the grid or holds what is not a finite number.

    Notes
    -----
    O(pixels · channels): the pairs are sorted by radix, which is counting sort for the whole
    numbers that 8-bit images give.

    Examples
    --------
    >>> pixel_tree([[1, 3, 3]]).altitudes.tolist()
    [0.0, 0.0, 0.0, 0.0, 2.0]
    """
    array = np.asarray(image)
    if grid is None:
        grid = array.shape[:2] if array.ndim == 3 else array.shape
    kinds = {"max": pixel_kernels.LARGEST_DIFFERENCE, "euclidean": pixel_kernels.EUCLIDEAN}
    kind = kinds[checked_choice(contrast, tuple(kinds), "contrast")]
    values = checked_channels(array, grid, "boundary" if boundary else "image")
    edges, weights = pixel_kernels.pixel_pairs(
        sides_of(grid), values, pixel_kernels.LARGER_VALUE if boundary else kind
    )
    checked_finite(weights, "the contrast of neighbouring pixels")
    order = pixel_kernels.stable_order(weights)
    n_pixels = values.shape[0]
    _, parents, altitudes, _ = kruskal(n_pixels, edges, weights, order)
    leaf_map = np.arange(n_pixels, dtype=np.int32)
    of_pixels = np.ones(n_pixels) if measure is None else checked_measure(measure, grid)
    sizes = node_sizes(parents, of_pixels.reshape(-1))
    return MergeTree(parents, altitudes, sizes, leaf_map.reshape(grid))


def _check_needs(graph: RegionGraph, linkage: Linkage, colour_channels: int | None) -> None:
    """Raise if the graph lacks what the linkage looks at."""
    width = graph.feature_sums.shape[1]
    colours = width
    if colour_channels is not None:
        colours = checked_count(colour_channels, "colour_channels", 0, width)
    if linkage.needs_contrast and not graph.has_contrast:
        raise ValueError(
            f"linkage {linkage.name!r} compares contrasts, but the graph has none: "
            "build it with an image or a boundary map"
        )
    if linkage.needs_colour and colours == 0:
        raise ValueError(
            f"linkage {linkage.name!r} compares mean colours, but the graph has none: "
            "build it with an image"
        )
    if linkage.soft > 0 and colours == width:
        raise ValueError(
            "the mix compares soft outputs, but the graph has none: build it with "
            "features=, and say with colour_channels= how many columns are colours"
        )


def _check_connected(merges: int, n_regions: int) -> None:
    if merges < n_regions - 1:
        raise ValueError(
            f"the graph must be connected, but its {n_regions} regions form "
            f"{n_regions - merges} components"
        )
