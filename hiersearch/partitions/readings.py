"""What the channels of a reading stand for: from validated arrays to plain arrays.

The constructors of :class:`~hiersearch.partitions.soft.SoftPartition` document each reading, check
what they are given and call these.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


def class_regions(flat: NDArray[Any], grid: tuple[int, ...]) -> tuple[NDArray[np.int32], int]:
    """Return for class probabilities (k, n) the region of each, (k, n), and how many there are."""
    from scipy import ndimage

    winner = flat.argmax(axis=0).reshape(grid)
    components = connected(winner, background=-1)
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
    return channels, first


def object_regions(
    flat: NDArray[Any], grid: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[np.int32], int]:
    """Return for background, interior and boundary (3, n) values and regions (2, n), and k."""
    from scipy import ndimage

    seeds, n_seeds = ndimage.label((flat.argmax(axis=0) == 1).reshape(grid))
    channels = np.zeros((2, flat.shape[1]), np.int32)
    if n_seeds == 0:
        channels[1] = 1
    else:
        nearest = ndimage.distance_transform_edt(
            seeds == 0, return_distances=False, return_indices=True
        )
        channels[1] = seeds[tuple(nearest)].reshape(-1)
    values = np.stack([flat[0], flat[1] + flat[2]])
    return values, channels, max(1, n_seeds) + 1


def basins(
    field: NDArray[np.float64],
    spread: Literal["passes", "random-walk"],
    depth: float,
    softness: float,
    neighbours: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Return for a boundary map values and basins, (at most neighbours, n), and their number."""
    from scipy import ndimage
    from skimage import morphology, segmentation

    if float(np.ptp(field)) <= depth:
        seeds = np.ones(field.shape, np.int32)
    else:
        # Neighbours share a side here as in the watershed, so that a thin diagonal ridge parts two
        # minima. The margin makes "at least depth" hold in floats.
        sides = ndimage.generate_binary_structure(field.ndim, 1)
        minima = morphology.h_minima(field, depth * (1 - 1e-6), footprint=sides)
        seeds = connected(minima, background=0)
    n_seeds = int(seeds.max())
    if n_seeds <= 1:
        ones = np.ones((1, field.size), np.float32)
        return ones, np.zeros((1, field.size), np.int32), 1
    owners = segmentation.watershed(field, seeds).reshape(-1) - 1
    most = min(neighbours, n_seeds)
    if spread == "passes":
        values, channels = _spread_by_passes(field, owners, n_seeds, softness, most)
    else:
        full = segmentation.random_walker(
            field, seeds, beta=130, mode="cg_j", tol=1e-6, return_full_prob=True
        )
        values, channels = _largest(full.reshape(n_seeds, -1), owners, most)
    return values, channels, n_seeds


def connected(labels: NDArray[Any], background: int) -> NDArray[np.int32]:
    """Label the 4-connected (in 3-D 6-connected) components of equal values from 1."""
    from skimage import measure

    found = measure.label(labels, background=background, connectivity=1)
    return np.asarray(found, np.int32).reshape(labels.shape)


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
