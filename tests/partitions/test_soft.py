"""Soft partitions take what a network says as it is, or say in one sentence what is wrong."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.metric import distance
from hiersearch.partitions import READINGS, Affinities, Memberships, Partition, SoftPartition
from tests.exploration import examples


def softmax(rng, k, *grid):
    logits = rng.normal(size=(k, *grid)) * 3
    weights = np.exp(logits - logits.max(axis=0))
    return weights / weights.sum(axis=0)


@pytest.mark.parametrize("grid", [(1, 1), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_region_channels_are_kept_as_given(dtype, grid):
    values = softmax(np.random.default_rng(0), 7, *grid).astype(dtype)
    soft = SoftPartition.from_regions(values)
    assert (soft.grid, soft.n_channels, soft.reading) == (grid, 7, "regions")
    assert soft.channels is None
    assert soft.values.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_array_equal(soft.probabilities(), values.astype(soft.values.dtype))
    assert soft.hard() == Partition.from_labels(values.argmax(axis=0))
    assert soft.total == np.prod(grid)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64])
def test_one_hot_channels_of_any_type_are_probabilities(dtype):
    labels = np.array([[0, 2, 1], [1, 1, 0]])
    soft = SoftPartition.from_regions((np.arange(3)[:, None, None] == labels).astype(dtype))
    assert soft.hard() == Partition.from_labels(labels)


def test_memory_layout_of_probabilities_does_not_matter():
    values = softmax(np.random.default_rng(5), 3, 6, 8)
    expected = SoftPartition.from_regions(values).probabilities()
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 0, -1)), -1, 0)
    read_only = values.copy()
    read_only.flags.writeable = False
    for other in (last, read_only, values.astype(">f8"), np.asfortranarray(values)):
        np.testing.assert_array_equal(SoftPartition.from_regions(other).probabilities(), expected)


def faulty(where, value):
    values = np.full((2, 3, 4), 0.5, np.float32)
    values[where] = value
    return values


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (faulty((1, 2, 3), np.nan), ValueError, r"be finite, got nan in channel 1 at pixel \(2, 3"),
        (faulty((0, 1, 0), np.inf), ValueError, r"be finite, got inf in channel 0 at pixel \(1, 0"),
        (faulty((0, 1, 0), -np.inf), ValueError, r"finite, got -inf in channel 0 at pixel \(1, 0"),
        (faulty((0, 0, 2), 0.75), ValueError, r"sum to 1 over .*axis 0.*got 1.25 at pixel \(0, 2"),
        (faulty((slice(None), 2, 0), 0), ValueError, r"must sum to 1 .* got 0 at pixel \(2, 0\)$"),
        (
            faulty((slice(None), 1, 1), [-0.25, 1.25]),
            ValueError,
            r"must not be negative, got -0\.25 in channel 0 at pixel \(1, 1\)",
        ),
        (np.full((4, 5), 0.25), ValueError, r"shape \(k, H, W\) or \(k, D, H, W\) .*got \(4, 5\)"),
        (np.zeros((0, 4, 5)), ValueError, r"channels first, got \(0, 4, 5\)"),
        (np.zeros((2, 0, 5)), ValueError, r"at least one pixel, got shape \(0, 5\)"),
        (np.full((2, 3, 4), 0.5j), TypeError, "must be an array of real numbers, got dtype comp"),
        (np.full((2, 3, 4), "a"), TypeError, "must be an array of real numbers"),
    ],
)
def test_what_is_no_probability_is_refused_with_the_pixel_named(values, error, message):
    with pytest.raises(error, match=message):
        SoftPartition.from_regions(values)
    with pytest.raises(error, match=message):
        SoftPartition.from_classes(values)


def test_a_fault_in_a_late_channel_and_pixel_is_found():
    values = softmax(np.random.default_rng(2), 5, 40, 50)
    values[3, 39, 48], values[4, 39, 48] = -0.125, values[3:, 39, 48].sum() + 0.125
    with pytest.raises(ValueError, match=r"got -0\.125 in channel 3 at pixel \(39, 48\)"):
        SoftPartition.from_regions(values)


def test_channels_on_the_wrong_axis_are_pointed_out():
    values = np.moveaxis(softmax(np.random.default_rng(1), 3, 4, 5), 0, -1)
    with pytest.raises(ValueError, match=r"they do over axis 2: move it to the front"):
        SoftPartition.from_regions(values)


def test_one_channel_of_two_classes_says_how_to_give_both():
    single = np.full((1, 3, 4), 0.3)
    for read in (SoftPartition.from_regions, SoftPartition.from_classes):
        with pytest.raises(ValueError, match=r"got 0.3 .*: of the single .* np.stack\(\[1 - p, p"):
            read(single)
        assert read(np.stack([1 - single[0], single[0]])).grid == (3, 4)
    with pytest.raises(ValueError, match=r"got 0.3 at pixel \(0, 0\)$"):
        SoftPartition.from_sparse(single, np.zeros((1, 3, 4), np.int32))
    # One channel that is sure everywhere is one region.
    assert SoftPartition.from_regions(np.ones((1, 3, 4))).n_channels == 1


def test_a_batch_of_images_is_no_volume():
    batch = np.full((5, 2, 3, 4), 0.5)
    for read in (SoftPartition.from_regions, SoftPartition.from_classes):
        with pytest.raises(ValueError, match=r"axis 1: .* or give the images of a batch one by"):
            read(batch)
    with pytest.raises(ValueError, match=r"offsets .* give the images of a batch one by one"):
        SoftPartition.from_affinities(batch, [(0, 1), (1, 0)])


def test_logits_are_not_taken_for_probabilities():
    with pytest.raises(ValueError, match="probabilities must"):
        SoftPartition.from_regions(np.random.default_rng(0).normal(size=(3, 4, 5)))


@examples(60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_sparse_pairs_add_up_to_the_dense_probabilities(seed, m, k):
    rng = np.random.default_rng(seed)
    # Sixteenths add up without rounding, so that equal sums are equal, too.
    cuts = np.sort(rng.integers(0, 17, (m - 1, 3, 4)), axis=0)
    values = np.diff(cuts, axis=0, prepend=0, append=16) / 16
    channels = rng.integers(0, k, (m, 3, 4))
    dense = np.zeros((k, 3, 4))
    for row in range(m):
        for y, x in np.ndindex(3, 4):
            dense[channels[row, y, x], y, x] += values[row, y, x]
    soft = SoftPartition.from_sparse(values, channels, n_channels=k)
    np.testing.assert_array_equal(soft.probabilities(), dense)
    chosen = soft.hard().original_labels
    np.testing.assert_array_equal(
        np.take_along_axis(dense, chosen[None], axis=0)[0], dense.max(axis=0)
    )


def test_a_channel_that_comes_up_twice_wins_by_its_sum():
    values = np.array([0.4, 0.3, 0.3]).reshape(3, 1, 1).repeat(2, axis=2)
    channels = np.array([[0, 5], [1, 6], [1, 7]]).reshape(3, 1, 2)
    assert SoftPartition.from_sparse(values, channels).hard().original_labels.tolist() == [[1, 5]]
    equals = SoftPartition.from_sparse(np.full((2, 1, 1), 0.5), np.array([3, 1]).reshape(2, 1, 1))
    assert equals.hard().original_labels.tolist() == [[3]]


def test_sparse_channels_are_counted_unless_given():
    values, channels = np.ones((1, 1, 3)), np.array([[[4, 0, 2]]], np.uint8)
    assert SoftPartition.from_sparse(values, channels).n_channels == 5
    assert SoftPartition.from_sparse(values, channels, n_channels=9).n_channels == 9


@pytest.mark.parametrize(
    ("channels", "n_channels", "error", "message"),
    [
        ([[[0.0, 1.0]]], None, TypeError, "channels must be of integer type, got dtype float64"),
        ([[[0]]], None, ValueError, r"channels must have the shape of values \(1, 1, 2\), got"),
        ([[[-1, 0]]], None, ValueError, r"channels must be within 0\.\.0, got -1\.\.0"),
        ([[[0, 3]]], 3, ValueError, r"channels must be within 0\.\.2, got 0\.\.3"),
        (
            [[[0, 2**40]]],
            None,
            ValueError,
            r"channels must be fewer than 2\*\*31, got 1099511627777",
        ),
        ([[[0, 1]]], 2.5, TypeError, r"n_channels must be a whole number, got 2\.5"),
        ([[[0, 1]]], 0, ValueError, "n_channels must be at least 1, got 0"),
    ],
)
def test_sparse_channels_that_do_not_fit_are_refused(channels, n_channels, error, message):
    with pytest.raises(error, match=message):
        SoftPartition.from_sparse(np.ones((1, 1, 2)), np.array(channels), n_channels=n_channels)


def test_sparse_values_are_checked_under_their_own_name():
    with pytest.raises(ValueError, match=r"values must sum to 1 .* got 0.5 at pixel \(0, 0\)"):
        SoftPartition.from_sparse(np.full((1, 1, 1), 0.5), np.zeros((1, 1, 1), int))


def test_hard_takes_the_first_of_equals_and_keeps_the_measure():
    soft = SoftPartition.from_regions(np.full((2, 1, 3), 0.5), measure=[[1, 0, 4]])
    hard = soft.hard()
    assert hard.original_labels.tolist() == [[0, 0, 0]]
    assert hard.sizes.tolist() == [5]
    assert soft.total == 5
    assert soft.with_measure(None).total == 3
    assert soft.with_measure([[0.5, 0.5, 0.5]]).total == 1.5


@pytest.mark.parametrize("read", ["from_regions", "from_classes"])
def test_a_measure_must_fit_the_channels_grid(read):
    values = np.full((2, 3, 4), 0.5)
    with pytest.raises(ValueError, match=r"measure must have the grid's shape \(3, 4\), got"):
        getattr(SoftPartition, read)(values, measure=np.ones((2, 3, 4)))


def test_affinities_know_the_pairs_inside_the_grid():
    values = np.random.default_rng(0).random((3, 4, 5))
    soft = SoftPartition.from_affinities(values, [(0, 1), (1, 0), (-2, 3)])
    assert isinstance(soft, Affinities)
    assert soft.pair_total == 4 * 4 + 3 * 5 + 2 * 2
    weighted = SoftPartition.from_affinities(values, [(0, 1), (1, 0), (-2, 3)], weights=[1, 0, 0.5])
    assert weighted.pair_total == 4 * 4 + 0.5 * 2 * 2
    measure = np.random.default_rng(1).integers(0, 4, (4, 5))
    pairs = (measure[:, :-1] * measure[:, 1:]).sum() + (measure[:-1] * measure[1:]).sum()
    pairs += (measure[2:, :2] * measure[:2, 3:]).sum()
    assert soft.with_measure(measure).pair_total == pairs
    assert SoftPartition.from_affinities(
        values, [(0, 1), (1, 0), (-2, 3)], measure=measure
    ).pair_total == (pairs)


def test_affinities_of_a_volume():
    soft = SoftPartition.from_affinities(np.ones((3, 2, 3, 4)), np.eye(3, dtype=int))
    assert soft.pair_total == 1 * 12 + 2 * 2 * 4 + 2 * 3 * 3


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([(0, 1), (0, 0)], r"offsets must not be zero, got \(0, 0\)"),
        ([(0, 1), (0, 1)], r"offsets must name each pair once, got \(0, 1\) twice \(up to sign\)"),
        ([(1, -2), (-1, 2)], r"offsets must name each pair once, got \(-1, 2\) twice"),
        ([(0, 1)], r"one offset of length 2 for each of the 2 channels, got shape \(1, 2\)"),
        ([(0, 1, 0), (1, 0, 0)], r"one offset of length 2 .* got shape \(2, 3\)"),
        ([(0.5, 1), (1, 0)], "offsets must be whole numbers.* dtype float64"),
        ([(0, 4), (3, 0)], r"must know a pair of pixels with positive weight, got none on grid"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(offsets, message):
    with pytest.raises(ValueError, match=message):
        SoftPartition.from_affinities(np.ones((2, 3, 4)), offsets)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.full((1, 2, 3), 1.5), ValueError, r"within \[0, 1\], got 1\.5 at index \(0, 0, 0\)"),
        (np.full((1, 2, 3), -0.1), ValueError, r"affinities must be within \[0, 1\], got -0\.1"),
        (np.full((1, 2, 3), np.nan), ValueError, r"affinities must be finite, got nan at index"),
        (np.ones((2, 3)), ValueError, r"affinities must have shape \(d, H, W\) or .*got \(2, 3\)"),
        (np.full((1, 2, 3), "a"), TypeError, "affinities must be an array of real numbers"),
    ],
)
def test_values_that_are_no_affinities_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        SoftPartition.from_affinities(values, [(0, 1)])


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [[1.0, 1.0]], [np.nan, 1.0]])
def test_weights_of_pairs_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be"):
        SoftPartition.from_affinities(np.ones((2, 2, 3)), [(0, 1), (1, 0)], weights=weights)


def test_affinities_without_a_weighted_pair_are_refused():
    with pytest.raises(ValueError, match="must know a pair of pixels with positive weight"):
        SoftPartition.from_affinities(np.ones((1, 1, 3)), [(0, 1)], measure=[[1, 0, 1]])


def test_each_constructor_says_how_the_channels_were_read():
    half = np.full((2, 2, 3), 0.5)
    made = [
        SoftPartition.from_regions(half),
        SoftPartition.from_classes(half),
        SoftPartition.from_boundaries(half[0]),
        SoftPartition.from_affinities(half, [(0, 1), (1, 0)]),
        SoftPartition.from_objects(np.full((3, 2, 3), 1 / 3)),
    ]
    assert tuple(soft.reading for soft in made) == READINGS
    assert [type(soft) for soft in made] == [Memberships] * 3 + [Affinities, Memberships]
    assert repr(made[0]) == "<Memberships 2×3: 2 channels (dense), read as regions>"
    assert repr(made[1]) == "<Memberships 2×3: 2 channels (2 a pixel), read as classes>"
    assert repr(made[3]) == "<Affinities 2×3: 2 offsets>"


def fields_of(made):
    return {name: getattr(made, name) for name in made.__match_args__}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"grid": (1,)}, ValueError, "grid must be 2-D (H, W) or 3-D (D, H, W), got shape (1,)"),
        ({"grid": (1, 4)}, ValueError, "values must have a row for each channel and a column for"),
        ({"reading": "affinities"}, ValueError, "reading must be one of regions, classes, bound"),
        ({"values": np.full((2, 3), 0.6)}, ValueError, "values must sum to 1 over the channels"),
        ({"values": np.ones((2, 3), int)}, TypeError, "values must be float32 or float64, got"),
        ({"channels": np.full((2, 3), 9)}, ValueError, "channels must be within 0..3, got 9..9"),
        ({"channels": np.full((2, 3), -1)}, ValueError, "channels must be within 0..3, got -1..-1"),
        ({"channels": np.zeros((1, 3), int)}, ValueError, "channels must have the shape of values"),
        ({"channels": None}, ValueError, "n_channels must be the number of rows of dense values"),
        ({"channels": np.zeros((2, 3))}, TypeError, "channels must be of integer type, got dtype"),
        ({"n_channels": 2**31}, ValueError, "channels must be fewer than 2**31, got 2147483648"),
        ({"measure": np.ones(2)}, ValueError, "measure must be flat, of shape (3,), got (2,)"),
    ],
)
def test_hand_built_memberships_are_checked(change, error, message):
    values = np.stack([np.full((1, 3), 0.75), np.full((1, 3), 0.25)])
    sound = fields_of(SoftPartition.from_sparse(values, [[[0, 1, 2]], [[3, 3, 3]]], n_channels=4))
    assert Memberships(**sound).hard().labels.tolist() == [[0, 1, 2]]
    with pytest.raises(error, match=re.escape(message)):
        Memberships(**{**sound, **change})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"values": np.full((1, 3), 1.5)}, ValueError, "affinities must be within [0, 1], got 1.5"),
        (
            {"offsets": [[0, 1, 0]]},
            ValueError,
            "offsets must be whole numbers, one offset of",
        ),
        ({"offsets": [[0, 2**40]]}, ValueError, "affinities must know a pair of pixels"),
        ({"weights": [-1.0]}, ValueError, "weights must be non-negative numbers, got -1"),
        ({"weights": [1.0, 2.0]}, ValueError, "weights must be 1 numbers, one for each offset"),
    ],
)
def test_hand_built_affinities_are_checked(change, error, message):
    sound = fields_of(SoftPartition.from_affinities(np.full((1, 1, 3), 0.5), [[0, 1]]))
    assert Affinities(**sound).pair_total == 2
    with pytest.raises(error, match=re.escape(message)):
        Affinities(**{**sound, **change})


def test_the_base_class_is_not_built_by_its_name():
    with pytest.raises(TypeError, match=r"a SoftPartition is built with SoftPartition\.from_"):
        SoftPartition((1, 2), None, "regions")


def test_channel_numbers_are_the_soft_partitions_own():
    values = np.ones((1, 1, 4))
    channels = np.array([[[0, 1, 1, 2]]], np.int32)
    soft = SoftPartition.from_sparse(values, channels)
    channels[:] = 2**31 - 1
    assert soft.hard().labels.tolist() == [[0, 1, 1, 2]]
    assert distance(soft, np.array([[0, 1, 1, 2]])) == 0


def test_probabilities_of_the_right_type_are_not_copied():
    values = np.full((2, 3, 4), 0.5, np.float32)
    assert np.shares_memory(SoftPartition.from_regions(values).values, values)


def test_grids_too_large_are_refused_before_their_values_are_looked_at():
    huge = np.broadcast_to(np.float32(1), (1, 2**16, 2**15))
    for build in (
        SoftPartition.from_regions,
        lambda p: SoftPartition.from_sparse(p, p),
        lambda p: SoftPartition.from_affinities(p, [[0, 1]]),
    ):
        with pytest.raises(ValueError, match=r"must have fewer than 2\*\*31 pixels, got shape"):
            build(huge)
