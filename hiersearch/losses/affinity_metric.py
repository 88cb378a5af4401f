"""The metric restricted to pairs of pixels, for networks whose channels are affinities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hiersearch._validate import checked_choice
from hiersearch.losses._checks import (
    check_finite,
    check_label,
    check_labels,
    check_output,
    check_settings,
    checked_weight,
    reduced,
    warn_if_nothing_counts,
    working_dtype,
)
from hiersearch.losses.affinity_pairs import (
    Offsets,
    affinity_targets,
    pair_weights,
    pixel_shares,
)

FORMS = ("likelihood", "expected", "squared", "root")
"""What is taken of the disagreement of pairs."""


def affinity_metric_loss(
    output: Tensor,
    target: Tensor,
    offsets: Offsets,
    *,
    form: str = "likelihood",
    balance: float | None = None,
    offset_weights: Sequence[float] | None = None,
    anchor: float = 1.0,
    foreground: bool = False,
    background: int | None = None,
    background_pairs: bool = False,
    per: str = "batch",
    ignore_index: int | None = None,
    from_logits: bool = True,
    reduction: str = "mean",
    checks: bool = True,
) -> Tensor:
    r"""Distance between a network's affinities and a label map, on the pairs at given offsets.

    Channel d at pixel p is C, the co-membership of p and p + offsets[d]; A is 1 where the target
    gives both one label, else 0. With weights w of the pairs that sum to 1:

    - "likelihood": Σ w (−log(1 − |C − A|)), the cross-entropy of pairs: an upper bound of
      "expected" with the same minimum. No metric, and the one to train with: its gradient does not
      vanish where a pair is surely wrong;
    - "expected": Σ w |C − A|, the package's metric restricted to these pairs, equal to
      :func:`hiersearch.distance` of `SoftPartition.from_affinities` and the target;
    - "squared": Σ w (C − A)²;
    - "root": its square root, a Euclidean distance between the known co-memberships.

    Parameters
    ----------
    output : Tensor
        Floating, (N, d, \*grid), or (N, 1 + d, \*grid) with the foreground as the first channel:
        logits, or probabilities where ``from_logits`` is false. Values at pixels whose partner lies
        outside the grid don't count.
    target : Tensor
        Integer labels of regions, (N, \*grid): any integers of any type but uint64, only equality
        counts.
    offsets : sequence of d offsets
        Distinct steps to the partner, as in `SoftPartition.from_affinities`, each shorter than the
        grid along each axis. See `affinity_offsets`.
    form : {"likelihood", "expected", "squared", "root"}
        See above.
    balance : float, optional
        Share of the weight, within (0, 1), that all pairs of one region get together (the whole
        weight where there are no others, and the other way round). None takes pairs as they come.
    offset_weights : sequence of d numbers, optional
        Non-negative weight of a pair at each offset; 1 where omitted.
    anchor : float
        Weight ≥ 0 of the foreground's term.
    foreground : bool
        The first channel is the foreground (label other than ``background``): the class as a
        property. Its term is the same form, as mean over pixels; within the root in "root".
    background : int, optional
        Label that is no object.
    background_pairs : bool
        Whether pairs count whose ends are both background. Where they don't, affinities on the
        background are left open; search within the foreground.
    per : {"batch", "image"}
        Weights sum to 1 over the batch, for one value; or over each image.
    ignore_index : int, optional
        Pixels with this label, and pairs with an end in it, don't count.
    from_logits : bool
        Take a sigmoid first.
    reduction : {"mean", "sum", "none"}
        Over images; the mean leaves out images in which nothing counts. "none" gives (N,), or a
        scalar with ``per`` = "batch".
    checks : bool
        Look at values, too (finite output, probabilities within [0, 1]), which on a GPU waits for
        it. Nothing is checked in a compiled loss.

    Returns
    -------
    Tensor
        Float64 for float64 outputs, else float32, whatever autocast says; at least 0.

    Raises
    ------
    TypeError
        If a dtype or a setting is of the wrong type.
    ValueError
        If shapes, offsets or weights do not fit, a value is not finite or no probability, or a
        setting is none of those offered.

    Warns
    -----
    UserWarning
        If nothing counts in an image or the batch: its value is 0 and its gradient is zeros.

    Notes
    -----
    O(d · pixels) time and memory. With fixed weights (no ``balance``, ``ignore_index`` or
    background) "expected" and "root" are pseudo-metrics: partitions that agree on all pairs have
    distance 0. Otherwise the weights come from the target, and it is a distance to that target
    only. Balancing multiplies the odds of C by one factor, so that affinities no longer break even
    at ½: choose the ``break_even`` of `objects` on held-out images.

    Examples
    --------
    >>> target = torch.tensor([[[4, 4, 9, 9]]])
    >>> right = torch.tensor([[[[50.0, -50.0, 50.0, 0.0]]]])
    >>> float(affinity_metric_loss(right, target, [(0, 1)])) < 1e-6
    True
    >>> affinity_metric_loss(-right, target, [(0, 1)], form="expected")
    tensor(1.)
    """
    compiling = torch.compiler.is_compiling()
    read = checks and not compiling
    if not compiling:
        _check_settings(form, balance, anchor, foreground, background, per, reduction, ignore_index)
        _check_shapes(output, target, offsets, offset_weights, foreground)
    target = target.long()
    with torch.autocast(output.device.type, enabled=False):
        scores = output.to(working_dtype(output))
        if read and not from_logits:
            _check_probabilities(scores)
        same, known = affinity_targets(
            target,
            offsets,
            background=background,
            background_pairs=background_pairs,
            ignore_index=ignore_index,
        )
        weights, counted = pair_weights(same, known, offset_weights, balance, per, scores.dtype)
        pairs = _disagreement(scores[:, int(foreground) :], same, form, from_logits)
        values = (weights * pairs).flatten(1).sum(1)
        if foreground:
            valid = torch.ones_like(target, dtype=torch.bool)
            if ignore_index is not None:
                valid = target != ignore_index
            shares, some = pixel_shares(valid, per, scores.dtype)
            assert background is not None
            inside = target.ne(background)
            pixels = _disagreement(scores[:, 0], inside, form, from_logits)
            values = values + anchor * (shares * pixels).flatten(1).sum(1)
            counted = counted | some
        if per == "batch":
            values = values.sum(0, keepdim=True)
        if form == "root":
            # The root's slope is infinite at zero; the distance's own there is taken as zero.
            values = torch.where(values > 0, torch.where(values > 0, values, 1.0).sqrt(), 0.0)
    if read:
        # One look at the few results instead of at all of the output.
        if not bool(torch.isfinite(values).all()):
            check_finite(output)
        warn_if_nothing_counts(counted, "pair")
    return values[0] if per == "batch" else reduced(values, counted, reduction)


class AffinityMetricLoss(nn.Module):
    """:func:`affinity_metric_loss` with its offsets and settings kept.

    Parameters
    ----------
    offsets : sequence of d offsets
        As of :func:`affinity_metric_loss`.
    form, balance, offset_weights, anchor, foreground, background, background_pairs, per, \
ignore_index, from_logits, reduction, checks
        As of :func:`affinity_metric_loss`.

    Raises
    ------
    TypeError, ValueError
        If a setting is none of those offered; when called, as the function.

    Examples
    --------
    >>> from hiersearch.losses import affinity_offsets
    >>> loss = AffinityMetricLoss(affinity_offsets(6), foreground=True, background=0)
    >>> output = torch.zeros(2, 1 + len(loss.offsets), 16, 16, requires_grad=True)
    >>> value = loss(output, torch.arange(2 * 16 * 16).reshape(2, 16, 16) // 64)
    >>> value.backward()
    >>> round(value.item(), 4)
    1.3863
    """

    def __init__(
        self,
        offsets: Offsets,
        *,
        form: str = "likelihood",
        balance: float | None = None,
        offset_weights: Sequence[float] | None = None,
        anchor: float = 1.0,
        foreground: bool = False,
        background: int | None = None,
        background_pairs: bool = False,
        per: str = "batch",
        ignore_index: int | None = None,
        from_logits: bool = True,
        reduction: str = "mean",
        checks: bool = True,
    ) -> None:
        super().__init__()
        _check_settings(form, balance, anchor, foreground, background, per, reduction, ignore_index)
        self.offsets = [tuple(int(step) for step in offset) for offset in offsets]
        self.settings: dict[str, Any] = {
            "form": form,
            "balance": balance,
            "offset_weights": None if offset_weights is None else list(offset_weights),
            "anchor": anchor,
            "foreground": foreground,
            "background": background,
            "background_pairs": background_pairs,
            "per": per,
            "ignore_index": ignore_index,
            "from_logits": from_logits,
            "reduction": reduction,
            "checks": checks,
        }

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return affinity_metric_loss(output, target, self.offsets, **self.settings)

    def extra_repr(self) -> str:
        """Return the offsets and settings for the module's printed form."""
        settings = {"offsets": self.offsets, **self.settings}
        return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def _disagreement(scores: Tensor, same: Tensor, form: str, from_logits: bool) -> Tensor:
    """Return what each pair (or pixel) costs: |C − A|, its square, or −log(1 − |C − A|)."""
    if form == "likelihood":
        if from_logits:
            return -functional.logsigmoid(torch.where(same, scores, -scores))
        return functional.binary_cross_entropy(scores, same.to(scores.dtype), reduction="none")
    if from_logits:
        apart = torch.where(same, -scores, scores).sigmoid()
    else:
        apart = torch.where(same, 1 - scores, scores)
    return apart if form == "expected" else apart.square()


# --- checks ---------------------------------------------------------------------------------


def _check_settings(
    form: str,
    balance: float | None,
    anchor: float,
    foreground: bool,
    background: int | None,
    per: str,
    reduction: str,
    ignore_index: int | None,
) -> None:
    checked_choice(form, FORMS, "form")
    check_settings(per, reduction, ignore_index)
    checked_weight(anchor, "anchor")
    if balance is not None and not 0 < checked_weight(balance, "balance") < 1:
        raise ValueError(f"balance must be within (0, 1) or None, got {balance!r}")
    check_label(background, "background")
    if foreground and background is None:
        raise ValueError("foreground needs background, the label that is no object, got None")
    if background is not None and background == ignore_index:
        raise ValueError(f"background and ignore_index must differ, got {background} twice")


def _check_shapes(
    output: Tensor,
    target: Tensor,
    offsets: Offsets,
    offset_weights: Sequence[float] | None,
    foreground: bool,
) -> None:
    check_output(output)
    expected = len(offsets) + int(foreground)
    if output.shape[1] != expected:
        besides = " after that of the foreground" if foreground else ""
        raise ValueError(
            f"output must have {expected} channels, one for each of the {len(offsets)} "
            f"offsets{besides}, got shape {tuple(output.shape)}"
        )
    check_labels(target, (len(output), *output.shape[2:]), single=output.shape[1:])
    if target.device != output.device:
        raise ValueError(
            f"target must be on the output's device, {output.device}, got {target.device}"
        )
    if offset_weights is not None:
        numbers = [checked_weight(weight, "offset_weights") for weight in offset_weights]
        if len(numbers) != len(offsets) or not any(numbers):
            raise ValueError(
                f"offset_weights must be {len(offsets)} numbers, one for each offset, and not all "
                f"zero, got {numbers}"
            )


def _check_probabilities(values: Tensor) -> None:
    check_finite(values)
    low, high = float(values.detach().min()), float(values.detach().max())
    if low < 0 or high > 1:
        raise ValueError(
            f"output must be within [0, 1], got {low if low < 0 else high:g}; logits need "
            "from_logits=True"
        )
