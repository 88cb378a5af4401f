"""The region adjacency graph: from a label map and an image, in one pass over the pixels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._sealed import Sealed, private
from hiersearch._validate import (
    LARGEST_INT32,
    Grid,
    as_array,
    checked_choice,
    checked_finite,
    checked_grid,
    checked_labels,
    checked_measure,
)
from hiersearch.hierarchy import _graph_kernels as kernels
from hiersearch.hierarchy._tree_kernels import first_unused_leaf
from hiersearch.hierarchy.tree import is_identity
from hiersearch.partitions.partition import Partition

if TYPE_CHECKING:
    import networkx as nx

_CONTRASTS = {"max": kernels.LARGEST_DIFFERENCE, "euclidean": kernels.EUCLIDEAN}


@dataclass(frozen=True, slots=True, eq=False)
class RegionGraph(Sealed):
    """The regions of a partition and their common boundaries.

    Two regions are adjacent where two of their pixels share a face: 4 neighbours a pixel in
    an image, 6 in a volume. The constructor checks arrays of the types below, as `validate` does,
    and copies them; a graph's arrays are read-only.

    Parameters
    ----------
    leaf_map : ndarray of int32, shape ``grid``
        Region of each pixel, 0 to n - 1; regions need not be connected.
    edges : ndarray of int32, shape (m, 2)
        Adjacent regions u < v, sorted by u and then v.
    boundary_length : ndarray of float64, shape (m,)
        Number of pixel faces between u and v.
    contrast_sum, contrast_min, contrast_max : ndarray of float64, shape (m,)
        Sum, minimum and maximum over these faces of the contrast of the two pixels; zero
        throughout if `has_contrast` is false.
    sizes : ndarray of float64, shape (n,)
        Measure of each region.
    feature_sums : ndarray of float64, shape (n, d)
        Sum over the pixels of each region of measure times channel value.
    has_contrast : bool
        Whether the graph was made with an image or a boundary map.

    Examples
    --------
    >>> graph = region_graph([[5, 5, 9], [5, 2, 9]], [[1, 1, 4], [1, 8, 4]])
    >>> graph.leaf_map.tolist(), graph.edges.tolist()
    ([[1, 1, 2], [1, 0, 2]], [[0, 1], [0, 2], [1, 2]])
    >>> graph.boundary_length.tolist(), graph.contrast_sum.tolist()
    ([2.0, 1.0, 1.0], [14.0, 4.0, 3.0])
    """

    leaf_map: NDArray[np.int32]
    edges: NDArray[np.int32]
    boundary_length: NDArray[np.float64]
    contrast_sum: NDArray[np.float64]
    contrast_min: NDArray[np.float64]
    contrast_max: NDArray[np.float64]
    sizes: NDArray[np.float64]
    feature_sums: NDArray[np.float64]
    has_contrast: bool = True

    def __post_init__(self) -> None:
        for name in self.__match_args__[:-1]:
            self._keep(**{name: private(as_array(getattr(self, name), name))})
        self.validate()

    @property
    def grid(self) -> Grid:
        """Shape of the image: (H, W) or (D, H, W)."""
        return self.leaf_map.shape

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return int(self.sizes.shape[0])

    @property
    def n_edges(self) -> int:
        """Number of pairs of adjacent regions."""
        return int(self.edges.shape[0])

    @property
    def contrast_mean(self) -> NDArray[np.float64]:
        """Mean contrast along each boundary, shape (m,)."""
        return self.contrast_sum / self.boundary_length

    def validate(self) -> None:
        """Check what merging relies on.

        Raises
        ------
        TypeError
            If an array has another dtype than the class states.
        ValueError
            If an array has another shape or breaks a rule; the sentence names both.

        Notes
        -----
        O(n d + m + pixels).

        Examples
        --------
        >>> region_graph([[0, 1]], [[3, 7]]).validate()
        """
        for name, axes in (("sizes", 1), ("edges", 2), ("feature_sums", 2)):
            array = getattr(self, name)
            if array.ndim != axes:
                raise ValueError(f"{name} must be {axes}-D, got shape {array.shape}")
        n_regions, n_edges = self.n_regions, self.n_edges
        for name, dtype, shape in (
            ("leaf_map", np.int32, self.leaf_map.shape),
            ("edges", np.int32, (n_edges, 2)),
            ("boundary_length", np.float64, (n_edges,)),
            ("contrast_sum", np.float64, (n_edges,)),
            ("contrast_min", np.float64, (n_edges,)),
            ("contrast_max", np.float64, (n_edges,)),
            ("sizes", np.float64, (n_regions,)),
            ("feature_sums", np.float64, (n_regions, self.feature_sums.shape[-1])),
        ):
            array = getattr(self, name)
            if array.dtype != dtype:
                raise TypeError(f"{name} must have dtype {np.dtype(dtype)}, got {array.dtype}")
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
            if dtype == np.float64:
                checked_finite(array, name)
        checked_grid(self.leaf_map.shape, "leaf_map")
        low, high = int(self.leaf_map.min()), int(self.leaf_map.max())
        if low < 0 or high >= n_regions:
            raise ValueError(f"leaf_map must lie within 0..{n_regions - 1}, got {low}..{high}")
        unused = first_unused_leaf(self.leaf_map.reshape(-1), n_regions)
        if unused >= 0:
            raise ValueError(f"leaf_map must hold every region, but region {unused} has no pixel")
        if n_edges:
            u, v = self.edges[:, 0].astype(np.int64), self.edges[:, 1].astype(np.int64)
            if int(u.min()) < 0 or int(v.max()) >= n_regions or not (u < v).all():
                raise ValueError(f"edges must join regions u < v within 0..{n_regions - 1}")
            if not (np.diff(u * n_regions + v) > 0).all():
                raise ValueError("edges must be sorted by u and then v, each pair once")
            if self.boundary_length.min() <= 0:
                raise ValueError("boundary_length must be positive")
        if self.sizes.min() < 0:
            raise ValueError("sizes must not be negative")

    def to_networkx(self) -> "nx.Graph[int]":
        """Return the graph for NetworkX.

        Returns
        -------
        networkx.Graph
            Nodes 0..n-1 with ``size`` and ``feature_sum`` (an array of d numbers); edges with
            ``boundary_length``, ``contrast_sum``, ``contrast_min`` and ``contrast_max``.

        Notes
        -----
        O(n d + m), in Python objects.

        Examples
        --------
        >>> region_graph([[0, 1]], [[3, 7]]).to_networkx().edges[0, 1]["contrast_sum"]
        4.0
        """
        import networkx as nx

        graph: nx.Graph[int] = nx.Graph()
        for region, size in enumerate(self.sizes.tolist()):
            graph.add_node(region, size=size, feature_sum=self.feature_sums[region].copy())
        columns = zip(
            self.edges.tolist(),
            self.boundary_length.tolist(),
            self.contrast_sum.tolist(),
            self.contrast_min.tolist(),
            self.contrast_max.tolist(),
            strict=True,
        )
        for (one, other), length, total, low, high in columns:
            graph.add_edge(
                one,
                other,
                boundary_length=length,
                contrast_sum=total,
                contrast_min=low,
                contrast_max=high,
            )
        return graph


def region_graph(
    labels: ArrayLike,
    image: ArrayLike | None = None,
    *,
    boundary: ArrayLike | None = None,
    features: ArrayLike | None = None,
    measure: ArrayLike | None = None,
    contrast: str = "max",
    colours: bool = True,
) -> RegionGraph:
    """Build the region adjacency graph of a label map.

    Parameters
    ----------
    labels : array_like of integers, shape (H, W) or (D, H, W)
        Any label values; regions are numbered in ascending order of them. A label whose pixels
        lie apart stays one region.
    image : array_like of finite numbers, shape ``grid`` or ``grid + (channels,)``, optional
        Its channels give the contrast, and the first columns of ``feature_sums``.
    boundary : array_like of finite numbers, shape ``grid``, optional
        Boundary map. If given, the contrast of two pixels is the larger of its two values,
        and the image gives none.
    features : array_like of finite numbers, shape ``grid`` or ``grid + (channels,)``, optional
        Further channels, whose sums follow those of the image; they give no contrast.
    measure : array_like of finite non-negative numbers, shape ``grid``, optional
        Measure of each pixel; 1 if left out.
    contrast : {"max", "euclidean"}
        Contrast of two pixels of the image: their largest absolute difference over channels,
        or the Euclidean distance of their channel values; in the image's unit.
    colours : bool
        Whether to sum the image's channels over the regions; linkages that compare boundaries
        only have no use for it.

    Returns
    -------
    RegionGraph

    Raises
    ------
    TypeError
        If an array has no integer or real dtype where one is needed.
    ValueError
        If shapes differ, a value is not finite, or the sums exceed float64.

    Notes
    -----
    O(pixels · channels + edges + regions) expected time: one pass over the pixels with an
    open-addressing table of edges. uint8, uint16, float32 and float64 images are read as they
    are.

    Examples
    --------
    >>> graph = region_graph([[0, 0, 1]], [[[2, 0], [4, 0], [9, 1]]])
    >>> graph.contrast_max.tolist(), graph.feature_sums.tolist()
    ([5.0], [[6.0, 0.0], [9.0, 1.0]])
    """
    checked_choice(contrast, tuple(_CONTRASTS), "contrast")
    label_map = checked_labels(labels, "labels")
    grid: Grid = label_map.shape
    leaf_map, n_regions = compact_labels(label_map)
    channels = None if image is None else checked_channels(image, grid, "image")
    weights = None if measure is None else checked_measure(measure, grid).reshape(-1)
    if boundary is not None:
        given = as_array(boundary, "boundary")
        if given.shape != grid:
            raise ValueError(f"boundary must have the labels' shape {grid}, got {given.shape}")
        compared: NDArray[Any] | None = checked_channels(given, grid, "boundary")
        kind = kernels.LARGER_VALUE
    else:
        compared, kind = channels, _CONTRASTS[contrast]
    flat = leaf_map.reshape(-1)
    edges, statistics = _boundaries(flat, grid, compared, kind, n_regions)
    summed = _or_none(channels if colours else None, flat)
    if summed.shape[1] or weights is not None:
        sizes, sums = kernels.region_sums(flat, summed, _or_ones(weights), n_regions)
    else:
        sizes, sums = np.bincount(flat).astype(np.float64), np.zeros((n_regions, 0))
    if features is not None:
        further = checked_channels(features, grid, "features")
        _, more = kernels.region_sums(flat, further, _or_ones(weights), n_regions)
        sums = np.hstack((sums, more))
    for name, total in (("contrasts", statistics), ("measure times values", sums)):
        if not np.isfinite(total).all():
            raise ValueError(f"the sums of {name} exceed the range of float64: scale the image")
    return RegionGraph._unchecked(leaf_map, edges, *statistics, sizes, sums, compared is not None)


def compact_labels(labels: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int32], int]:
    """Return a label map with labels 0..n-1 in ascending order of the given ones, and n.

    Parameters
    ----------
    labels : ndarray of integers, any shape with at least one element
        Any values, 64-bit ones included.

    Returns
    -------
    compact : ndarray of int32, same shape
    count : int
        Number of distinct labels.

    Notes
    -----
    O(pixels + distinct log distinct): pixels are never sorted. Small ranges go through a
    lookup table, others through a hash table.

    Examples
    --------
    >>> compact_labels(np.array([[-7, 2**62], [-7, 3]]))
    (array([[0, 2],
           [0, 1]], dtype=int32), 3)
    """
    if labels.dtype == np.uint64:
        # Flipping the top bit keeps the order and brings all values within int64.
        labels = (labels ^ np.uint64(2**63)).view(np.int64)
    low = int(labels.min())
    span = int(labels.max()) - low + 1
    if span > 4 * labels.size + 1024:
        partition = Partition.from_labels(labels)
        return partition.labels, partition.n_regions
    offsets = labels.reshape(-1)
    if low != 0:
        offsets = offsets.astype(np.int64) - low
    present = np.bincount(offsets.astype(np.int64, copy=False), minlength=span) > 0
    if low == 0 and present.all():
        return np.array(labels, dtype=np.int32, order="C"), span
    numbers = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return numbers[offsets].reshape(labels.shape), int(numbers[-1]) + 1


def checked_channels(image: ArrayLike, grid: Grid, name: str) -> NDArray[Any]:
    """Return an image on ``grid`` as contiguous rows (pixels, channels) of finite numbers.

    Parameters
    ----------
    image : array_like of real numbers, shape ``grid`` or ``grid + (channels,)``
        The dtypes uint8, uint16, float32 and float64 are kept.
    grid : tuple of int
        Shape that the image must have.
    name : str
        What messages call the image.

    Returns
    -------
    ndarray of uint8, uint16, float32 or float64, shape (pixels, channels)

    Raises
    ------
    TypeError
        If the image does not hold real numbers.
    ValueError
        If its shape does not fit ``grid``, or a value is not finite.

    Notes
    -----
    O(values); copies only where the dtype or the memory layout demands it.

    Examples
    --------
    >>> checked_channels(np.zeros((4, 5, 3), np.uint8), (4, 5), "image").shape
    (20, 3)
    """
    array = as_array(image, name)
    checked_grid(grid, name)
    if array.shape[: len(grid)] != grid or array.ndim not in (len(grid), len(grid) + 1):
        raise ValueError(
            f"{name} must have the shape {grid} or {grid} with channels behind, got {array.shape}"
        )
    if array.ndim > len(grid) and array.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one channel, got shape {array.shape}")
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    elif array.dtype not in (np.uint8, np.uint16):
        array = checked_finite(array, name)
    native = array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype=native).reshape(int(np.prod(grid)), -1)


def numbers_of(count: int) -> type[np.signedinteger[Any]]:
    """Return the type that numbers so many things: int32, of half the size, as long as it can.

    Pairs of pixels or regions may be more than 2**31 - 1 where the pixels are not.

    Examples
    --------
    >>> numbers_of(3 * 2**20), numbers_of(3 * 2**30)
    (<class 'numpy.int32'>, <class 'numpy.int64'>)
    """
    return np.int32 if count <= LARGEST_INT32 else np.int64


def sides_of(grid: Grid) -> tuple[int, int, int]:
    """Return a grid as (depth, height, width); the depth of an image is 1."""
    depth = grid[0] if len(grid) == 3 else 1
    return depth, grid[-2], grid[-1]


def _or_none(channels: NDArray[Any] | None, flat: NDArray[np.int32]) -> NDArray[Any]:
    return np.empty((flat.size, 0), dtype=np.uint8) if channels is None else channels


def _or_ones(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return np.empty(0) if weights is None else weights


def _boundaries(
    flat: NDArray[np.int32], grid: Grid, compared: NDArray[Any] | None, kind: int, n_regions: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return edges and statistics; pixels as regions need no table, their pairs are the edges."""
    values = _or_none(compared, flat)
    if n_regions == flat.size and is_identity(flat):
        edges, weights = kernels.pixel_pairs(sides_of(grid), values, kind)
        return edges, np.stack((np.ones(weights.size), weights, weights, weights))
    capacity = 1 << max(10, (8 * n_regions - 1).bit_length())
    while True:
        table = np.zeros(capacity, numbers_of(capacity // 2))
        ends, rows, count = kernels.boundaries(flat, sides_of(grid), values, kind, n_regions, table)
        if count >= 0:
            break
        # Connected regions of an image have fewer edges than that; scattered ones may not.
        capacity *= 4
    order = np.argsort(ends[:count, 0].astype(np.int64) * n_regions + ends[:count, 1])
    return ends[order], np.ascontiguousarray(rows[order].T)
