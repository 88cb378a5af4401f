import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, jaccard_score

from hiersearch.evaluation import (
    adapted_rand_error,
    average_precision,
    boundary_iou,
    class_confusion,
    class_iou,
    foreground_ari,
    instance_matches,
    iou_of_confusion,
    mean_average_precision,
    variation_of_information,
)
from hiersearch.evaluation.scores import COMMON_THRESHOLDS
from hiersearch.partitions import Partition

SCORES = (class_iou, boundary_iou, average_precision, foreground_ari)
SCORES += (adapted_rand_error, variation_of_information, instance_matches)


@st.composite
def pairs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = draw(st.sampled_from([(7, 9), (3, 4, 5), (1, 6)]))
    most = draw(st.integers(1, 5))
    truth = rng.integers(0, most, grid)
    found = np.where(rng.random(grid) < 0.7, truth, rng.integers(0, most, grid))
    return found, truth


@given(pairs())
def test_class_iou_is_the_jaccard_score(pair):
    found, truth = pair
    score = class_iou(found, truth)
    present = np.unique([found, truth])
    wanted = jaccard_score(truth.ravel(), found.ravel(), labels=present, average=None)
    assert score.of_classes[present] == pytest.approx(wanted)
    assert score.mean == pytest.approx(wanted.mean())
    assert np.isnan(np.delete(score.of_classes, present)).all()


@given(pairs())
def test_pixels_that_are_ignored_do_not_count(pair):
    found, truth = pair
    truth = truth + 1
    truth.flat[0] = 1
    kept = truth != 1
    if not kept.any():
        return
    cut = found[kept][None], truth[kept][None]
    assert class_iou(found, truth, ignore=1).mean == pytest.approx(class_iou(*cut).mean)
    for score in (adapted_rand_error, variation_of_information, foreground_ari):
        whole, part = score(found=found, truth=truth, ignore=1), score(found=cut[0], truth=cut[1])
        assert whole == pytest.approx(part, nan_ok=True)


@given(pairs(), st.sampled_from([1, 1.5, 2, 3]))
def test_boundary_iou_counts_what_is_near_another_true_class(pair, pixels):
    found, truth = pair
    places = np.argwhere(np.ones(truth.shape))
    flat = truth.reshape(-1)
    # The nearest pixel beside a pixel of another class is at most `pixels - 1` away.
    beside = [
        any(flat[np.abs(places - place).sum(axis=1) == 1] != label)
        for place, label in zip(places, flat, strict=True)
    ]
    edge = places[np.array(beside)]
    if not len(edge):
        assert np.isnan(boundary_iou(found, truth, pixels=pixels).mean)
        return
    gaps = np.sqrt(np.square(places[:, None] - edge[None]).sum(axis=2)).min(axis=1)
    near = gaps.reshape(truth.shape) <= pixels - 1
    wanted = class_iou(found[near][None], truth[near][None])
    assert boundary_iou(found, truth, pixels=pixels).mean == pytest.approx(wanted.mean)


def test_an_ignored_border_is_no_boundary():
    truth = np.array([[0, 0, 9, 1, 1]])
    assert np.isnan(boundary_iou([[0, 0, 0, 1, 1]], truth, ignore=9).mean)


def test_confusions_of_several_images_add_up():
    one = class_confusion([[0, 1]], [[0, 0]], 3)
    other = class_confusion([[1, 1]], [[1, 0]], 3)
    assert one.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    both = iou_of_confusion(one + other)
    assert both.of_classes[:2] == pytest.approx([1 / 3, 1 / 3])
    assert np.isnan(both.of_classes[2])
    assert both.mean == pytest.approx(1 / 3)


def slow_precision(found, truth, threshold):
    hits = 0
    found_ids, truth_ids = (np.unique(x[x != 0]) for x in (found, truth))
    for a in found_ids:
        for b in truth_ids:
            both, either = ((found == a) & (truth == b)).sum(), ((found == a) | (truth == b)).sum()
            hits += both / either > threshold
    total = len(found_ids) + len(truth_ids) - hits
    return hits / total if total else 1.0


@given(pairs())
def test_average_precision_counts_matching_instances(pair):
    found, truth = pair
    found = found * 1000 - 3 * (found > 2)  # any labels do
    wanted = [slow_precision(found, truth, t) for t in COMMON_THRESHOLDS]
    assert average_precision(found, truth, COMMON_THRESHOLDS) == pytest.approx(wanted)
    assert average_precision(found, truth) == pytest.approx(wanted[:1])
    assert mean_average_precision(found, truth) == pytest.approx(np.mean(wanted))


def test_an_iou_of_exactly_one_half_is_no_match():
    assert instance_matches([[1, 1, 2, 2]], [[1, 1, 1, 1]], (0.5,)).tolist() == [[0, 2, 1]]
    assert instance_matches([[0, 0]], [[0, 0]], (0.5,)).tolist() == [[0, 0, 0]]
    assert instance_matches([[1, 1]], [[7, 7]], (0.5,), ignore=7).tolist() == [[0, 0, 0]]


@given(pairs())
def test_foreground_ari_is_that_of_the_true_foreground(pair):
    found, truth = pair
    inside = truth != 0
    wanted = adjusted_rand_score(truth[inside], found[inside]) if inside.any() else 1.0
    assert foreground_ari(found, truth) == pytest.approx(wanted)


def test_renaming_and_equality():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, (8, 9))
    renamed = np.array([0, 2**40, -5, 17, 3, 1])[truth]
    assert foreground_ari(renamed, truth) == 1
    assert average_precision(renamed, truth).tolist() == [1]
    assert adapted_rand_error(found=renamed, truth=truth) == pytest.approx(0)
    assert variation_of_information(found=renamed, truth=truth) == pytest.approx((0, 0), abs=1e-12)


def test_splits_and_merges_are_told_apart():
    one, two = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
    assert variation_of_information(found=two, truth=one) == pytest.approx((1, 0))
    assert variation_of_information(found=one, truth=two) == pytest.approx((0, 1))
    assert adapted_rand_error(found=two, truth=one) == pytest.approx(
        adapted_rand_error(found=one, truth=two)
    )
    assert np.isnan(adapted_rand_error(found=[[1]], truth=[[1]]))


@pytest.mark.parametrize("score", SCORES)
def test_maps_must_be_integers_on_one_grid(score):
    with pytest.raises(ValueError, match=r"found and truth must share one grid, got \(1, 2\)"):
        score(found=[[1, 2]], truth=[[1, 2, 3]])
    with pytest.raises(TypeError, match="found must be a label map of integer type"):
        score(found=[[0.5, 1]], truth=[[1, 2]])
    with pytest.raises(ValueError, match="truth must be 2-D"):
        score(found=[[1, 2]], truth=[1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_iou([[0, 4]], [[0, 1]], classes=3), r"found must hold classes within 0..2"),
        (lambda: class_iou([[0, 1]], [[0, -1]]), r"truth must hold classes within 0..1, got -1"),
        (lambda: class_confusion([[0]], [[0]], 0), r"classes must be within 1\.\.16384, got 0"),
        (lambda: boundary_iou([[0]], [[0]], pixels=0), "pixels must be a number of at least 1"),
        (lambda: average_precision([[0]], [[0]], (0.4,)), r"thresholds must be within \[0.5, 1\)"),
        (
            lambda: adapted_rand_error(found=[[0]], truth=[[3]], ignore=3),
            "ignore=3 leaves no pixel",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_partitions_are_scored_by_the_labels_that_they_came_from():
    truth = np.array([[7, 7, -1, -1, 9, 9]])
    found = np.array([[7, 7, 7, -1, 9, 9]])
    as_partitions = Partition.from_labels(found), Partition.from_labels(truth)
    for score in (average_precision, adapted_rand_error, foreground_ari):
        guess, goal = as_partitions
        expected = score(found=found, truth=truth, ignore=-1)
        assert score(found=guess, truth=goal, ignore=-1) == expected


def test_more_classes_than_a_matrix_has_room_for_are_refused():
    with pytest.raises(ValueError, match=r"classes must be within 1\.\.16384, got 1000001"):
        class_iou([[0, 10**6]], [[0, 1]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
@pytest.mark.parametrize("ignore", [None, 2, -1, 255, 258, -100, 2**40])
def test_labels_of_every_type_are_compared_as_numbers(dtype, ignore):
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 4, (2, 9, 8))
    truth[:2] = 255
    for score in (
        class_iou,
        boundary_iou,
        average_precision,
        foreground_ari,
        adapted_rand_error,
        variation_of_information,
    ):
        got = score(found=found.astype(dtype), truth=truth.astype(dtype), ignore=ignore)
        expected = score(found=found, truth=truth, ignore=ignore)
        got, expected = (getattr(value, "of_classes", value) for value in (got, expected))
        np.testing.assert_array_equal(got, expected)
