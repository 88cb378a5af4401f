"""What a user knows for certain: pixels that belong together, pixels apart, hard boundaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.hierarchy.graph import compact_labels

Ids = NDArray[np.int64]
Where = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ConstrainedLeaves:
    """Superpixels with the constraints brought from pixels to them."""

    leaf_map: NDArray[np.int32]
    """Shape of the grid: the leaves, after splits along hard boundaries and forced unions."""
    apart: Ids
    """(pairs, 2) leaves that must not share a region."""
    groups: NDArray[np.int32]
    """(leaves,) leaves of different groups above 0 must not share a region."""
    closed: NDArray[np.bool_] | None
    """Shape of the grid, true on hard boundaries; None: there are none."""


def constrained_leaves(
    superpixels: NDArray[np.int32],
    must_link: ArrayLike | None = None,
    cannot_link: ArrayLike | None = None,
    hard_boundary: ArrayLike | None = None,
) -> ConstrainedLeaves:
    """Bring constraints between pixels to superpixels, or say which of them contradict.

    Parameters
    ----------
    superpixels : ndarray of int32, shape ``grid``
        Labels 0..n-1.
    must_link, cannot_link, hard_boundary
        As in :func:`hiersearch.refinement.metric_merging.metric_merging`.

    Returns
    -------
    ConstrainedLeaves

    Raises
    ------
    ValueError, TypeError
        If a constraint does not fit the grid or contradicts another; the message names both.

    Notes
    -----
    O(pixels + pairs). Superpixels are divided into the parts that the marked pixels of a hard
    boundary leave connected; a marked pixel goes to the part nearest to it. Superpixels with
    pixels that must be linked become one leaf.

    Examples
    --------
    >>> import numpy as np
    >>> leaves = constrained_leaves(np.array([[0, 1, 2]], np.int32), must_link=[[[0, 0], [0, 2]]])
    >>> leaves.leaf_map.tolist()
    [[0, 1, 0]]
    """
    grid = superpixels.shape
    closed = None if hard_boundary is None else _checked_marks(hard_boundary, grid)
    base = superpixels if closed is None else _divided(superpixels, closed)
    links = _linked_pixels(must_link, "must_link", grid)
    if closed is not None:
        _check_links(links, closed)
    leaf_map = _united(base, links)
    apart, groups = _kept_apart(leaf_map, base, cannot_link)
    return ConstrainedLeaves(leaf_map, apart, groups, closed)


def _checked_marks(marks: ArrayLike, grid: Where) -> NDArray[np.bool_]:
    array = _validate.as_array(marks, "hard_boundary")
    if array.dtype != np.bool_:
        raise TypeError(
            f"hard_boundary must be boolean, true on the boundary, got dtype {array.dtype}"
        )
    if array.shape != grid:
        raise ValueError(f"hard_boundary must have the grid's shape {grid}, got {array.shape}")
    if array.all():
        raise ValueError("hard_boundary must leave pixels unmarked, got all of them marked")
    return array


def _divided(superpixels: NDArray[np.int32], closed: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Split superpixels along marked pixels, which go to the nearest part."""
    from scipy import ndimage
    from skimage import measure

    parts = measure.label(np.where(closed, 0, superpixels + 1), background=0, connectivity=1)
    nearest = ndimage.distance_transform_edt(closed, return_distances=False, return_indices=True)
    return compact_labels(np.asarray(parts[tuple(nearest)]).reshape(closed.shape))[0]


def _linked_pixels(value: ArrayLike | None, name: str, grid: Where) -> Ids:
    """Pairs of flat pixel numbers (pairs, 2); of a marker map, its first pixel with each other."""
    if value is None:
        return np.empty((0, 2), np.int64)
    array = _validate.as_array(value, name)
    if array.shape != grid:
        return _flat_pairs(array, name, grid)
    markers = _validate.checked_labels(array, name).reshape(-1)
    pixels = np.flatnonzero(markers)
    _, first, number = np.unique(markers[pixels], return_index=True, return_inverse=True)
    return np.stack((pixels[first][number], pixels), axis=1)


def _flat_pairs(array: NDArray[Any], name: str, grid: Where) -> Ids:
    axes = len(grid)
    if array.dtype.kind not in "iu" or array.ndim != 3 or array.shape[1:] != (2, axes):
        raise ValueError(
            f"{name} must be a marker map of shape {grid} or pairs of pixels of shape "
            f"(pairs, 2, {axes}), got shape {array.shape} and dtype {array.dtype}"
        )
    outside = np.argwhere(((array < 0) | (array >= np.array(grid))).any(axis=2))
    if outside.size:
        i, j = (int(x) for x in outside[0])
        raise ValueError(f"{name} must hold pixels of the grid {grid}, got {array[i, j].tolist()}")
    flat: Ids = np.ravel_multi_index(tuple(np.moveaxis(array, 2, 0)), grid).astype(np.int64)
    return flat


def _check_links(links: Ids, closed: NDArray[np.bool_]) -> None:
    """Raise if pixels to be linked lie in parts of the grid that the hard boundary separates."""
    from scipy import ndimage
    from skimage import measure

    parts = np.asarray(measure.label(~closed, background=0, connectivity=1)).reshape(closed.shape)
    nearest = ndimage.distance_transform_edt(closed, return_distances=False, return_indices=True)
    of_links = parts[tuple(nearest)].reshape(-1)[links]
    wrong = np.flatnonzero(of_links[:, 0] != of_links[:, 1])
    if wrong.size:
        one, other = (_pixel(p, closed.shape) for p in links[wrong[0]])
        raise ValueError(f"must_link joins pixels {one} and {other}, but hard_boundary parts them")


def _united(base: NDArray[np.int32], links: Ids) -> NDArray[np.int32]:
    """Make one leaf of superpixels that are linked."""
    if links.shape[0] == 0:
        return base
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = base.reshape(-1)[links]
    n = int(base.max()) + 1
    graph = coo_array((np.ones(ends.shape[0], np.int8), (ends[:, 0], ends[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    return compact_labels(component.astype(np.int32)[base])[0]


def _kept_apart(
    leaf_map: NDArray[np.int32], base: NDArray[np.int32], cannot_link: ArrayLike | None
) -> tuple[Ids, NDArray[np.int32]]:
    """Pairs of leaves and groups of leaves to be kept apart."""
    grid, leaves = leaf_map.shape, leaf_map.reshape(-1)
    groups = np.zeros(int(leaves.max()) + 1, np.int32)
    pairs = np.empty((0, 2), np.int64)
    if cannot_link is None:
        return pairs, groups
    array = _validate.as_array(cannot_link, "cannot_link")
    if array.shape != grid:
        pairs = _flat_pairs(array, "cannot_link", grid)
        ends = leaves[pairs].astype(np.int64)
        wrong = np.flatnonzero(ends[:, 0] == ends[:, 1])
        if wrong.size:
            raise ValueError(_contradiction(pairs[wrong[0]], base))
        return ends, groups
    markers = _validate.checked_labels(array, "cannot_link").reshape(-1)
    pixels = np.flatnonzero(markers)
    if pixels.size == 0:
        return pairs, groups
    _, number = np.unique(markers[pixels], return_inverse=True)
    held = leaves[pixels]
    groups[held] = number + 1
    wrong = np.flatnonzero(groups[held] != number + 1)
    if wrong.size:
        pixel = pixels[wrong[0]]
        last = pixels[
            np.flatnonzero((held == leaves[pixel]) & (number + 1 == groups[leaves[pixel]]))
        ]
        raise ValueError(_contradiction(np.array([pixel, last[0]]), base))
    return pairs, groups


def _contradiction(pair: Ids, base: NDArray[np.int32]) -> str:
    one, other = (_pixel(p, base.shape) for p in pair)
    kept = f"cannot_link keeps pixels {one} and {other} apart, but "
    superpixel = int(base[one])
    if superpixel == int(base[other]):
        return f"{kept}superpixel {superpixel} holds both: choose more, smaller superpixels"
    return f"{kept}must_link joins them"


def _pixel(flat: Any, grid: Where) -> Where:
    return tuple(int(i) for i in np.unravel_index(int(flat), grid))
