"""Superpixels of images and volumes of every kind and size."""

import numpy as np
import pytest
from skimage import data

from hiersearch.choices import SUPERPIXELS
from hiersearch.hierarchy.superpixels import superpixels


def assert_compact(labels, grid):
    assert labels.dtype == np.int32
    assert labels.shape == grid
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


@pytest.mark.parametrize("method", SUPERPIXELS)
@pytest.mark.parametrize("shape", [(24, 30), (24, 30, 1), (24, 30, 3), (24, 30, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.bool_])
def test_labels_are_compact_for_any_channels_and_type(method, shape, dtype):
    image = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    assert_compact(superpixels(image, method), (24, 30))


@pytest.mark.parametrize("method", ["slic", "watershed", "pixels"])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_volumes_are_divided_too(method, channels):
    volume = np.random.default_rng(1).random((5, 12, 14, *channels))
    assert_compact(superpixels(volume, method, grid=(5, 12, 14)), (5, 12, 14))


@pytest.mark.parametrize("method", SUPERPIXELS)
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (1, 40), (40, 1), (2, 2), (3, 100)])
@pytest.mark.parametrize("fill", ["constant", "varied"])
def test_tiny_narrow_and_constant_images_work(method, grid, fill):
    image = (
        np.full(grid, 7.0) if fill == "constant" else np.arange(int(np.prod(grid))).reshape(grid)
    )
    assert_compact(superpixels(image, method), grid)


@pytest.mark.parametrize("method", ["slic", "watershed"])
def test_the_number_of_regions_is_about_what_was_asked_for(method):
    image = data.astronaut()[::4, ::4]
    for regions in (100, 400):
        found = superpixels(image, method, superpixel_count=regions).max() + 1
        assert 0.7 * regions <= found <= 1.4 * regions


@pytest.mark.parametrize("method", ["slic", "watershed"])
def test_one_region_and_more_regions_than_pixels_are_exact(method):
    image = np.random.default_rng(2).random((5, 6))
    assert superpixels(image, method, superpixel_count=1).max() == 0
    assert superpixels(image, method, superpixel_count=500).max() == 29


def test_watershed_floods_a_boundary_map():
    boundary = np.zeros((9, 21))
    boundary[:, 10] = 1.0
    labels = superpixels(np.zeros((9, 21)), "watershed", superpixel_count=2, boundary=boundary)
    assert len(np.unique(labels[:, :10])) == len(np.unique(labels[:, 11:])) == 1
    assert labels[0, 0] != labels[0, -1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "quickshift"}, ValueError, "method must be one of slic"),
        ({"method": "felzenszwalb", "superpixel_count": 9}, ValueError, "cannot aim at a number"),
        ({"method": "pixels", "superpixel_count": 9}, ValueError, "cannot aim at a number"),
        ({"method": "pixels", "scale": 1}, TypeError, "no options, got scale"),
        ({"superpixel_count": 0}, ValueError, "superpixel_count must be at least 1"),
        ({"superpixel_count": 2.5}, TypeError, "superpixel_count must be a whole number"),
        ({"boundary": np.zeros((4, 4))}, ValueError, "boundary is for method 'watershed'"),
        (
            {"method": "watershed", "boundary": np.zeros((4, 5)), "superpixel_count": 2},
            ValueError,
            "grid",
        ),
        ({"image": np.zeros(4)}, ValueError, "image must be"),
        ({"image": np.zeros((0, 4))}, ValueError, "at least one pixel"),
        ({"image": np.full((4, 4), np.nan)}, ValueError, "image must be finite"),
        ({"grid": (4, 5)}, ValueError, "image must have the shape"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        superpixels(**{"image": np.zeros((4, 4)), **arguments})


def test_felzenszwalb_refuses_volumes():
    with pytest.raises(ValueError, match="for images, got a volume"):
        superpixels(np.zeros((2, 4, 4)), "felzenszwalb", grid=(2, 4, 4))
