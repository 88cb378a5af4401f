import numpy as np
import pytest

from hiersearch.plots import image_picture, overlay, shown_slice
from hiersearch.plots.colours import LINE

HALVES = np.repeat([[0, 1]], 4, axis=0).repeat(3, axis=1)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float16, np.float32, np.float64])
def test_images_of_any_type_use_the_whole_range_of_lightness(kind):
    ramp = np.linspace(0, 1000, 600).reshape(20, 30).astype(kind)
    picture = image_picture(ramp)
    assert picture.dtype == np.uint8
    assert picture.shape == (20, 30, 3)
    assert (picture.min(), picture.max()) == (0, 255)
    assert (np.diff(picture[..., 0].reshape(-1).astype(int)) >= 0).all()


def test_colour_images_of_bytes_stay_as_they_are():
    image = np.random.default_rng(0).integers(20, 90, (6, 7, 3)).astype(np.uint8)
    assert np.array_equal(image_picture(image), image)
    more = np.concatenate([image, image[..., :2]], axis=-1)
    assert np.array_equal(image_picture(more), image)


def test_a_constant_image_is_grey_and_not_a_division_by_zero():
    assert (image_picture(np.full((3, 4), 7.5)) == 128).all()


def test_a_single_bright_pixel_is_not_clipped_away():
    image = np.zeros((50, 50))
    image[7, 9] = 3.0
    assert image_picture(image)[7, 9, 0] == 255


def test_volumes_show_their_middle_slice():
    volume = np.zeros((5, 4, 6))
    volume[2, 1] = 1.0
    assert shown_slice(volume.shape) == 2
    picture = image_picture(volume, (5, 4, 6))
    assert (picture[1] == 255).all()
    assert (picture[0] == 0).all()
    labels = np.zeros((5, 4, 6), int)
    labels[2, :, 3:] = 1
    drawn = overlay(volume, labels, side=6)
    assert (drawn[:, 3] == LINE).all()
    assert not (drawn[:, 0] == LINE).all(axis=-1).any()


def test_boundaries_straddle_the_edge_between_regions_and_nothing_else():
    drawn = overlay(np.zeros(HALVES.shape), HALVES, side=60, thickness=4)
    assert drawn.shape == (40, 60, 3)
    on_line = (drawn == LINE).all(axis=-1)
    assert on_line[:, 28:32].all()
    assert on_line.sum() == 4 * 40


def test_one_region_has_no_boundary_and_no_tint():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    plain = overlay(image, np.full((3, 4), 9), fill="colours", side=4)
    assert np.array_equal(plain[..., 0], plain[..., 1])
    assert not (plain == LINE).all(axis=-1).any()


def test_one_pixel():
    drawn = overlay(np.array([[3.0]]), np.array([[-5]]), side=50)
    assert drawn.shape == (50, 50, 3)


def test_mean_colours_are_means():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = [10, 20, 30]
    image[:2, 3:] += 2
    drawn = overlay(image, HALVES, fill="mean", side=6, thickness=0)
    assert (drawn[:, 3:] == [11, 21, 31]).all()
    assert (drawn[:, :3] == 0).all()


def test_tints_leave_the_largest_region_and_colour_the_others():
    labels = np.zeros((6, 6), int)
    labels[:2, :2] = 5
    image = np.full((6, 6, 3), 100, np.uint8)
    drawn = overlay(image, labels, fill="colours", side=6, thickness=0)
    assert (drawn[3:] == 100).all()
    assert not (drawn[:2, :2] == 100).all()


def test_without_an_image_regions_have_their_colours():
    drawn = overlay(None, HALVES, side=6, thickness=0)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 5)), {}, r"image must have the grid \(4, 6\)"),
        (np.full((4, 6), np.nan), {}, "image must be finite"),
        (np.zeros((4, 6)), {"fill": "red"}, "fill must be one of none, mean, colours"),
        (np.zeros((4, 6)), {"strength": 2}, "strength must be within 0..1"),
    ],
)
def test_what_does_not_fit_is_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        overlay(image, HALVES, **options)
