"""Checks of what a loss is given, and the two settings that all losses share.

Checks that read values wait for the device and are left out where ``checks`` is false; all of
them are left out while a loss is being compiled.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hiersearch._validate import checked_choice
from hiersearch.errors import DoubtfulInputWarning
from hiersearch.partitions.checks import SUM_TOLERANCE

REDUCTIONS = ("mean", "sum", "none")
"""What becomes of the values of the images of a batch."""

SETS = ("image", "batch")
"""Over which pixels one value is taken."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.int64,
)
"""All that fit int64, in which labels are compared."""


def checked_weight(value: Any, name: str) -> float:
    """Return ``value`` as a float if it is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}")
    return float(value)


def check_settings(per: str, reduction: str, ignore_index: int | None) -> None:
    """Raise if a setting that all losses share is none of those offered."""
    checked_choice(per, SETS, "per")
    checked_choice(reduction, REDUCTIONS, "reduction")
    check_label(ignore_index, "ignore_index")


def check_label(value: int | None, name: str) -> None:
    """Raise unless ``value`` is a label within int64, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number or None, got {value!r}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} must be within int64, got {value}")


def check_output(output: Any, name: str = "output") -> None:
    """Raise unless ``output`` is a floating tensor (N, channels, *grid) with values in it."""
    if not isinstance(output, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(output).__name__}")
    if output.dtype not in _FLOATS:
        raise TypeError(f"{name} must be of floating dtype, got {output.dtype}")
    if output.dim() not in (3, 4, 5):
        raise ValueError(
            f"{name} must have shape (N, channels, *grid) with a grid of 1 to 3 axes, "
            f"got {tuple(output.shape)}"
        )
    if output.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(output.shape)}")


def check_labels(
    target: Any, shape: Sequence[int], name: str = "target", single: Sequence[int] = ()
) -> None:
    """Raise unless ``target`` is an integer (or boolean) tensor of the shape given.

    ``single`` is the shape that labels of one image would have if there were no axis of images.
    Whoever goes on with it takes ``target.long()``: torch takes a number that is compared with a
    tensor as one of the tensor's type, so that -100 would be 156 beside 8 bits.
    """
    if not isinstance(target, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(target).__name__}")
    if target.dtype not in _INTEGERS:
        raise TypeError(f"{name} must be of integer dtype, got {target.dtype}")
    given, wanted = tuple(target.shape), tuple(shape)
    if given != wanted:
        hint = ""
        if given == (*wanted[:1], 1, *wanted[1:]):
            hint = f": give {name}[:, 0]"
        elif given == tuple(single):
            hint = f": of one image give output[None] and {name}[None]"
        raise ValueError(f"{name} must have shape {wanted}, got {given}{hint}")


def check_label_range(
    target: Tensor, n_labels: int, ignore_index: int | None, name: str = "target"
) -> None:
    """Raise if a label other than ``ignore_index`` is not within 0..n_labels − 1."""
    low, high = torch.aminmax(target)
    if low >= 0 and high < n_labels:
        return
    outside = (target < 0) | (target >= n_labels)
    if ignore_index is not None:
        outside &= target != ignore_index
    if bool(outside.any()):
        where = _first(outside)
        besides = "" if ignore_index is None else f" or {ignore_index}"
        raise ValueError(
            f"{name} must hold labels 0..{n_labels - 1}{besides}, "
            f"got {int(target[where])} at index {where}"
        )


def check_finite(values: Tensor, name: str = "output") -> None:
    """Raise if a value is not finite, naming the first one."""
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        where = _first(bad)
        raise ValueError(f"{name} must be finite, got {float(values[where])} at index {where}")


def check_not_negative(values: Tensor, name: str) -> None:
    """Raise if a value is negative or not finite, naming the first one."""
    check_finite(values, name)
    bad = values < 0
    if bool(bad.any()):
        where = _first(bad)
        raise ValueError(
            f"{name} must not be negative, got {float(values[where])} at index {where}"
        )


def check_probabilities(values: Tensor, name: str, remedy: str = "") -> None:
    """Raise unless values are non-negative and sum to 1 over the channels.

    The tolerance of the sum is 1e-4, or twice the spacing of the dtype's numbers at 1 where that is
    more (0.002 in float16, 0.016 in bfloat16).
    """
    tolerance = max(1e-4, 2 * torch.finfo(values.dtype).eps)
    check_not_negative(values.detach(), name)
    sums = values.detach().to(working_dtype(values)).sum(1)
    bad = (sums - 1).abs() > tolerance
    if bool(bad.any()):
        where = _first(bad)
        single = values.detach().to(sums.dtype).sum(0)
        if bool(((single - 1).abs() <= tolerance).all()):
            remedy = "; they do over the first axis, which is that of images: of one give x[None]"
        raise ValueError(
            f"{name} must sum to 1 over its channels, got {float(sums[where]):.6g} "
            f"at pixel {where}{remedy}"
        )


def check_channels(output: Tensor, from_logits: bool) -> None:
    """Raise unless there are two channels or more: over one a softmax is 1 everywhere."""
    if output.shape[1] < 2:
        both = "torch.zeros_like(x), x" if from_logits else "1 - x, x"
        raise ValueError(
            "output must have two channels or more, since the probabilities of one are 1 "
            f"everywhere, got shape {tuple(output.shape)}: of the single channel x of two classes "
            f"give torch.cat(({both}), 1)"
        )


def warn_of_probabilities(output: Tensor) -> None:
    """Warn if logits are non-negative and sum to 1: a softmax over probabilities flattens them.

    Only where the first pixels look like it are all looked at.
    """
    values = output.detach().flatten(2)
    for part in (values[:1, :, :64], values):
        sums = part.to(working_dtype(part)).sum(1)
        if bool((part < 0).any()) or bool(((sums - 1).abs() > SUM_TOLERANCE).any()):
            return
    warnings.warn(
        "output is probabilities already, which a softmax flattens: say from_logits=False, or "
        "leave the network's own softmax out",
        DoubtfulInputWarning,
        stacklevel=4,
    )


def check_measure(measure: Any, shape: Sequence[int], read: bool, name: str = "measure") -> None:
    """Raise unless ``measure`` is a non-negative tensor of one weight a pixel.

    The first axis may be 1, for one measure of all images. Values are looked at where ``read``.
    """
    if not isinstance(measure, Tensor):
        raise TypeError(f"{name} must be a name or a tensor, got {measure!r}")
    if measure.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {measure.dtype}")
    expected = (tuple(shape), (1, *shape[1:]))
    if tuple(measure.shape) not in expected:
        raise ValueError(
            f"{name} must have shape {expected[0]} or {expected[1]}, got {tuple(measure.shape)}"
        )
    if read:
        check_not_negative(measure, name)


def warn_if_nothing_counts(counted: Tensor, what: str = "pixel") -> None:
    """Warn of images, or of a batch, in which nothing counts.

    ``counted`` is boolean, one value an image, or a single one for the batch as a whole.
    """
    if not bool(counted.all()):
        empty = [int(i) for i in torch.nonzero(~counted).flatten()]
        whose = "the batch" if counted.numel() == 1 else f"image(s) {empty}"
        warnings.warn(
            f"no {what} of {whose} counts (all are ignored or have measure 0): "
            "the loss is 0 there, with a gradient of zeros",
            UserWarning,
            stacklevel=3,
        )


def working_dtype(values: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 for float64, else float32."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def reduced(values: Tensor, counted: Tensor, reduction: str) -> Tensor:
    """Reduce values of images, (N,); the mean is over images in which something counts."""
    if reduction == "none":
        return values
    total = values.sum()
    return total if reduction == "sum" else total / counted.sum().clamp(min=1)


def _first(bad: Tensor) -> tuple[int, ...]:
    """Index of the first true element."""
    return tuple(int(i) for i in torch.nonzero(bad)[0])
