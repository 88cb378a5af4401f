"""A partition keeps any label map exactly, and forgets the labels where regions are compared."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hiersearch.partitions import Partition
from tests.exploration import examples

TYPES = [np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64]
GRIDS = st.one_of(
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4),
)


@st.composite
def label_maps(draw, dtypes=TYPES):
    """Label maps of every integer type, with few or many distinct values, extremes among them."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    grid = draw(GRIDS)
    if dtype == np.bool_:
        return draw(hnp.arrays(dtype, grid))
    info = np.iinfo(dtype)
    values = st.one_of(
        st.integers(int(info.min), int(info.max)),
        st.sampled_from([int(info.min), int(info.max), 0, 1, 2]),
    )
    palette = draw(st.lists(values, min_size=1, max_size=6))
    return draw(hnp.arrays(dtype, grid, elements=st.sampled_from(palette), fill=st.nothing()))


@examples(150)
@given(label_maps())
def test_any_label_map_comes_back_as_it_was(labels):
    restored = Partition.from_labels(labels).original_labels
    assert restored.dtype == (np.uint8 if labels.dtype == np.bool_ else labels.dtype)
    np.testing.assert_array_equal(restored, labels)


@examples(60)
@given(label_maps())
def test_runs_and_regions_describe_the_label_map(labels):
    partition = Partition.from_labels(labels)
    flat = labels.reshape(-1)
    assert partition.grid == labels.shape
    assert partition.n_pixels == flat.size
    expected = [p for p in range(flat.size) if p == 0 or flat[p] != flat[p - 1]]
    assert partition.run_starts.tolist() == expected
    assert partition.n_runs == len(expected)
    assert (np.diff(partition.run_labels) != 0).all()
    values, counts = np.unique(flat, return_counts=True)
    assert partition.n_regions == values.size
    assert [int(v) for v in partition.label_values] == [int(v) for v in values]
    assert partition.sizes.tolist() == counts.tolist()
    assert partition.sizes.dtype == np.int64
    numbers = partition.labels
    assert sorted(set(numbers.reshape(-1).tolist())) == list(range(values.size))
    np.testing.assert_array_equal(partition.label_values[numbers], labels.astype(values.dtype))


@examples(60)
@given(label_maps([np.uint8, np.int64, np.uint64]), st.randoms(use_true_random=False))
def test_renaming_the_labels_leaves_the_partition_equal(labels, random):
    values, inverse = np.unique(labels, return_inverse=True)
    names = list(range(-3, values.size - 3))
    random.shuffle(names)
    renamed = np.array(names)[inverse.reshape(labels.shape)]
    assert Partition.from_labels(labels) == Partition.from_labels(renamed)


def test_partitions_that_differ_in_one_pixel_or_in_their_grid_are_not_equal():
    a = Partition.from_labels(np.array([[0, 1, 1, 2]]))
    assert a != Partition.from_labels(np.array([[0, 1, 2, 2]]))
    assert a != Partition.from_labels(np.array([[0, 1, 1, 0]]))
    assert Partition.from_labels(np.array([[0, 1, 0, 2]])) != Partition.from_labels(
        np.array([[0, 1, 2, 0]])
    )
    # As many runs and regions, but the renaming would have to send 0 to two regions.
    assert Partition.from_labels(np.array([[0, 1, 0, 1, 2]])) != Partition.from_labels(
        np.array([[0, 1, 2, 1, 0]])
    )
    assert a != Partition.from_labels(np.array([[0, 1], [1, 2]]))
    assert a != "a partition"
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


def test_labels_beyond_the_signed_range_stay_apart():
    labels = np.array([[2**63, 2**63 + 1, 2**64 - 1, 0]], np.uint64)
    partition = Partition.from_labels(labels)
    assert [int(v) for v in partition.label_values] == [0, 2**63, 2**63 + 1, 2**64 - 1]
    np.testing.assert_array_equal(partition.original_labels, labels)


def test_extremes_of_int64_stay_apart():
    info = np.iinfo(np.int64)
    for labels in (
        [[info.min, info.max, -1, 0]],
        [[info.min, info.min + 1, info.min, info.min + 1]],
        [[info.max, info.max - 1, info.max, info.max - 1]],
    ):
        partition = Partition.from_labels(np.array(labels))
        assert partition.n_regions == len(set(labels[0]))
        assert partition.original_labels.tolist() == labels


@pytest.mark.parametrize("dtype", ["u2", "i4", "u8"])
def test_memory_layout_does_not_matter(dtype):
    rng = np.random.default_rng(3)
    plain = rng.integers(0, 4, (12, 14)).astype(dtype)
    expected = Partition.from_labels(plain[::2, 1::3].copy())
    swapped = plain.astype(np.dtype(dtype).newbyteorder())
    read_only = plain.copy()
    read_only.flags.writeable = False
    for other in (plain, swapped, read_only, np.asfortranarray(plain), plain.tolist()):
        assert Partition.from_labels(other) == Partition.from_labels(plain)
        assert np.array_equal(Partition.from_labels(other).original_labels, plain)
    for other in (plain, swapped, read_only, np.asfortranarray(plain)):
        assert Partition.from_labels(other[::2, 1::3]) == expected
    assert Partition.from_labels(plain[:1, ::2]) == Partition.from_labels(plain[:1, ::2].copy())
    assert Partition.from_labels(plain[::-1, ::-1].T) == Partition.from_labels(
        plain[::-1, ::-1].T.copy()
    )


def test_smallest_and_finest_partitions():
    one = Partition.from_labels(np.array([[-9]]))
    assert (one.n_regions, one.n_runs, one.n_pixels, one.total) == (1, 1, 1, 1)
    whole = Partition.from_labels(np.full((3, 4, 5), 7))
    assert (whole.n_regions, whole.n_runs, whole.sizes.tolist()) == (1, 1, [60])
    finest = Partition.from_labels(np.arange(60).reshape(3, 4, 5))
    assert (finest.n_regions, finest.n_runs) == (60, 60)
    assert finest.sizes.tolist() == [1] * 60


def test_runs_end_where_they_should_for_every_length_of_the_map():
    rng = np.random.default_rng(0)
    for n in range(1, 70):
        labels = np.repeat(rng.integers(0, 2, n), rng.integers(1, 12, n))[None, :n]
        np.testing.assert_array_equal(Partition.from_labels(labels).original_labels, labels)


def test_ignored_pixels_have_measure_zero():
    labels = np.array([[255, 3, 3], [4, 255, 4]], np.uint8)
    partition = Partition.from_labels(labels, ignore=255)
    assert partition.label_values.tolist() == [3, 4, 255]
    assert partition.sizes.tolist() == [2, 2, 0]
    assert partition.total == 4
    assert isinstance(partition.total, int)
    weighted = Partition.from_labels(labels, measure=np.full((2, 3), 0.5), ignore=255)
    assert weighted.sizes.tolist() == [1.0, 1.0, 0.0]
    absent = Partition.from_labels(labels, ignore=-1)
    assert absent.total == 6
    binary = Partition.from_labels(labels == 3, ignore=False)
    assert binary.sizes.tolist() == [0, 2]


def test_ignoring_everything_is_refused():
    with pytest.raises(ValueError, match=r"labels must have a pixel besides ignore=2, got none"):
        Partition.from_labels(np.full((2, 2), 2), ignore=2)
    with pytest.raises(ValueError, match="measure must be positive at a pixel that is not ignored"):
        Partition.from_labels(np.array([[1, 2]]), measure=np.array([[1, 0]]), ignore=1)
    with pytest.raises(TypeError, match=r"ignore must be a label, a whole number, got 2\.0"):
        Partition.from_labels(np.array([[1, 2]]), ignore=2.0)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int64, np.float16, np.float32])
def test_sizes_are_sums_of_the_measure(dtype):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, (6, 7))
    measure = rng.integers(0, 3, (6, 7)).astype(dtype)
    partition = Partition.from_labels(labels, measure=measure)
    expected = [measure[labels == v].astype(float).sum() for v in range(5)]
    assert partition.sizes.tolist() == expected
    exact = np.dtype(dtype).kind in "iub"
    assert partition.sizes.dtype == (np.int64 if exact else np.float64)
    assert partition.total == measure.astype(float).sum()
    assert partition.with_measure(None).sizes.tolist() == [(labels == v).sum() for v in range(5)]
    plain = Partition.from_labels(labels)
    assert plain.with_measure(measure).sizes.tolist() == expected
    assert plain.with_measure(measure) == plain
    assert plain.measure is None


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.zeros((2, 2)), TypeError, "labels must be a label map of integer type, got dtype f"),
        (np.array([["a", "b"]]), TypeError, "labels must be a label map of integer type"),
        (np.array([[1, None]]), TypeError, "integer type, got dtype object"),
        (np.zeros(4, int), ValueError, r"labels must be 2-D .* or 3-D .*, got shape \(4,\)"),
        (np.zeros((1, 2, 3, 4), int), ValueError, r"got shape \(1, 2, 3, 4\)"),
        (np.zeros((0, 5), int), ValueError, r"labels must have at least one pixel, got .*\(0, 5\)"),
        (np.int64(3), ValueError, r"labels must be 2-D .*, got shape \(\)"),
    ],
)
def test_what_is_no_label_map_is_refused_with_a_sentence(labels, error, message):
    with pytest.raises(error, match=message):
        Partition.from_labels(labels)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ([[1, 1, 1]], r"measure must have the grid's shape \(1, 2\), got \(1, 3\)"),
        ([1, 1], r"measure must have the grid's shape \(1, 2\), got \(2,\)"),
        ([[1.0, -0.5]], r"measure must not be negative, got -0\.5 at index \(0, 1\)"),
        ([[1, -2]], r"measure must not be negative, got -2.* at index \(0, 1\)"),
        ([[np.nan, 1]], r"measure must be finite, got nan at index \(0, 0\)"),
        ([[1, np.inf]], r"measure must be finite, got inf at index \(0, 1\)"),
        ([[0, 0]], "measure must be positive somewhere, got zero at every pixel"),
        ([[2**31, 1]], r"measure of integer type .* at most 2147483647.* pass it as float64"),
        (np.array([[2**64 - 1, 1]], np.uint64), "measure of integer type"),
        ([[2**62, 2**62]], "measure of integer type"),
        ([[1e200, 1.0]], r"measure must have a total whose square is a float64, got 1e\+200"),
        ([[1e308, 1e308]], "measure must have a total whose square is a float64, got inf"),
        ([[1e-300, 0.0]], "measure must have a total whose square is a float64, got 1e-300"),
    ],
)
def test_what_is_no_measure_is_refused_with_a_sentence(measure, message):
    with pytest.raises(ValueError, match=message):
        Partition.from_labels(np.array([[0, 1]]), measure=measure)
    with pytest.raises(ValueError, match=message):
        Partition.from_labels(np.array([[0, 1]])).with_measure(measure)


def test_a_measure_must_be_made_of_real_numbers():
    for measure in ([["a", "b"]], [[1j, 2]], [[None, 1]]):
        with pytest.raises(TypeError, match="measure must be an array of real numbers"):
            Partition.from_labels(np.array([[0, 1]]), measure=measure)


def test_the_largest_integer_measure_is_kept_exactly():
    partition = Partition.from_labels(np.array([[0, 1]]), measure=[[2**31 - 2, 1]])
    assert partition.sizes.tolist() == [2**31 - 2, 1]
    assert partition.total == 2**31 - 1


def test_a_partition_names_itself():
    labels = np.array([[1, 1, 2]])
    assert repr(Partition.from_labels(labels)) == "<Partition 1×3: 2 regions, 2 runs>"
    weighted = Partition.from_labels(labels, measure=[[1, 2, 3]])
    assert repr(weighted) == "<Partition 1×3: 2 regions, 2 runs, total measure 6>"


def fields_of(partition):
    return {name: getattr(partition, name) for name in partition.__match_args__}


def test_the_constructor_takes_what_from_labels_finds():
    for measure in (None, np.arange(6.0).reshape(2, 3), np.arange(6).reshape(2, 3)):
        found = Partition.from_labels([[4, 4, -2], [4, -2, -2]], measure=measure)
        again = Partition(**fields_of(found))
        assert again == found
        assert again.sizes.tolist() == found.sizes.tolist()
        assert again.original_labels.tolist() == [[4, 4, -2], [4, -2, -2]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"grid": (2, 0)}, ValueError, "grid must have at least one pixel, got shape (2, 0)"),
        ({"grid": (2**16, 2**15)}, ValueError, "grid must have fewer than 2**31 pixels, got shape"),
        ({"run_starts": [1, 2, 3, 4]}, ValueError, "run_starts must begin with 0, got 1"),
        ({"run_starts": [0, 3, 2, 4]}, ValueError, "run_starts must ascend, got 2 after 3 at"),
        ({"run_starts": [0, 2, 3, 6]}, ValueError, "run_starts must be within 0..5, got 6 at"),
        ({"run_starts": [0.0, 2, 3, 4]}, TypeError, "run_starts must be an array of whole numbers"),
        ({"run_starts": []}, TypeError, "run_starts must be an array of whole numbers"),
        ({"run_labels": [1, 0, 2, 0]}, ValueError, "run_labels must be within 0..1, got 2 at"),
        ({"run_labels": [1, 0, -1, 0]}, ValueError, "run_labels must be within 0..1, got -1 at"),
        ({"run_labels": [1, 0, 1]}, ValueError, "run_labels must be of shape (4,), got shape (3,)"),
        ({"run_labels": [1, 0, 0, 1]}, ValueError, "run_labels must change from run to run, got 0"),
        ({"label_values": [4, -2]}, ValueError, "label_values must ascend, got -2 after 4"),
        ({"label_values": [-2, 4, 5]}, ValueError, "run_labels must hold every region, but region"),
        ({"label_values": [0.5, 4]}, TypeError, "label_values must be whole numbers, got dtype"),
        ({"sizes": [3, 4]}, ValueError, "sizes must be what the regions measure, 3 for region 1"),
        ({"sizes": [3.0, 3.0]}, ValueError, "sizes must be int64 of shape (2,)"),
        ({"measure": np.ones((2, 3))}, ValueError, "measure must be flat, of shape (6,), got"),
        ({"measure": -np.ones(6)}, ValueError, "measure must not be negative"),
    ],
)
def test_the_constructor_names_what_is_wrong(change, error, message):
    sound = fields_of(Partition.from_labels([[4, 4, -2], [4, -2, -2]]))
    with pytest.raises(error, match=re.escape(message)):
        Partition(**{**sound, **change})


def test_the_constructor_does_not_follow_the_callers_arrays():
    given = {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in fields_of(Partition.from_labels([[4, 4, -2], [4, -2, -2]])).items()
    }
    made = Partition(**given)
    given["run_starts"][:] = 2**31 - 1
    given["run_labels"][:] = 10**9
    assert made.labels.tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_masked_arrays_are_refused_and_matrices_taken():
    masked = np.ma.masked_equal([[0, 1]], 1)
    for labels in (masked, [masked[0], masked[0]]):
        with pytest.raises(TypeError, match="labels must be a plain array, got a masked one"):
            Partition.from_labels(labels)
    with pytest.raises(TypeError, match="measure must be a plain array, got a masked one"):
        Partition.from_labels([[0, 1]], measure=masked)
    assert Partition.from_labels(np.matrix([[3, 1]])).labels.tolist() == [[1, 0]]
