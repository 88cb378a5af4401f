"""Readings of channels: classes fall apart into components, boundary maps into basins."""

import numpy as np
import pytest
from scipy import ndimage

from hiersearch.partitions import Partition, SoftPartition
from tests.exploration import seeds


def softmax(rng, k, *grid):
    logits = ndimage.gaussian_filter(rng.normal(size=(k, *grid)), (0, *[1.0] * len(grid))) * 20
    weights = np.exp(logits - logits.max(axis=0))
    return weights / weights.sum(axis=0)


def assert_probabilities(soft):
    assert soft.values.min() >= 0
    np.testing.assert_allclose(soft.values.sum(axis=0, dtype=np.float64), 1.0, atol=1e-5)
    assert soft.channels.min() >= 0
    assert soft.channels.max() < soft.n_channels


def test_two_nuclei_of_one_class_are_two_regions():
    foreground = np.full((7, 12), 0.05)
    foreground[2:5, 1:4] = 0.95
    foreground[2:5, 8:11] = 0.95
    soft = SoftPartition.from_classes(np.stack([1 - foreground, foreground]))
    assert soft.n_channels == 3
    hard = soft.hard().original_labels
    assert hard[3, 2] != hard[3, 9]
    assert hard[0, 0] not in (hard[3, 2], hard[3, 9])
    assert SoftPartition.from_regions(np.stack([1 - foreground, foreground])).hard().n_regions == 2
    # Between the nuclei the foreground's probability belongs to the nearer one.
    dense = soft.probabilities()
    assert dense[hard[3, 2], 3, 5] == 0.05
    assert dense[hard[3, 2], 3, 6] == 0
    assert dense[hard[3, 9], 3, 6] == 0.05


@pytest.mark.parametrize("grid", [(1, 30), (14, 17), (5, 6, 7)])
@pytest.mark.parametrize("seed", seeds(3))
def test_each_probability_goes_to_the_nearest_component_of_its_class(grid, seed):
    k = 4
    values = softmax(np.random.default_rng(seed), k, *grid)
    soft = SoftPartition.from_classes(values)
    np.testing.assert_array_equal(soft.values, values.reshape(k, -1))
    assert_probabilities(soft)
    winner = values.argmax(axis=0).reshape(-1)
    points = np.stack(np.unravel_index(np.arange(winner.size), grid), axis=1)
    own = soft.channels[winner, np.arange(winner.size)]
    first = 0
    for c in range(k):
        components, count = ndimage.label(winner.reshape(grid) == c)
        assert set(soft.channels[c].tolist()) <= set(range(first, first + max(1, count)))
        if count:
            # A component is a channel, one to one.
            inside = components.reshape(-1)[winner == c]
            pairs = set(zip(inside.tolist(), own[winner == c].tolist(), strict=True))
            assert len(pairs) == count == len({channel for _, channel in pairs})
            gaps = np.linalg.norm(points[:, None] - points[None, winner == c], axis=2)
            mine = own[winner == c][None, :] == soft.channels[c][:, None]
            to_chosen = np.where(mine, gaps, np.inf).min(axis=1)
            np.testing.assert_allclose(to_chosen, gaps.min(axis=1))
        first += max(1, count)
    assert soft.n_channels == first
    assert soft.hard() == Partition.from_labels(own.reshape(grid))


def test_a_class_that_wins_nowhere_stays_one_channel():
    values = np.array([[[0.5, 0.5, 0.5]], [[0.2, 0.2, 0.2]], [[0.3, 0.3, 0.3]]])
    soft = SoftPartition.from_classes(values)
    assert soft.n_channels == 3
    np.testing.assert_allclose(soft.probabilities(), values, atol=1e-7)


def test_pixels_that_touch_at_a_corner_are_two_components():
    foreground = np.eye(2) * 0.8 + 0.1
    # Both diagonals fall apart: two components of each class.
    assert SoftPartition.from_classes(np.stack([1 - foreground, foreground])).n_channels == 4


def test_one_pixel_has_one_region_a_class():
    soft = SoftPartition.from_classes(np.array([0.25, 0.75]).reshape(2, 1, 1), measure=[[3]])
    assert (soft.n_channels, soft.total) == (2, 3)
    assert soft.hard().label_values.tolist() == [1]


def two_basins():
    """Two basins of width 4 with a wall of height 0.9 in column 4, a pass of 0.5 in row 3."""
    field = np.full((6, 9), 0.1)
    field[2, 1] = field[2, 7] = 0.0
    field[:, 4] = 0.9
    field[3, 4] = 0.5
    return field


@pytest.mark.parametrize("spread", ["passes", "random-walk"])
def test_basins_become_regions_and_walls_are_shared(spread):
    soft = SoftPartition.from_boundaries(two_basins(), spread=spread)
    assert soft.n_channels == 2
    assert_probabilities(soft)
    hard = soft.hard().labels
    assert len(set(hard[:, :4].reshape(-1).tolist())) == 1
    assert len(set(hard[:, 5:].reshape(-1).tolist())) == 1
    assert hard[0, 0] != hard[0, 8]
    dense = soft.probabilities()
    certain = dense.max(axis=0)
    assert certain[:, [0, 1, 7, 8]].min() > 0.95
    assert certain[:, 4].max() < 0.95
    assert certain[:, 4].max() < certain[:, [0, 1, 7, 8]].min()


def test_passes_share_a_pixel_by_the_formula():
    field, softness = two_basins(), 0.2
    soft = SoftPartition.from_boundaries(field, softness=softness)
    dense = soft.probabilities().astype(float)
    own = soft.hard().original_labels
    lowest_pass = 0.5
    to_other = np.exp(-np.maximum(field, lowest_pass) / softness)
    to_own = np.exp(-field / softness)
    expected = to_other / (to_own + to_other)
    inside = field < 0.9
    shared = np.take_along_axis(dense, 1 - own[None], axis=0)[0]
    np.testing.assert_allclose(shared[inside], expected[inside], atol=1e-6)
    np.testing.assert_allclose(dense[:, ~inside], 0.5)


def test_a_lower_pass_is_shared_more_widely():
    low, high = two_basins(), two_basins()
    low[3, 4] = 0.3
    shares = [
        SoftPartition.from_boundaries(f).probabilities().min(axis=0)[0, 0] for f in (low, high)
    ]
    assert shares[0] > shares[1] > 0


def test_minima_shallower_than_depth_are_no_seeds():
    field = np.array([[0.0, 0.5, 0.3, 0.9, 0.1, 0.4]])
    assert SoftPartition.from_boundaries(field, depth=0.05).n_channels == 3
    assert SoftPartition.from_boundaries(field, depth=0.2).n_channels == 3
    assert SoftPartition.from_boundaries(field, depth=0.21).n_channels == 2
    assert SoftPartition.from_boundaries(field, depth=0.81).n_channels == 1


def test_a_thin_diagonal_wall_parts_two_basins():
    # The upper basin is shallower: over the wall's corners it would drain into the lower one.
    field = np.triu(np.full((9, 9), 0.2))
    np.fill_diagonal(field, 0.9)
    soft = SoftPartition.from_boundaries(field)
    assert soft.n_channels == 2
    labels = soft.hard().labels
    assert labels[0, 8] != labels[8, 0]


def ladder(n):
    """A row of n basins with walls of growing height between them."""
    field = np.zeros((1, 2 * n - 1))
    field[0, 1::2] = np.linspace(0.3, 0.6, n - 1)
    return field


def test_at_most_so_many_neighbours_are_kept_the_lowest_passes_first():
    field = ladder(6)
    few = SoftPartition.from_boundaries(field, neighbours=2, softness=1.0)
    assert few.values.shape[0] == 2
    third = few.probabilities()[:, 0, 4]
    # Of its two neighbours the third basin keeps the one behind the lower wall, on its left.
    assert np.flatnonzero(third).tolist() == [1, 2]
    all_of_them = SoftPartition.from_boundaries(field, neighbours=100, softness=1.0)
    assert np.flatnonzero(all_of_them.probabilities()[:, 0, 4]).tolist() == [1, 2, 3]
    assert all_of_them.values.shape[0] <= 6
    alone = SoftPartition.from_boundaries(field, neighbours=1)
    np.testing.assert_array_equal(alone.values, 1.0)
    assert alone.hard().n_regions == 6


@pytest.mark.parametrize("spread", ["passes", "random-walk"])
@pytest.mark.parametrize("grid", [(1, 40), (40, 1), (16, 18), (6, 7, 8)])
def test_every_grid_gives_probabilities(spread, grid):
    field = np.random.default_rng(4).random(grid)
    field[tuple(slice(None, None, 4) for _ in grid)] = 0.0
    soft = SoftPartition.from_boundaries(field, spread=spread, neighbours=3)
    assert soft.grid == grid
    assert soft.n_channels > 3
    assert soft.values.shape[0] == 3
    assert_probabilities(soft)
    if 1 in grid:
        # On a line each region is an interval: no pixel goes to a basin far away.
        assert soft.hard().n_runs == soft.hard().n_regions == soft.n_channels


@pytest.mark.parametrize("spread", ["passes", "random-walk"])
@pytest.mark.parametrize(
    "field", [np.full((4, 5), 0.3), np.zeros((1, 1)), np.linspace(0, 1, 12).reshape(3, 4)]
)
def test_a_map_without_walls_is_one_region(spread, field):
    soft = SoftPartition.from_boundaries(field, spread=spread, measure=np.full(field.shape, 2))
    assert soft.n_channels == 1
    assert soft.hard().n_regions == 1
    np.testing.assert_array_equal(soft.values, 1.0)
    assert soft.total == 2 * field.size


@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        ([[0.0, 1.5]], {}, r"boundary must be within \[0, 1\], got 1\.5 at index \(0, 1\)"),
        ([[-0.5, 1.0]], {}, r"boundary must be within \[0, 1\], got -0\.5 at index \(0, 0\)"),
        ([[0.0, np.nan]], {}, r"boundary must be finite, got nan at index \(0, 1\)"),
        ([0.0, 1.0], {}, r"boundary must be 2-D .* got shape \(2,\)"),
        (np.zeros((0, 3)), {}, "boundary must have at least one pixel"),
        ([[0.0, 1.0]], {"depth": 0.0}, r"depth must be a positive number, got 0\.0"),
        ([[0.0, 1.0]], {"softness": -1.0}, r"softness must be a positive number, got -1\.0"),
        ([[0.0, 1.0]], {"softness": np.nan}, "softness must be a positive number, got nan"),
        ([[0.0, 1.0]], {"neighbours": 0}, "neighbours must be at least 1, got 0"),
        ([[0.0, 1.0]], {"spread": "walk"}, "spread must be one of passes, random-walk, got 'walk'"),
        ([[0.0, 1.0]], {"measure": [[1]]}, r"measure must have the grid's shape \(1, 2\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(field, options, message):
    with pytest.raises(ValueError, match=message):
        SoftPartition.from_boundaries(np.asarray(field, float), **options)
    with pytest.raises(ValueError, match=message):
        SoftPartition.from_boundaries(np.asarray(field, float), **options)
