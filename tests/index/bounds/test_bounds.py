"""No bound exceeds the distance, whatever the query, the grid and the measure; some reach it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import Partition, SoftPartition, distance
from hiersearch.index.bounds import soft_masses
from hiersearch.index.bounds.packing import COARSE, FINEST, MIDDLE
from hiersearch.index.bounds.soft_masses import channel_masses
from hiersearch.index.search.queries import index_query
from tests.exploration import examples
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    SOFT,
    made,
    random_collection,
    random_labels,
    random_measure,
    random_soft,
)

seeds = st.integers(0, 2**32 - 1)
EVERYTHING = np.empty(0, np.uint8)
BOUNDED = tuple(kind for kind in SOFT if kind != "affinities")


class Case:
    """The only segment of an index, a query, and the true distances of the segment's rows."""

    def __init__(self, folder, maps, query, measure):
        with made(folder, maps, measure) as index:
            (self.view,) = index._all_views()
            stored = index._store.segments[0]
            self.maps = [maps[id] for id in stored.all_ids()]
        self.frame = self.view.frame
        self.query = index_query(query, self.frame)
        self.rows = np.arange(len(maps), dtype=np.int32)
        self.true = np.array(
            [distance(query, labels, measure=measure, normalized=False) for labels in self.maps],
            np.float64,
        )

    @property
    def limit(self):
        return self.true + self.query.margin

    def members(self, radius):
        blocks = np.arange(self.view.arrays["block_ends"].size, dtype=np.int32)
        counts = np.zeros(2, np.int64)
        return self.query.members(self.view, blocks, EVERYTHING, radius, counts)


def random_case(folder, seed, kind, measure_kind, grid):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 30)
    measure = random_measure(rng, measure_kind, grid)
    near = maps[int(rng.integers(len(maps)))]
    query = Partition.from_labels(near) if kind == "hard" else random_soft(rng, kind, near)
    return Case(folder, maps, query, measure)


def pair_sums(labels, tiles, n_tiles, measure):
    """Co-membership summed over tile pairs, straight from its definition."""
    _, regions = np.unique(labels, return_inverse=True)
    masses = np.zeros((n_tiles, regions.max() + 1))
    weights = np.ones(labels.shape) if measure is None else measure
    np.add.at(masses, (tiles.reshape(-1), regions.reshape(-1)), weights.reshape(-1).astype(float))
    return masses, masses @ masses.T


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", ["hard", *BOUNDED])
@examples(3)
@given(seed=seeds, grid=st.sampled_from(GRIDS))
def test_no_bound_exceeds_the_distance(tmp_path_factory, kind, measure, seed, grid):
    case = random_case(tmp_path_factory.mktemp("bounds"), seed, kind, measure, grid)
    view, query = case.view, case.query
    blocks = query.blocks(view)[1]
    assert (blocks[view.block_of] <= case.limit).all()
    rows, tiles = case.members(np.inf)
    assert sorted(rows) == list(case.rows)
    assert (tiles <= case.limit[rows]).all()
    overlap = query.overlap(view, case.rows)
    assert (overlap <= case.limit).all()
    pivots = view.arrays["block_pivots"][view.block_of]
    assert (overlap[pivots] - view.arrays["ring"] <= case.limit).all()


@pytest.mark.parametrize("kind", ["hard", *BOUNDED])
@examples(5)
@given(seed=seeds, grid=st.sampled_from(GRIDS), measure=st.sampled_from(MEASURES))
def test_tiles_keep_all_rows_within_a_radius(tmp_path_factory, kind, seed, grid, measure):
    case = random_case(tmp_path_factory.mktemp("bounds"), seed, kind, measure, grid)
    for radius in np.unique(case.true):
        kept = case.members(radius + case.query.margin)[0]
        assert set(np.flatnonzero(case.true <= radius)) <= set(kept.tolist())


@examples(8)
@given(seed=seeds, grid=st.sampled_from(GRIDS), measure=st.sampled_from(MEASURES))
def test_bytes_of_tiles_are_off_by_what_they_say(tmp_path_factory, seed, grid, measure):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 6)
    weights = random_measure(rng, measure, grid)
    case = Case(tmp_path_factory.mktemp("bounds"), maps, Partition.from_labels(maps[0]), weights)
    arrays, tiling = case.view.arrays, case.frame.tiling
    for level, name in ((COARSE, "coarse"), (MIDDLE, "middle")):
        upper = np.triu_indices(tiling.count(level), 1)
        for row, labels in enumerate(case.maps):
            true = pair_sums(labels, tiling.tile_map(level), tiling.count(level), weights)[1]
            listed = np.concatenate([np.diagonal(true), true[upper]])
            coded = arrays[name][row] * case.frame.pair_units[level]
            doubled = np.where(np.arange(listed.size) < tiling.count(level), 1, 2)
            error = (np.abs(listed - coded) * doubled).sum()
            assert error <= arrays[f"{name}_errors"][row] + 1e-9 * true.sum()
            assert arrays[f"{name}_errors"][row] <= error * (1 + 1e-6) + 1e-9 * true.sum()


@examples(8)
@given(seed=seeds, grid=st.sampled_from(GRIDS))
def test_tile_bound_is_the_l1_distance_of_pair_sums_less_rounding(tmp_path_factory, seed, grid):
    case = random_case(tmp_path_factory.mktemp("bounds"), seed, "hard", "none", grid)
    tiling = case.frame.tiling
    tiles, n_tiles = tiling.tile_map(MIDDLE), tiling.count(MIDDLE)
    labels = case.query.partition.labels
    mine = pair_sums(labels, tiles, n_tiles, None)[1]
    rows, bounds = case.members(np.inf)
    for row, bound in zip(rows, bounds, strict=True):
        theirs = pair_sums(case.maps[row], tiles, n_tiles, None)[1]
        true = np.abs(mine - theirs).sum()
        errors = case.query.tiles.errors[1] + case.view.arrays["middle_errors"][row]
        assert true - 2 * errors - 1e-9 <= bound <= true + 1e-9


def filled(sizes, overlaps):
    """Most that Σ n² of rows of overlaps can be: largest first, beyond the third as the third."""
    total = 0.0
    for size, row in zip(sizes, -np.sort(-overlaps, axis=1), strict=True):
        left = size
        for m in row[:2]:
            total += min(m, left) ** 2
            left -= min(m, left)
        third = row[2] if row.size > 2 else 0.0
        total += left * min(third, left)
    return total


@examples(8)
@given(seed=seeds, grid=st.sampled_from(GRIDS))
def test_overlap_bound_is_what_filling_the_largest_overlaps_gives(tmp_path_factory, seed, grid):
    case = random_case(tmp_path_factory.mktemp("bounds"), seed, "hard", "none", grid)
    tiling = case.frame.tiling
    tiles, n_tiles = tiling.tile_map(FINEST), tiling.n_tiles
    mine = pair_sums(case.query.partition.labels, tiles, n_tiles, None)[0]
    for row, bound in zip(case.rows, case.query.overlap(case.view, case.rows), strict=True):
        theirs = pair_sums(case.maps[row], tiles, n_tiles, None)[0]
        most = np.minimum(mine[:, :, None], theirs[:, None, :]).sum(axis=0)
        a, b = mine.sum(axis=0), theirs.sum(axis=0)
        shared = min(filled(a, most), filled(b, most.T))
        assert bound == pytest.approx((a @ a) + (b @ b) - 2 * shared)


def test_overlap_bound_is_the_distance_where_tiles_are_pixels(tmp_path):
    # 384 tiles on 96 pixels: each pixel has a tile of its own.
    rng = np.random.default_rng(5)
    maps = [random_labels(rng, (8, 12), regions=2) for _ in range(30)]
    case = Case(tmp_path, maps, Partition.from_labels(rng.integers(0, 3, (8, 12))), None)
    assert np.array_equal(case.query.overlap(case.view, case.rows), case.true)


def test_tile_bound_of_unions_of_tiles_misses_the_distance_by_rounding_alone(tmp_path):
    rng = np.random.default_rng(6)
    grid = (32, 48)
    maps = [np.kron(rng.integers(0, 4, (4, 6)), np.ones((8, 8), int)) for _ in range(30)]
    case = Case(tmp_path, maps, Partition.from_labels(maps[0]), None)
    assert case.frame.tiling.splits[1] == (4, 6)
    rows, bounds = case.members(np.inf)
    errors = case.query.tiles.errors[1] + case.view.arrays["middle_errors"][rows]
    assert (case.true[rows] - bounds <= 2 * errors + 1e-6).all()
    assert grid == case.frame.grid


@pytest.mark.parametrize("measure", MEASURES)
def test_tiles_of_many_regions_have_sound_bounds(tmp_path, measure):
    # Noise puts 15 regions and more into a tile, and more than 256 into a partition.
    rng = np.random.default_rng(7)
    grid = (100, 130)
    maps = [rng.integers(0, k, grid) for k in (2, 40, 300, 1000)]
    maps += [rng.permutation(100 * 130).reshape(grid), np.zeros(grid, int)]
    weights = random_measure(rng, measure, grid)
    for query in (maps[1], maps[2], random_soft(rng, "regions", maps[0])):
        folder = tmp_path / f"{rng.integers(10**9)}"
        goal = query if isinstance(query, SoftPartition) else Partition.from_labels(query)
        case = Case(folder, maps, goal, weights)
        assert (case.query.overlap(case.view, case.rows) <= case.limit).all()
        rows, bounds = case.members(np.inf)
        assert (bounds <= case.limit[rows]).all()


def test_more_regions_than_two_bytes_number_have_sound_bounds(tmp_path):
    rng = np.random.default_rng(8)
    grid = (260, 300)
    labels = rng.permutation(260 * 300).reshape(grid)
    other = labels.copy()
    other[:130] = 5
    case = Case(
        tmp_path, [labels, other, labels // 3000], Partition.from_labels(labels // 4000), None
    )
    assert (case.query.overlap(case.view, case.rows) <= case.limit).all()


def test_probabilities_that_sum_to_more_than_one_widen_the_margin(tmp_path):
    # 0.0019 too much is let through; the distance is then below Σ |C − A|, and so may be a bound.
    labels = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
    values = np.stack([labels == 0, labels == 1]) * 1.0019
    case = Case(
        tmp_path, [labels, 1 - labels // 1, labels * 0], SoftPartition.from_regions(values), None
    )
    overlap = case.query.overlap(case.view, case.rows)
    assert (overlap > case.true + 1e-9 * case.query.scale).any()
    assert (overlap <= case.limit).all()
    exact = Case(tmp_path / "b", [labels], SoftPartition.from_regions(values / 1.0019), None)
    assert exact.query.margin <= 1e-8 * exact.query.scale


def test_channels_too_many_to_be_multiplied_have_sound_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(soft_masses, "MOST_PRODUCTS", 10)
    for kind in ("regions", "sparse"):
        case = random_case(tmp_path / kind, 11, kind, "none", (12, 18))
        assert not case.query.tiles.spread.any()
        rows, bounds = case.members(np.inf)
        assert (bounds <= case.limit[rows]).all()


@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize("measure", MEASURES)
def test_masses_of_channels_and_their_squares_follow_their_definition(tmp_path, kind, measure):
    rng = np.random.default_rng(9)
    grid = (12, 18)
    labels = random_labels(rng, grid)
    weights = random_measure(rng, measure, grid)
    soft = random_soft(rng, kind, labels)
    case = Case(tmp_path, [labels], soft, weights)
    masses, squares = channel_masses(case.query.query, case.frame)
    tiling = case.frame.tiling
    mu = (np.ones(grid) if weights is None else weights).reshape(-1)
    values = soft.probabilities().reshape(soft.n_channels, -1).astype(float)
    expected = np.zeros((tiling.n_tiles, soft.n_channels))
    np.add.at(expected, tiling.tile_map(FINEST).reshape(-1), (values * mu).T)
    found = np.zeros_like(expected)
    owner = np.repeat(np.arange(tiling.n_tiles), np.diff(masses.ends, prepend=0))
    found[owner, masses.regions] = masses.masses
    np.testing.assert_allclose(found, expected, atol=1e-9 * mu.sum())
    together = np.square(values.T @ values) * np.outer(mu, mu)
    onto = np.eye(tiling.count(MIDDLE))[tiling.tile_map(MIDDLE).reshape(-1)]
    np.testing.assert_allclose(squares, onto.T @ together @ onto, atol=1e-9 * mu.sum() ** 2)
