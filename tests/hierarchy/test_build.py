"""One call from an image to a merge tree."""

import numpy as np
import pytest
from skimage import data

from hiersearch.hierarchy.agglomerate import agglomerate, pixel_tree
from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.hierarchy.graph import region_graph
from hiersearch.hierarchy.linkage import Linkage, mix
from hiersearch.hierarchy.superpixels import superpixels
from hiersearch.hierarchy.watershed import watershed_tree

LINKAGES = [
    "average",
    "single",
    "complete",
    "mean-colour",
    "ward",
    "watershed-area",
    "watershed-volume",
    "watershed-dynamics",
    mix(colour=0.5, boundary=0.5),
]


def constant_linkage(size_u, size_v, sum_u, sum_v, length, total, low, high):
    return sum_u.shape[0]


def assert_same(one, other):
    assert np.array_equal(one.parents, other.parents)
    assert np.array_equal(one.altitudes, other.altitudes)
    assert np.array_equal(one.sizes, other.sizes)
    assert np.array_equal(one.leaf_map, other.leaf_map)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("method", ["slic", "felzenszwalb", "watershed", "pixels"])
def test_every_linkage_goes_with_every_kind_of_leaf(linkage, method):
    image = data.astronaut()[::12, ::12]
    tree = build_hierarchy(image, superpixels=method, linkage=linkage)
    tree.validate()
    assert tree.grid == image.shape[:2]
    assert tree.is_binary


@pytest.mark.parametrize("linkage", [*LINKAGES, constant_linkage])
@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (1, 1, 1), (2, 3, 4)])
def test_tiny_grids_and_volumes_work(linkage, grid):
    image = np.arange(np.prod(grid), dtype=np.float32).reshape(grid)
    tree = build_hierarchy(image, linkage=linkage, grid=grid, superpixels="pixels")
    assert tree.n_leaves == np.prod(grid)
    tree.validate()


def test_it_is_the_sum_of_its_parts():
    image = data.astronaut()[::8, ::8]
    measure = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    labels = superpixels(image, "slic", superpixel_count=60)
    graph = region_graph(labels, image, measure=measure)
    options = {"measure": measure, "superpixel_count": 60}
    assert_same(build_hierarchy(image, linkage="ward", **options), agglomerate(graph, "ward"))
    assert_same(
        build_hierarchy(image, linkage="watershed-volume", **options),
        watershed_tree(graph, "volume"),
    )
    pixels = build_hierarchy(image, superpixels="pixels", linkage="single", measure=measure)
    assert_same(pixels, pixel_tree(image, measure=measure))
    again = build_hierarchy(image, superpixels="pixels", linkage=Linkage("single"), measure=measure)
    assert_same(again, pixels)


def test_a_boundary_map_can_do_without_an_image():
    boundary = np.zeros((9, 21), dtype=np.float32)
    boundary[:, 10] = 1.0
    for method in ("slic", "watershed", "pixels"):
        for linkage in ("average", "single", "watershed-dynamics"):
            tree = build_hierarchy(boundary=boundary, superpixels=method, linkage=linkage)
            tree.validate()
            assert method != "pixels" or tree.altitudes.max() == 1
    tree = build_hierarchy(boundary=boundary, superpixels="watershed", superpixel_count=2)
    labels = tree.labels_of(tree.cut_with_regions(2))
    assert labels[0, 0] != labels[0, -1]


def test_soft_outputs_take_part_in_mixes_and_functions():
    soft = np.array([[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]])
    labels = [[4, 5, 6, 7]]
    tree = build_hierarchy(superpixels=labels, soft=soft, linkage=mix(soft=1.0))
    assert tree.altitudes.tolist() == [0, 0, 0, 0, 0, 0, 2]
    image = np.zeros((1, 4, 3))
    tree = build_hierarchy(image, superpixels=labels, soft=soft, linkage=mix(colour=0.5, soft=0.5))
    assert tree.altitudes[-1] == 1
    tree = build_hierarchy(image, superpixels=labels, soft=soft, linkage=constant_linkage)
    assert tree.altitudes[-1] == 5


def test_the_label_map_tells_a_volume_from_channels():
    volume = np.random.default_rng(0).random((2, 5, 6))
    tree = build_hierarchy(volume, superpixels=np.arange(60).reshape(2, 5, 6))
    assert tree.grid == (2, 5, 6)
    assert build_hierarchy(volume.transpose(1, 2, 0)).grid == (5, 6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "an image, a boundary map or a label map is needed"),
        ({"grid": (2, 2)}, ValueError, "superpixels 'slic' need an image or a boundary map"),
        ({"grid": (2, 2), "superpixels": "pixels", "linkage": "single"}, ValueError, "need an"),
        ({"superpixels": [[0, 1]], "linkage": "ward"}, ValueError, "compares mean colours"),
        ({"superpixels": [[0, 1]], "linkage": "watershed-area"}, ValueError, "edge weights"),
        ({"image": np.zeros((0, 3))}, ValueError, "at least one pixel"),
        ({"image": np.full((4, 4), np.nan)}, ValueError, "image must be finite, got nan"),
        ({"image": np.zeros(5)}, ValueError, "image must be"),
        ({"image": np.zeros((4, 4)), "linkage": "median"}, ValueError, "linkage must be one of"),
        ({"image": np.zeros((4, 4)), "superpixels": "snic"}, ValueError, "superpixels must be"),
        (
            {"image": np.zeros((4, 4)), "superpixels": [[0]]},
            ValueError,
            "image must have the shape",
        ),
        (
            {"boundary": np.zeros((4, 4)), "superpixels": [[0]]},
            ValueError,
            "superpixels and boundary must share one grid",
        ),
        (
            {"image": np.zeros((1, 2)), "superpixels": [[0, 1]], "superpixel_count": 3},
            ValueError,
            "superpixel_count has no use",
        ),
        (
            {"image": np.zeros((1, 2)), "superpixels": "pixels", "superpixel_count": 3},
            ValueError,
            "cannot aim at 3 regions",
        ),
        (
            {"image": np.zeros((1, 2)), "soft": np.ones((1, 1, 2))},
            ValueError,
            "soft is used by mix",
        ),
        (
            {"image": np.zeros((1, 2)), "soft": np.ones((1, 2)), "linkage": mix(soft=1.0)},
            ValueError,
            "soft must be",
        ),
        ({"image": np.zeros((4, 4)), "linkage": mix(soft=1.0)}, ValueError, "soft outputs"),
        ({"image": np.zeros((4, 4)), "linkage": 3}, TypeError, "linkage must be a name"),
        ({"image": np.zeros((4, 4)), "measure": np.zeros((4, 4))}, ValueError, "measure"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said(arguments, error, message):
    with pytest.raises(error, match=message):
        build_hierarchy(**arguments)
