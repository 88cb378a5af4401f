import numpy as np
import pytest

from hiersearch.networks import Network
from hiersearch.networks.network import image_batch

IMAGE = np.random.default_rng(0).random((6, 7), dtype=np.float32)


def two_channels(batch):
    grey = batch.mean(axis=1, keepdims=True)
    return np.concatenate([grey, 1 - grey], axis=1)


def constant(*shape, value=0.5):
    return lambda batch: np.full(shape, value, dtype=np.float32)


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


@pytest.mark.parametrize(
    ("image", "error", "expected"),
    [
        (np.zeros((4, 5, 4), np.uint8), ValueError, r"got \(4, 5, 4\) \(drop an alpha channel"),
        (np.zeros((2, 4, 5, 3), np.uint8), ValueError, r"got \(2, 4, 5, 3\)"),
        (np.zeros((0, 5), np.uint8), ValueError, r"got \(0, 5\)"),
        (np.zeros((4, 5), np.int64), TypeError, "int64"),
        (np.full((4, 5), 255.0), ValueError, r"within 0\.\.1, got 255\.\.255"),
        (
            np.full((4, 5), np.nan),
            ValueError,
            r"image must be finite, got nan at index \(0, 0, 0\)",
        ),
    ],
)
def test_other_images_are_refused(image, error, expected):
    with pytest.raises(error, match=expected):
        Network("n", two_channels, "none")(image)


def test_activations_are_those_of_the_definitions():
    logits = np.random.default_rng(0).normal(0, 30, (3, 6, 7)).astype(np.float32)
    soft = Network("n", lambda _: logits, "softmax")(IMAGE)
    reference = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(0)
    np.testing.assert_allclose(soft, reference, atol=1e-6)
    each = Network("n", lambda _: 100 * logits[None], "sigmoid")(IMAGE)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(each, 1 / (1 + np.exp(-100.0 * logits)), atol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "image", "given"), [(1, (6, 7, 3), 1), (3, (6, 7), 3), (None, (6, 7, 3), 3)]
)
def test_colours_are_converted_to_what_the_network_takes(wanted, image, given):
    seen = []

    def run(batch):
        seen.append(batch.shape)
        return two_channels(batch)

    Network("n", run, "none", input_channels=wanted)(np.zeros(image, np.uint8))
    assert seen == [(1, given, 6, 7)]


def test_normalisation_is_applied_after_scaling():
    network = Network("n", lambda batch: batch, "sigmoid", mean=(0.25, 0.5, 1.0), std=(0.5, 1, 2))
    white = network(np.full((1, 1, 3), 255, np.uint8))
    np.testing.assert_allclose(white.ravel(), 1 / (1 + np.exp([-1.5, -0.5, 0.0])), rtol=1e-6)
    with pytest.raises(ValueError, match=r"normalises 3 input channels, got an image with 1"):
        network(IMAGE)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [((2, 7, 6), r"\(2, 7, 6\)"), ((2, 2, 6, 7), r"\(2, 2, 6, 7\)"), ((6, 7), r"\(6, 7\)")],
)
def test_output_on_another_grid_is_refused(shape, shown):
    expected = rf"network n must give shape \(k, 6, 7\) .* got {shown}"
    with pytest.raises(ValueError, match=expected):
        Network("n", constant(*shape), "none")(IMAGE)


def test_output_that_is_not_finite_is_named_with_its_place():
    logits = np.zeros((1, 2, 6, 7), dtype=np.float32)
    logits[0, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"output of network n .* got nan at index \(1, 2, 3\)"):
        Network("n", lambda _: logits, "softmax")(IMAGE)


def test_logits_given_as_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"within 0\.\.1, got 4\.\.4: say activation='softmax'"):
        Network("n", constant(2, 6, 7, value=4), "none")(IMAGE)


def test_the_number_of_channels_must_be_the_promised_one():
    network = Network("n", constant(2, 6, 7), "none", channels=("a", "b", "c"))
    with pytest.raises(ValueError, match="the 3 channels a, b, c, got 2"):
        network(IMAGE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"activation": "relu"}, "activation must be one of softmax, sigmoid, none, got 'relu'"),
        ({"activation": "none", "input_channels": 2}, "input_channels must be 1, 3 or None, got 2"),
        ({"activation": "none", "mean": (1, 2)}, "mean must hold 1 or 3 numbers, got 2"),
        ({"activation": "none", "std": (0.0,)}, "std must be positive, got 0.0"),
    ],
)
def test_wrong_options_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        Network("n", two_channels, **options)


# --- what the channels mean -------------------------------------------------------------------


def test_a_network_that_knows_its_reading_gives_targets_and_refinements():
    image = np.zeros((12, 16), np.uint8)
    image[3:9, 3:8] = 200
    inside = np.where(image > 0, 0.9, 0.1).astype(np.float32)
    two = np.stack([1 - inside, inside])
    three = np.stack([1 - inside, 0.9 * inside, 0.1 * inside])
    for reading, probabilities, names in (
        ("classes", two, ("memberships", "tree_voting")),
        ("regions", two, ("memberships", "metric_merging")),
        ("boundaries", inside[None], ("memberships", "metric_merging")),
        ("objects", three, ("memberships", "objects")),
    ):
        network = Network("known", lambda batch: batch, "none", reading=reading)
        target = network.target(probabilities)
        assert type(target).__name__.lower() == names[0]
        assert target.reading == ("regions" if reading == "objects" else reading)
        assert target.measure is None
        weighted = network.target(probabilities, measure=np.full(image.shape, 2.0))
        assert weighted.total == 2 * image.size
        found = network.refined(image, probabilities)
        assert found.trace[-1].method == names[1]
    assert network.refined(image, three).labels[5, 5] == 1


def test_affinities_come_with_or_without_a_foreground():
    image = np.zeros((12, 16), np.uint8)
    image[:, 8:] = 200
    offsets = ((0, 1), (1, 0))
    together = np.full((2, 12, 16), 0.9, np.float32)
    together[0, :, 7] = 0.1
    foreground = np.ones((1, 12, 16), np.float32)
    foreground[:, :, :8] = 0
    network = Network("pairs", lambda batch: batch, "none", reading="affinities", offsets=offsets)
    with_foreground = np.concatenate([foreground, together])
    for probabilities in (together, with_foreground):
        target = network.target(probabilities)
        assert target.reading == "affinities"
        assert np.array_equal(target.values.reshape(2, 12, 16), together)
        regions = network.refined(image, probabilities, method="metric_merging").labels
        assert len(np.unique(regions)) == 2
    assert network.split(together)[0] is None
    assert network.refined(image, together).trace[-1].method == "metric_merging"
    for method in (None, "objects", ["objects"]):
        labels = network.refined(image, with_foreground, method=method).labels
        assert (labels[:, :8] == 0).all()
        assert (labels[:, 8:] == 1).all()


def test_readings_that_are_not_known_or_do_not_fit():
    unknown = Network("own", lambda batch: batch, "none")
    for call in (unknown.target, lambda p: unknown.refined(None, p)):
        with pytest.raises(ValueError, match=r"network own must have a reading, one of regions, "):
            call(np.full((2, 3, 4), 0.5))
    with pytest.raises(ValueError, match="network own must have affinities to split"):
        unknown.split(np.zeros((2, 3, 4)))
    edges = Network("edges", lambda batch: batch, "none", reading="boundaries")
    with pytest.raises(ValueError, match="boundaries reading needs one channel, got 2"):
        edges.target(np.zeros((2, 3, 4)))
    pairs = Network("p", lambda b: b, "none", reading="affinities", offsets=((0, 1), (1, 0)))
    with pytest.raises(ValueError, match=r"2 offsets must give as many channels.*\(4, 3, 4\)"):
        pairs.target(np.zeros((4, 3, 4)))
    with pytest.raises(ValueError, match="reading must be one of"):
        Network("x", lambda batch: batch, "none", reading="masks")
    for reading, offsets in (("affinities", None), ("classes", ((0, 1),)), (None, ((0, 1),))):
        with pytest.raises(ValueError, match="offsets must be given for reading 'affinities'"):
            Network("x", lambda batch: batch, "none", reading=reading, offsets=offsets)
