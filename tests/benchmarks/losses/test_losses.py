"""The compared losses: hand-worked values, minima, gradients, and the list of all of them."""

import math
from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.losses import written_likelihoods as likelihoods  # noqa: E402
from benchmarks.losses import written_maps as maps  # noqa: E402
from benchmarks.losses import written_overlaps as written  # noqa: E402
from benchmarks.losses.registry import LEFT_OUT, LOSSES  # noqa: E402

ALL = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            entry.source in ("monai", "kornia") and find_spec(entry.source) is None,
            reason=f"{entry.source} is not installed",
        ),
    )
    for name, entry in LOSSES.items()
]


def value_of(name, logits, target, n_classes=2, step_share=0.0):
    frequencies = [0.8] + [0.2 / (n_classes - 1)] * (n_classes - 1)
    loss = LOSSES[name].make(n_classes, frequencies)
    return loss(logits, target, step_share)


def from_probabilities(*channels):
    """Logits (1, k, 1, W) of the channels' probabilities."""
    return torch.tensor(channels, dtype=torch.float64)[None, :, None].log()


# Two pixels, the first of class 0 with p = (0.8, 0.2), the second of class 1 with p = (0.4, 0.6).
# Class 0: Σ p·y = 0.8, Σ p = 1.2, Σ y = 1: misses 0.2, false alarms 0.4.
# Class 1: Σ p·y = 0.6, Σ p = 0.8, Σ y = 1: misses 0.4, false alarms 0.2.
LOGITS = from_probabilities([0.8, 0.4], [0.2, 0.6])
TARGET = torch.tensor([[[0, 1]]])
DICE = 1 - (1.6 / 2.2 + 1.2 / 1.8) / 2
CROSS_ENTROPY = -(math.log(0.8) + math.log(0.6)) / 2
BY_HAND = {
    "cross-entropy": CROSS_ENTROPY,
    "top-k": -math.log(0.6),  # a tenth of two pixels is at least one
    "focal": -(0.2**2 * math.log(0.8) + 0.4**2 * math.log(0.6)) / 4,  # mean over 2×2 values
    "dice": DICE,
    "dice-ce": DICE + CROSS_ENTROPY,
    "generalised-dice": 1 - 2 * 1.4 / 4.0,  # equal sizes, equal weights
    "iou": 1 - (0.8 / 1.4 + 0.6 / 1.2) / 2,
    "tversky": 1 - (0.8 / (0.8 + 0.7 * 0.2 + 0.3 * 0.4) + 0.6 / (0.6 + 0.7 * 0.4 + 0.3 * 0.2)) / 2,
    "wasserstein-dice": 1 - 2 * 0.6 / (2 * 0.6 + 0.2 + 0.4),  # W = 0.2, 0.4; class 0 no hits
    # Errors sorted: class 0 has 0.4 (not its pixel), 0.2: 0.5·0.4 + 0.5·0.2; class 1 0.4, 0.2: 0.4.
    "lovasz": (0.3 + 0.4) / 2,
    # Cross-entropies of background (focused by (1-p)^½, weight 0.3) and foreground (weight 0.7),
    # mean over 2×2 values; Tversky with 0.7 on misses, the foreground's to the power ½.
    "unified-focal": (
        (0.3 * 0.2**0.5 * -math.log(0.8) + 0.7 * -math.log(0.6)) / 4
        + (0.26 / 1.06 + (0.34 / 0.94) ** 0.5) / 2
    )
    / 2,
    "focal-tversky": ((0.26 / 1.06) ** 0.75 + (0.34 / 0.94) ** 0.75) / 2,
    "log-cosh-dice": math.log(math.cosh(DICE)),
    # Class 0: 0.05·0.2² + 0.95·0.4² = 0.154; class 1: 0.05·0.4² + 0.95·0.2² = 0.046.
    "sensitivity-specificity": 0.1,
    # Every pixel is on the boundary, 1 - 2 < 0, so α = 0: difference over union.
    "boundary-dou": (0.6 / 1.4 + 0.6 / 1.2) / 2,
    # Frequencies 0.8 and 0.2: weights (1/0.8)^½ and 5^½.
    "exponential-logarithmic": (
        0.8 * (math.log(3.2 / 2.6) ** 0.3 + math.log(2.8 / 2.2) ** 0.3) / 2
        + 0.2 * (1.25**0.5 * math.log(1 / 0.8) ** 0.3 + 5**0.5 * math.log(1 / 0.6) ** 0.3) / 2
    ),
    "distance-map-ce": 2 * CROSS_ENTROPY,  # both pixels on the boundary: 1 + Φ = 2
    "region-wise": ((-0.8 + 0.2) + (-0.6 + 0.4)) / 2,
    # PPᵀ = 0.68, 0.44, 0.44, 0.52 against 1, 0, 0, 1: Σ ( )² = 0.72, Σ | | = 1.68;
    # ‖P - Y‖² = 0.4, ‖P - Y‖₁ = 1.2. Every measure weighs the two pixels alike.
    "ours-bare": 0.72 / 4,
    "ours-anchored": 0.72 / 4 + 0.4 / 2,
    "ours-root": (0.72 / 4 + 0.4 / 2) ** 0.5,
    "ours-class-balanced": 0.72 / 4 + 0.4 / 2,
    "ours-region-balanced": 0.72 / 4 + 0.4 / 2,
    "ours-boundary": 0.72 / 4 + 0.4 / 2,
    "ours-expected": 1.68 / 4 + 1.2 / 4,
    "ours-straight-through": 0,  # both arg-maxes are right
    "ours-class-balanced-image-ce": 0.72 / 4 + 0.4 / 2 + CROSS_ENTROPY,
    "ours-class-balanced-batch-ce": 0.72 / 4 + 0.4 / 2 + CROSS_ENTROPY,
    "ours-tempered": 0.72 / 4 + 0.4 / 2,
    "ours-tempered-ce": 0.72 / 4 + 0.4 / 2 + CROSS_ENTROPY,
    # D = 4, Σ δ² = 2·0.2² + 2·0.4² = 0.4, ν = 1: Γ(2.5)/Γ(0.5) = 0.75.
    "t-loss": (math.log(4 / 3) + 2 * math.log(math.pi) + 2.5 * math.log(1.4)) / 4,
}


@pytest.mark.parametrize("name", [each for each in ALL if each.values[0] in BY_HAND])
def test_two_pixels_by_hand(name):
    assert value_of(name, LOGITS, TARGET).item() == pytest.approx(BY_HAND[name], rel=3e-5, abs=1e-9)


# Four pixels in a row, the last of class 1, p = 0.75 for the true class everywhere.
ROW = torch.tensor([[[0, 0, 0, 1]]])
ROW_LOGITS = from_probabilities([0.75, 0.75, 0.75, 0.25], [0.25, 0.25, 0.25, 0.75])


def test_depths_are_distances_to_the_nearest_other_class():
    depth, deepest = maps.depths(ROW)
    assert depth.tolist() == [[[3, 2, 1, 1]]]
    assert deepest.tolist() == [[[3, 3, 3, 1]]]


def test_distance_map_cross_entropy_by_hand():
    # Φ = 1/3, 2/3, 1 in class 0 and 1 in class 1.
    expected = -math.log(0.75) * (4 / 3 + 5 / 3 + 2 + 2) / 4
    assert maps.distance_map_cross_entropy(ROW_LOGITS, ROW).item() == pytest.approx(expected)


def test_region_wise_by_hand():
    # z of the own class: -1, -2/3, -1/3, -1; of the other: 1.
    expected = (0.75 * -3 + 4 * 0.25) / 4
    assert maps.region_wise(ROW_LOGITS, ROW).item() == pytest.approx(expected)


def test_boundary_loss_by_hand():
    pytest.importorskip("monai")
    # Signed distances: class 0 -2, -1, 0, 1; class 1 3, 2, 1, 0. Means over pixels:
    surface = ((0.75 * -3 + 0.25 * 1) / 4 + 0.25 * 6 / 4) / 2
    # Sizes 3 and 1 weigh 1/9 and 1: hits 2.25 and 0.75; Σ p + Σ y is 5.5 and 2.5.
    region = 1 - 2 * (2.25 / 9 + 0.75) / (5.5 / 9 + 2.5)
    for share, alpha in ((0.0, 0.01), (0.5, 0.5), (1.0, 0.99)):
        value = value_of("boundary", ROW_LOGITS.float(), ROW, step_share=share)
        assert value.item() == pytest.approx((1 - alpha) * region + alpha * surface, rel=1e-4)


def test_hausdorff_loss_by_hand():
    pytest.importorskip("monai")
    # Both classes' distances are 3, 2, 1, 1, for output and target alike; errors are 0.25² each.
    surface = 0.25**2 * 2 * (9 + 4 + 1 + 1) / 4
    value = value_of("hausdorff", ROW_LOGITS.float(), ROW)
    assert value.item() == pytest.approx(2 * surface, rel=1e-4)  # in equal parts with Dice


def test_wasserstein_dice_puts_foreground_classes_at_half_the_distance():
    pytest.importorskip("monai")
    logits = from_probabilities([0.2], [0.5], [0.3]).float()
    value = value_of("wasserstein-dice", logits, torch.tensor([[[1]]]), n_classes=3)
    distance = 1 * 0.2 + 0.5 * 0.3
    expected = distance / (2 * (1 - distance) + distance)
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_lovasz_ranks_each_class_by_its_own_pixels():
    pytest.importorskip("kornia")
    logits = from_probabilities([0.2], [0.3], [0.5]).float()
    value = value_of("lovasz", logits, torch.tensor([[[2]]]), n_classes=3)
    # A class that is absent counts its largest probability; the third misses half its pixel.
    assert value.item() == pytest.approx((0.2 + 0.3 + 0.5) / 3, rel=1e-5)


def test_boundary_difference_over_union_by_hand():
    # A square of 10×10 in 12×12: 36 of its 100 pixels on the boundary, α = 0.28; all 44 others on
    # the boundary, α = 0. p = ½: hits 50 and 22, Σ p = 72.
    target = torch.zeros(1, 12, 12, dtype=torch.int64)
    target[:, 1:11, 1:11] = 1
    _, truth = written.probabilities_and_truth(torch.zeros(1, 2, 12, 12), target)
    np.testing.assert_allclose(written.boundary_share(truth), [1, 0.36], rtol=1e-6)
    value = written.boundary_difference_over_union(torch.zeros(1, 2, 12, 12), target)
    assert value.item() == pytest.approx((72 / 94 + 72 / (122 - 0.28 * 50)) / 2)


def test_boundary_difference_over_union_caps_alpha():
    target = torch.ones(1, 40, 40, dtype=torch.int64)  # α would be 1 - 2·156/1600 = 0.805
    value = written.boundary_difference_over_union(torch.zeros(1, 2, 40, 40), target)
    assert value.item() == pytest.approx((1 + 800 / (1600 - 0.8 * 800)) / 2)


def test_conditional_log_determinant_by_hand():
    # Var Y = 0.25, Var P = 0.1, Cov = 0.15: M = 0.25 - 0.15²/0.1 = 0.025.
    truth = torch.tensor([[0.0, 0, 1, 1]], dtype=torch.float64)
    probability = torch.tensor([[0.1, 0.3, 0.7, 0.9]], dtype=torch.float64)
    value = likelihoods.conditional_log_determinants(truth, probability, side=1, ridge=1e-12)
    assert value.item() == pytest.approx(math.log(0.025) / 2, rel=1e-9)


def test_region_mutual_information_adds_up_classes_and_cross_entropy():
    rng = np.random.default_rng(3)
    logits, target = rng.normal(size=(2, 3, 24, 24)), rng.integers(0, 3, (2, 24, 24))
    exponentials = np.exp(logits)
    probability = exponentials / exponentials.sum(1, keepdims=True)
    truth = np.moveaxis(np.eye(3)[target], -1, 1)
    total = 0.0
    for image in range(2):
        for label in range(3):
            pooled = [
                values[image, label].reshape(8, 3, 8, 3).mean((1, 3))
                for values in (truth, probability)
            ]
            points = np.concatenate(
                [
                    np.lib.stride_tricks.sliding_window_view(values, (3, 3)).reshape(36, 9)
                    for values in pooled
                ],
                axis=1,
            )
            joint = np.cov(points.T, bias=True)
            inverse = np.linalg.inv(joint[9:, 9:] + 1e-6 * np.eye(9))
            given = joint[:9, :9] - joint[:9, 9:] @ inverse @ joint[9:, :9]
            total += np.linalg.slogdet(given + 1e-6 * np.eye(9))[1] / 2 / 9 / 2
    cross = -np.log(np.take_along_axis(probability, target[:, None], 1)).mean()
    value = likelihoods.region_mutual_information(torch.tensor(logits), torch.tensor(target))
    assert value.item() == pytest.approx(0.9 * cross + 0.1 * total, rel=1e-9)


def test_t_loss_trains_its_degrees_of_freedom():
    loss = LOSSES["t-loss"].make(2, [0.5, 0.5])
    assert [tuple(parameter.shape) for parameter in loss.parameters()] == [()]
    loss(LOGITS, TARGET, 0.0).backward()
    # ½ψ(ν/2) - ½ψ((ν+D)/2) + D/2ν + ½ ln(1+s) - (ν+D)/2 · s/(1+s) at ν = 1, s = 0.4, over D = 4;
    # ψ(½) - ψ(2½) = -(2 + 2/3).
    expected = (-(2 + 2 / 3) / 2 + 2 + math.log(1.4) / 2 - 2.5 * 0.4 / 1.4) / 4
    assert loss.log_nu.grad.item() == pytest.approx(expected, rel=1e-5)


GRADIENTS = {
    "focal-tversky": written.focal_tversky,
    "log-cosh-dice": written.log_cosh_dice,
    "sensitivity-specificity": written.sensitivity_specificity,
    "boundary-dou": written.boundary_difference_over_union,
    "exponential-logarithmic": lambda logits, target: written.exponential_logarithmic(
        logits, target, [0.6, 0.3, 0.1]
    ),
    "distance-map-ce": maps.distance_map_cross_entropy,
    "region-wise": maps.region_wise,
    "t-loss": likelihoods.TLoss(),
    "region-mutual-information": lambda logits, target: likelihoods.region_mutual_information(
        logits, target, pooling=1
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_written_gradients_equal_finite_differences(name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 8, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (1, 8, 8), generator=generator)
    assert torch.autograd.gradcheck(lambda values: GRADIENTS[name](values, target), (logits,))


def test_every_written_loss_has_a_gradient_test():
    assert set(GRADIENTS) == {name for name, entry in LOSSES.items() if entry.source == "written"}


def blobs(n_classes, size=32, batch=2):
    """Return targets of a few rectangles, every class in every image."""
    target = torch.zeros(batch, size, size, dtype=torch.int64)
    for image in range(batch):
        for label in range(1, n_classes):
            row, column = 8 * label - 6, 3 * label + 5 * image
            target[image, row : row + 5 + label, column : column + 9] = label
    return target


def saturated(target, n_classes, height=20.0):
    truth = torch.nn.functional.one_hot(target, n_classes).permute(0, 3, 1, 2).float()
    return height * (2 * truth - 1)


def assert_usable(name, logits, target, n_classes):
    logits = logits.clone().requires_grad_()
    value = value_of(name, logits, target, n_classes, step_share=0.5)
    assert value.shape == ()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    return logits.grad


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_finite(name, n_classes):
    target = blobs(n_classes)
    logits = torch.randn(2, n_classes, 32, 32, generator=torch.Generator().manual_seed(1))
    assert assert_usable(name, logits, target, n_classes).abs().max() > 0
    assert_usable(name, saturated(target, n_classes), target, n_classes)
    assert_usable(name, saturated(target.roll(3, -1), n_classes), target, n_classes)


@pytest.mark.parametrize("name", ALL)
def test_a_missing_class_and_an_image_of_one_class_are_no_failure(name):
    target = blobs(4)
    target[target == 2] = 0
    target[1] = 0
    logits = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    assert assert_usable(name, logits, target, 4).abs().max() > 0
    assert_usable(name, saturated(target, 4), target, 4)


@pytest.mark.parametrize("step_share", [0.0, 1.0])
@pytest.mark.parametrize("name", ALL)
def test_the_perfect_prediction_is_the_least(name, step_share):
    target = blobs(4)

    def value(logits):
        return value_of(name, logits, target, 4, step_share).item()

    perfect = value(saturated(target, 4))
    one_wrong = target.clone()
    one_wrong[0, 3, 4] = (target[0, 3, 4] + 1) % 4
    flipped = saturated(target, 4).roll(1, dims=1)
    generator = torch.Generator().manual_seed(2)
    assert perfect < value(saturated(one_wrong, 4))
    if name != "ours-straight-through":  # which sees the arg-max only
        assert perfect < value(saturated(target, 4, height=1.0))
    assert perfect < value(saturated(target.roll(1, -1), 4))
    for scale in (0.1, 1.0, 10.0):
        assert perfect < value(scale * torch.randn(2, 4, 32, 32, generator=generator))
    if name != "ours-bare":  # which does not tell classes from one another
        assert perfect < value(flipped)


@pytest.mark.parametrize("name", ["log-cosh-dice", "dice", "iou", "boundary-dou", "focal-tversky"])
def test_overlap_losses_punish_a_class_painted_everywhere(name):
    # A Dice whose denominator forgets the prediction would be content with p = 1 everywhere.
    if LOSSES[name].source == "monai":
        pytest.importorskip("monai")
    target = blobs(2)
    everywhere = saturated(torch.ones_like(target), 2)
    assert value_of(name, everywhere, target) > 2 * value_of(
        name, saturated(target, 2, 2.0), target
    )


@pytest.mark.parametrize("name", ["dice", "lovasz", "wasserstein-dice", "boundary-dou", "iou"])
def test_overlaps_are_those_of_the_batch(name):
    source = LOSSES[name].source
    if source != "written":
        pytest.importorskip(source)
    target = blobs(3)
    logits = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    one_by_one = [value_of(name, logits[i : i + 1], target[i : i + 1], 3) for i in range(2)]
    together = value_of(name, logits, target, 3)
    assert abs(together - sum(one_by_one) / 2) > 1e-6
    swapped = value_of(name, logits.flip(0), target.flip(0), 3)
    assert together.item() == pytest.approx(swapped.item(), rel=1e-5)


def test_the_list_is_whole():
    assert all(name == entry.name for name, entry in LOSSES.items())
    assert len({entry.title for entry in LOSSES.values()}) == len(LOSSES)
    assert {entry.source for entry in LOSSES.values()} == {
        "torch",
        "monai",
        "kornia",
        "written",
        "hiersearch",
    }
    assert len(LEFT_OUT) == 4
    assert all(len(reason) > 40 for reason in LEFT_OUT.values())
