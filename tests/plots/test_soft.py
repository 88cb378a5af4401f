import numpy as np
import pytest

from hiersearch.partitions import Partition, SoftPartition
from hiersearch.plots import region_colours, soft_picture
from hiersearch.plots.colours import CHANNEL_PALETTE


def certain(k, grid=(3, 5)):
    """Channel j is certain at pixel j, j + k, ..."""
    labels = np.arange(np.prod(grid)).reshape(grid) % k
    return np.stack([labels == j for j in range(k)]).astype(float), labels


@pytest.mark.parametrize("k", [2, 3])
def test_few_channels_are_mixed_from_their_colours(k):
    probabilities, labels = certain(k)
    for soft in (
        probabilities,
        SoftPartition.from_regions(probabilities),
        SoftPartition.from_classes(probabilities),
    ):
        shown = soft_picture(soft)
        assert np.array_equal(shown.pixels, np.array(CHANNEL_PALETTE)[labels])
        assert shown.colours == CHANNEL_PALETTE[:k]


def test_many_channels_show_the_most_probable_darker_where_unsure():
    probabilities, labels = certain(6)
    sure = soft_picture(SoftPartition.from_regions(probabilities))
    assert np.array_equal(sure.pixels, region_colours(labels))
    unsure = soft_picture(0.4 * probabilities + 0.1)
    assert unsure.pixels.mean() < sure.pixels.mean() - 20
    assert unsure.kind == "most probable of 6 channels"
    assert unsure.colours == ()


def test_sparse_channels_show_the_same_as_dense_ones():
    rng = np.random.default_rng(3)
    values = rng.dirichlet(np.ones(2), (4, 6)).transpose(2, 0, 1)
    channels = rng.integers(0, 9, values.shape)
    sparse = SoftPartition.from_sparse(values, channels, n_channels=9)
    dense = SoftPartition.from_regions(sparse.probabilities())
    assert np.abs(soft_picture(sparse).pixels.astype(int) - soft_picture(dense).pixels).max() <= 1


def test_affinities_are_dark_where_pixels_are_cut_off():
    values = np.ones((2, 4, 6))
    values[1, :, 2] = 0.0
    shown = soft_picture(SoftPartition.from_affinities(values, [[1, 0], [0, 1]])).pixels
    assert shown[:, 2:4].mean() < shown[:, [0, 1, 4, 5]].mean() - 30
    assert (shown[:, 0] == shown[0, 0]).all()


def test_one_map_is_shown_on_a_scale_that_rises_in_lightness():
    ramp = np.linspace(0, 1, 40).reshape(1, 1, 40)
    lightness = soft_picture(ramp).pixels[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def test_volumes_show_their_middle_slice():
    probabilities, labels = certain(3, (5, 2, 4))
    assert np.array_equal(soft_picture(probabilities).pixels, np.array(CHANNEL_PALETTE)[labels[2]])


def test_a_hard_partition_shows_its_regions():
    _, labels = certain(4)
    assert np.array_equal(
        soft_picture(Partition.from_labels(labels)).pixels, region_colours(labels)
    )


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"sum to 1 .* at pixel \(0, 0\)"):
        soft_picture(np.full((3, 2, 2), 0.5))
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        soft_picture(np.full((1, 2, 2), 1.5))
