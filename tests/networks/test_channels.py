import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from hiersearch.choices import TRAINED_READINGS
from hiersearch.networks.channels import (
    IGNORED,
    channel_names,
    object_size,
    seams,
    target_of_labels,
    three_classes,
)
from hiersearch.partitions.output import OBJECT_CHANNELS

MAPS = arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3))


def seams_pixel_by_pixel(labels, reach):
    found = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        window = labels[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        found[y, x] = len(np.unique(window[window > 0])) > 1
    return found


@given(MAPS, st.integers(1, 3))
def test_seams_are_where_two_objects_are_near(labels, reach):
    assert np.array_equal(seams(labels, reach), seams_pixel_by_pixel(labels, reach))


@given(MAPS, st.integers(1, 2))
def test_interiors_are_inside_one_object_and_apart_from_all_others(labels, reach):
    classes = three_classes(labels, reach)
    interior = classes == 1
    assert (labels[interior] > 0).all()
    assert not (interior & seams_pixel_by_pixel(labels, reach)).any()
    # Each component of the interior lies in one object.
    components, count = ndimage.label(interior, np.ones((3, 3)))
    for number in range(1, count + 1):
        assert len(np.unique(labels[components == number])) == 1
    # Background is background, but between two objects.
    assert ((classes == 0) == ((labels == 0) & ~seams_pixel_by_pixel(labels, 1))).all()


def test_ignored_pixels_stay_ignored_and_are_background_to_others():
    labels = np.ones((5, 7), int)
    labels[:, 5:] = IGNORED
    classes = three_classes(labels)
    assert (classes[:, 5:] == IGNORED).all()
    assert (classes[:, 4] == 2).all()
    assert (classes[:, :4] == 1).all()


def test_targets_of_each_kind():
    labels = np.array([[0, 5, 5, 5, 0, IGNORED]])
    for channels in ("classes", "affinities"):
        target = target_of_labels(labels, channels)
        assert np.array_equal(target, labels)
        assert target.dtype == np.int64
    expected = [[0, 2, 1, 2, 0, IGNORED]]
    assert target_of_labels(labels, "objects").tolist() == expected


def test_every_channel_has_a_name():
    assert channel_names("objects") == OBJECT_CHANNELS
    assert channel_names("classes", classes=2) == ("class 0", "class 1")
    assert len(channel_names("affinities", offsets=[(0, 1), (1, -1)])) == 3


def test_the_size_is_the_median_diameter_over_all_objects():
    one = np.zeros((40, 40), int)
    one[:4, :4], one[10:20, 10:20] = 1, 7
    other = np.full((30, 30), -1)
    other[:, :10] = 3
    diameters = np.sqrt(4 / np.pi * np.array([16, 100, 300]))
    assert object_size([one, other]) == pytest.approx(diameters[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: three_classes([[-2, 0]]), r"labels must be within 0..\d+, or -1.*, got -2"),
        (lambda: three_classes([[2**31, 0]]), "got 2147483648"),
        (lambda: three_classes([[0, 1]], 0), "seam_reach must be at least 1, got 0"),
        (lambda: seams([[0, 1]], 0), "reach must be at least 1, got 0"),
        (
            lambda: target_of_labels([[0]], "x"),
            f"reading must be one of {', '.join(TRAINED_READINGS)}",
        ),
        (lambda: channel_names("x"), "reading must be one of"),
        (lambda: object_size([np.zeros((2, 2), int)]), "must hold an object to measure, got none"),
        (lambda: object_size([]), "must hold an object to measure, got none"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(TypeError, match="integer type"):
        three_classes([[0.5]])
