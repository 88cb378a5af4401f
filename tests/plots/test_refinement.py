import numpy as np
import pytest

from hiersearch.plots.refinement import CHANGED, changed_pixels, refinement_picture


def maps():
    before = np.zeros((10, 12), int)
    before[2:8, 2:6] = 1
    after = before.copy()
    after[2:8, 6] = 1
    return before, after


def test_classes_change_by_name_and_regions_by_largest_overlap():
    before, after = maps()
    wanted = before != after
    assert np.array_equal(changed_pixels(before, after, classes=True), wanted)
    assert np.array_equal(changed_pixels(before, after + 5), wanted)
    assert not changed_pixels(before, 7 - 3 * before).any()
    # Of the two halves of a region, the larger is what the region has become.
    halves = np.where(before == 1, np.arange(12) // 5 + 4, 0)
    assert changed_pixels(before, halves).sum() == 6


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("image", [None, np.zeros((10, 12)), np.zeros((10, 12, 3), np.uint8)])
def test_three_panels_the_last_with_the_changed_pixels_marked(image, classes):
    before, after = maps()
    picture = refinement_picture(image, before, after, classes=classes, side=12)
    assert picture.shape == (10, 3 * 12 + 24, 3)
    marked = (picture[:, -12:] == CHANGED).all(axis=-1)
    assert np.array_equal(marked, before != after)
    assert not (picture[:, :12] == picture[:, 24:36]).all()


def test_a_class_has_one_colour_in_both():
    before, after = maps()
    picture = refinement_picture(np.zeros((10, 12)), before, after, classes=True, side=12)
    assert np.array_equal(picture[5, 4], picture[5, 24 + 4])
    assert not np.array_equal(picture[5, 4], picture[0, 0])


def test_of_volumes_the_middle_slice_is_drawn():
    before, after = maps()
    volumes = [np.stack([labels * 0, labels, labels * 0]) for labels in (before, after)]
    picture = refinement_picture(np.zeros((3, 10, 12)), *volumes, side=12)
    assert (picture[:, -12:] == CHANGED).all(axis=-1).sum() == 6


def test_maps_on_two_grids_are_refused():
    with pytest.raises(ValueError, match="before and after must share one grid"):
        refinement_picture(None, np.zeros((2, 2), int), np.zeros((2, 3), int))


@pytest.mark.parametrize("dtype", [np.int8, np.uint64])
def test_classes_of_every_type_are_drawn_alike(dtype):
    before, after = np.array([[-100, 100, 100, 3]]), np.array([[100, 100, 3, 3]])
    if dtype == np.uint64:
        before, after = before + 100, after + 100
    found = refinement_picture(None, before.astype(dtype), after.astype(dtype), classes=True)
    assert np.array_equal(found, refinement_picture(None, before, after, classes=True))
