"""Pixels of labels that stand for no region."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.partitions.ignored import filled, has_label


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 9), (3, 4, 5)]))
def test_each_ignored_pixel_takes_the_label_of_a_nearest_other_one(seed, grid):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(grid) < 0.5, 255, rng.integers(0, 4, grid))
    labels.flat[0] = 2
    found, count = filled(labels, [255])
    places = np.argwhere(np.ones(grid, bool))
    kept = places[labels.reshape(-1) != 255]
    assert count == (labels == 255).sum()
    for place in map(tuple, places):
        apart = ((kept - place) ** 2).sum(axis=1)
        nearest = kept[apart == apart.min()]
        assert found[place] in {labels[tuple(one)] for one in nearest}
    np.testing.assert_array_equal(filled(labels, [255])[0], found)


def test_several_labels_may_be_ignored():
    found, count = filled([[0, 9, 1, 1, 255]], [9, 255])
    assert found.tolist() in ([[0, 0, 1, 1, 1]], [[0, 1, 1, 1, 1]])
    assert count == 2


@pytest.mark.parametrize("ignore", [[], [-1], [256], [2**70]])
def test_labels_that_are_not_there_change_nothing(ignore):
    labels = np.array([[0, 255]], np.uint8)
    found, count = filled(labels, ignore)
    assert found is labels
    assert count == 0


def test_what_is_ignored_everywhere_is_refused():
    with pytest.raises(ValueError, match=r"truth must have a label besides the ignored ones"):
        filled(np.full((2, 3), 255), [255], "truth")


def test_labels_are_compared_exactly():
    labels = np.array([2**63, 2**63 + 1], np.uint64)
    assert has_label(labels, [2**63 + 1]).tolist() == [False, True]
