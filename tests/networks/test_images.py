import numpy as np
import pytest

from hiersearch.networks.images import extended, image_batch


@pytest.mark.parametrize(
    ("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (bool, True), (np.float16, 1)]
)
def test_every_image_type_is_scaled_to_0_1(dtype, white):
    image = np.zeros((2, 3), dtype=dtype)
    image[1, 2] = white
    batch = image_batch(image)
    assert batch.dtype == np.float32
    assert batch.shape == (1, 1, 2, 3)
    assert batch[0, 0, 1, 2] == 1
    assert batch.sum() == 1


def test_colours_go_to_the_front():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    np.testing.assert_allclose(image_batch(image)[0, 2], image[..., 2] / 255, rtol=1e-6)


@pytest.mark.parametrize("multiple", [1, 4, 7, 32])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 4), (9, 31)])
def test_what_is_added_is_the_reflection_of_numpy(shape, multiple):
    batch = np.random.default_rng(0).random((2, 3, *shape), dtype=np.float32)
    found = extended(batch, multiple)
    wide = [(0, -side % multiple) for side in shape]
    np.testing.assert_array_equal(found, np.pad(batch, [(0, 0), (0, 0), *wide], mode="reflect"))
    assert found.flags.c_contiguous
