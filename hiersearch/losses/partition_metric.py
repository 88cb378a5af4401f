"""The partition metric as a training loss, for networks whose channels are classes or regions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hiersearch._validate import checked_choice, checked_count
from hiersearch.losses._checks import (
    check_channels,
    check_finite,
    check_label_range,
    check_labels,
    check_measure,
    check_output,
    check_probabilities,
    check_settings,
    checked_weight,
    reduced,
    warn_if_nothing_counts,
    warn_of_probabilities,
    working_dtype,
)
from hiersearch.losses._overlaps import LabelOverlaps
from hiersearch.losses.measures import MEASURES, target_measure

FORMS = ("squared", "root", "expected")
"""What is taken of the difference of two partitions."""


def partition_metric_loss(
    output: Tensor,
    target: Tensor,
    *,
    anchor: float = 1.0,
    measure: str | Tensor | None = None,
    form: str = "squared",
    per: str = "image",
    n_regions: int | None = None,
    ignore_index: int | None = None,
    from_logits: bool = True,
    straight_through: bool = False,
    reduction: str = "mean",
    checks: bool = True,
) -> Tensor:
    r"""Distance between a network's output and a target, both as partitions with a measure.

    With P the output's probabilities and Y the target's (one-hot where it is hard), both
    pixels × channels, pixel measures μ and M their sum:

    - "squared": Σ_pq μ_p μ_q ((PPᵀ)_pq − (YYᵀ)_pq)² / M² + anchor · Σ_p μ_p ‖P_p − Y_p‖² / M;
    - "root": its square root, a Euclidean distance: a metric between soft partitions;
    - "expected": the package's own metric, :func:`hiersearch.distance`, which is
      Σ_pq μ_p μ_q |(PPᵀ)_pq − (YYᵀ)_pq| / M², + anchor · Σ_p μ_p ‖P_p − Y_p‖₁ / (2M).
      For hard targets only.

    Parameters
    ----------
    output : Tensor
        Floating, (N, k, \*grid), k ≥ 2, a grid of one to three axes: logits, or probabilities where
        ``from_logits`` is false. The first axis is always that of images: (k, H, W) would be k
        lines of H channels. Of a network's one logit x for two classes give
        ``torch.cat((torch.zeros_like(x), x), 1)``.
    target : Tensor
        Integer labels (N, \*grid), of any type but uint64, or soft probabilities (N, k', \*grid).
        No gradient flows to it. With ``anchor`` > 0 its channels are the output's (k' = k); with
        ``anchor`` = 0 its regions may have any names and any number.
    anchor : float
        c ≥ 0, the weight of the property term with the classes as properties. Without it nothing
        ties a channel to a class, and the gradient at the uniform output is zero.
    measure : str, Tensor or None
        None, 1 everywhere;
        "class-balanced", "region-balanced", "boundary" or "tempered", see
        :func:`hiersearch.losses.target_measure`; or non-negative weights, (N, \*grid) or
        (1, \*grid).
    form : {"squared", "root", "expected"}
        See above.
    per : {"image", "batch"}
        One value an image, with M its own, or one value for all pixels of the batch as one set.
    n_regions : int, optional
        With ``anchor`` = 0 and integer targets: their labels are within 0..n_regions − 1. The
        number of channels where omitted.
    ignore_index : int, optional
        Pixels with this label have measure 0. For integer targets.
    from_logits : bool
        Take a softmax over the channels, in float32 or float64, first.
    straight_through : bool
        Value of the one-hot arg-max of the output, with the gradient that the output would get if
        it had that value.
    reduction : {"mean", "sum", "none"}
        Over images; the mean leaves out images in which nothing counts. "none" gives (N,), or a
        scalar with ``per`` = "batch".
    checks : bool
        Look at values, too (labels in range, finite output, probabilities, a measure that is not
        zero everywhere), which on a GPU waits for it. Never done in a compiled loss.

    Returns
    -------
    Tensor
        Float64 for float64 outputs, else float32, whatever autocast says; at least 0.

    Raises
    ------
    TypeError
        If a dtype or a setting is of the wrong type; if the form or measure needs integer targets
        and the target is soft.
    ValueError
        If a shape does not fit, a label is out of range, the output is not finite (or is not
        probabilities where it should be), or a setting is none of those offered.

    Warns
    -----
    UserWarning
        If nothing counts in an image or the batch: its value is 0 and its gradient is zeros.
    DoubtfulInputWarning
        If what ``from_logits`` takes for logits are probabilities already.

    Notes
    -----
    O(n k (k + k')) time, for "expected" O(n k); O(n k) memory. All sums are taken with weights
    that sum to 1 and in the precision of the result, so nothing exceeds 1 + 2 · anchor and nothing
    overflows. In float32 values below about 1e-6 (of "root" 1e-3) are rounding. Logits of −inf are
    allowed as long as each pixel has a finite one.

    Examples
    --------
    >>> import torch
    >>> target = torch.tensor([[[0, 0, 1, 1]]])
    >>> right = 9.0 * torch.nn.functional.one_hot(target, 2).movedim(-1, 1)
    >>> float(partition_metric_loss(right, target)) < 1e-6
    True
    >>> partition_metric_loss(right.flip(1), target)
    tensor(1.9995)
    >>> float(partition_metric_loss(right.flip(1), target, anchor=0)) < 1e-6
    True
    """
    anchor = _checked_options(anchor, measure, form, per, ignore_index, reduction)
    regions = _checked_regions(output, target, anchor, form, n_regions, ignore_index)
    check_channels(output, from_logits)
    if not target.is_floating_point():
        target = target.long()
    grid = (len(output), *output.shape[2:])
    read = checks and not torch.compiler.is_compiling()
    if read:
        _check_values(output, target, regions, ignore_index, from_logits)
    if isinstance(measure, Tensor):
        check_measure(measure, grid, read)
    with torch.autocast(output.device.type, enabled=False):
        dtype = working_dtype(output)
        values, logits = output.flatten(2), from_logits
        if logits and (straight_through or target.is_floating_point()):
            values, logits = torch.softmax(values, 1, dtype=dtype), False
        if straight_through:
            values = _straight_through(values)
        weights = _weights(target, measure, grid, regions, per, ignore_index, dtype)
        shares, counted = _shares(weights, values, per)
        overlaps = _overlaps(values, target, shares, regions, form != "expected", logits)
        if per == "batch":
            overlaps = tuple(part.sum(0, keepdim=True) for part in overlaps)
        distances = _distances(overlaps, form, anchor)
    if read:
        # One look at the few results instead of at all of the output.
        if not bool(torch.isfinite(distances).all()):
            check_finite(output)
        warn_if_nothing_counts(counted)
    return distances[0] if per == "batch" else reduced(distances, counted, reduction)


class PartitionMetricLoss(nn.Module):
    """:func:`partition_metric_loss` with its settings kept.

    Parameters
    ----------
    anchor, measure, form, per, n_regions, ignore_index, from_logits, straight_through, reduction, \
checks
        As of :func:`partition_metric_loss`.

    Raises
    ------
    TypeError, ValueError
        If a setting is none of those offered; when called, as the function.

    Examples
    --------
    >>> import torch
    >>> loss = PartitionMetricLoss(measure="class-balanced", ignore_index=255)
    >>> output = torch.zeros(2, 3, 8, 8, requires_grad=True)
    >>> value = loss(output, torch.zeros(2, 8, 8, dtype=torch.uint8))
    >>> value.backward()
    >>> round(value.item(), 4)
    1.1111
    """

    def __init__(
        self,
        *,
        anchor: float = 1.0,
        measure: str | Tensor | None = None,
        form: str = "squared",
        per: str = "image",
        n_regions: int | None = None,
        ignore_index: int | None = None,
        from_logits: bool = True,
        straight_through: bool = False,
        reduction: str = "mean",
        checks: bool = True,
    ) -> None:
        super().__init__()
        _checked_options(anchor, measure, form, per, ignore_index, reduction)
        self.weights: Tensor | None
        self.kind = "given" if isinstance(measure, Tensor) else measure
        # A buffer moves with the module; it is no part of what was learned.
        self.register_buffer("weights", measure if isinstance(measure, Tensor) else None, False)
        self.settings: dict[str, Any] = {
            "anchor": anchor,
            "form": form,
            "per": per,
            "n_regions": n_regions,
            "ignore_index": ignore_index,
            "from_logits": from_logits,
            "straight_through": straight_through,
            "reduction": reduction,
            "checks": checks,
        }

    def forward(self, output: Tensor, target: Tensor, measure: Tensor | None = None) -> Tensor:
        """Return the loss; a measure given here replaces the chosen one."""
        kept = self.kind if self.weights is None else self.weights
        chosen = kept if measure is None else measure
        return partition_metric_loss(output, target, measure=chosen, **self.settings)

    def extra_repr(self) -> str:
        """Return the settings for the module's printed form."""
        settings = {"measure": self.kind, **self.settings}
        return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def _checked_options(
    anchor: float, measure: Any, form: str, per: str, ignore_index: int | None, reduction: str
) -> float:
    """Raise if a setting is none of those offered; return the anchor as a float."""
    checked_choice(form, FORMS, "form")
    check_settings(per, reduction, ignore_index)
    if isinstance(measure, str):
        checked_choice(measure, MEASURES, "measure")
    elif measure is not None and not isinstance(measure, Tensor):
        raise TypeError(f"measure must be a name, a tensor or None, got {measure!r}")
    return checked_weight(anchor, "anchor")


def _checked_regions(
    output: Any,
    target: Any,
    anchor: float,
    form: str,
    n_regions: int | None,
    ignore_index: int | None,
) -> int:
    """Return the target's number of regions if shapes, dtypes and settings go together."""
    check_output(output)
    channels, grid = output.shape[1], (len(output), *output.shape[2:])
    soft = isinstance(target, Tensor) and target.is_floating_point()
    if not soft:
        check_labels(target, grid, single=output.shape[1:])
        regions = channels if n_regions is None else checked_count(n_regions, "n_regions", 1)
        if anchor and regions != channels:
            raise ValueError(
                f"n_regions must be the number of channels, {channels}, or anchor 0, "
                f"got n_regions {regions} with anchor {anchor:g}"
            )
    else:
        if form == "expected":
            raise TypeError(
                "form 'expected' needs integer targets (between two soft partitions it is not "
                f"zero where they are equal); use 'squared' or 'root', got {target.dtype}"
            )
        if ignore_index is not None:
            raise TypeError(
                "ignore_index needs integer targets; for a soft target give a measure that is 0 "
                f"where pixels are to be ignored, got ignore_index {ignore_index}"
            )
        if n_regions is not None:
            raise TypeError(f"n_regions needs integer targets, got n_regions {n_regions}")
        check_output(target, "target")
        regions = target.shape[1]
        expected = (len(output), channels if anchor else regions, *output.shape[2:])
        if tuple(target.shape) != expected:
            raise ValueError(f"target must have shape {expected}, got {tuple(target.shape)}")
    if target.device != output.device:
        raise ValueError(
            f"target must be on the output's device, {output.device}, got {target.device}"
        )
    return regions


def _check_values(
    output: Tensor, target: Tensor, regions: int, ignore_index: int | None, from_logits: bool
) -> None:
    """Raise if labels or probabilities are out of range."""
    if target.is_floating_point():
        check_probabilities(target, "target")
    else:
        check_label_range(target, regions, ignore_index)
    if from_logits:
        warn_of_probabilities(output)
    else:
        check_probabilities(output, "output", "; logits need from_logits=True")


def _straight_through(values: Tensor) -> Tensor:
    """One-hot vectors of the largest values, with the gradient of the values."""
    best = values.detach().max(1, keepdim=True).indices
    hard = torch.zeros_like(values).scatter_(1, best, 1.0)
    # The difference is exactly zero, unless a value is NaN.
    return hard + (values - values.detach())


def _weights(
    target: Tensor,
    measure: str | Tensor | None,
    grid: tuple[int, ...],
    regions: int,
    per: str,
    ignore_index: int | None,
    dtype: torch.dtype,
) -> Tensor | None:
    """Measure of the pixels, (N, n), 0 where they are ignored; None where all count alike."""
    if isinstance(measure, Tensor):
        # Brought to at most 1 first: the dtype to compute in may hold less.
        weights = measure.detach()
        weights = (weights / weights.amax().clamp(min=torch.finfo(dtype).tiny)).to(dtype)
        if ignore_index is not None:
            weights = weights * (target != ignore_index)
        return weights.expand(grid).flatten(1)
    if measure is None and ignore_index is None:
        return None
    return target_measure(
        target, measure, regions, per=per, ignore_index=ignore_index, dtype=dtype, checks=False
    ).flatten(1)


def _shares(weights: Tensor | None, values: Tensor, per: str) -> tuple[Tensor | float, Tensor]:
    """Weights scaled to sum 1, a number where they are alike; and whether anything counts."""
    if weights is None:
        images, _, pixels = values.shape
        every = torch.ones(images, dtype=torch.bool, device=values.device)
        return 1 / (pixels * images if per == "batch" else pixels), every
    totals = weights.sum(1, keepdim=True)
    if per == "batch":
        totals = totals.sum(0, keepdim=True)
    counted = totals > 0
    return weights / torch.where(counted, totals, 1.0), counted.flatten()


def _overlaps(
    values: Tensor,
    target: Tensor,
    shares: Tensor | float,
    regions: int,
    with_own: bool,
    logits: bool,
) -> tuple[Tensor, ...]:
    """Overlaps of output and output, of output and target, and of target and target.

    (N, k, k), (N, k, k') and (N, k', k'); of the last only the diagonal, (N, k'), for labels.
    """
    dtype = working_dtype(values)
    weights, scale = (shares, 1.0) if isinstance(shares, Tensor) else (None, shares)
    if target.is_floating_point():
        soft, other = values.to(dtype), target.detach().flatten(2).to(dtype)
        left, right = (
            part if weights is None else part * weights[:, None] for part in (soft, other)
        )
        overlaps = left @ soft.mT, left @ other.mT, right @ other.mT
    else:
        labels = target.flatten(1)
        if weights is not None:
            # Ignored pixels go to any region: their share is 0.
            labels = torch.where(weights > 0, labels, 0)
        # First, since it refuses labels out of range, which nothing else does without checks.
        sizes = _sizes(labels, weights, regions).to(dtype)
        own, cross = LabelOverlaps.apply(  # type: ignore[no-untyped-call]
            values, labels, weights, regions, with_own, logits
        )
        overlaps = own, cross, sizes
    return overlaps if weights is not None else tuple(part * scale for part in overlaps)


def _sizes(labels: Tensor, weights: Tensor | None, regions: int) -> Tensor:
    """Measures of the regions of labels (N, n); exact, or in double precision: one by one."""
    if weights is None:
        each = labels.new_ones(1, 1).expand_as(labels)
    else:
        # Apple's devices have no double precision.
        each = weights if weights.device.type == "mps" else weights.double()
    return each.new_zeros(len(labels), regions).scatter_add_(1, labels, each)


def _distances(overlaps: tuple[Tensor, ...], form: str, anchor: float) -> Tensor:
    """Distances from overlaps, (N,)."""
    own, cross, theirs = overlaps
    both = cross.square().sum((1, 2))
    if form == "expected":
        values = cross.sum(2).square().sum(1) + theirs.square().sum(1) - 2 * both
    else:
        values = own.square().sum((1, 2)) + theirs.square().flatten(1).sum(1) - 2 * both
    if anchor:
        agreement = _trace(cross)
        total = theirs.sum(1) if theirs.dim() == 2 else _trace(theirs)
        if form == "expected":
            values = values + anchor * (total - agreement)
        else:
            values = values + anchor * (_trace(own) + total - 2 * agreement)
    values = values.clamp(min=0)  # Rounding goes below.
    if form != "root":
        return values
    # The root's slope is infinite at zero; the distance's own there is taken as zero.
    zero = values <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, values).sqrt())


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2).sum(1)
