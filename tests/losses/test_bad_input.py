"""What the partition metric loss refuses, and the sentence that says so."""

import builtins
import sys
import warnings

import pytest

torch = pytest.importorskip("torch")

from hiersearch.errors import DoubtfulInputWarning, MissingExtraError  # noqa: E402
from hiersearch.losses import PartitionMetricLoss, partition_metric_loss  # noqa: E402
from hiersearch.losses.partition_metric import FORMS  # noqa: E402

OUTPUT = torch.zeros(2, 3, 4, 5)
TARGET = torch.zeros(2, 4, 5, dtype=torch.int64)
SOFT = torch.full((2, 3, 4, 5), 1 / 3)


def changed(values, index, value):
    values = values.clone()
    values[index] = value
    return values


SHAPES_AND_TYPES = [
    (TypeError, "output must be a tensor, got list", [1.0], TARGET, {}),
    (TypeError, "output must be of floating dtype, got torch.int64", OUTPUT.long(), TARGET, {}),
    (ValueError, r"output must have shape \(N, channels, \*grid\)", OUTPUT[0, 0], TARGET, {}),
    (ValueError, "output must not be empty", OUTPUT[:0], TARGET[:0], {}),
    (TypeError, "target must be a tensor, got NoneType", OUTPUT, None, {}),
    (
        ValueError,
        r"target must have shape \(2, 4, 5\), got \(2, 4, 4\)",
        OUTPUT,
        TARGET[..., 1:],
        {},
    ),
    (
        ValueError,
        r"target must have shape \(2, 4, 5\), got \(2, 1, 4, 5\): give target\[:, 0\]",
        OUTPUT,
        TARGET[:, None],
        {},
    ),
    (
        ValueError,
        r"target must have shape \(3, 5\), got \(4, 5\): of one image give output\[None\] and",
        OUTPUT[0],
        TARGET[0],
        {},
    ),
    (
        ValueError,
        r"output must have two channels or more, .* got shape \(2, 1, 4, 5\): .* "
        r"give torch.cat\(\(torch.zeros_like\(x\), x\), 1\)",
        OUTPUT[:, :1],
        TARGET,
        {},
    ),
    (
        ValueError,
        r"output must have two channels or more.*torch.cat\(\(1 - x, x\), 1\)",
        OUTPUT[:, :1],
        TARGET,
        {"from_logits": False, "anchor": 0, "n_regions": 2},
    ),
    (
        ValueError,
        r"target must have shape \(2, 3, 4, 5\), got \(2, 2, 4, 5\)",
        OUTPUT,
        SOFT[:, :2],
        {},
    ),
    (ValueError, r"got \(2, 3, 4\)", OUTPUT, SOFT[..., 0], {"anchor": 0}),
    (
        TypeError,
        "target must be of integer dtype, got torch.complex64",
        OUTPUT,
        TARGET.cfloat(),
        {},
    ),
    (ValueError, "target must be on the output's device", OUTPUT, TARGET.to("meta"), {}),
    (TypeError, "'expected' needs integer targets", OUTPUT, SOFT, {"form": "expected"}),
    (TypeError, "ignore_index needs integer targets", OUTPUT, SOFT, {"ignore_index": 0}),
    (TypeError, "n_regions needs integer targets", OUTPUT, SOFT, {"n_regions": 3}),
    (TypeError, "'boundary' needs integer targets", OUTPUT, SOFT, {"measure": "boundary"}),
    (ValueError, "n_regions must be the number of channels, 3,", OUTPUT, TARGET, {"n_regions": 4}),
    (ValueError, "n_regions must be at least 1", OUTPUT, TARGET, {"n_regions": 0, "anchor": 0}),
    (TypeError, "n_regions must be a whole number", OUTPUT, TARGET, {"n_regions": 2.0}),
    (
        ValueError,
        r"measure must have shape \(2, 4, 5\) or \(1, 4, 5\), got \(4, 5\)",
        OUTPUT,
        TARGET,
        {"measure": torch.ones(4, 5)},
    ),
    (TypeError, "real numbers", OUTPUT, TARGET, {"measure": torch.ones(2, 4, 5).cfloat()}),
]

VALUES = [
    (
        r"output must be finite, got nan at index \(1, 2, 3, 4\)",
        changed(OUTPUT, (1, 2, 3, 4), torch.nan),
        TARGET,
        {},
    ),
    (
        r"output must be finite, got inf at index \(0, 1, 0, 2\)",
        changed(OUTPUT, (0, 1, 0, 2), torch.inf),
        TARGET,
        {"form": "root"},
    ),
    (
        r"output must be finite, got -inf",
        changed(OUTPUT, (0, slice(None), 0, 0), -torch.inf),
        TARGET,
        {},
    ),
    (
        r"output must be finite, got nan",
        changed(OUTPUT, (1, 0, 0, 0), torch.nan),
        changed(TARGET, (1, 0, 0), 9),
        {"ignore_index": 9, "form": "expected"},
    ),
    (
        r"output must be finite, got nan",
        changed(OUTPUT, (1, 0, 0, 0), torch.nan),
        TARGET,
        {"straight_through": True},
    ),
    (
        r"target must hold labels 0..2, got 3 at index \(1, 0, 4\)",
        OUTPUT,
        changed(TARGET, (1, 0, 4), 3),
        {},
    ),
    (
        r"target must hold labels 0..2 or 255, got -1 at index \(0, 2, 2\)",
        OUTPUT,
        changed(TARGET, (0, 2, 2), -1),
        {"ignore_index": 255},
    ),
    (
        r"target must hold labels 0..6, got 7",
        OUTPUT,
        changed(TARGET, (0, 2, 2), 7),
        {"anchor": 0, "n_regions": 7},
    ),
    (r"target must not be negative, got -1.0", OUTPUT, changed(SOFT, (0, 0, 0, 0), -1.0), {}),
    (r"target must be finite, got nan", OUTPUT, changed(SOFT, (0, 0, 0, 0), torch.nan), {}),
    (r"target must sum to 1 over its channels, got 2 at pixel \(0, 0, 0\)", OUTPUT, 2 * SOFT, {}),
    (
        r"target must sum to 1 .*; they do over the first axis, .* of one give x\[None\]",
        OUTPUT[0],
        SOFT[0],
        {},
    ),
    (
        r"output must sum to 1 .*; logits need from_logits=True",
        OUTPUT,
        TARGET,
        {"from_logits": False},
    ),
    (
        r"output must not be negative",
        changed(SOFT, (0, 0, 0, 0), -0.1),
        TARGET,
        {"from_logits": False},
    ),
    (
        r"measure must not be negative, got -1.0 at index \(0, 1, 1\)",
        OUTPUT,
        TARGET,
        {"measure": changed(torch.ones(1, 4, 5), (0, 1, 1), -1.0)},
    ),
    (
        r"measure must be finite, got inf",
        OUTPUT,
        TARGET,
        {"measure": changed(torch.ones(1, 4, 5), (0, 1, 1), torch.inf)},
    ),
]

SETTINGS = [
    (ValueError, "form must be one of squared, root, expected, got 'cubed'", {"form": "cubed"}),
    (ValueError, "per must be one of image, batch, got 'pixel'", {"per": "pixel"}),
    (ValueError, "reduction must be one of mean, sum, none, got 'max'", {"reduction": "max"}),
    (ValueError, "measure must be one of class-balanced, .*, got 'even'", {"measure": "even"}),
    (TypeError, "measure must be a name, a tensor or None, got 3", {"measure": 3}),
    (TypeError, "ignore_index must be a whole number or None, got 1.5", {"ignore_index": 1.5}),
    (TypeError, "anchor must be a number, got '1'", {"anchor": "1"}),
    (ValueError, "anchor must be finite and at least 0, got -1", {"anchor": -1}),
    (ValueError, "anchor must be finite and at least 0, got nan", {"anchor": float("nan")}),
]


@pytest.mark.parametrize(("error", "message", "output", "target", "settings"), SHAPES_AND_TYPES)
def test_shapes_and_types_that_do_not_fit_are_named(error, message, output, target, settings):
    for checks in (True, False):
        with pytest.raises(error, match=message):
            partition_metric_loss(output, target, checks=checks, **settings)


@pytest.mark.parametrize(("message", "output", "target", "settings"), VALUES)
def test_values_out_of_range_are_named_with_their_place(message, output, target, settings):
    with pytest.raises(ValueError, match=message):
        partition_metric_loss(output, target, **settings)


@pytest.mark.parametrize(("error", "message", "settings"), SETTINGS)
def test_settings_are_checked_by_function_and_module(error, message, settings):
    with pytest.raises(error, match=message):
        partition_metric_loss(OUTPUT, TARGET, **settings)
    with pytest.raises(error, match=message):
        PartitionMetricLoss(**settings)


def test_probabilities_taken_for_logits_are_warned_of():
    output = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, 9, 9, dtype=torch.int64)
    for dtype in (torch.float32, torch.float16):
        with pytest.warns(DoubtfulInputWarning, match=r"output is probabilities already.*False"):
            partition_metric_loss(output.softmax(1).to(dtype), target)
    one_other = changed(output.softmax(1), (1, 0, 8, 8), 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition_metric_loss(output, target)
        partition_metric_loss(one_other, target)
        partition_metric_loss(output.log_softmax(1), target)
        partition_metric_loss(output.softmax(1), target, from_logits=False)
        partition_metric_loss(output.softmax(1), target, checks=False)


@pytest.mark.parametrize("form", ["squared", "root", "expected"])
def test_without_checks_a_nan_shows_in_the_loss(form):
    output = changed(OUTPUT, (0, 0, 0, 0), torch.nan)
    assert torch.isnan(partition_metric_loss(output, TARGET, form=form, checks=False))


def test_a_channel_of_minus_infinity_is_a_class_that_cannot_be():
    output = torch.randn(2, 3, 4, 5)
    without = partition_metric_loss(output[:, :2], TARGET)
    output[:, 2] = -torch.inf
    torch.testing.assert_close(partition_metric_loss(output, TARGET), without)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_rounded_to_half_precision_are_taken(dtype):
    soft = torch.randn(1, 21, 64, 64).softmax(1).to(dtype)
    target = torch.zeros(1, 64, 64, dtype=torch.int64)
    assert torch.isfinite(partition_metric_loss(soft, target, from_logits=False))
    assert torch.isfinite(partition_metric_loss(soft, soft, from_logits=False))


def test_without_torch_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("hiersearch.losses")]:
        monkeypatch.delitem(sys.modules, name)
    found = builtins.__import__

    def missing(name, *arguments, **settings):
        if name == "torch":
            raise ImportError(name)
        return found(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "hiersearch\[torch\]"'):
        import hiersearch.losses  # noqa: F401


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("label", [77, -5])
def test_without_checks_a_label_out_of_range_is_an_error_and_not_a_crash(form, label):
    target = torch.full((1, 4, 4), label)
    with pytest.raises(RuntimeError, match=f"index {label} is out of bounds"):
        partition_metric_loss(torch.zeros(1, 3, 4, 4), target, form=form, checks=False)
