"""Colours of regions and channels: distinguishable without red–green vision, and repeatable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.partitions.partition import compact

# Okabe and Ito's set ("Color universal design", 2008) without black,
# and without the yellow that boundaries have.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Six colours, RGB 0..255, for regions side by side."""

CHANNEL_PALETTE = ((16, 28, 64), (230, 145, 0), (214, 240, 255))
"""Colours of up to three channels: dark, middle and light, so that lightness alone tells them."""

LINE = (255, 214, 0)
"""Region boundaries."""

# Above this many regions, colours no longer avoid those of neighbours: too small to be seen.
_MOST_AVOIDING = 20_000


def region_colours(labels: ArrayLike) -> NDArray[np.uint8]:
    """Choose a colour for each region of a 2-D label map.

    Parameters
    ----------
    labels : integer array, shape (H, W)
        Any integers.

    Returns
    -------
    uint8 array, shape (H, W, 3)
        The colour of each pixel's region.

    Raises
    ------
    TypeError, ValueError
        If labels are not an integer array on a 2-D grid.

    Notes
    -----
    A region's colour follows from its first pixel in raster order, so it is the same whatever the
    labels are called, and a region that two partitions share has one colour in both unless a
    neighbour that came before it has taken it. Adjacent regions differ wherever six colours
    suffice in raster order. O(pixels), and O(n log n) for labels spread widely.

    Examples
    --------
    >>> import numpy as np
    >>> a = region_colours(np.array([[5, 5, 9]]))
    >>> b = region_colours(np.array([[0, 0, -3]]))
    >>> bool((a == b).all()), a[0, 0].tolist() == a[0, 2].tolist()
    (True, False)
    """
    array = _validate.checked_labels(labels, "labels")
    if array.ndim != 2:
        raise ValueError(f"labels must be 2-D (H, W), got shape {array.shape}")
    numbers, first = raster_numbers(array)
    palette = np.array(PALETTE, np.uint8)
    chosen = _preferences(first)
    if first.size <= _MOST_AVOIDING:
        chosen = _avoiding_neighbours(numbers, chosen)
    coloured: NDArray[np.uint8] = palette[chosen][numbers]
    return coloured


def raster_numbers(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the label map with regions numbered in raster order, and their first pixels."""
    numbers, distinct = compact(labels.reshape(-1))
    first = np.empty(distinct.size, np.int64)
    # Backwards, so that the first pixel of each region is written last.
    first[numbers[::-1]] = np.arange(numbers.size - 1, -1, -1)
    order = np.argsort(first)
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    ranked: NDArray[np.int64] = rank[numbers].reshape(labels.shape)
    return ranked, first[order]


def _preferences(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Spread pixel indices over the palette by a hash (the finaliser of SplitMix64)."""
    mixed = pixels.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(len(PALETTE))).astype(np.int64)


def _avoiding_neighbours(
    numbers: NDArray[np.int64], preferred: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Move each region, in raster order, to the next colour that no earlier neighbour has."""
    earlier = _earlier_neighbours(numbers, preferred.size)
    chosen = preferred.tolist()
    for region, neighbours in enumerate(earlier):
        taken = {chosen[other] for other in neighbours}
        for step in range(len(PALETTE)):
            colour = (chosen[region] + step) % len(PALETTE)
            if colour not in taken:
                chosen[region] = colour
                break
    return np.array(chosen, np.int64)


def _earlier_neighbours(numbers: NDArray[np.int64], n_regions: int) -> list[list[int]]:
    pairs = []
    for a, b in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        apart = a != b
        low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
        pairs.append(high * n_regions + low)
    earlier: list[list[int]] = [[] for _ in range(n_regions)]
    for key in np.unique(np.concatenate(pairs)).tolist():
        high, low = divmod(key, n_regions)
        earlier[high].append(low)
    return earlier
