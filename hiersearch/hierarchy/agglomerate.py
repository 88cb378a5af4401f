"""Greedy merging of a region adjacency graph into a merge tree."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._sealed import sealed
from hiersearch._validate import (
    Grid,
    as_array,
    checked_choice,
    checked_count,
    checked_finite,
    checked_grid,
    checked_measure,
)
from hiersearch.hierarchy import _agglomerate_kernels as kernels
from hiersearch.hierarchy import _graph_kernels as pixel_kernels
from hiersearch.hierarchy._tree_kernels import kruskal
from hiersearch.hierarchy.graph import RegionGraph, checked_channels, numbers_of, sides_of
from hiersearch.hierarchy.linkage import Linkage, compiled_linkage
from hiersearch.hierarchy.tree import MergeTree

LARGEST_LEAVES = 2**30
"""Most leaves of a binary tree: more, and its nodes are not numbered in 32 bits."""

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
        If the graph lacks what the linkage needs, is not connected or has more than 2**30 regions,
        or if the linkage is not finite for a pair of regions.

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
    check_leaves(graph.n_regions)
    chosen = Linkage(linkage) if isinstance(linkage, str) else linkage
    if isinstance(chosen, Linkage):
        _check_needs(graph, chosen, colour_channels)
        if chosen.name == "single":
            return spanning_tree(graph.leaf_map, graph.edges, graph.contrast_min, graph.sizes)
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
        kernels.RegionSums(
            graph.sizes.copy(), graph.feature_sums.copy(), np.stack(statistics, axis=1)
        ),
        kernels.LinkageForm(code, weights, split),
        function,
        np.empty(0, numbers_of(2 * graph.n_edges)),
    )
    if status == kernels.NOT_FINITE:
        raise ValueError(
            f"the linkage of regions {one} and {other} is not finite or raised (regions from "
            f"{graph.n_regions} on are merged ones, numbered in the order of merging)"
        )
    _check_connected(merges, graph.n_regions)
    return MergeTree._of(parents, altitudes, graph.leaf_map, graph.sizes)


def kruskal_tree(
    leaf_map: ArrayLike, edges: ArrayLike, weights: ArrayLike, sizes: ArrayLike
) -> MergeTree:
    """Return the single-linkage tree of a connected graph: Kruskal's merges, in their order.

    Parameters
    ----------
    leaf_map : array_like of integers, shape ``grid``
        Region of each pixel, 0 to n - 1.
    edges : array_like of integers, shape (m, 2)
        Joined regions.
    weights : array_like of finite numbers, shape (m,)
        Weight of each edge.
    sizes : array_like of finite non-negative numbers, shape (n,)
        Measure of each region.

    Returns
    -------
    MergeTree
        Binary and increasing; altitudes are the weights of the minimum spanning tree.

    Raises
    ------
    TypeError
        If an array has no integer or real dtype where one is needed.
    ValueError
        If a shape is wrong, the graph is not connected or has more than 2**30 regions, an edge
        leads elsewhere, a weight is not finite, or the leaf map does not fit.

    Notes
    -----
    O(m α(m) + m): radix sort, then union-find. Ties go to the earlier edge.

    Examples
    --------
    >>> kruskal_tree([[0, 1, 2]], [[0, 1], [1, 2]], [5.0, 2.0], np.ones(3)).parents.tolist()
    [4, 3, 3, 4, 4]
    """
    shape = as_array(sizes, "sizes").shape
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"sizes must be 1-D and not empty, got shape {shape}")
    check_leaves(shape[0])
    measured = np.ascontiguousarray(checked_finite(sizes, "sizes"), dtype=np.float64)
    ends = as_array(edges, "edges")
    if ends.dtype.kind not in "iu":
        raise TypeError(f"edges must be an array of integers, got dtype {ends.dtype}")
    if ends.ndim != 2 or ends.shape[1] != 2:
        raise ValueError(f"edges must have shape (m, 2), got {ends.shape}")
    if ends.size and (int(ends.min()) < 0 or int(ends.max()) >= measured.size):
        raise ValueError(
            f"edges must join regions within 0..{measured.size - 1}, got {ends.min()}..{ends.max()}"
        )
    heights = np.ascontiguousarray(checked_finite(weights, "weights"), dtype=np.float64)
    if heights.shape != (ends.shape[0],):
        raise ValueError(f"weights must have shape ({ends.shape[0]},), got {heights.shape}")
    joined = np.ascontiguousarray(ends, dtype=np.int32)
    parents, altitudes = _spanning_merges(measured.size, joined.view(), heights.view())
    made = MergeTree.from_parents(parents, altitudes, leaf_map)
    if made.n_leaves != measured.size:
        raise ValueError(
            f"leaf_map must hold a region for each of the {measured.size} sizes, "
            f"got {made.n_leaves}"
        )
    if measured.min() < 0:
        raise ValueError(f"sizes must not be negative, got {measured.min()}")
    return made._with_sizes(measured)


def spanning_tree(
    leaf_map: NDArray[np.int32],
    edges: NDArray[np.int32],
    weights: NDArray[np.float64],
    sizes: NDArray[np.float64],
) -> MergeTree:
    """Return what `kruskal_tree` does, of arrays that are sound already, and keep the leaf map.

    Raises
    ------
    ValueError
        If the graph is not connected.
    """
    check_leaves(sizes.size)
    parents, altitudes = _spanning_merges(sizes.size, edges, weights)
    return MergeTree._of(parents, altitudes, leaf_map, sizes)


def _spanning_merges(
    n_regions: int, edges: NDArray[np.int32], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return parents and altitudes; ``edges`` and ``weights`` become read-only."""
    # Sealed, so that the kernels meet one kind of array, whoever calls.
    order = pixel_kernels.stable_order(sealed(weights), np.empty(0, numbers_of(weights.size)))
    merges, parents, altitudes, _ = kruskal(n_regions, sealed(edges), weights, order)
    _check_connected(merges, n_regions)
    return parents, altitudes


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
    array = as_array(image, "image")
    if grid is None:
        grid = array.shape[:2] if array.ndim == 3 else array.shape
    kinds = {"max": pixel_kernels.LARGEST_DIFFERENCE, "euclidean": pixel_kernels.EUCLIDEAN}
    kind = kinds[checked_choice(contrast, tuple(kinds), "contrast")]
    name = "boundary" if boundary else "image"
    n_pixels = math.prod(checked_grid(grid, name))
    check_leaves(n_pixels)
    values = checked_channels(array, grid, name)
    edges, weights = pixel_kernels.pixel_pairs(
        sides_of(grid), values, pixel_kernels.LARGER_VALUE if boundary else kind
    )
    checked_finite(weights, "the contrast of neighbouring pixels")
    leaf_map = np.arange(n_pixels, dtype=np.int32).reshape(grid)
    of_pixels = np.ones(n_pixels) if measure is None else checked_measure(measure, grid)
    return spanning_tree(leaf_map, edges, weights, of_pixels.reshape(-1))


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


def check_leaves(n_leaves: int) -> None:
    """Raise if a binary tree of so many leaves has nodes that are not numbered in 32 bits."""
    if n_leaves > LARGEST_LEAVES:
        raise ValueError(
            f"a hierarchy must have at most 2**30 leaves, got {n_leaves}: merge pixels to "
            "superpixels, or divide the grid"
        )
