"""From a network's channels to memberships: the class reading and the boundary reading."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.partitions.partition import as_measure
from hiersearch.partitions.soft import Memberships, checked_probabilities


def class_memberships(probabilities: ArrayLike, *, measure: ArrayLike | None = None) -> Memberships:
    """Split each class into the connected components of its arg-max map.

    Two nuclei of one class are two regions: at each pixel, the probability of class c goes to the
    component of c that is nearest to the pixel. A class that wins nowhere stays one channel.

    Parameters
    ----------
    probabilities : float array, shape (k, H, W) or (k, D, H, W)
        Of one image or volume; non-negative, summing to 1 over the first axis. A single
        probability p of the second of two classes is ``np.stack([1 - p, p])``.
    measure : array, shape of the grid, optional
        Non-negative weight of each pixel; 1 where omitted.

    Returns
    -------
    Memberships
        Sparse: k probabilities a pixel, however many components there are. Channels are numbered
        class by class.

    Raises
    ------
    ValueError, TypeError
        As :meth:`SoftPartition.from_regions`.

    Notes
    -----
    Components are 4-connected in 2-D and 6-connected in 3-D. O(k · pixels): one Euclidean distance
    transform for each class with two components or more.

    Examples
    --------
    Two foreground pixels apart from each other become two regions:

    >>> import numpy as np
    >>> foreground = np.array([[0.9, 0.2, 0.1, 0.8]])
    >>> soft = class_memberships(np.stack([1 - foreground, foreground]))
    >>> soft.n_channels, soft.channels.tolist()
    (3, [[0, 0, 0, 0], [1, 1, 2, 2]])
    """
    from scipy import ndimage

    flat, grid = checked_probabilities(probabilities)
    weights = None if measure is None else as_measure(measure, grid)
    winner = flat.argmax(axis=0).reshape(grid)
    components = _components(winner, background=-1)
    channels = np.empty(flat.shape, np.int32)
    first = 0
    for c in range(flat.shape[0]):
        mine = winner == c
        found = np.unique(components[mine])
        if found.size <= 1:
            channels[c] = first
            first += 1
            continue
        nearest = ndimage.distance_transform_edt(~mine, return_distances=False, return_indices=True)
        number = np.zeros(int(components.max()) + 1, np.int32)
        number[found] = np.arange(found.size, dtype=np.int32) + first
        channels[c] = number[components[tuple(nearest)]].reshape(-1)
        first += found.size
    return Memberships._of_table(grid, weights, "classes", flat, channels, first)


def boundary_memberships(
    boundary: ArrayLike,
    *,
    spread: Literal["passes", "random-walk"] = "passes",
    depth: float = 0.1,
    softness: float = 0.03,
    neighbours: int = 4,
    measure: ArrayLike | None = None,
) -> Memberships:
    """Turn the basins of a boundary map into soft regions.

    Seeds are the minima of the map that are at least ``depth`` deep. With ``spread="passes"`` a
    pixel p with boundary value b_p in the basin of seed i belongs to i with weight
    exp(-b_p / softness), and to an adjacent basin j with weight exp(-max(b_p, w_ij) / softness),
    where w_ij is the lowest pass between the two basins: membership is certain inside a basin with
    high walls, shared on the ridge, and shared widely where a pass is low. With
    ``spread="random-walk"`` it is the probability that a random walk from the pixel, which crosses
    steps of the map rarely, reaches seed j first (scikit-image).

    Parameters
    ----------
    boundary : float array, shape (H, W) or (D, H, W)
        Probability of a boundary at each pixel, within [0, 1]. Three axes are one volume: the maps
        of a batch go in one by one.
    spread : {"passes", "random-walk"}
        How seeds spread to pixels.
    depth : float
        Depth of a minimum, in units of the map, below which it is no seed of its own. Positive.
    softness : float
        Difference of the map over which membership falls by a factor e ("passes"). Positive.
    neighbours : int
        The most channels kept at a pixel, the pixel's own basin among them.
    measure : array, shape of the grid, optional
        Non-negative weight of each pixel; 1 where omitted.

    Returns
    -------
    Memberships
        Sparse: at most ``neighbours`` channels a pixel, one channel a basin.

    Notes
    -----
    "passes" is O(pixels log pixels). "random-walk" solves one sparse linear system of all pixels
    for each seed: meant for a few dozen seeds. A softness as large as the walls between basins
    spreads every pixel over several regions, and the nearest cut then leaves many pixels single.

    Raises
    ------
    ValueError, TypeError
        If the map is not finite or leaves [0, 1], or a parameter is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> soft = boundary_memberships(np.array([[0.0, 0.1, 0.9, 0.1, 0.0]]))
    >>> soft.n_channels, np.round(soft.probabilities()[0], 2).tolist()
    (2, [[1.0, 1.0, 0.5, 0.0, 0.0]])
    """
    from scipy import ndimage
    from skimage import morphology, segmentation

    field = _checked_boundary(boundary)
    _validate.checked_choice(spread, ("passes", "random-walk"), "spread")
    _validate.checked_count(neighbours, "neighbours", 1)
    for name, value in (("depth", depth), ("softness", softness)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value!r}")
    weights = None if measure is None else as_measure(measure, field.shape)
    if float(np.ptp(field)) <= depth:
        seeds = np.ones(field.shape, np.int32)
    else:
        # Neighbours share a side here as in the watershed, so that a thin diagonal ridge parts two
        # minima. The margin makes "at least depth" hold in floats.
        sides = ndimage.generate_binary_structure(field.ndim, 1)
        minima = morphology.h_minima(field, depth * (1 - 1e-6), footprint=sides)
        seeds = _components(minima, background=0)
    n_seeds = int(seeds.max())
    if n_seeds <= 1:
        ones = np.ones((1, field.size), np.float32)
        return Memberships._of_table(
            field.shape, weights, "boundaries", ones, np.zeros((1, field.size), np.int32), 1
        )
    basins = segmentation.watershed(field, seeds)
    basins = basins.reshape(-1) - 1
    most = min(neighbours, n_seeds)
    if spread == "passes":
        values, channels = _spread_by_passes(field, basins, n_seeds, softness, most)
    else:
        full = segmentation.random_walker(
            field, seeds, beta=130, mode="cg_j", tol=1e-6, return_full_prob=True
        )
        values, channels = _largest(full.reshape(n_seeds, -1), basins, most)
    return Memberships._of_table(field.shape, weights, "boundaries", values, channels, n_seeds)


def _components(labels: NDArray[Any], background: int) -> NDArray[np.int32]:
    """Label the 4-connected (in 3-D 6-connected) components of equal values from 1."""
    from skimage import measure

    found = measure.label(labels, background=background, connectivity=1)
    return np.asarray(found, np.int32).reshape(labels.shape)


def _checked_boundary(boundary: ArrayLike) -> NDArray[np.float64]:
    field = _validate.checked_finite(boundary, "boundary").astype(np.float64)
    _validate.checked_grid(field.shape, "boundary")
    if field.min() < 0 or field.max() > 1:
        worst = int(field.argmin() if field.min() < 0 else field.argmax())
        where = tuple(int(i) for i in np.unravel_index(worst, field.shape))
        raise ValueError(f"boundary must be within [0, 1], got {field[where]:g} at index {where}")
    return field


def _spread_by_passes(
    field: NDArray[np.float64],
    basins: NDArray[np.int32],
    n_seeds: int,
    softness: float,
    neighbours: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Weights of each pixel's own basin and of the basins behind its lowest passes."""
    adjacent, heights = _lowest_passes(field, basins.reshape(field.shape), n_seeds, neighbours - 1)
    own = field.reshape(-1)
    cost = np.concatenate([own[None], np.maximum(own, heights[:, basins])])
    weight = np.exp((own - cost) / softness)
    channels = np.concatenate([basins[None], adjacent[:, basins]]).astype(np.int32)
    return (weight / weight.sum(axis=0)).astype(np.float32), channels


def _lowest_passes(
    field: NDArray[np.float64], basins: NDArray[np.int32], n_seeds: int, most: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """For each basin up to ``most`` adjacent basins and the heights of the passes to them.

    Both arrays have shape (most, n_seeds); places left over hold basin 0 at infinite height.
    """
    keys, heights = [], []
    for axis in range(field.ndim):
        lower = tuple(slice(None, -1) if a == axis else slice(None) for a in range(field.ndim))
        upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(field.ndim))
        u, v = basins[lower].reshape(-1), basins[upper].reshape(-1)
        apart = u != v
        u, v = u[apart].astype(np.int64), v[apart].astype(np.int64)
        height = np.maximum(field[lower], field[upper]).reshape(-1)[apart]
        keys += [u * n_seeds + v, v * n_seeds + u]
        heights += [height, height]
    key, height = np.concatenate(keys), np.concatenate(heights)
    # Sorted by height and, stably, by pair: the first of each pair is its lowest pass; sorted
    # stably by basin again, each basin's passes rise.
    order = np.lexsort((height, key))
    key, height = key[order], height[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    key, height = key[first], height[first]
    order = np.lexsort((height, key // n_seeds))
    key, height = key[order], height[order]
    basin = key // n_seeds
    rank = np.arange(key.size) - np.searchsorted(basin, basin)
    kept = rank < most
    adjacent = np.zeros((most, n_seeds), np.int32)
    passes = np.full((most, n_seeds), np.inf)
    adjacent[rank[kept], basin[kept]] = key[kept] % n_seeds
    passes[rank[kept], basin[kept]] = height[kept]
    return adjacent, passes


def _largest(
    full: NDArray[np.float64], basins: NDArray[np.int32], most: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Keep the ``most`` largest of the probabilities (k, n), renormalised to sum to 1."""
    channels = np.argpartition(-full, most - 1, axis=0)[:most].astype(np.int32)
    values = np.clip(np.take_along_axis(full, channels, axis=0), 0, None)
    # Where steep steps all around leave a pixel no way out, the solver finds no walk from it (zero
    # everywhere): such a pixel belongs to its basin.
    lost = full.sum(axis=0) < 0.5
    values[:, lost], values[0, lost], channels[0, lost] = 0.0, 1.0, basins[lost]
    return (values / values.sum(axis=0)).astype(np.float32), channels
