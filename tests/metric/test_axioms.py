"""ρ is a metric where it is offered as one; what is none is refused, and here is why."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.metric import (
    comembership_distance,
    distance,
    distances,
    jaccard_distance,
    pairwise_distances,
)
from hiersearch.partitions import Partition, SoftPartition
from tests.exploration import examples
from tests.metric.reference import pair_sum, set_partitions, soft_comembership

FIVE = [np.array([labels]) for labels in set_partitions(5)]
GRID = (3, 5)
SEEDS = st.integers(0, 2**32 - 1)


def assert_triangle(matrix, tolerance=0.0):
    """Every d(i, k) is at most d(i, j) + d(j, k)."""
    detours = matrix[:, :, None] + matrix[None, :, :]
    assert (matrix[:, None, :] <= detours + tolerance).all()


def draw(rng, measured):
    labels = rng.integers(0, rng.integers(1, 6), (4, *GRID))
    measure = None
    if measured == "int":
        measure = rng.integers(0, 5, GRID)
        measure.flat[rng.integers(measure.size)] = 1
    elif measured == "float":
        measure = rng.random(GRID) * (rng.random(GRID) < 0.8)
        measure.flat[0] = 0.5
    return list(labels), measure


def soft(rng, measure=None):
    values = np.moveaxis(rng.dirichlet(np.full(rng.integers(1, 5), 0.4), GRID), -1, 0)
    return SoftPartition.from_regions(values, measure=measure)


def random_cases(test):
    return examples(80)(given(SEEDS, st.sampled_from(["none", "int", "float"]))(test))


def test_there_are_52_partitions_of_five_points():
    assert len(FIVE) == 52
    assert len({tuple(Partition.from_labels(p).labels[0]) for p in FIVE}) == 52


@pytest.mark.parametrize("measure", [None, [[1, 2, 3, 5, 8]], [[0.3, 1.1, 0.7, 2.0, 0.1]]])
def test_all_axioms_hold_on_all_partitions_of_five_points(measure):
    exact = measure is None or isinstance(measure[0][0], int)
    matrix = pairwise_distances(FIVE, measure=measure, normalized=not exact)
    columns = np.stack([distances(p, FIVE, measure=measure, normalized=not exact) for p in FIVE])
    np.testing.assert_allclose(columns, columns.T, atol=1e-14)
    np.testing.assert_allclose(columns, matrix, atol=1e-14)
    assert (columns.diagonal() <= 1e-14).all()
    apart = ~np.eye(52, dtype=bool)
    assert (matrix[apart] > 1e-3).all()
    assert_triangle(matrix, 0 if exact else 1e-14)


def test_all_axioms_hold_for_the_jaccard_form_on_five_points():
    matrix = np.array([[jaccard_distance(a, b) for b in FIVE] for a in FIVE])
    assert (matrix == matrix.T).all()
    assert (matrix.diagonal() == 0).all()
    assert (matrix[~np.eye(52, dtype=bool)] > 0).all()
    assert matrix.max() < 1
    assert_triangle(matrix, 1e-12)


def test_soft_queries_keep_the_triangle_inequality_on_five_points():
    rng = np.random.default_rng(0)
    between = pairwise_distances(FIVE)
    for k in (1, 2, 3, 5) * 5:
        values = np.moveaxis(rng.dirichlet(np.full(k, 0.4), (1, 5)), -1, 0)
        to_query = distances(SoftPartition.from_regions(values), FIVE)
        assert (to_query[:, None] <= to_query[None, :] + between + 1e-12).all()
        assert (between <= to_query[:, None] + to_query[None, :] + 1e-12).all()


@random_cases
def test_symmetric_and_renaming_changes_nothing(seed, measured):
    rng = np.random.default_rng(seed)
    (a, b, *_), measure = draw(rng, measured)
    value = distance(a, b, measure=measure)
    assert distance(b, a, measure=measure) == pytest.approx(value, abs=1e-14)
    names = rng.permutation(1000)[:6] - 500
    assert distance(names[a], b, measure=measure) == pytest.approx(value, abs=1e-14)
    assert distance(names[a], a, measure=measure) == pytest.approx(0, abs=1e-14)
    assert jaccard_distance(names[a], b, measure=measure) == pytest.approx(
        jaccard_distance(b, a, measure=measure), abs=1e-12
    )
    query = soft(rng, measure)
    assert distance(query, names[b]) == pytest.approx(distance(query, b), abs=1e-14)
    reordered = SoftPartition.from_regions(
        query.probabilities()[rng.permutation(query.n_channels)], measure=measure
    )
    assert distance(reordered, b) == pytest.approx(distance(query, b), abs=1e-14)


@random_cases
def test_zero_exactly_when_equal_on_the_support_of_the_measure(seed, measured):
    rng = np.random.default_rng(seed)
    (a, b, *_), measure = draw(rng, measured)
    support = np.ones(GRID, bool) if measure is None else measure > 0
    if seed % 2:
        # Differ at most where the measure is zero.
        b = np.where(support, a, b)
    equal = Partition.from_labels(a[support][None]) == Partition.from_labels(b[support][None])
    value = distance(a, b, measure=measure)
    raw = distance(a, b, measure=measure, normalized=False)
    if measured == "float":
        smallest = (measure[support].min() / measure.sum()) ** 2
        assert (value <= 1e-14) if equal else (value >= smallest)
    else:
        assert (raw == 0) == equal
    assert value >= 0


@random_cases
def test_triangle_inequality_between_hard_partitions(seed, measured):
    labels, measure = draw(np.random.default_rng(seed), measured)
    assert_triangle(pairwise_distances(labels, measure=measure), 1e-14)
    matrix = np.array([[jaccard_distance(a, b, measure=measure) for b in labels] for a in labels])
    assert_triangle(matrix, 1e-12)


@random_cases
def test_triangle_inequality_from_soft_over_hard_to_hard(seed, measured):
    rng = np.random.default_rng(seed)
    labels, measure = draw(rng, measured)
    between = pairwise_distances(labels, measure=measure)
    offsets = [(0, 1), (1, 0), (1, 1)]
    known = SoftPartition.from_affinities(rng.random((3, *GRID)), offsets)
    to_query = distances(soft(rng, measure), labels)
    assert (to_query[:, None] <= to_query[None, :] + between + 1e-12).all()
    # On the known pairs the distance between hard partitions is that from the map of one of them.
    to_known = distances(known, labels)
    of_labels = np.array([distances(hard_affinities(a, offsets), labels) for a in labels])
    assert_triangle(of_labels, 1e-12)
    assert (to_known[:, None] <= to_known[None, :] + of_labels + 1e-12).all()


def hard_affinities(labels, offsets):
    values = [np.roll(labels, [-o for o in offset], (0, 1)) == labels for offset in offsets]
    return SoftPartition.from_affinities(np.array(values, float), offsets)


@random_cases
def test_comembership_distance_is_a_metric_between_soft_partitions(seed, measured):
    rng = np.random.default_rng(seed)
    labels, measure = draw(rng, measured)
    items = [soft(rng), soft(rng), soft(rng), labels[0]]
    matrix = np.array(
        [[comembership_distance(a, b, measure=measure) for b in items] for a in items]
    )
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    np.testing.assert_allclose(matrix.diagonal(), 0, atol=1e-7)
    assert_triangle(matrix, 1e-7)


def test_between_soft_partitions_the_polynomial_is_no_metric_and_is_refused():
    values = np.array([[[0.7, 0.4, 0.1]], [[0.3, 0.6, 0.9]]])
    flat = values.reshape(2, -1)
    # The polynomial at (P, P) is positive: independent draws from one P disagree.
    at_itself = 2 * (flat.sum(axis=1) ** 2).sum() - 2 * ((flat @ flat.T) ** 2).sum()
    assert at_itself > 1
    gap = soft_comembership(values)
    assert pair_sum(gap, gap) == 0
    query = SoftPartition.from_regions(values)
    known = SoftPartition.from_affinities(values, [(0, 1), (0, 2)])
    for other in (query, known):
        for a, b in ((query, other), (other, query)):
            with pytest.raises(TypeError, match=r"must not both be soft.*comembership_distance"):
                distance(a, b)
    with pytest.raises(TypeError, match=r"candidates\[1\] must be a hard partition, got <Memb"):
        distances(query, [query.hard(), query])
    with pytest.raises(TypeError, match=r"partitions\[0\] must be a hard partition"):
        pairwise_distances([query, query.hard()])
    with pytest.raises(TypeError, match=r"others\[0\] must be a hard partition"):
        pairwise_distances([query], [query])
    with pytest.raises(TypeError, match="b must be a hard partition"):
        jaccard_distance(query.hard(), query)
    with pytest.raises(TypeError, match="b must know every pair of pixels, got <Affinities 1×3"):
        comembership_distance(query, known)
    assert comembership_distance(query, query) == 0


def test_dividing_by_the_sum_of_squares_would_break_the_triangle_inequality():
    a, b, c = (np.array([labels]) for labels in ([0, 0, 0, 1, 2], [0, 0, 0, 1, 1], [0, 1, 2, 3, 3]))

    def divided(x, y):
        squares = [int((np.unique(z, return_counts=True)[1] ** 2).sum()) for z in (x, y)]
        return Fraction(distance(x, y, normalized=False), sum(squares))

    assert divided(a, c) == Fraction(8, 18)
    assert divided(a, b) + divided(b, c) == Fraction(2, 24) + Fraction(6, 20)
    assert divided(a, c) > divided(a, b) + divided(b, c)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert jaccard_distance(a, c) <= jaccard_distance(a, b) + jaccard_distance(b, c)
