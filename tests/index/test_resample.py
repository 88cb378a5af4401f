"""Partitions brought to another grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.resample import (
    area_weights,
    resampled,
    resampled_labels,
    resampled_probabilities,
    resampled_tree,
)
from hiersearch.metric import distance
from hiersearch.partitions import Partition, SoftPartition

sides = st.integers(1, 9)
grids = st.one_of(st.tuples(sides, sides), st.tuples(*[st.integers(1, 4)] * 3))


@st.composite
def pairs_of_grids(draw):
    source = draw(grids)
    return source, draw(st.tuples(*[st.integers(1, 8)] * len(source)))


def nearest(labels, grid):
    """Look up the source pixel under each centre, one at a time, in floating point."""
    out = np.empty(grid, labels.dtype)
    for place in np.ndindex(grid):
        centre = [(i + 0.5) * s / t for i, s, t in zip(place, labels.shape, grid, strict=True)]
        # A hair to the right: 1.5 * 2 / 3 is 1 only in exact arithmetic.
        out[place] = labels[tuple(int(c + 1e-9) for c in centre)]
    return out


def mean_over_area(field, grid):
    """Sum the overlap of each pair of pixels, one at a time."""
    out = np.zeros(grid)
    for place in np.ndindex(grid):
        for other in np.ndindex(field.shape):
            share = 1.0
            for i, j, s, t in zip(place, other, field.shape, grid, strict=True):
                low, high = max(i / t, j / s), min((i + 1) / t, (j + 1) / s)
                share *= max(0.0, high - low) * t
            out[place] += share * field[other]
    return out


def random_probabilities(k, grid, seed):
    values = np.random.default_rng(seed).random((k, *grid)) + 1e-3
    return values / values.sum(axis=0)


@given(pairs_of_grids(), st.integers(0, 2**32 - 1))
def test_labels_are_those_under_the_centres(both, seed):
    source, target = both
    labels = np.random.default_rng(seed).integers(-5, 5, source)
    assert np.array_equal(resampled_labels(labels, target), nearest(labels, target))


def test_enlarging_and_shrinking_by_a_whole_factor_gives_the_same_labels_back():
    labels = np.arange(35).reshape(5, 7)
    for factor in (2, 3):
        large = resampled_labels(labels, (5 * factor, 7 * factor))
        assert np.array_equal(large, labels.repeat(factor, 0).repeat(factor, 1))
        assert np.array_equal(resampled_labels(large, (5, 7)), labels)


@given(pairs_of_grids(), st.integers(0, 2**32 - 1))
def test_probabilities_are_means_over_the_area(both, seed):
    source, target = both
    values = random_probabilities(3, source, seed)
    found = resampled_probabilities(values, target)
    for channel, field in zip(found, values, strict=True):
        np.testing.assert_allclose(channel, mean_over_area(field, target), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-12)
    means = [a.reshape(3, -1).mean(axis=1) for a in (found, values)]
    np.testing.assert_allclose(*means, atol=1e-12)


@given(pairs_of_grids())
def test_weights_are_shares_of_each_target_pixel(both):
    weights = area_weights(*both)
    assert weights.data.min() > 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_keep_their_precision_and_remain_valid(dtype):
    values = random_probabilities(4, (31, 17), 0).astype(dtype)
    found = resampled_probabilities(values, (8, 12))
    assert found.dtype == dtype
    SoftPartition.from_regions(found)


@given(pairs_of_grids(), st.integers(0, 2**32 - 1))
def test_sparse_probabilities_are_averaged_like_dense_ones(both, seed):
    source, target = both
    rng = np.random.default_rng(seed)
    # Channels may come up twice at one pixel, and values may be zero.
    values = random_probabilities(3, source, seed)
    values[1] += values[0]
    values[0] = 0
    channels = rng.integers(0, 4, values.shape)
    sparse = SoftPartition.from_sparse(values, channels, n_channels=5)
    found = resampled(sparse, target)
    assert found.channels is not None or target == source
    wanted = resampled_probabilities(sparse.probabilities(), target)
    np.testing.assert_allclose(found.probabilities(), wanted, atol=1e-12)
    assert found.n_channels == 5


@given(pairs_of_grids(), st.integers(0, 2**32 - 1))
def test_cuts_of_a_hierarchy_brought_to_a_grid_are_its_cuts_brought_to_it(both, seed):
    source, target = both
    tree = random_tree(source, seed)
    found = resampled_tree(tree, target)
    found.validate()
    assert found.grid == target
    assert found.sizes[found.root] == np.prod(target)
    for altitude in (-1.0, *tree.altitudes.tolist()):
        whole = tree.labels_of(tree.horizontal_cut(altitude))
        wanted = Partition.from_labels(resampled_labels(whole, target))
        cut = found.labels_of(found.horizontal_cut(altitude))
        assert Partition.from_labels(cut) == wanted


def random_tree(grid, seed):
    """Merge random leaves two or three at a time, at altitudes in any order."""
    rng = np.random.default_rng(seed)
    leaf_map = np.unique(rng.integers(0, 12, grid), return_inverse=True)[1].reshape(grid)
    parents = [0] * int(leaf_map.max() + 1)
    alive = list(range(len(parents)))
    while len(alive) > 1:
        joined = rng.permutation(len(alive))[: rng.integers(2, 4)].tolist()
        for place in joined:
            parents[alive[place]] = len(parents)
        alive = [node for place, node in enumerate(alive) if place not in joined]
        alive.append(len(parents))
        parents.append(0)
    parents[-1] = len(parents) - 1
    return MergeTree.from_parents(parents, rng.integers(0, 9, len(parents)), leaf_map)


def test_a_hierarchy_on_the_grid_is_left_alone():
    tree = random_tree((3, 4), 0)
    assert resampled_tree(tree, (3, 4)) is tree


def test_every_kind_of_query_lands_on_the_grid():
    labels = np.zeros((6, 8), int)
    labels[:, 4:] = 7
    soft = np.stack([labels == 0, labels == 7]).astype(float)
    wanted = Partition.from_labels([[0, 0, 1, 1]] * 3)
    queries = [
        labels,
        labels == 7,
        Partition.from_labels(labels),
        SoftPartition.from_regions(soft),
        SoftPartition.from_classes(soft),
    ]
    for query in queries:
        found = resampled(query, (3, 4))
        assert found.grid == (3, 4)
        assert distance(found, wanted) == 0
    assert resampled(SoftPartition.from_classes(soft), (3, 4)).reading == "classes"


def test_what_lies_on_the_grid_already_is_left_alone():
    partition = Partition.from_labels(np.eye(4, dtype=int), measure=np.ones((4, 4)))
    assert resampled(partition, (4, 4)) is partition
    soft = SoftPartition.from_regions(random_probabilities(2, (4, 4), 1))
    assert resampled(soft, (4, 4)) is soft


def test_affinities_belong_to_their_grid():
    soft = SoftPartition.from_affinities(np.full((2, 6, 8), 0.5), [(0, 1), (1, 0)])
    with pytest.raises(ValueError, match=r"must lie on the grid \(3, 4\) if it is a map of aff"):
        resampled(soft, (3, 4))
    assert resampled(soft, (6, 8)) is soft


def test_a_measure_belongs_to_its_grid():
    partition = Partition.from_labels(np.eye(4, dtype=int), measure=np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"query on the grid \(4, 4\) must carry no measure"):
        resampled(partition, (2, 2))


@pytest.mark.parametrize("query", [np.zeros((2, 3), int), Partition.from_labels([[0, 1]])])
def test_the_number_of_axes_is_kept(query):
    with pytest.raises(ValueError, match=r"mask must be 3-D like the grid \(2, 2, 2\), got"):
        resampled(query, (2, 2, 2), "mask")
    with pytest.raises(ValueError, match=r"probabilities must be 3-D like the grid"):
        resampled_probabilities(np.zeros((1, 2, 3)), (2, 2, 2))


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"grid must have at least one pixel, got shape \(0, 3\)"):
        resampled_labels(np.zeros((2, 3), int), (0, 3))
    with pytest.raises(TypeError, match="query must be a label map of integer type"):
        resampled(np.zeros((2, 3)), (4, 4))
    with pytest.raises(ValueError, match="probabilities must be finite, got nan"):
        resampled_probabilities(np.full((1, 2, 2), np.nan), (3, 3))
    with pytest.raises(ValueError, match="with the channels first"):
        resampled_probabilities(np.zeros((2, 2)), (3, 3))
