"""Ultrametric contour maps: a merge tree drawn as one picture of contours, and read back."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._validate import as_array, checked_finite, checked_grid
from hiersearch.hierarchy import _tree_kernels as kernels
from hiersearch.hierarchy.agglomerate import spanning_tree
from hiersearch.hierarchy.tree import MergeTree


def ucm(tree: MergeTree) -> NDArray[np.float64]:
    """Return the ultrametric contour map of an image's merge tree.

    Parameters
    ----------
    tree : MergeTree
        Tree on a 2-D grid; altitudes are taken from `MergeTree.monotone`.

    Returns
    -------
    ndarray of float64, shape (2 H + 1, 2 W + 1)
        Pixel (i, j) is at (2 i + 1, 2 j + 1) and holds 0; the face between two pixels holds the
        altitude of the lowest common ancestor of their leaves, 0 if it is one leaf; a corner
        holds the largest value of its faces. Faces on the frame of the image hold 0.

    Raises
    ------
    ValueError
        If the tree is on a volume or has a negative altitude.

    Notes
    -----
    O((nodes + faces) log nodes) at worst, by heavy paths; thresholding the map at t leaves the
    contours of ``tree.horizontal_cut(t)``. Arbelaez et al., "Contour detection and hierarchical
    image segmentation", PAMI 2011.

    Examples
    --------
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2]])
    >>> ucm(tree)[1]
    array([0., 0., 1., 0., 5., 0., 0.])
    """
    if len(tree.grid) != 2:
        raise ValueError(f"a contour map needs a 2-D grid, got {tree.grid}")
    n_leaves = tree.n_leaves
    inner = tree.altitudes[n_leaves:]
    if inner.size and inner.min() < 0:
        node = n_leaves + int(inner.argmin())
        raise ValueError(
            "a contour map needs non-negative altitudes, "
            f"but node {node} has {tree.altitudes[node]}"
        )
    heights = tree.altitudes.copy()
    heights[:n_leaves] = 0.0
    heights = kernels.running_maximum(tree.parents, heights)
    heads = kernels.path_heads(tree.parents)
    contours: NDArray[np.float64] = kernels.contours(tree.leaf_map, tree.parents, heads, heights)
    # Each corner takes the largest of its faces, those to both sides and those above and below.
    corners = contours[::2, ::2]
    np.maximum(corners[:, 1:], contours[::2, 1::2], out=corners[:, 1:])
    np.maximum(corners[:, :-1], contours[::2, 1::2], out=corners[:, :-1])
    np.maximum(corners[1:], contours[1::2, ::2], out=corners[1:])
    np.maximum(corners[:-1], contours[1::2, ::2], out=corners[:-1])
    return contours


def ucm_picture(tree: MergeTree) -> NDArray[np.uint8]:
    """Return the contour map of a merge tree as a grey picture of the image's size.

    Parameters
    ----------
    tree : MergeTree
        Tree on a 2-D grid.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        Each pixel shows the contour at its lower right corner; 255 is the largest altitude.

    Raises
    ------
    ValueError
        As `ucm`.

    Notes
    -----
    As `ucm`.

    Examples
    --------
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2]])
    >>> ucm_picture(tree)
    array([[ 51, 255,   0]], dtype=uint8)
    """
    corners = ucm(tree)[2::2, 2::2]
    highest = float(corners.max())
    scale = 255.0 / highest if highest > 0 else 0.0
    return np.rint(corners * scale).astype(np.uint8)


def from_ucm(contours: ArrayLike) -> MergeTree:
    """Return the merge tree of an ultrametric contour map.

    Parameters
    ----------
    contours : array_like of finite non-negative numbers, shape (2 H + 1, 2 W + 1)
        Contour map laid out as by `ucm`; only the faces between pixels are read.

    Returns
    -------
    MergeTree
        Binary and increasing. The leaves are the regions that faces of value 0 connect; the
        altitude of a merge is the lowest face between both sides.

    Raises
    ------
    TypeError
        If the map does not hold real numbers.
    ValueError
        If its shape is even or smaller than (3, 3), or a value is negative or not finite.

    Notes
    -----
    O(pixels). The altitudes are the saddle heights, so a map that is not ultrametric is read as
    the largest ultrametric one below it.

    Examples
    --------
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2]])
    >>> from_ucm(ucm(tree)).altitudes.tolist()
    [0.0, 0.0, 0.0, 1.0, 5.0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    shape = as_array(contours, "contours").shape
    if len(shape) != 2 or min(shape) < 3 or 0 in (shape[0] % 2, shape[1] % 2):
        raise ValueError(f"contours must have the shape (2 H + 1, 2 W + 1), got {shape}")
    grid = checked_grid((shape[0] // 2, shape[1] // 2), "contours")
    values = checked_finite(contours, "contours").astype(np.float64)
    if values.min() < 0:
        where = tuple(int(i) for i in np.unravel_index(int(values.argmin()), values.shape))
        raise ValueError(f"contours must not be negative, got {values[where]} at index {where}")
    pixels = np.arange(grid[0] * grid[1], dtype=np.int32).reshape(grid)
    ends = np.concatenate(
        (
            np.stack((pixels[:, :-1].ravel(), pixels[:, 1:].ravel()), axis=1),
            np.stack((pixels[:-1].ravel(), pixels[1:].ravel()), axis=1),
        )
    )
    heights = np.concatenate((values[1::2, 2:-1:2].ravel(), values[2:-1:2, 1::2].ravel()))
    inside = heights == 0
    joined = coo_array(
        (np.ones(int(inside.sum()), dtype=bool), (ends[inside, 0], ends[inside, 1])),
        shape=(pixels.size, pixels.size),
    )
    n_leaves, leaves = connected_components(joined, directed=False)
    leaves = leaves.astype(np.int32)
    sizes = np.bincount(leaves, minlength=n_leaves).astype(np.float64)
    edges = np.ascontiguousarray(leaves[ends[~inside]])
    return spanning_tree(leaves.reshape(grid), edges, heights[~inside], sizes)
