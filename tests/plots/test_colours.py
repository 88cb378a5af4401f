import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hiersearch.plots import region_colours
from hiersearch.plots.colours import CHANNEL_PALETTE, LINE, PALETTE
from tests.exploration import examples

LABEL_MAPS = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(-3, 5)
)


@examples(60)
@given(LABEL_MAPS, st.randoms())
def test_renaming_labels_changes_no_colour(labels, random):
    names = list(range(9))
    random.shuffle(names)
    renamed = np.array(names)[labels + 3] * 1000 - 4000
    assert np.array_equal(region_colours(labels), region_colours(renamed))


@examples(60)
@given(LABEL_MAPS)
def test_every_region_has_one_colour_of_the_palette(labels):
    colours = region_colours(labels)
    for label in np.unique(labels):
        found = np.unique(colours[labels == label], axis=0)
        assert len(found) == 1
        assert tuple(found[0].tolist()) in PALETTE


def test_adjacent_regions_of_a_real_layout_differ():
    rows, columns = np.indices((24, 36))
    labels = rows // 4 * 9 + (columns + rows // 4 * 2) // 4
    colours = region_colours(labels)
    for a, b in ((slice(1, None), slice(None, -1)),):
        for first, second, of in (
            (colours[a], colours[b], labels[a] != labels[b]),
            (colours[:, a], colours[:, b], labels[:, a] != labels[:, b]),
        ):
            same = (first == second).all(axis=-1)
            assert not (same & of).any()


def test_regions_apart_from_each_other_use_the_whole_palette_evenly():
    labels = np.zeros((100, 100), int)
    labels[::4, ::4] = np.arange(1, 626).reshape(25, 25)
    colours = region_colours(labels)[::4, ::4].reshape(-1, 3)
    counts = np.unique(colours, axis=0, return_counts=True)[1]
    assert counts.size == len(PALETTE) or counts.size == len(PALETTE) - 1  # the ground's is taken
    assert counts.max() < 3 * counts.min()


def test_lightness_alone_tells_the_colours_of_channels_apart():
    luminance = np.array(CHANNEL_PALETTE) @ [0.2126, 0.7152, 0.0722]
    assert np.diff(luminance).min() > 60
    assert LINE not in PALETTE


def test_volumes_are_refused():
    with pytest.raises(ValueError, match=r"labels must be 2-D \(H, W\), got shape \(2, 3, 4\)"):
        region_colours(np.zeros((2, 3, 4), int))
