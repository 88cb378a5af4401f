"""Masses of a soft partition's channels in tiles, and how spread its co-memberships are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.bounds._tile_kernels import Masses
from hiersearch.index.bounds.packing import FINEST, MIDDLE, Frame
from hiersearch.partitions.soft import Memberships

MOST_PRODUCTS = 2**21
"""Pairs of channels, over all tiles, whose products are summed."""
# Tables of this many masses are made whole, larger ones by sorting.
_SPARSE_FROM = 2**20


def channel_masses(query: Memberships, frame: Frame) -> tuple[Masses, NDArray[np.float64] | None]:
    """Return the masses of a soft partition's channels, and Σ C² over the middle tile pairs.

    The latter is None where tiles hold too many channels. O(k² · pixels), where k is how many
    channels a tile holds.
    """
    tiles = frame.tiling.tile_map(FINEST).reshape(-1)
    weights = np.ones(tiles.size) if frame.measure is None else frame.measure.astype(np.float64)
    middle = tiles // 4 ** (FINEST - MIDDLE)
    n_middle = frame.tiling.count(MIDDLE)
    k = query.n_channels
    values = query.values.astype(np.float64)
    channels = query.channels
    if channels is None:
        channels = np.broadcast_to(np.arange(k)[:, None], values.shape)
    keys = (tiles.astype(np.int64)[None, :] * k + channels).reshape(-1)
    weighted = (values * weights).reshape(-1)
    if frame.tiling.n_tiles * k <= keys.size + _SPARSE_FROM:
        sums = np.bincount(keys, weights=weighted)
        distinct = np.flatnonzero(sums > 0)
    else:
        distinct, place = np.unique(keys, return_inverse=True)
        sums = np.bincount(place, weights=weighted)
        distinct = distinct[sums > 0]
    ends = np.searchsorted(distinct // k, np.arange(frame.tiling.n_tiles), side="right")
    kept: NDArray[Any] = sums[sums > 0]
    masses = Masses(ends.astype(np.int64), (distinct % k).astype(np.int32), kept, k)
    return masses, _square_sums(query, weights, middle, n_middle)


def _square_sums(
    query: Memberships, weights: NDArray[np.float64], middle: NDArray[np.int32], n_middle: int
) -> NDArray[np.float64] | None:
    """Return Σ_pq μ_p μ_q C_pq² over tile pairs: Σ_jl of products of Σ_p μ_p P_jp P_lp.

    Only channels that a tile holds are multiplied there. None where they are too many.
    """
    from scipy.sparse import csr_array

    k = query.n_channels
    order = np.argsort(middle, kind="stable")
    ends = np.cumsum(np.bincount(middle, minlength=n_middle))
    keys, products, tiles = [], [], []
    left = MOST_PRODUCTS
    for tile, pixels in enumerate(np.split(order, ends[:-1])):
        found, values = _dense_within(query, pixels)
        left -= found.size**2
        if left < 0:
            return None
        keys.append((found[:, None] * k + found[None, :]).reshape(-1))
        products.append(((values * weights[pixels]) @ values.T).reshape(-1))
        tiles.append(np.full(found.size**2, tile))
    if query.channels is None:
        moments = np.array(products)
        return np.asarray(moments @ moments.T)
    columns, place = np.unique(np.concatenate(keys), return_inverse=True)
    sparse = csr_array(
        (np.concatenate(products), (np.concatenate(tiles), place)), shape=(n_middle, columns.size)
    )
    squares: NDArray[np.float64] = (sparse @ sparse.T).toarray()
    return squares


def _dense_within(
    query: Memberships, pixels: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the channels that some pixels hold, ascending, and their dense probabilities there."""
    values = query.values[:, pixels].astype(np.float64)
    if query.channels is None:
        return np.arange(query.n_channels), values
    found, place = np.unique(query.channels[:, pixels], return_inverse=True)
    # A channel may come up twice at one pixel.
    flat = place.reshape(values.shape) * pixels.size + np.arange(pixels.size)
    dense = np.bincount(
        flat.reshape(-1), weights=values.reshape(-1), minlength=found.size * pixels.size
    )
    return found.astype(np.int64), dense.astype(np.float64).reshape(found.size, pixels.size)
