"""Partitions of another size, brought to a grid: labels by nearest pixel, probabilities by area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.hierarchy._tree_kernels import running_maximum
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Memberships, Merges, SoftPartition

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def resampled_labels(labels: ArrayLike, grid: tuple[int, ...]) -> NDArray[np.integer[Any]]:
    """Bring a label map to a grid: each pixel takes the label under its centre.

    Parameters
    ----------
    labels : integer or boolean array, shape (H, W) or (D, H, W)
        Label map, stretched along each axis by its own factor so that it fills the grid.
    grid : tuple of int
        Shape of the result, of as many axes.

    Returns
    -------
    integer array, shape ``grid``
        Of the type of ``labels``. A centre on the edge between two pixels takes the latter.

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If the grid is none, or has another number of axes.

    Notes
    -----
    O(pixels of the grid). Along an axis of s pixels brought to t, pixel i takes
    ``floor((i + 1/2) s / t)``, computed in integers. Regions smaller than a pixel of the grid may
    vanish.

    Examples
    --------
    >>> resampled_labels([[1, 2, 3, 4, 5, 6]], (2, 3))
    array([[2, 4, 6],
           [2, 4, 6]])
    """
    array = _validate.checked_labels(labels, "labels")
    target = _checked_target(array.shape, grid, "labels")
    if target == array.shape:
        return array
    places = [
        (2 * np.arange(t) + 1) * s // (2 * t) for s, t in zip(array.shape, target, strict=True)
    ]
    return array[np.ix_(*places)]


def resampled_probabilities(probabilities: ArrayLike, grid: tuple[int, ...]) -> NDArray[Any]:
    """Bring probabilities to a grid: each pixel takes the mean over its area.

    Parameters
    ----------
    probabilities : float array, shape (k, H, W) or (k, D, H, W)
        Channels, stretched along each axis by its own factor so that they fill the grid.
    grid : tuple of int
        Shape of the result, of as many axes.

    Returns
    -------
    float array, shape (k, *grid)
        Of the type of ``probabilities``, computed in double precision. Sums over channels, and
        the mean of each channel over the whole grid, stay what they were.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If a value is not finite, the grid is none, or has another number of axes.

    Notes
    -----
    O(k · (pixels of both grids)).

    Examples
    --------
    >>> resampled_probabilities([[[1.0, 0.0, 0.5]]], (1, 2))
    array([[[0.66666667, 0.33333333]]])
    """
    values = _validate.checked_finite(probabilities, "probabilities")
    if values.ndim not in (3, 4):
        raise ValueError(
            "probabilities must have shape (k, H, W) or (k, D, H, W), "
            f"with the channels first, got {values.shape}"
        )
    target = _checked_target(values.shape[1:], grid, "probabilities")
    if target == values.shape[1:]:
        return values
    weights = area_weights(values.shape[1:], target)
    out = np.empty((values.shape[0], *target), values.dtype)
    for channel, field in zip(out, values, strict=True):
        channel[...] = (weights @ field.reshape(-1).astype(np.float64)).reshape(target)
    return out


def area_weights(source: tuple[int, ...], target: tuple[int, ...]) -> csr_array:
    """Return the share of each target pixel's area that each source pixel covers.

    Parameters
    ----------
    source, target : tuple of int
        Two grids with the same number of axes, laid over each other.

    Returns
    -------
    csr_array of float64, shape (pixels of target, pixels of source)
        Each row sums to 1.

    Notes
    -----
    A product over the axes: O(Π (s + t)) numbers. Along each axis the edges of both grids are
    integers in units of 1/(s t) of the whole side, so the overlaps are exact before the division.
    """
    from scipy.sparse import csr_array, kron

    product = csr_array(np.ones((1, 1)))
    for s, t in zip(source, target, strict=True):
        edges = np.union1d(np.arange(t + 1) * s, np.arange(s + 1) * t)
        lengths = np.diff(edges) / s
        overlaps = csr_array((lengths, (edges[:-1] // s, edges[:-1] // t)), shape=(t, s))
        product = csr_array(kron(product, overlaps, format="csr"))
    return product


@overload
def resampled(
    query: Partition | NDArray[Any], grid: tuple[int, ...], name: str = "query"
) -> Partition: ...
@overload
def resampled(
    query: SoftPartition, grid: tuple[int, ...], name: str = "query"
) -> SoftPartition: ...
def resampled(
    query: Partition | SoftPartition | NDArray[Any], grid: tuple[int, ...], name: str = "query"
) -> Partition | SoftPartition:
    """Bring a partition of any kind to a grid.

    Parameters
    ----------
    query : Partition, SoftPartition, or integer or boolean array
        Hard ones take :func:`resampled_labels`; probabilities, dense or sparse, are averaged over
        the area of each pixel, sparse ones staying sparse.
    grid : tuple of int
        The grid to bring it to.
    name : str
        What messages call it.

    Returns
    -------
    Partition or SoftPartition
        On ``grid``; one that already lies there is returned as it is.

    Raises
    ------
    TypeError
        If an array is not of integers.
    ValueError
        If the number of axes differs, if it carries a measure (the weights of pixels belong to
        their grid), or if it is a map of affinities: they are known at offsets of whole pixels
        and have no meaning on another grid.

    Notes
    -----
    O(k · (pixels of both grids)).

    Examples
    --------
    >>> import numpy as np
    >>> resampled(np.array([[0, 0, 1, 1]]), (2, 2)).labels
    array([[0, 1],
           [0, 1]], dtype=int32)
    """
    if not isinstance(query, Partition | SoftPartition):
        labels = _validate.checked_labels(query, name)
        _checked_target(labels.shape, grid, name)
        return Partition.from_labels(resampled_labels(labels, grid))
    target = _checked_target(query.grid, grid, name)
    if query.grid == target:
        return query
    if isinstance(query, Merges):
        raise ValueError(
            f"{name} must lie on the grid {target} if it is of a hierarchy, got {query.grid}: make "
            "the hierarchy of an image of that size"
        )
    if not isinstance(query, Partition | Memberships):
        raise ValueError(
            f"{name} must lie on the grid {target} if it is a map of affinities, whose offsets are "
            f"whole pixels, got {query.grid}: run the network on images of that size"
        )
    if query.measure is not None:
        raise ValueError(
            f"{name} on the grid {query.grid} must carry no measure to be brought to {target}: "
            "weights of pixels belong to their grid"
        )
    if isinstance(query, Partition):
        return Partition.from_labels(resampled_labels(query.original_labels, target))
    if query.channels is None:
        dense = resampled_probabilities(query.probabilities(), target)
        flat = dense.reshape(query.n_channels, -1)
        return Memberships._of_table(target, None, query.reading, flat, None, query.n_channels)
    return _resampled_sparse(query, target)


def _resampled_sparse(query: Memberships, target: tuple[int, ...]) -> Memberships:
    """Average sparse probabilities: a pixel has the channels of all pixels that it covers."""
    from scipy.sparse import csr_array

    assert query.channels is not None
    pixels = np.broadcast_to(np.arange(query.n_pixels), query.channels.shape)
    members = csr_array(
        (
            query.values.reshape(-1).astype(np.float64),
            (pixels.reshape(-1), query.channels.reshape(-1)),
        ),
        shape=(query.n_pixels, query.n_channels),
    )
    members.eliminate_zeros()
    mixed = csr_array(area_weights(query.grid, target) @ members)
    mixed.sort_indices()
    counts = np.diff(mixed.indptr)
    # Where in its pixel's list each probability stands; what is left of a list stays zero.
    place = np.arange(mixed.nnz) - np.repeat(mixed.indptr[:-1], counts)
    pixel = np.repeat(np.arange(counts.size), counts)
    values = np.zeros((int(counts.max()), counts.size), query.values.dtype)
    channels = np.zeros(values.shape, np.int32)
    values[place, pixel] = mixed.data
    channels[place, pixel] = mixed.indices
    return Memberships._of_table(target, None, query.reading, values, channels, query.n_channels)


def _checked_target(source: tuple[int, ...], grid: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return ``grid`` if something of the shape ``source`` can be brought to it."""
    target = _validate.checked_grid(grid, "grid")
    if len(source) != len(target):
        raise ValueError(f"{name} must be {len(target)}-D like the grid {target}, got {source}")
    return target


def resampled_tree(tree: MergeTree, grid: tuple[int, ...]) -> MergeTree:
    """Bring a hierarchy to a grid: each pixel takes the leaf under its centre.

    Parameters
    ----------
    tree : MergeTree
        A hierarchy on another grid with as many axes.
    grid : tuple of int
        The grid to bring it to.

    Returns
    -------
    MergeTree
        Its horizontal cut at any altitude is the cut of ``tree``, brought to the grid by
        :func:`resampled_labels`. Leaves that no pixel takes vanish, and with them the merges that
        no longer join anything; sizes are pixel counts. Merges lower than one below them
        are raised to its altitude, which changes no cut.

    Raises
    ------
    ValueError
        If the grid is none, or has another number of axes.

    Notes
    -----
    O(nodes + pixels of the grid).

    Examples
    --------
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> small = resampled_tree(tree, (1, 2))
    >>> small.leaf_map, small.altitudes
    (array([[0, 1]], dtype=int32), array([0., 0., 5.]))
    """
    leaves = resampled_labels(tree.leaf_map, grid)
    if leaves.shape == tree.grid:
        return tree
    kept, leaf_map = np.unique(leaves, return_inverse=True)
    # What of each old node is left: its new number, or that of its only child left, or -1.
    number = np.full(tree.parents.size, -1, np.int64)
    number[kept] = np.arange(kept.size)
    # A merge that vanishes may have been higher than those above it.
    heights = tree.altitudes.copy()
    heights[: tree.n_leaves] = -np.inf
    heights = running_maximum(tree.parents, heights)
    heights[: tree.n_leaves] = tree.altitudes[: tree.n_leaves]
    altitudes = heights[kept].tolist()
    parents = [0] * kept.size
    below: dict[int, list[int]] = {}
    for node, parent in enumerate(tree.parents.tolist()):
        children = below.pop(node, [])
        if len(children) == 1:
            number[node] = children[0]
        elif children:
            number[node] = len(parents)
            for child in children:
                parents[child] = len(parents)
            parents.append(0)
            altitudes.append(float(heights[node]))
        if number[node] >= 0 and parent != node:
            below.setdefault(parent, []).append(int(number[node]))
    parents[-1] = len(parents) - 1
    return MergeTree.from_parents(parents, altitudes, leaf_map.reshape(leaves.shape))
