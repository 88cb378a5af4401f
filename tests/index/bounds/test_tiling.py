"""Tiles cover the grid, nest, and are numbered so that each level is sums of the next."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.index.bounds.tiling import COARSEST, tiling_of
from tests.index.small_collections import GRIDS

grids = st.one_of(
    st.sampled_from(GRIDS),
    st.lists(st.integers(1, 40), min_size=2, max_size=3).map(tuple),
)


@given(grids)
def test_levels_nest_with_four_tiles_in_each(grid):
    tiling = tiling_of(grid)
    assert tiling.count(0) == COARSEST
    for level in range(3):
        assert tiling.count(level + 1) == 4 * tiling.count(level)
        assert np.array_equal(tiling.tile_map(level + 1) // 4, tiling.tile_map(level))


@given(grids)
def test_tiles_are_boxes_of_nearly_equal_sides(grid):
    tiling = tiling_of(grid)
    for level, split in enumerate(tiling.splits):
        tiles = tiling.tile_map(level)
        assert tiles.min() >= 0
        assert tiles.max() < math.prod(split)
        for tile in np.unique(tiles):
            places = np.argwhere(tiles == tile)
            sides = places.max(axis=0) - places.min(axis=0) + 1
            assert len(places) == math.prod(sides)
            for side, n, parts in zip(sides, grid, split, strict=True):
                assert abs(side - n / parts) <= 1


@given(grids)
def test_column_ends_say_where_a_pixels_tile_ends(grid):
    tiling = tiling_of(grid)
    row = tiling.tile_map(3).reshape(-1, grid[-1])[0]
    for x, end in enumerate(tiling.column_end):
        assert (row[x:end] == row[x]).all()
        assert end == len(row) or row[end] != row[x]


@pytest.mark.parametrize(
    ("grid", "coarsest"),
    [((128, 192), (2, 3)), ((192, 128), (3, 2)), ((1, 600), (1, 6)), ((64, 64, 64), (1, 2, 3))],
)
def test_coarsest_tiles_are_as_close_to_cubes_as_six_can_be(grid, coarsest):
    assert tiling_of(grid).splits[0] == coarsest
