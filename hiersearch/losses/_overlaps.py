"""Overlaps of the channels of an output with themselves and with the regions of a target.

All that the loss needs of n pixels are these small matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hiersearch.losses._label_kernels import LANES, add_by_label

_FEW = 64
"""Regions up to which a product with one-hot vectors is quicker than adding pixel by pixel."""


class LabelOverlaps(torch.autograd.Function):
    """Overlaps of soft channels with each other and with hard regions, with a frugal gradient.

    ``apply(output, labels, weights, n_regions, with_own)`` takes probabilities (N, k, n), int64
    labels (N, n) and weights (N, n), or None for 1 everywhere, and returns Σ_p w_p P_jp P_ip,
    (N, k, k), and Σ_{p in X_i} w_p P_jp, (N, k, n_regions). Where ``with_own`` is false the first
    is zero and costs nothing. Only the output gets a gradient, for gradients A and B of the two
    w_p ((A + Aᵀ) P_p + B[:, label of p]): one product and one look-up, in one array. O(n k²) time,
    O(n k) without the first, both on the CPU; elsewhere O(n k n_regions) for few regions.
    """

    @staticmethod
    def forward(
        ctx: Any,
        output: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        n_regions: int,
        with_own: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return both overlaps."""
        ctx.save_for_backward(output, labels, weights)
        ctx.with_own = with_own
        cross = _sum_by_label(output, labels, weights, n_regions)
        if not with_own:
            return output.new_zeros(len(output), output.shape[1], output.shape[1]), cross
        weighted = output if weights is None else output * weights[:, None]
        return weighted @ output.mT, cross

    @staticmethod
    def backward(ctx: Any, own: Tensor, cross: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the output."""
        output, labels, weights = ctx.saved_tensors
        slope = cross.gather(2, labels[:, None].expand(-1, output.shape[1], -1))
        if ctx.with_own:
            slope = slope.baddbmm_(own + own.mT, output)
        if weights is not None:
            slope = slope.mul_(weights[:, None])
        return slope, None, None, None, None


def _sum_by_label(output: Tensor, labels: Tensor, weights: Tensor | None, n_regions: int) -> Tensor:
    """Return the sums of the pixels' weighted probabilities by label, (N, k, n_regions)."""
    images, channels, _ = output.shape
    if output.device.type == "cpu" and not torch.compiler.is_compiling():
        # One by one, so in double precision.
        sums = output.new_zeros(images, channels, n_regions, LANES, dtype=torch.float64)
        shares = output.new_ones(labels.shape) if weights is None else weights
        values, names, weighted = (p.contiguous().numpy() for p in (output, labels, shares))
        add_by_label(values, names, weighted, sums.numpy())
        return sums.sum(3).to(output.dtype)
    products = output if weights is None else output * weights[:, None]
    if n_regions <= _FEW:
        one_hot = output.new_zeros(images, n_regions, output.shape[2])
        return products @ one_hot.scatter_(1, labels[:, None], 1.0).mT
    sums = output.new_zeros(images, channels, n_regions)
    return sums.scatter_add_(2, labels[:, None].expand(-1, channels, -1), products)
