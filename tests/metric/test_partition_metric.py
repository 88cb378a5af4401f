"""Every distance agrees with an independent reference: scikit-learn, or the sum over all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

from hiersearch.metric import (
    comembership_distance,
    contingency_table,
    distance,
    distances,
    jaccard_distance,
    pairwise_distances,
)
from hiersearch.partitions import Partition, SoftPartition
from tests.device.places import QUICK
from tests.exploration import examples
from tests.metric.reference import (
    comembership,
    double_sum,
    pair_sum,
    set_partitions,
    soft_comembership,
    total,
)

SEEDS = st.integers(0, 2**32 - 1)
GRIDS = st.sampled_from([(1, 1), (1, 9), (9, 1), (4, 5), (2, 3, 4)])
MEASURES = st.sampled_from(["none", "int", "bool", "float", "ignore"])


def some_measure(kind, rng, grid):
    """A measure of one kind, positive somewhere, zero at some pixels."""
    if kind == "none":
        return None
    values = rng.integers(0, 4, grid)
    values.flat[rng.integers(values.size)] = 2
    if kind == "int":
        return values
    return values.astype(bool) if kind == "bool" else values * rng.random() + 1e-3


def some_labels(rng, grid):
    return rng.integers(0, rng.integers(1, 7), grid)


def some_soft(rng, grid, k=None):
    values = rng.dirichlet(np.full(k or rng.integers(1, 6), 0.5), grid)
    return np.moveaxis(values, -1, 0)


def some_sparse(rng, grid):
    """Sparse probabilities, channels twice at a pixel among them, and the same dense."""
    m, k = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    values = some_soft(rng, grid, m)
    channels = rng.integers(0, k, (m, *grid))
    dense = np.stack([((channels == j) * values).sum(axis=0) for j in range(k)])
    return SoftPartition.from_sparse(values, channels, n_channels=k), dense


everywhere = pytest.mark.parametrize("device", ["cpu", *QUICK])


def cases(test):
    return examples(60)(given(SEEDS, GRIDS, MEASURES)(test))


@cases
def test_hard_distance_is_the_sum_over_all_pairs(seed, grid, kind):
    rng = np.random.default_rng(seed)
    a, b = some_labels(rng, grid), some_labels(rng, grid)
    if kind == "ignore":
        a.flat[0] = 1
        measure = a != 0
        raw = distance(Partition.from_labels(a, ignore=0), b, normalized=False)
        assert raw == distance(b, Partition.from_labels(a, ignore=0), normalized=False)
    else:
        measure = some_measure(kind, rng, grid)
        raw = distance(a, b, measure=measure, normalized=False)
        assert raw == distance(
            Partition.from_labels(a, measure=measure), Partition.from_labels(b), normalized=False
        )
    expected = pair_sum(comembership(a), comembership(b), measure)
    scale = total(measure, a.size) ** 2
    if kind == "float":
        assert isinstance(raw, float)
        assert raw == pytest.approx(expected, rel=1e-9, abs=1e-12 * scale)
    else:
        assert isinstance(raw, int)
        assert raw == expected
    normalized = distance(a, b, measure=measure)
    assert isinstance(normalized, float)
    assert normalized == pytest.approx(expected / scale, rel=1e-9, abs=1e-12)
    assert 0 <= normalized < 1


@examples(40)
@given(SEEDS, st.integers(1, 60), st.integers(1, 30))
def test_hard_distance_is_scikit_learns_count_of_pairs(seed, side, regions):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-regions, regions, (2, side, 7))
    pairs = pair_confusion_matrix(a.reshape(-1), b.reshape(-1))
    assert distance(a, b, normalized=False) == pairs[0, 1] + pairs[1, 0]
    joined = pairs[0, 1] + pairs[1, 0] + pairs[1, 1] + a.size
    assert jaccard_distance(a, b) == pytest.approx((pairs[0, 1] + pairs[1, 0]) / joined)


def test_hard_distance_is_the_double_sum_over_regions():
    labels = set_partitions(5)[::5]
    for a in labels:
        for b in labels:
            value = distance(np.array([a]), np.array([b]), normalized=False)
            assert value == double_sum(a, b)


@cases
def test_distance_from_dense_soft_partition_is_the_sum_over_all_pairs(seed, grid, kind):
    rng = np.random.default_rng(seed)
    values, labels = some_soft(rng, grid), some_labels(rng, grid)
    if kind == "ignore":
        labels.flat[0] = 1
        measure, hard = labels != 0, Partition.from_labels(labels, ignore=0)
    else:
        measure = some_measure(kind, rng, grid)
        hard = Partition.from_labels(labels, measure=measure)
    soft = SoftPartition.from_regions(values)
    expected = pair_sum(soft_comembership(values), comembership(labels), measure)
    scale = total(measure, labels.size) ** 2
    raw = distance(soft, hard, normalized=False)
    assert isinstance(raw, float)
    assert raw == pytest.approx(expected, rel=1e-9, abs=1e-12 * scale)
    assert distance(hard, soft, normalized=False) == raw
    assert distance(soft, labels, measure=measure) == pytest.approx(expected / scale, abs=1e-12)
    # Many candidates go by prefix sums, one does not.
    both = distances(soft, [labels, hard.with_measure(None)], measure=measure)
    assert both == pytest.approx(expected / scale, abs=1e-12)


@cases
def test_distance_from_sparse_soft_partition_is_the_sum_over_all_pairs(seed, grid, kind):
    rng = np.random.default_rng(seed)
    soft, dense = some_sparse(rng, grid)
    labels = some_labels(rng, grid)
    measure = some_measure("int" if kind == "ignore" else kind, rng, grid)
    expected = pair_sum(soft_comembership(dense), comembership(labels), measure)
    scale = total(measure, labels.size) ** 2
    assert distance(soft, labels, measure=measure) == pytest.approx(expected / scale, abs=1e-12)
    many = distances(soft.with_measure(measure), [labels, labels], normalized=False)
    assert many == pytest.approx(expected, rel=1e-9, abs=1e-12 * scale)


def test_sparse_distance_with_thousands_of_channels_and_regions():
    rng = np.random.default_rng(8)
    grid, k = (60, 70), 5000
    values, channels = some_soft(rng, grid, 3), rng.integers(0, k, (3, *grid))
    soft = SoftPartition.from_sparse(values, channels, n_channels=k)
    labels = rng.integers(0, 3000, grid)
    hard = Partition.from_labels(labels)
    pixels = np.arange(labels.size)
    dense = np.zeros((k, labels.size))
    for row in range(3):
        np.add.at(dense, (channels[row].reshape(-1), pixels), values[row].reshape(-1))
    overlaps = np.zeros((hard.n_regions, k))
    np.add.at(overlaps, hard.labels.reshape(-1), dense.T)
    expected = (dense.sum(axis=1) ** 2).sum() + (hard.sizes**2).sum() - 2 * (overlaps**2).sum()
    assert distance(soft, hard, normalized=False) == pytest.approx(expected, rel=1e-10)


@cases
def test_distance_from_affinities_is_the_sum_over_the_known_pairs(seed, grid, kind):
    rng = np.random.default_rng(seed)
    grid = (3, 4, 2) if len(grid) == 3 else (4, 5)
    offsets = np.eye(len(grid), dtype=int)
    offsets = np.concatenate([offsets, [[-1, 2] + [0] * (len(grid) - 2)]])
    values, weights = rng.random((len(offsets), *grid)), rng.random(len(offsets)) + 0.1
    measure = some_measure("int" if kind == "ignore" else kind, rng, grid)
    if measure is not None:
        measure = measure + (1 if kind != "bool" else True)
    labels = some_labels(rng, grid)
    expected = known = 0.0
    mu = np.ones(grid) if measure is None else measure
    for d, offset in enumerate(offsets):
        for p in np.ndindex(*grid):
            q = tuple(int(x) for x in np.add(p, offset))
            if all(0 <= x < side for x, side in zip(q, grid, strict=True)):
                weight = weights[d] * mu[p] * mu[q]
                known += weight
                expected += weight * abs(values[(d, *p)] - float(labels[p] == labels[q]))
    soft = SoftPartition.from_affinities(values, offsets, weights=weights)
    raw = distance(soft, labels, measure=measure, normalized=False)
    assert raw == pytest.approx(expected, rel=1e-6)
    assert distance(labels, soft, measure=measure) == pytest.approx(expected / known, rel=1e-6)
    assert distances(soft, [labels] * 2, measure=measure) == pytest.approx(
        expected / known, rel=1e-6
    )


def test_affinities_see_only_the_pairs_they_know():
    soft = SoftPartition.from_affinities(np.array([[[1.0, 0.0, 1.0, 0.0]]]), [(0, 1)])
    # Pixels 0, 1 and 2, 3: whether the two regions are one is not known to neighbours alone.
    assert distance(soft, np.array([[0, 0, 1, 1]])) == 0
    chain = SoftPartition.from_affinities(np.array([[[0.0, 0.0, 0.0, 0.0]]]), [(0, 1)])
    assert distance(chain, np.array([[0, 1, 0, 1]])) == distance(chain, np.array([[0, 1, 2, 3]]))


def test_affinities_under_a_measure_that_leaves_no_pair_are_refused():
    soft = SoftPartition.from_affinities(np.ones((1, 1, 3)), [(0, 1)])
    with pytest.raises(ValueError, match="measure must leave a pair of pixels with positive"):
        distance(soft, np.zeros((1, 3), int), measure=[[1, 0, 1]])


def test_integer_distances_are_exact_beyond_the_digits_of_a_float():
    rng = np.random.default_rng(2)
    measure = rng.integers(1, 10**8, (1, 40))
    a, b = rng.integers(0, 4, (2, 1, 40))
    exact = pair_sum(comembership(a), comembership(b), measure)
    assert exact > 2**53
    assert float(exact) != exact
    value = distance(a, b, measure=measure, normalized=False)
    assert type(value) is int
    assert value == exact
    assert distances(a, [b, a], measure=measure, normalized=False).tolist() == [exact, 0]


def test_the_largest_total_stays_within_int64():
    value = distance(np.array([[0, 0]]), np.array([[0, 1]]), measure=[[2**30, 2**30 - 1]])
    assert value == pytest.approx(0.5)
    raw = distance(
        np.array([[0, 0]]), np.array([[0, 1]]), measure=[[2**30, 2**30 - 1]], normalized=False
    )
    assert raw == 2 * 2**30 * (2**30 - 1)


def test_distances_on_a_large_grid_are_exact():
    side = 1800
    halves = np.zeros((side, side), np.uint8)
    halves[: side // 2] = 1
    whole = np.zeros_like(halves)
    n = side * side
    assert distance(halves, whole, normalized=False) == n * n // 2
    finest = np.arange(n, dtype=np.int64).reshape(side, side)
    assert distance(whole, finest, normalized=False) == n * n - n
    assert distance(halves, finest, normalized=False) == n * n // 2 - n
    assert distance(whole, finest) == pytest.approx(1 - 1 / n)


@pytest.mark.parametrize("kind", ["none", "int", "float"])
def test_tables_too_large_for_an_array_give_the_same_distances(kind):
    rng = np.random.default_rng(6)
    grid = (70, 80)
    fine = rng.integers(0, 3000, (2, *grid))
    a, b = (Partition.from_labels(labels) for labels in fine)
    assert a.n_regions * b.n_regions > 2**22
    measure = None if kind == "none" else rng.integers(0, 5, grid)
    mu = np.ones(grid) if measure is None else measure
    expected = 0.0
    for names, sign in (((0,), 1), ((1,), 1), ((0, 1), -2)):
        _, inverse = np.unique(
            fine[list(names)].reshape(len(names), -1), axis=1, return_inverse=True
        )
        sums = np.bincount(inverse.reshape(-1), mu.reshape(-1))
        expected += sign * (sums**2).sum()
    if kind == "float":
        measure = measure * 0.25
        expected *= 0.25**2
    value = distance(a, b, measure=measure, normalized=False)
    assert value == pytest.approx(expected, rel=1e-12)
    assert isinstance(value, float if kind == "float" else int)
    # Coarse partitions of the same grid go by an array: both ways meet in the triangle inequality.
    coarse = fine[0] // 300
    assert distance(a, coarse, measure=measure) <= (
        distance(a, b, measure=measure) + distance(b, coarse, measure=measure) + 1e-12
    )


@everywhere
@pytest.mark.parametrize("kind", ["none", "int", "float"])
@pytest.mark.parametrize("normalized", [True, False])
def test_one_to_many_and_pairwise_equal_one_to_one(kind, normalized, device):
    rng = np.random.default_rng(3)
    grid = (9, 11)
    measure = some_measure(kind, rng, grid)
    maps = [some_labels(rng, grid) for _ in range(6)]
    softs = [
        SoftPartition.from_regions(some_soft(rng, grid)),
        some_sparse(rng, grid)[0],
        SoftPartition.from_affinities(rng.random((2, *grid)), [(0, 1), (1, 0)]),
    ]
    options = {"measure": measure, "normalized": normalized}
    many = {**options, "device": device}
    one_to_one = np.array([[distance(a, b, **options) for b in maps] for a in maps])
    exact = not normalized and kind != "float"
    for matrix in (
        np.stack([distances(a, maps, **many) for a in maps]),
        pairwise_distances(maps, **many),
        pairwise_distances(maps, maps, **many),
        pairwise_distances(
            [Partition.from_labels(m, measure=measure) for m in maps],
            **{**many, "measure": None},
        ),
    ):
        assert matrix.dtype == (np.int64 if exact else np.float64)
        np.testing.assert_allclose(matrix, one_to_one, rtol=1e-12, atol=1e-9)
    for soft in softs:
        expected = [distance(soft, b, **options) for b in maps]
        assert distances(soft, maps, **many) == pytest.approx(expected)
    matrix = pairwise_distances([*softs, maps[0]], maps, **many)
    assert matrix.shape == (4, 6)
    assert matrix[0] == pytest.approx([distance(softs[0], b, **options) for b in maps])
    assert matrix[3] == pytest.approx(one_to_one[0])


@everywhere
def test_collections_may_be_empty_or_of_one(device):
    a = np.array([[0, 1]])
    assert distances(a, [], device=device).shape == (0,)
    assert pairwise_distances([], device=device).shape == (0, 0)
    assert pairwise_distances([], [a], device=device).shape == (0, 1)
    assert pairwise_distances([a], [], device=device).shape == (1, 0)
    assert pairwise_distances([a], device=device).tolist() == [[0.0]]
    assert pairwise_distances([a], normalized=False, device=device).dtype == np.int64
    options = {"measure": [[1, 2]], "normalized": False, "device": device}
    assert pairwise_distances([a, a], **options).tolist() == [[0, 0]] * 2


def test_a_measure_carried_by_one_counts_for_both():
    a, b = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])
    mu = np.array([[1, 2, 3, 4]])
    expected = distance(a, b, measure=mu, normalized=False)
    assert expected == pair_sum(comembership(a), comembership(b), mu)
    carrying = Partition.from_labels(b, measure=mu)
    assert distance(a, carrying, normalized=False) == expected
    assert distance(Partition.from_labels(a, measure=mu.copy()), carrying, normalized=False) == (
        expected
    )
    assert distance(a, carrying, measure=np.ones((1, 4), int), normalized=False) == 6


@everywhere
def test_candidates_with_measures_of_their_own_are_each_compared_under_it(device):
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 4, (5, 6))
    query = rng.integers(0, 3, (5, 6))
    candidates = [Partition.from_labels(labels, ignore=i) for i in (1, 2, 3)]
    candidates.insert(1, Partition.from_labels(labels))
    for q in (query, SoftPartition.from_regions(some_soft(rng, (5, 6)))):
        expected = [distance(q, c) for c in candidates]
        assert len(set(expected)) == 4
        assert distances(q, candidates, device=device).tolist() == pytest.approx(expected)


def test_two_different_measures_are_refused():
    a = Partition.from_labels(np.array([[0, 1]]), measure=[[1, 2]])
    b = Partition.from_labels(np.array([[0, 1]]), measure=[[2, 1]])
    for function in (distance, jaccard_distance, comembership_distance, contingency_table):
        with pytest.raises(ValueError, match=r"must carry the same measure.* pass measure=\.\.\."):
            function(a, b)
    assert distance(a, b, measure=[[1, 1]]) == 0


@everywhere
def test_grids_that_differ_are_refused_by_name(device):
    a, b = np.zeros((2, 3), int), np.zeros((3, 2), int)
    message = r"a and b must share one grid, got \(2, 3\) and \(3, 2\)"
    for function in (distance, jaccard_distance, comembership_distance, contingency_table):
        with pytest.raises(ValueError, match=message):
            function(a, b)
    with pytest.raises(ValueError, match=r"query and candidates\[1\] must share one grid"):
        distances(a, [a, b], device=device)
    ones = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"partitions\[0\] and partitions\[1\] must share one gr"):
        pairwise_distances([a, b], measure=ones, device=device)
    with pytest.raises(ValueError, match=r"partitions\[0\] and others\[0\] must share one grid"):
        pairwise_distances([a], [b], measure=ones, device=device)
    with pytest.raises(ValueError, match="must share one grid"):
        pairwise_distances([a, b], device=device)
    with pytest.raises(ValueError, match=r"measure must have the grid's shape \(2, 3\)"):
        distance(a, a, measure=ones.T)


def test_a_device_that_is_not_there_is_refused():
    a = np.array([[0, 1]])
    for function in (lambda **o: distances(a, [a], **o), lambda **o: pairwise_distances([a], **o)):
        with pytest.raises(ValueError, match="device must be cpu, cuda, cuda:N or auto, got 'GPU'"):
            function(device="GPU")
        assert function(device="auto").reshape(-1).tolist() == [0.0]


def test_floating_label_maps_are_refused_with_the_way_out():
    values = np.full((2, 3, 4), 0.5)
    for function in (distance, jaccard_distance, comembership_distance, contingency_table):
        with pytest.raises(TypeError, match=r"b must be a Partition, .*SoftOutput\(b, reading\)"):
            function(np.zeros((3, 4), int), values)
    with pytest.raises(TypeError, match=r"candidates\[1\] must be a Partition"):
        distances(np.zeros((3, 4), int), [np.zeros((3, 4), int), values])


@cases
def test_contingency_table_is_scikit_learns(seed, grid, kind):
    rng = np.random.default_rng(seed)
    a, b = some_labels(rng, grid), some_labels(rng, grid)
    measure = some_measure("none" if kind == "ignore" else kind, rng, grid)
    i, j, overlaps = contingency_table(a, b, measure=measure)
    shape = (np.unique(a).size, np.unique(b).size)
    occurs = contingency_matrix(a.reshape(-1), b.reshape(-1))
    assert (i * shape[1] + j).tolist() == np.flatnonzero(occurs).tolist()
    expected = np.zeros(shape)
    numbers = [np.unique(x, return_inverse=True)[1].reshape(-1) for x in (a, b)]
    weights = np.ones(a.size) if measure is None else np.asarray(measure).reshape(-1)
    np.add.at(expected, tuple(numbers), weights)
    np.testing.assert_allclose(overlaps, expected[i, j], rtol=1e-9, atol=1e-12)
    assert overlaps.dtype == (np.float64 if kind == "float" else np.int64)
    if measure is None:
        np.testing.assert_array_equal(overlaps, occurs[i, j])


@cases
def test_jaccard_distance_is_the_share_of_joined_pairs_that_differ(seed, grid, kind):
    rng = np.random.default_rng(seed)
    a, b = some_labels(rng, grid), some_labels(rng, grid)
    measure = some_measure("bool" if kind == "ignore" else kind, rng, grid)
    first, second = comembership(a), comembership(b)
    zeros = np.zeros_like(first)
    expected = pair_sum(first, second, measure) / pair_sum(first | second, zeros, measure)
    assert jaccard_distance(a, b, measure=measure) == pytest.approx(expected, abs=1e-12)
    assert jaccard_distance(a, a, measure=measure) == pytest.approx(0, abs=1e-12)


@cases
def test_comembership_distance_is_the_frobenius_norm(seed, grid, kind):
    rng = np.random.default_rng(seed)
    measure = some_measure("int" if kind == "ignore" else kind, rng, grid)
    labels = some_labels(rng, grid)
    dense = some_soft(rng, grid)
    sparse, of_sparse = some_sparse(rng, grid)
    items = [
        (Partition.from_labels(labels), comembership(labels).astype(float)),
        (SoftPartition.from_regions(dense), soft_comembership(dense)),
        (sparse, soft_comembership(of_sparse)),
    ]
    mu = np.ones(labels.size) if measure is None else np.asarray(measure, float).reshape(-1)
    for a, first in items:
        for b, second in items:
            expected = np.sqrt(mu @ (first - second) ** 2 @ mu) / mu.sum()
            assert comembership_distance(a, b, measure=measure) == pytest.approx(expected, abs=1e-7)
    other = some_labels(rng, grid)
    assert comembership_distance(labels, other, measure=measure) ** 2 == pytest.approx(
        distance(labels, other, measure=measure), abs=1e-12
    )


def test_an_overlap_form_that_cancels_gives_no_noise():
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 12, (200, 300))
    one_hot = np.arange(12)[:, None, None] == labels
    measure = rng.random(labels.shape) * 1e3
    noisy = SoftPartition.from_regions(one_hot.astype(np.float32) * np.float32(1 + 1e-7))
    for soft in (SoftPartition.from_regions(one_hot), noisy):
        for mu in (None, measure):
            values = [
                distance(soft, labels, measure=mu),
                *distances(soft, [labels, labels], measure=mu),
            ]
            assert min(values) >= 0
            assert max(values) <= 1e-9 + (3e-7 if soft is noisy else 0)
    assert distance(SoftPartition.from_regions(one_hot), labels) == 0
    assert 0 <= distance(labels, labels.copy(), measure=measure) <= 1e-12
    assert 0 <= jaccard_distance(labels, labels.copy(), measure=measure) <= 1e-9
