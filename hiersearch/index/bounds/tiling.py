"""Nested tiles of a grid: levels of about 6, 24 and 96 tiles, and the quarters of the last."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COARSEST = 6
"""About how many tiles the coarsest level has; each finer level has four times as many."""


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """How a grid is cut into tiles, four levels deep, each level nested in the one before.

    Tiles of the finest level are numbered so that tile t lies within tile t // 4 of the level
    above, and so on: all levels are sums over neighbours in number.

    Examples
    --------
    >>> tiling_of((128, 192)).splits
    ((2, 3), (4, 6), (8, 12), (16, 24))
    """

    grid: tuple[int, ...]
    """Shape that is cut."""
    splits: tuple[tuple[int, ...], ...]
    """Number of parts along each axis, from the coarsest level to the finest."""
    row_class: NDArray[np.int32]
    """(rows,) which row of ``tile_table`` each row of the grid uses: rows are the last axis'."""
    column_class: NDArray[np.int32]
    """(width,) which column of ``tile_table`` each pixel of a row uses."""
    column_end: NDArray[np.int32]
    """(width,) where the tile of a pixel ends within its row."""
    tile_table: NDArray[np.int32]
    """(row classes, column classes) number of the finest tile."""

    @property
    def n_tiles(self) -> int:
        """Number of tiles of the finest level."""
        return math.prod(self.splits[-1])

    def count(self, level: int) -> int:
        """Return the number of tiles of a level, 0 the coarsest."""
        return math.prod(self.splits[level])

    def tile_map(self, level: int) -> NDArray[np.int32]:
        """Return the tile of each pixel at a level, shape of the grid."""
        finest = self.tile_table[self.row_class[:, None], self.column_class[None, :]]
        below = len(self.splits) - 1 - level
        tiles: NDArray[np.int32] = (finest // 4**below).reshape(self.grid)
        return tiles


def tiling_of(grid: tuple[int, ...]) -> Tiling:
    """Choose the tiles of a grid: nearly cubic, with edges that nest.

    The coarsest level has the split of about six tiles whose tiles are closest to cubes; every
    finer one halves the two longest sides of a tile. Sides that have no pixels left to halve
    make empty tiles. O(pixels of the last axis + rows).
    """
    splits = [_coarsest(grid)]
    # Which axes are halved at each step, longest side first.
    halved: list[tuple[int, int]] = []
    for _ in range(3):
        sides = [n / s for n, s in zip(grid, splits[-1], strict=True)]
        order = sorted(range(len(grid)), key=lambda axis: -sides[axis])
        axes = (min(order[:2]), max(order[:2]))
        halved.append(axes)
        splits.append(tuple(s * (2 if a in axes else 1) for a, s in enumerate(splits[-1])))
    classes, ends = [], []
    for n, parts in zip(grid, splits[-1], strict=True):
        edges = [round(i * n / parts) for i in range(parts + 1)]
        widths = np.diff(edges)
        classes.append(np.repeat(np.arange(parts), widths).astype(np.int32))
        ends.append(np.repeat(edges[1:], widths).astype(np.int32))
    numbers = _nested_numbers(splits, halved)
    leading = [np.asarray(c) for c in classes[:-1]]
    row_class = np.zeros(1, np.int64)
    for parts, axis_classes in zip(splits[-1][:-1], leading, strict=True):
        row_class = (row_class[:, None] * parts + axis_classes[None, :]).reshape(-1)
    table = numbers.reshape(-1, splits[-1][-1]).astype(np.int32)
    return Tiling(grid, tuple(splits), row_class.astype(np.int32), classes[-1], ends[-1], table)


def _coarsest(grid: tuple[int, ...]) -> tuple[int, ...]:
    def unlike_cubes(split: tuple[int, ...]) -> float:
        sides = [math.log(n / s) for n, s in zip(grid, split, strict=True)]
        return max(sides) - min(sides)

    options = [
        split
        for split in itertools.product(range(1, COARSEST + 1), repeat=len(grid))
        if math.prod(split) == COARSEST
    ]
    return min(options, key=lambda split: (unlike_cubes(split), split))


def _nested_numbers(
    splits: list[tuple[int, ...]], halved: list[tuple[int, int]]
) -> NDArray[np.int64]:
    """Return the number of each finest tile, shape of the finest split, quarters consecutive."""
    numbers = np.arange(math.prod(splits[0])).reshape(splits[0])
    for axes in halved:
        quarters = numbers * 4
        for weight, axis in zip((2, 1), axes, strict=True):
            size = numbers.shape[axis]
            half = np.tile([0, 1], size)
            shape = [1] * numbers.ndim
            shape[axis] = 2 * size
            quarters = np.repeat(quarters, 2, axis=axis) + weight * half.reshape(shape)
            numbers = np.repeat(numbers, 2, axis=axis)
        numbers = quarters
    return numbers
