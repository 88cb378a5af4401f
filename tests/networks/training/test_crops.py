from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from hiersearch.networks.training.crops import Augmentation, Crops, Sample

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 44), dtype=np.uint8)
RGB = RNG.integers(0, 256, (26, 40, 3), dtype=np.uint8)
STILL = Augmentation(
    scales=(1.0, 1.0), turns=False, contrast=0, brightness=0, colour=0, grey=0, inverted=0, noisy=0
)


def numbered(shape):
    """Label every pixel differently."""
    return np.arange(np.prod(shape)).reshape(shape)


def sample(image):
    return Sample.of(image, numbered(image.shape[:2]))


def test_grey_images_in_three_channels_are_grey():
    grey = Sample.of(GREY, GREY)
    assert grey.image.shape == (1, 30, 44)
    assert np.array_equal(Sample.of(np.stack([GREY] * 3, axis=-1), GREY).image, grey.image)
    assert sample(RGB).image.shape == (3, 26, 40)
    assert abs(float(grey.image.mean())) < 0.1


def test_image_and_labels_stay_together():
    # The image says which pixel is which, so its crop tells what the labels must be.
    one = sample(GREY)
    values = {float(v): int(i) for v, i in zip(one.image.ravel(), one.labels.ravel(), strict=True)}
    assert len(values) > 200
    crops = Crops([one], 12, 3, STILL)
    turning = Crops([one], 12, 3, replace(STILL, turns=True))
    orders = set()
    for number in range(12):
        for source in (crops, turning):
            image, labels = source.one(number)
            assert image.shape == (3, 12, 12)
            original = one.image[0].ravel()[labels]
            assert np.array_equal(image[0], original)
            assert np.array_equal(image[0], image[2])
            steps = (int(labels[1, 0] - labels[0, 0]), int(labels[0, 1] - labels[0, 0]))
            orders.add((source is turning, steps))
    upright = {steps for turned, steps in orders if not turned}
    assert upright == {(44, 1), (44, -1)}
    assert len(orders) > 5


def test_scales_hold_and_labels_are_never_mixed():
    half = Crops([Sample.of(GREY, numbered(GREY.shape))], 10, 0, replace(STILL, scales=(2.0, 2.0)))
    _, labels = half.one(0)
    assert set(np.abs(np.diff(labels, axis=1)).ravel()) == {2}
    # A crop that is larger than the image is the image's largest square, enlarged.
    _, labels = Crops([sample(GREY)], 60, 0, STILL).one(0)
    assert labels.shape == (60, 60)
    assert len(np.unique(labels)) == 30 * 30


def test_no_image_comes_twice_before_all_came_once():
    samples = [Sample.of(GREY, np.full(GREY.shape, i)) for i in range(5)]
    crops = Crops(samples, 8, 1)
    seen = [int(crops.one(number)[1][0, 0]) for number in range(20)]
    for first in range(0, 20, 5):
        assert sorted(seen[first : first + 5]) == [0, 1, 2, 3, 4]
    assert seen[:5] != seen[5:10] or seen[5:10] != seen[10:15]


def test_a_crop_depends_on_seed_and_number_alone():
    samples = [sample(GREY), sample(RGB)]
    one, other = Crops(samples, 8, 4), Crops(samples, 8, 4)
    one.batch(0, 3)
    for first, second in zip(one.batch(5, 3), other.batch(5, 3), strict=True):
        assert np.array_equal(first, second)
    assert np.array_equal(one.batch(1, 3)[0][1], one.one(4)[0])
    assert not np.array_equal(Crops(samples, 8, 5).batch(5, 3)[0], one.batch(5, 3)[0])


def test_colours_change_within_bounds():
    crops = Crops([sample(RGB)], 10, 0)
    batch = np.concatenate([crops.batch(step, 8)[0] for step in range(8)])
    grey = [bool((image[0] == image[1]).all()) for image in batch]
    assert 5 < sum(grey) < 40
    assert np.isfinite(batch).all()
    assert np.abs(batch).max() < 10
    assert batch.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Crops([], 8, 0), ValueError, "samples must hold an image to cut from, got none"),
        (lambda: Crops([sample(GREY)], 0, 0), ValueError, "crop must be at least 1, got 0"),
        (lambda: Crops([sample(GREY)], 8, -1), ValueError, "seed must be at least 0, got -1"),
        (lambda: Sample.of(GREY, GREY[:9]), ValueError, "image and labels must share one grid"),
        (lambda: Sample.of(GREY, GREY / 2), TypeError, "labels must be a label map of integer"),
        (lambda: Sample.of(GREY[0], GREY[0]), ValueError, "image must have shape"),
        (lambda: Sample.of(GREY, GREY.astype(int) + 2**40), ValueError, "must lie within int32"),
        (lambda: Augmentation(scales=(2, 1)), ValueError, r"scales must be positive and in order"),
        (lambda: Augmentation(contrast=-1), ValueError, "contrast must be at least 0, got -1"),
        (lambda: Augmentation(grey=2), ValueError, r"grey must be within \[0, 1\], got 2"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
