"""All pairs of entries within a distance of each other, by joining blocks with blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled
from hiersearch.index._tile_kernels import pair_distance
from hiersearch.index.layout import View
from hiersearch.index.packing import MIDDLE
from hiersearch.index.queries import HardQuery

_ROOM = 2**18
"""Pairs that are found before they are compared."""


@compiled
def close_rows(
    middle_a: NDArray[np.uint8],
    errors_a: NDArray[np.float32],
    ends_a: NDArray[np.int32],
    pivots_a: NDArray[np.int32],
    radii_a: NDArray[np.float32],
    live_a: NDArray[np.uint8],
    middle_b: NDArray[np.uint8],
    errors_b: NDArray[np.float32],
    ends_b: NDArray[np.int32],
    pivots_b: NDArray[np.int32],
    radii_b: NDArray[np.float32],
    live_b: NDArray[np.uint8],
    block: int,
    same: bool,
    n_diagonal: int,
    unit: float,
    radius: float,
    rows_a: NDArray[np.int32],
    rows_b: NDArray[np.int32],
) -> int:
    """Find pairs of a block of a with all of b whose tile bound is within a radius.

    Return their number; where it exceeds the room in ``rows_a``, only the first are written. With
    ``same``, b is a, and each pair is found once.
    """
    found = 0
    first_a = ends_a[block - 1] if block > 0 else 0
    pivot = middle_a[pivots_a[block]]
    reach = radius + radii_a[block] + errors_a[pivots_a[block]]
    for other in range(block if same else 0, ends_b.size):
        steps = pair_distance(pivot, middle_b[pivots_b[other]], n_diagonal)
        if steps * unit - errors_b[pivots_b[other]] - radii_b[other] > reach:
            continue
        first_b = ends_b[other - 1] if other > 0 else 0
        for i in range(first_a, ends_a[block]):
            if live_a.size > 0 and live_a[i] == 0:
                continue
            one = middle_a[i]
            for j in range(i + 1 if same and other == block else first_b, ends_b[other]):
                if live_b.size > 0 and live_b[j] == 0:
                    continue
                steps = pair_distance(one, middle_b[j], n_diagonal)
                if steps * unit - errors_a[i] - errors_b[j] <= radius:
                    if found < rows_a.size:
                        rows_a[found] = i
                        rows_b[found] = j
                    found += 1
    return found


Place = tuple[int, int]


def close_pairs(
    views: Sequence[View],
    live: Mapping[int, NDArray[np.uint8]],
    radius: float,
    progress: Callable[[int], None] | None,
) -> list[tuple[Place, Place, Any]]:
    """Return pairs of places, (number of view, row), with their ρ, not divided."""
    found: list[tuple[Place, Place, Any]] = []
    everything = np.empty(0, np.uint8)
    done = 0
    for a, one in enumerate(views):
        for block in range(one.arrays["block_ends"].size):
            for b in range(a, len(views)):
                masks = live.get(a, everything), live.get(b, everything)
                pairs = _close_rows(one, views[b], masks, block, a == b, radius)
                found += _within(a, b, views, pairs, radius)
            first = int(one.arrays["block_ends"][block - 1]) if block else 0
            done += int(one.arrays["block_ends"][block]) - first
            if progress is not None:
                progress(done)
    return found


def _close_rows(
    one: View,
    other: View,
    live: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    block: int,
    same: bool,
    radius: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the rows of the pairs that the tile bounds leave."""
    room = _ROOM
    while True:
        rows = np.empty(room, np.int32), np.empty(room, np.int32)
        sides = [
            (
                view.arrays["middle"],
                view.arrays["middle_errors"],
                view.arrays["block_ends"],
                view.arrays["block_pivots"],
                view.arrays["block_radii"],
                mask,
            )
            for view, mask in zip((one, other), live, strict=True)
        ]
        count = close_rows(
            *sides[0],
            *sides[1],
            block,
            same,
            one.frame.tiling.count(MIDDLE),
            one.frame.pair_units[1],
            radius * (1 + 1e-9),
            *rows,
        )
        if count <= room:
            return rows[0][:count], rows[1][:count]
        room = count


def _within(
    a: int,
    b: int,
    views: Sequence[View],
    pairs: tuple[NDArray[np.int32], NDArray[np.int32]],
    radius: float,
) -> list[tuple[Place, Place, Any]]:
    """Verify pairs, those with one first entry together."""
    partners: defaultdict[int, list[int]] = defaultdict(list)
    for i, j in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True):
        partners[i].append(j)
    found = []
    for i, others in partners.items():
        query = HardQuery(views[a].partition(i, labelled=False), views[a].frame)
        rows = np.array(others, np.int32)
        rows = rows[query.overlap(views[b], rows) <= radius + query.margin]
        if rows.size:
            distances = query.exact(views[b], rows)
            near = distances <= radius
            found += [
                ((a, i), (b, row), distance)
                for row, distance in zip(rows[near].tolist(), distances[near].tolist(), strict=True)
            ]
    return found
