"""Overlaps of the channels of an output with themselves and with the regions of a target.

All that the loss needs of n pixels are these small matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hiersearch.losses._checks import working_dtype
from hiersearch.losses._label_kernels import LANES, add_by_label, add_slopes

_FEW = 64
"""Regions up to which a product with one-hot vectors is quicker than adding pixel by pixel."""


class LabelOverlaps(torch.autograd.Function):
    """Overlaps of soft channels with each other and with hard regions, with a frugal gradient.

    ``apply(values, labels, weights, n_regions, with_own, logits)`` takes probabilities P, or their
    logits, (N, k, n), int64 labels (N, n) and weights (N, n), or None for 1 everywhere, and returns
    Σ_p w_p P_jp P_ip, (N, k, k), and Σ_{p in X_i} w_p P_jp, (N, k, n_regions). Where ``with_own``
    is false the first is zero and costs nothing. Only the values get a gradient; that of P is, for
    gradients A and B of the two, w_p ((A + Aᵀ) P_p + B[:, label of p]): one product and one
    look-up. P is kept, and on the way back one array of its size is made. O(n k²) time, O(n k)
    without the first, both on the CPU; elsewhere O(n k n_regions) for few regions.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        n_regions: int,
        with_own: bool,
        logits: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return both overlaps."""
        soft = _soft(values, logits)
        if _on_cpu(values):
            soft, labels = soft.contiguous(), labels.contiguous()
        ctx.save_for_backward(values, soft, labels, weights)
        ctx.with_own, ctx.logits = with_own, logits
        cross = _sum_by_label(soft, labels, weights, n_regions)
        if not with_own:
            return soft.new_zeros(len(soft), soft.shape[1], soft.shape[1]), cross
        weighted = soft if weights is None else soft * weights[:, None]
        return weighted @ soft.mT, cross

    @staticmethod
    def backward(ctx: Any, own: Tensor, cross: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the values."""
        values, soft, labels, weights = ctx.saved_tensors
        again = torch.is_grad_enabled()
        # The user may call backward where products are taken in half precision.
        with torch.autocast(values.device.type, enabled=False):
            both_ways = own + own.mT if ctx.with_own else None
            if again:
                # For second derivatives its way from the values must be known.
                soft = _soft(values, ctx.logits)
            if again or not _on_cpu(values):
                slopes = _slopes(soft, labels, weights, both_ways, cross, ctx.logits)
            else:
                slopes = torch.zeros_like(soft) if both_ways is None else both_ways @ soft
                shares = _shares(soft, labels, weights)
                arrays = (slopes, soft, cross.contiguous(), labels, shares)
                into, own_soft, added, names, weighted = (part.numpy() for part in arrays)
                add_slopes(into, own_soft, added, names, weighted, ctx.logits)
        return slopes.to(values.dtype), None, None, None, None, None


def _slopes(
    soft: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    both_ways: Tensor | None,
    cross: Tensor,
    logits: bool,
) -> Tensor:
    """Return the gradient of the values, by operations that have one themselves."""
    slopes = cross.gather(2, labels[:, None].expand(-1, soft.shape[1], -1))
    if both_ways is not None:
        slopes = slopes.baddbmm_(both_ways, soft)
    if weights is not None:
        slopes = slopes.mul_(weights[:, None])
    return (slopes - (soft * slopes).sum(1, keepdim=True)) * soft if logits else slopes


def _soft(values: Tensor, logits: bool) -> Tensor:
    """Return the probabilities in the precision to compute in."""
    dtype = working_dtype(values)
    return torch.softmax(values, 1, dtype=dtype) if logits else values.to(dtype)


def _shares(output: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weights for a compiled function: contiguous, and 1 where none are given."""
    return output.new_ones(labels.shape) if weights is None else weights.contiguous()


def _on_cpu(values: Tensor) -> bool:
    """Whether to go the way that is made for the CPU and runs op by op."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _sum_by_label(output: Tensor, labels: Tensor, weights: Tensor | None, n_regions: int) -> Tensor:
    """Return the sums of the pixels' weighted probabilities by label, (N, k, n_regions)."""
    images, channels, _ = output.shape
    if _on_cpu(output):
        # One by one, so in double precision.
        sums = output.new_zeros(images, channels, n_regions, LANES, dtype=torch.float64)
        arrays = (output, labels, _shares(output, labels, weights), sums)
        add_by_label(*(part.numpy() for part in arrays))
        return sums.sum(3).to(output.dtype)
    products = output if weights is None else output * weights[:, None]
    if n_regions <= _FEW:
        one_hot = output.new_zeros(images, n_regions, output.shape[2])
        return products @ one_hot.scatter_(1, labels[:, None], 1.0).mT
    sums = output.new_zeros(images, channels, n_regions)
    return sums.scatter_add_(2, labels[:, None].expand(-1, channels, -1), products)
