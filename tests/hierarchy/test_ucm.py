"""Contour maps show each horizontal cut, and lead back to the tree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from hiersearch.hierarchy.agglomerate import agglomerate
from hiersearch.hierarchy.graph import region_graph
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.hierarchy.ucm import from_ucm, ucm, ucm_picture
from tests.hierarchy.test_tree import leaves_under, trees


@st.composite
def scenes(draw, linkages=("average", "single", "ward")):
    """Draw a merge tree of connected regions."""
    grid = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    labels = draw(hnp.arrays(np.int8, grid, elements=st.integers(0, 5)))
    image = draw(hnp.arrays(np.uint8, grid, elements=st.integers(0, 9)))
    regions = label(labels, connectivity=1, background=-1)
    return agglomerate(region_graph(regions, image), draw(st.sampled_from(linkages)))


def same_partition(one, other):
    pairs = np.unique(np.stack((one.ravel(), other.ravel())), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


@given(scenes())
def test_each_face_holds_the_altitude_of_the_lowest_common_ancestor(tree):
    contours = ucm(tree)
    heights = tree.monotone().altitudes
    under = [leaves_under(tree, node) for node in range(tree.n_nodes)]

    def expected(p, q):
        if tree.leaf_map[p] == tree.leaf_map[q]:
            return 0.0
        both = {tree.leaf_map[p], tree.leaf_map[q]}
        return heights[min(node for node in range(tree.n_nodes) if both <= under[node])]

    height, width = tree.grid
    assert contours.shape == (2 * height + 1, 2 * width + 1)
    for i, j in np.ndindex(height, width):
        assert contours[2 * i + 1, 2 * j + 1] == 0
        if j + 1 < width:
            assert contours[2 * i + 1, 2 * j + 2] == expected((i, j), (i, j + 1))
        if i + 1 < height:
            assert contours[2 * i + 2, 2 * j + 1] == expected((i, j), (i + 1, j))
    padded = np.pad(contours, 1)
    for i, j in np.ndindex(height + 1, width + 1):
        faces = [
            padded[2 * i + 1 + di, 2 * j + 1 + dj] for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0))
        ]
        assert contours[2 * i, 2 * j] == max(faces)


@given(scenes(), st.integers(0, 9))
def test_thresholded_contours_enclose_the_regions_of_the_horizontal_cut(tree, altitude):
    closed = ucm(tree) > altitude
    inside = np.pad(np.zeros(np.array(closed.shape) - 2, dtype=bool), 1, constant_values=True)
    regions = label(~(closed | inside), connectivity=1)[1::2, 1::2]
    cut = tree.labels_of(tree.horizontal_cut(altitude))
    # Regions of a cut are connected, so components and regions correspond.
    assert same_partition(regions, cut)


@given(scenes())
def test_reading_a_contour_map_gives_the_tree_back(tree):
    back = from_ucm(ucm(tree))
    back.validate()
    assert back.is_increasing
    assert np.array_equal(ucm(back), ucm(tree))
    for altitude in range(10):
        one = tree.labels_of(tree.horizontal_cut(altitude))
        other = back.labels_of(back.horizontal_cut(altitude))
        assert same_partition(one, other)


@given(hnp.arrays(np.float64, (5, 7), elements=st.integers(0, 4)))
def test_any_map_is_read_as_the_largest_ultrametric_one_below_it(contours):
    faces = np.zeros((5, 7), dtype=bool)
    faces[1::2, 2:-1:2] = faces[2:-1:2, 1::2] = True
    closed = ucm(from_ucm(contours))
    assert (closed[faces] <= contours[faces]).all()
    assert np.array_equal(ucm(from_ucm(closed)), closed)


def test_the_picture_has_the_images_size_and_full_range():
    tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 2, 8], [[0, 1], [2, 2]])
    assert ucm_picture(tree).tolist() == [[255, 255], [0, 0]]
    assert ucm_picture(tree).dtype == np.uint8
    flat = MergeTree.from_parents([0], [0], [[0, 0]])
    assert ucm_picture(flat).tolist() == [[0, 0]]


@given(trees())
def test_unbalanced_and_n_ary_trees_have_maps_too(tree):
    if tree.altitudes.min() < 0:
        with pytest.raises(ValueError, match="non-negative altitudes"):
            ucm(tree)
    else:
        assert ucm(tree).max() <= tree.monotone().altitudes[tree.root]


@pytest.mark.parametrize(
    ("contours", "message"),
    [
        (np.zeros((4, 5)), "contours must have the shape"),
        (np.zeros((1, 3)), "contours must have the shape"),
        (np.zeros((3, 3, 3)), "contours must have the shape"),
        (np.full((3, 3), -1.0), "must not be negative"),
        (np.full((3, 3), np.nan), "contours must be finite"),
    ],
)
def test_what_is_no_contour_map_is_refused(contours, message):
    with pytest.raises(ValueError, match=message):
        from_ucm(contours)


def test_volumes_are_refused():
    tree = MergeTree.from_parents([0], [0], np.zeros((2, 2, 2), int))
    with pytest.raises(ValueError, match="2-D grid"):
        ucm(tree)
