"""The metric tree of a segment: entries in blocks, each around a pivot.

Blocks come from cutting the entries in two again and again, by which of two far entries is nearer
in the tile distance of the middle level, until few are left; the leaves of that tree are the
blocks, and entries are stored in their order. Each block keeps its radius in the tile distance,
and each entry its distance ρ to the pivot. The cuts of one hierarchy are a chain: their blocks are
stretches of it, and their distances follow from Σ a² alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.bounds._tile_kernels import byte_distances

BLOCK = 16
"""Most entries of a block."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Order of the entries, and where blocks end in it."""

    order: NDArray[np.int32]
    """(n,) the entry at each position."""
    ends: NDArray[np.int32]
    """(blocks,) position where each block ends."""
    pivots: NDArray[np.int32]
    """(blocks,) position of each block's pivot."""


def blocks_of(
    middle: NDArray[np.uint8],
    n_diagonal: int,
    chains: NDArray[np.int32],
    regions: NDArray[np.int32],
) -> Blocks:
    """Arrange entries in blocks.

    Parameters
    ----------
    middle : uint8 array, shape (n, pairs)
        Pair sums of the middle level.
    n_diagonal : int
        How many of the pairs are a tile with itself.
    chains : int32 array, shape (n,)
        Number of the hierarchy that an entry is a cut of, or -1.
    regions : int32 array, shape (n,)
        Number of regions of each entry.

    Returns
    -------
    Blocks

    Notes
    -----
    O(n log n) byte distances.
    """
    groups: list[NDArray[np.int32]] = []
    pivots: list[int] = []
    free = np.flatnonzero(chains < 0).astype(np.int32)
    for group in _halved(middle, n_diagonal, free):
        groups.append(group)
        pivots.append(_centre(middle, n_diagonal, group))
    chained = np.flatnonzero(chains >= 0)
    # From fine to coarse within each chain: neighbours are nested and near.
    chained = chained[np.lexsort((-regions[chained], chains[chained]))]
    for stretch in np.split(chained, np.flatnonzero(np.diff(chains[chained])) + 1):
        for begin in range(0, stretch.size, BLOCK):
            link = stretch[begin : begin + BLOCK].astype(np.int32)
            groups.append(link)
            pivots.append(link.size // 2)
    ends: NDArray[Any] = np.cumsum([group.size for group in groups])
    order = np.concatenate(groups) if groups else np.empty(0, np.int32)
    places = np.concatenate([[0], ends[:-1]]) + pivots
    return Blocks(order, ends.astype(np.int32), places.astype(np.int32))


def _halved(
    middle: NDArray[np.uint8], n_diagonal: int, entries: NDArray[np.int32]
) -> list[NDArray[np.int32]]:
    """Cut entries in two by two far ones until at most a block is left."""
    leaves: list[NDArray[np.int32]] = []
    stack = [entries] if entries.size else []
    while stack:
        group = stack.pop()
        if group.size <= BLOCK:
            leaves.append(group)
            continue
        one = group[int(distances_to(middle, n_diagonal, group, group[0]).argmax())]
        to_one = distances_to(middle, n_diagonal, group, one)
        other = group[int(to_one.argmax())]
        to_other = distances_to(middle, n_diagonal, group, other)
        # Whole blocks on the left, so that few blocks stay half empty.
        half = -(-group.size // (2 * BLOCK)) * BLOCK
        nearer = np.argpartition(to_one - to_other, half - 1)
        stack += [group[nearer[half:]], group[nearer[:half]]]
    return leaves


def _centre(middle: NDArray[np.uint8], n_diagonal: int, group: NDArray[np.int32]) -> int:
    """Return which of a group's entries is nearest to their mean."""
    mean = np.rint(middle[group].mean(axis=0)).astype(np.uint8)
    steps = np.empty(group.size, np.int32)
    byte_distances(middle, mean, n_diagonal, group, steps)
    return int(steps.argmin())


def distances_to(
    middle: NDArray[np.uint8], n_diagonal: int, entries: NDArray[np.int32], pivot: int
) -> NDArray[np.int32]:
    """Return the byte distances of some entries to one."""
    steps = np.empty(entries.size, np.int32)
    byte_distances(middle, middle[pivot], n_diagonal, entries, steps)
    return steps
