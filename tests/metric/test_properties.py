"""The property term keeps the axioms; a multiplier inside the double sum would not."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.metric import (
    RegionProperties,
    class_properties,
    colour_properties,
    distance,
    distances,
    region_properties,
    texture_properties,
)
from hiersearch.partitions import Partition, SoftPartition
from tests.exploration import examples
from tests.metric.reference import double_sum

GRID = (3, 4)
SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from(["colour", "texture", "class", "own"])


def attach(kind, partition, rng, image):
    """Properties of a kind; own and class ones at random."""
    if kind == "colour":
        return colour_properties(partition, image)
    if kind == "texture":
        return texture_properties(partition, image)
    if kind == "class":
        return class_properties(partition, rng.integers(0, 3, partition.n_regions), n_classes=3)
    values = rng.uniform([0, -2], [1, 5], (partition.n_regions, 2))
    return region_properties(partition, values, low=[0, -2], high=[1, 5])


def draw(rng, measured=False):
    measure = rng.integers(0, 4, GRID) * 0.5 if measured else None
    if measured:
        measure.flat[0] = 1.5
    maps = rng.integers(0, rng.integers(1, 6), (3, *GRID))
    return [Partition.from_labels(m, measure=measure) for m in maps], measure


def term_by_pixels(a, of_a, b, of_b, measure):
    """Σ_p μ_p ‖w_a(p) − w_b(p)‖₁ / (M c), pixel by pixel."""
    mu = np.ones(GRID) if measure is None else measure
    sum_ = 0.0
    for p, (i, j) in enumerate(zip(a.labels.flat, b.labels.flat, strict=True)):
        sum_ += mu.flat[p] * np.abs(of_a.values[i] - of_b.values[j]).sum()
    return sum_ / (mu.sum() * of_a.bound)


@examples(80)
@given(SEEDS, KINDS, st.booleans())
def test_term_is_the_mean_difference_over_pixels(seed, kind, measured):
    rng = np.random.default_rng(seed)
    (a, b, _), measure = draw(rng, measured)
    image = rng.random((*GRID, 3))
    of_a, of_b = attach(kind, a, rng, image), attach(kind, b, rng, image)
    expected = term_by_pixels(a, of_a, b, of_b, measure)
    assert 0 <= expected <= 1 + 1e-12
    bare = distance(a, b)
    for weight in (0.0, 0.3, 2.0):
        value = distance(a, b, properties=(of_a, of_b), property_weight=weight)
        assert value == pytest.approx(bare + weight * expected, abs=1e-12)
    swapped = distance(b, a, properties=(of_b, of_a), property_weight=2.0)
    assert swapped == pytest.approx(bare + 2 * expected, abs=1e-12)


@examples(80)
@given(SEEDS, KINDS, st.booleans(), st.floats(0, 5))
def test_with_the_term_the_axioms_hold(seed, kind, measured, weight):
    rng = np.random.default_rng(seed)
    items, _ = draw(rng, measured)
    image = rng.random((*GRID, 2))
    carried = [attach(kind, p, rng, image) for p in items]

    def d(i, j):
        pair = (carried[i], carried[j])
        return distance(items[i], items[j], properties=pair, property_weight=weight)

    for i in range(3):
        assert d(i, i) <= 1e-12
    for i, j, k in itertools.permutations(range(3)):
        assert d(i, j) == pytest.approx(d(j, i), abs=1e-12)
        assert d(i, k) <= d(i, j) + d(j, k) + 1e-12


@examples(60)
@given(SEEDS, st.booleans(), st.floats(0, 5))
def test_soft_classes_keep_the_triangle_inequality(seed, measured, weight):
    rng = np.random.default_rng(seed)
    items, measure = draw(rng, measured)
    mu = np.ones(GRID) if measure is None else measure
    values = np.moveaxis(rng.dirichlet(np.full(3, 0.5), GRID), -1, 0)
    of_hard = [attach("class", p, rng, None) for p in items]
    for query in (
        SoftPartition.from_regions(values, measure=measure),
        SoftPartition.from_classes(values, measure=measure),
    ):
        of_query = class_properties(query)
        many = distances(query, items, properties=(of_query, of_hard), property_weight=weight)
        for value, hard, own in zip(many, items, of_hard, strict=True):
            field = own.values[hard.labels]
            gaps = np.abs(np.moveaxis(values, 0, -1) - field).sum(axis=-1)
            term = (mu * gaps).sum() / (2 * mu.sum())
            assert value == pytest.approx(distance(query, hard) + weight * term, abs=1e-6)
            pair = (own, of_query)
            assert distance(hard, query, properties=pair, property_weight=weight) == pytest.approx(
                value, abs=1e-9
            )
        for i, j in itertools.permutations(range(3), 2):
            between = distance(
                items[i],
                items[j],
                properties=(of_hard[i], of_hard[j]),
                property_weight=weight,
            )
            assert many[i] <= many[j] + between + 1e-9


def test_class_properties_tie_regions_to_their_names():
    labels = np.array([[0, 0, 1, 1]])
    partition = Partition.from_labels(labels)
    right = class_properties(partition, np.array([0, 1]), n_classes=2)
    wrong = class_properties(partition, np.array([1, 0]), n_classes=2)
    assert distance(partition, partition) == 0
    value = distance(partition, partition, properties=(right, wrong), property_weight=0.25)
    assert value == 0.25


def test_colour_is_the_mean_of_a_region_in_units_of_the_images_range():
    partition = Partition.from_labels(np.array([[4, 4, 9]]), measure=[[1, 3, 0]])
    image = np.array([[[0, 255], [255, 0], [51, 102]]], np.uint8)
    colours = colour_properties(partition, image)
    # The region without measure has no mean: its colour is a constant that weighs nothing.
    np.testing.assert_allclose(colours.values[0], [0.75, 0.25])
    assert colours.bound == 2
    plain = colour_properties(partition.with_measure(None), image)
    np.testing.assert_allclose(plain.values, [[0.5, 0.5], [0.2, 0.4]])
    for dtype in (np.int16, np.uint16):
        info = np.iinfo(dtype)
        ends = np.array([[info.min, info.min, info.max]], dtype)
        assert colour_properties(partition, ends).values[0].tolist() == [0.0]
        assert colour_properties(partition.with_measure(None), ends).values.tolist() == [[0], [1]]
    binary = colour_properties(partition.with_measure(None), np.array([[True, False, True]]))
    assert binary.values.tolist() == [[0.5], [1.0]]


def test_texture_is_deviation_and_mean_step():
    labels = np.zeros((4, 4), int)
    labels[:, 2:] = 1
    image = np.zeros((4, 4))
    image[::2, 2:] = 1.0
    texture = texture_properties(Partition.from_labels(labels), image)
    # Right half: rows of 1 and 0, deviation 1/2; every pixel but the last row's steps by 1 along
    # one of two axes. Left half: flat, but two of its pixels, in the rows of 1, step to the right.
    np.testing.assert_allclose(texture.values, [[0, 2 / 8 / 2], [0.5, 6 / 8 / 2]])
    assert texture.bound == 1.5
    volume = Partition.from_labels(np.zeros((2, 2, 2), int))
    halves = np.zeros((2, 2, 2))
    halves[1] = 1.0
    np.testing.assert_allclose(texture_properties(volume, halves).values, [[0.5, 4 / 8 / 3]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 3)), r"image must have the grid \(3, 4\), .* got shape \(4, 3\)"),
        (np.zeros((3, 3, 4)), r"image must have the grid \(3, 4\)"),
        (np.zeros((3, 4, 2, 2)), r"image must have the grid \(3, 4\)"),
        (np.full((3, 4), 1.5), r"image must be within \[0, 1\] if floating, got 1\.5\.\.1\.5"),
        (np.full((3, 4), -0.5), r"image must be within \[0, 1\] if floating"),
        (np.full((3, 4), np.nan), "image must be finite, got nan at index"),
    ],
)
def test_images_that_do_not_fit_are_refused(image, message):
    partition = Partition.from_labels(np.zeros(GRID, int))
    for attach_to in (colour_properties, texture_properties):
        with pytest.raises(ValueError, match=message):
            attach_to(partition, image)


@pytest.mark.parametrize(
    ("values", "low", "high", "message"),
    [
        ([[0.0], [1.5]], 0, 1, r"within \[0, 1\] in component 0, got 1\.5 for region 1"),
        ([[0.0], [-1.0]], 0, 1, r"within \[0, 1\] in component 0, got -1 for region 1"),
        ([[0.0, 2.0], [0.0, 4.0]], [0, 1], [1, 3], r"\[1, 3\] in component 1, got 4 for region 1"),
        ([[0.0], [np.nan]], 0, 1, r"values must be finite, got nan at index \(1, 0\)"),
        ([[0.0]], 0, 1, r"values must have shape \(2, d\), a vector for each region, got \(1, 1\)"),
        ([0.0, 0.0], 0, 1, r"values must have shape \(2, d\)"),
        ([[0.0], [0.0]], 0, np.inf, "low and high must span a finite range, got 0 and inf"),
        ([[0.0], [0.0]], 0, 0, "low and high must span a finite range"),
        ([[0.0, 0], [0.0, 0]], [0, 3], [4, 2], "low and high must span a finite range"),
    ],
)
def test_vectors_outside_their_range_are_refused(values, low, high, message):
    partition = Partition.from_labels(np.array([[0, 1]]))
    with pytest.raises(ValueError, match=message):
        region_properties(partition, values, low=low, high=high)


@pytest.mark.parametrize(
    ("classes", "n_classes", "error", "message"),
    [
        (None, 2, TypeError, "classes must be an integer array, one for each region, got none"),
        ([0.0, 1.0], 2, TypeError, "classes must be an integer array.* got dtype float64"),
        ([0], 2, ValueError, r"classes must have shape \(2,\), one for each region, got \(1,\)"),
        ([0, 2], 2, ValueError, r"classes must be within 0\.\.1, got 0\.\.2"),
        ([-1, 1], 2, ValueError, r"classes must be within 0\.\.1, got -1\.\.1"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classes, n_classes, error, message):
    partition = Partition.from_labels(np.array([[0, 1]]))
    with pytest.raises(error, match=message):
        class_properties(partition, classes, n_classes=n_classes)


def test_soft_partitions_without_a_channel_for_each_class_are_refused():
    sparse = SoftPartition.from_sparse(np.ones((1, 1, 2)), np.zeros((1, 1, 2), int))
    with pytest.raises(TypeError, match="partition must have one channel a class, got <Member"):
        class_properties(sparse)
    with pytest.raises(TypeError, match="partition must have one channel a class"):
        class_properties(SoftPartition.from_boundaries(np.zeros((1, 2))))
    known = SoftPartition.from_affinities(np.ones((1, 1, 2)), [(0, 1)])
    with pytest.raises(TypeError, match="partition must be a Partition or Memberships, got <Aff"):
        class_properties(known)


def own(partition, values, **options):
    return region_properties(partition, values, **{"low": 0, "high": 1, **options})


def test_properties_that_cannot_be_compared_are_refused():
    a = Partition.from_labels(np.array([[0, 1]]))
    one = own(a, [[0.2], [0.4]])
    two = own(a, [[0.2, 0], [0.4, 0]], high=0.5)
    whole = Partition.from_labels(np.array([[0, 0]]))
    soft = class_properties(SoftPartition.from_regions(np.full((2, 1, 2), 0.5)))
    for other, message in (
        (own(a, [[0.2], [0.4]], kind="age"), "must be of one kind and bound, got 'own' .* 'age'"),
        (own(a, [[0.2], [0.4]], high=2), "must be of one kind and bound, got 'own' within 1 and"),
        (two, "properties must have one length, got 1 and 2 components"),
        (own(whole, [[0.2]]), r"properties must fit their partition <Partition 1×2: 2 regions"),
        (soft, "must be of one kind and bound"),
        (own(a, [[5.2], [5.4]], low=5, high=6), "must differ by at most their bound 1, got 5"),
    ):
        for weight in (0.0, 1.0):
            with pytest.raises(ValueError, match=message):
                distance(a, a, properties=(one, other), property_weight=weight)
    classes = class_properties(a, np.array([0, 1]), n_classes=2)
    with pytest.raises(ValueError, match="of a hard partition must be given region by region"):
        distance(a, a, properties=(classes, soft), property_weight=1.0)
    query = SoftPartition.from_regions(np.full((2, 1, 2), 0.5))
    with pytest.raises(ValueError, match="properties must fit their partition <Memberships 1×2"):
        distance(query, a, properties=(classes, classes), property_weight=1.0)


def test_the_term_needs_normalisation_a_weight_and_a_vector_for_each():
    a = Partition.from_labels(np.array([[0, 1]]))
    one = own(a, [[0.2], [0.4]])
    with pytest.raises(ValueError, match="normalized must be true with properties"):
        distance(a, a, properties=(one, one), property_weight=1.0, normalized=False)
    with pytest.raises(ValueError, match=r"properties must be given with property_weight=0\.5"):
        distance(a, a, property_weight=0.5)
    with pytest.raises(ValueError, match="properties must be given for each of the 2 candidates"):
        distances(a, [a, a], properties=(one, [one]), property_weight=1.0)
    for weight in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="property_weight must be a number of at least 0, got"):
            distance(a, a, properties=(one, one), property_weight=weight)


def test_properties_made_by_hand_count_as_given():
    a = Partition.from_labels(np.array([[0, 1]]))
    by_hand = RegionProperties(np.array([[0.2], [0.4]]), 1.0, "own")
    other = own(a, [[0.3], [0.4]])
    assert distance(a, a, properties=(by_hand, other), property_weight=1.0) == pytest.approx(0.05)


def test_a_multiplier_inside_the_double_sum_would_break_the_triangle_inequality():
    """Why region weights w(X, Y) inside the double sum are not offered.

    Three partitions of five pixels, whose regions carry the mean of pixel values within 5 % of 1:
    weighted by w = mean(X) · mean(Y), the way over β is shorter than the direct way. The bare
    double sum keeps the axiom on the same three.
    """
    pixel_values = [Fraction(v, 100) for v in (95, 105, 95, 105, 95)]

    def weighted(a, b):
        def mean(labels, region):
            own = [v for v, x in zip(pixel_values, labels, strict=True) if x == region]
            return sum(own) / len(own)

        return double_sum(a, b, lambda i, j: mean(a, i) * mean(b, j))

    a, b, c = [0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 2]
    assert weighted(a, c) > weighted(a, b) + weighted(b, c)
    assert double_sum(a, c) <= double_sum(a, b) + double_sum(b, c)
