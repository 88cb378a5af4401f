"""Masses of a soft partition's channels in tiles, and how spread its co-memberships are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.packing import FINEST, MIDDLE, Frame, Masses
from hiersearch.partitions.soft import Memberships

# Tables of this many masses are made whole, larger ones by sorting.
_SPARSE_FROM = 2**20


def channel_masses(query: Memberships, frame: Frame) -> tuple[Masses, NDArray[np.float64]]:
    """Return the masses of a soft partition's channels, and Σ C² over the middle tile pairs.

    O(k² · pixels) for dense channels, O(m² · pixels) and a sparse product otherwise.
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
    return masses, _square_sums(values, query.channels, weights, middle, n_middle, k)


def _square_sums(
    values: NDArray[np.float64],
    channels: NDArray[np.int32] | None,
    weights: NDArray[np.float64],
    middle: NDArray[np.int32],
    n_middle: int,
    k: int,
) -> NDArray[np.float64]:
    """Return Σ_pq μ_p μ_q C_pq² over tile pairs: Σ_jl of products of Σ_p μ_p P_jp P_lp."""
    if channels is None:
        moments = np.empty((n_middle, k * k))
        for tile in range(n_middle):
            inside = middle == tile
            part = values[:, inside]
            moments[tile] = ((part * weights[inside]) @ part.T).reshape(-1)
        squares: NDArray[np.float64] = moments @ moments.T
        return squares
    from scipy.sparse import csr_array

    m = len(values)
    keys, products, tiles = [], [], []
    for i in range(m):
        for j in range(m):
            keys.append(channels[i].astype(np.int64) * k + channels[j])
            products.append(values[i] * values[j] * weights)
            tiles.append(middle)
    columns, place = np.unique(np.concatenate(keys), return_inverse=True)
    sparse = csr_array(
        (np.concatenate(products), (np.concatenate(tiles), place)), shape=(n_middle, columns.size)
    )
    found: NDArray[np.float64] = (sparse @ sparse.T).toarray()
    return found
