import warnings

import numpy as np
import pytest

from hiersearch.errors import DoubtfulInputWarning
from hiersearch.networks import Network, NetworkError
from hiersearch.refinement import refine

IMAGE = np.random.default_rng(0).random((6, 7), dtype=np.float32)


def two_channels(batch):
    grey = batch.mean(axis=1, keepdims=True)
    return np.concatenate([grey, 1 - grey], axis=1)


def constant(*shape, value=0.5):
    return lambda batch: np.full(shape, value, dtype=np.float32)


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
        ({"activation": "none", "pad": 0}, "pad must be within 1..4096, got 0"),
        ({"activation": "none", "pad": 2**40}, "pad must be within 1..4096, got 1099511627776"),
    ],
)
def test_wrong_options_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        Network("n", two_channels, **options)


# --- networks that fail -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (RuntimeError("no such shape"), "no such shape"),
        (KeyError("x"), "'x'"),
        (AssertionError(), "AssertionError"),
        (ZeroDivisionError("first\n\n  second"), "first second"),
        (ValueError("\x1b[31mred\x1b[0m"), r" \[31mred \[0m"),
        (RuntimeError("x" * 1000), "x{300}…"),
        (StopIteration(), "StopIteration"),
    ],
)
def test_whatever_a_network_raises_is_one_sentence_with_the_original_as_its_cause(raised, reason):
    def run(batch):
        raise raised

    expected = rf"^network n cannot process an input of shape \(1, 1, 6, 7\): {reason}( \(if it|$)"
    with pytest.raises(NetworkError, match=expected) as error:
        Network("n", run, "none")(IMAGE)
    assert error.value.__cause__ is raised
    assert "\n" not in str(error.value)
    assert issubclass(NetworkError, ValueError)


def test_a_lack_of_memory_and_an_interrupt_stay_what_they_are():
    for error in (MemoryError, KeyboardInterrupt):

        def run(batch, error=error):
            raise error

        with pytest.raises(error):
            Network("n", run, "none")(IMAGE)


def test_what_is_no_output_is_named():
    for answer, expected in (
        (np.zeros((2, 6, 7), complex), "real numbers, got dtype complex128"),
        (np.zeros((2, 6, 7), object), "real numbers, got dtype object"),
        ([[1], [2, 3]], "cannot process"),
        (None, r"got \(\)"),
    ):
        with pytest.raises(NetworkError, match=f"network n .*{expected}"):
            Network("n", lambda _, answer=answer: answer, "none")(IMAGE)
    labels = np.ones((1, 6, 7), np.int64)
    for activation in ("softmax", "sigmoid"):
        with pytest.raises(NetworkError, match=r"floating-point channels .* before any arg-max"):
            Network("n", lambda _: labels, activation)(IMAGE)


# --- sizes --------------------------------------------------------------------------------------


def halving(times):
    """A network that needs sides that are multiples of 2**times, as U-Nets without care do."""

    def run(batch):
        if any(side % 2**times for side in batch.shape[2:]):
            raise RuntimeError("sizes of tensors must match")
        return np.concatenate([batch[:, :1], 1 - batch[:, :1]], axis=1)

    return run


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 7), (8, 16), (9, 33), (3, 64, 3)])
@pytest.mark.parametrize("pad", [1, 8, 64])
def test_padding_changes_nothing_of_what_is_inside(shape, pad):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    times = pad.bit_length() - 1
    padded = Network("n", halving(times), "none", pad=pad)(image)
    assert padded.flags.c_contiguous
    np.testing.assert_array_equal(padded, Network("n", halving(0), "none")(image))


def test_images_are_extended_by_reflection_below_and_on_the_right():
    seen = []

    def run(batch):
        seen.append(batch[0, 0].copy())
        return two_channels(batch)

    image = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    Network("n", run, "none", pad=8)(image)
    rows = np.array([0, 1, 2, 1, 0, 1, 2, 1])
    expected = np.stack([rows, rows + 3] * 4) / np.float32(255)
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)
    # One pixel has nothing to be reflected.
    Network("n", run, "none", pad=4)(image[:1, :1] + 9)
    assert (seen[1] == np.float32(9 / 255)).all()
    assert seen[1].shape == (4, 4)


def test_a_size_that_the_network_cannot_take_leads_to_padding():
    for run in (halving(5), constant(1, 2, 32, 32)):
        with pytest.raises(NetworkError, match=r"multiples of 32, say pad=32, .* --pad 32\)$"):
            Network("n", run, "none")(IMAGE)
    for run, image, pad in (
        (halving(6), np.zeros((32, 32)), None),  # no multiples of 32 are missing
        (halving(6), IMAGE, 32),  # it was tried
        (constant(6, 7), IMAGE, None),  # no channels: the size is not the matter
    ):
        with pytest.raises(NetworkError) as error:
            Network("n", run, "none", pad=pad)(image)
        assert "pad" not in str(error.value)


def test_an_output_smaller_than_a_padded_input_names_both_sizes():
    expected = r"must give shape \(k, 32, 32\) .* for an input of 32 × 32 pixels, got \(2, 8, 8\)$"
    with pytest.raises(NetworkError, match=expected):
        Network("n", constant(2, 8, 8), "none", pad=32)(IMAGE)


# --- activations that are none ------------------------------------------------------------------


def test_probabilities_that_are_given_another_activation_are_warned_of():
    logits = np.random.default_rng(0).normal(0, 3, (3, 6, 7)).astype(np.float32)
    soft = Network("n", lambda _: logits, "softmax")(IMAGE)
    for activation, output in (("softmax", soft), ("sigmoid", soft[:1])):
        with pytest.warns(
            DoubtfulInputWarning,
            match=f"output of network n is .* {activation} flattens.*--activation none",
        ):
            Network("n", lambda _, output=output: output, activation)(IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Network("n", lambda _: soft, "none")(IMAGE)
        for output in (logits, logits - logits.max(0), np.zeros((3, 6, 7)), 0.9 * soft):
            Network("n", lambda _, output=output: output, "softmax")(IMAGE)
        for output in (logits, np.zeros((1, 6, 7))):
            Network("n", lambda _, output=output: output, "sigmoid")(IMAGE)


def test_a_softmax_over_one_channel_is_refused():
    for reading in (None, "classes", "boundaries"):
        network = Network("n", constant(1, 6, 7, value=-3), "softmax", reading=reading)
        with pytest.raises(NetworkError, match=r"two channels or more .*--activation sigmoid"):
            network(IMAGE)


@pytest.mark.parametrize("reading", ["classes", "regions"])
def test_one_channel_of_two_classes_is_the_probability_of_the_second(reading):
    logits = np.random.default_rng(0).normal(0, 3, (1, 6, 7)).astype(np.float32)
    network = Network("n", lambda _: logits, "sigmoid", channels=("no", "yes"), reading=reading)
    found = network(IMAGE)
    np.testing.assert_allclose(found[1], 1 / (1 + np.exp(-logits[0])), rtol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-6)
    assert network.predict(IMAGE).partition().grid == (6, 7)
    edges = Network("n", lambda _: logits, "sigmoid", reading="boundaries")
    assert edges(IMAGE).shape == Network("n", lambda _: logits, "sigmoid")(IMAGE).shape == (1, 6, 7)


# --- what the channels mean -------------------------------------------------------------------


def giving(channels, reading, offsets=None):
    """Return a network that gives these channels whatever the image."""
    return Network("known", lambda batch: channels, "none", reading=reading, offsets=offsets)


def test_a_network_that_knows_its_reading_gives_a_soft_output():
    image = np.zeros((12, 16), np.uint8)
    image[3:9, 3:8] = 200
    inside = np.where(image > 0, 0.9, 0.1).astype(np.float32)
    two = np.stack([1 - inside, inside])
    three = np.stack([1 - inside, 0.9 * inside, 0.1 * inside])
    for reading, channels, method in (
        ("classes", two, "tree_voting"),
        ("regions", two, "metric_merging"),
        ("boundaries", inside[None], "metric_merging"),
        ("objects", three, "objects"),
    ):
        network = giving(channels, reading)
        output = network.predict(image)
        assert output.reading == reading
        assert np.array_equal(output.channels, channels)
        assert output.measure is None
        weighted = network.predict(image, measure=np.full(image.shape, 2.0))
        assert weighted.partition().total == 2 * image.size
        found = refine(image, output)
        assert found.trace[-1].method == method
    assert found.labels[5, 5] == 1
    assert found.has_background


def test_affinities_come_with_or_without_a_foreground():
    image = np.zeros((12, 16), np.uint8)
    image[:, 8:] = 200
    offsets = ((0, 1), (1, 0))
    together = np.full((2, 12, 16), 0.9, np.float32)
    together[0, :, 7] = 0.1
    foreground = np.ones((1, 12, 16), np.float32)
    foreground[:, :, :8] = 0
    alone = giving(together, "affinities", offsets).predict(image)
    both = giving(np.concatenate([foreground, together]), "affinities", offsets).predict(image)
    for output in (alone, both):
        values = output.partition().values
        assert np.array_equal(values.reshape(2, 12, 16), together)
        regions = refine(image, output, method="metric_merging")
        assert len(np.unique(regions.labels)) == 2
        assert regions.output.channels.shape == output.channels.shape
    assert alone.foreground_map is None
    assert refine(image, alone).trace[-1].method == "metric_merging"
    for method in (None, "objects", ["objects"]):
        found = refine(image, both, method=method)
        assert (found.labels[:, :8] == 0).all()
        assert (found.labels[:, 8:] == 1).all()
        assert np.array_equal(found.output.channels[0], found.labels > 0)


def test_readings_that_are_not_known_or_do_not_fit():
    image = np.zeros((3, 4), np.uint8)
    with pytest.raises(ValueError, match=r"network known must have a reading, one of regions, "):
        giving(np.full((2, 3, 4), 0.5), None).predict(image)
    with pytest.raises(ValueError, match="network known: the boundaries reading needs one channel"):
        giving(np.zeros((2, 3, 4)), "boundaries").predict(image)
    with pytest.raises(ValueError, match=r"2 offsets must have as many channels.* got 4"):
        giving(np.zeros((4, 3, 4)), "affinities", ((0, 1), (1, 0))).predict(image)
    with pytest.raises(ValueError, match="reading must be one of"):
        giving(np.zeros((2, 3, 4)), "masks")
    for reading, offsets in (("affinities", None), ("classes", ((0, 1),)), (None, ((0, 1),))):
        with pytest.raises(ValueError, match="offsets must be given for reading 'affinities'"):
            giving(np.zeros((2, 3, 4)), reading, offsets)
