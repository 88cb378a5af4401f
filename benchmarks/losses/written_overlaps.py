"""Losses built on overlaps that no kept library implements, written from their papers.

The choices of :mod:`benchmarks.losses.field` hold here, too: all classes count, overlaps are summed
over the batch, sizes are sums of probabilities, the value is the mean over classes. Every function
takes logits (N, k, H, W) and targets (N, H, W) in 0..k-1 and costs O(N k H W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.losses.field import SMOOTH

STEEPEST = 1e-6
"""Smallest base of a power below 1: such powers have an infinite slope at 0, where p = y."""


def probabilities_and_truth(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the softmax and the one-hot target, both (k, N, H, W), so that sums are per class."""
    truth = F.one_hot(target, logits.shape[1]).permute(3, 0, 1, 2).to(logits.dtype)
    return logits.softmax(1).transpose(0, 1), truth


def overlaps(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ p·y, Σ p and Σ y for every class, each (k,)."""
    probability, truth = probabilities_and_truth(logits, target)
    dims = (1, 2, 3)
    return (probability * truth).sum(dims), probability.sum(dims), truth.sum(dims)


def log_cosh_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Log-cosh Dice loss (Jadon 2020): log cosh(1 - mean over classes of 2 Σ p·y / (Σ p + Σ y))."""
    both, predicted, true = overlaps(logits, target)
    dice = (2 * both + SMOOTH) / (predicted + true + SMOOTH)
    return (1 - dice).mean().cosh().log()


def focal_tversky(
    logits: Tensor,
    target: Tensor,
    misses: float = 0.7,
    false_alarms: float = 0.3,
    gamma: float = 4 / 3,
) -> Tensor:
    """Focal Tversky loss (Abraham and Khan 2018): mean over classes of (1 - TI)^(1/γ).

    TI = Σ p·y / (Σ p·y + α Σ (1-p)·y + β Σ p·(1-y)), α = 0.7 on misses, β = 0.3 on false alarms,
    γ = 4/3.
    """
    both, predicted, true = overlaps(logits, target)
    errors = misses * (true - both) + false_alarms * (predicted - both)
    return (errors / (both + errors + SMOOTH)).clamp_min(STEEPEST).pow(1 / gamma).mean()


def sensitivity_specificity(logits: Tensor, target: Tensor, ratio: float = 0.05) -> Tensor:
    """Sensitivity–specificity error (Brosch et al. 2015), each class against the rest.

    r Σ (y-p)² y / Σ y + (1-r) Σ (y-p)² (1-y) / Σ (1-y), mean over classes, r = 0.05: the first term
    is the error within the class, the second outside. A term over no pixels is 0.
    """
    probability, truth = probabilities_and_truth(logits, target)
    squared = (truth - probability).square()
    dims = (1, 2, 3)
    size = truth.sum(dims)
    inside = (squared * truth).sum(dims) / size.clamp_min(1)
    outside = (squared * (1 - truth)).sum(dims) / (target.numel() - size).clamp_min(1)
    return (ratio * inside + (1 - ratio) * outside).mean()


def boundary_share(truth: Tensor) -> Tensor:
    """Return C/S of one-hot (k, N, H, W): the share of each class's pixels on its boundary.

    A pixel is on the boundary if one of its four neighbours is of another class or off the image;
    a class without pixels has share 1.
    """
    padded = F.pad(truth, (1, 1, 1, 1))
    interior = truth.clone()
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        height, width = truth.shape[-2:]
        interior = interior * padded[..., rows : rows + height, columns : columns + width]
    dims = (1, 2, 3)
    return 1 - interior.sum(dims) / truth.sum(dims).clamp_min(1)


def boundary_difference_over_union(
    logits: Tensor, target: Tensor, most_alpha: float = 0.8
) -> Tensor:
    """Boundary difference over union (Sun et al. 2023), mean over classes.

    (|G∪P| - |G∩P|) / (|G∪P| - α |G∩P|) with α = 1 - 2 C/S kept within [0, 0.8] (the paper's range,
    and its authors' cap): C counts the class's boundary pixels, S its pixels, so that α, and with
    it the weight of the boundary, grows with the class's size.
    """
    _, truth = probabilities_and_truth(logits, target)
    alpha = (1 - 2 * boundary_share(truth)).clamp(0, most_alpha)
    both, predicted, true = overlaps(logits, target)
    union = predicted + true - both
    return ((union - both) / (union - alpha * both + SMOOTH)).mean()


def exponential_logarithmic(
    logits: Tensor,
    target: Tensor,
    class_frequencies: Sequence[float],
    gamma: float = 0.3,
    dice_weight: float = 0.8,
) -> Tensor:
    """Exponential logarithmic loss (Wong et al. 2018).

    0.8 · mean over classes of (-ln D)^γ + 0.2 · mean over pixels of w_y (-ln p_y)^γ, γ = 0.3, with
    D = (2 Σ p·y + 1) / (Σ p + Σ y + 1) and w_l = (Σ f / f_l)^½ from the classes' frequencies f in
    the training set. The frequency of a class that training never shows counts as 1e-3.
    """
    both, predicted, true = overlaps(logits, target)
    dice = (2 * both + 1) / (predicted + true + 1)
    frequencies = torch.tensor(class_frequencies, dtype=logits.dtype, device=logits.device)
    weights = (frequencies.sum() / frequencies.clamp_min(1e-3)).sqrt()
    surprise = F.cross_entropy(logits, target, reduction="none")
    dice_term = (-dice.log()).clamp_min(STEEPEST).pow(gamma).mean()
    cross_term = (weights[target] * surprise.clamp_min(STEEPEST).pow(gamma)).mean()
    return dice_weight * dice_term + (1 - dice_weight) * cross_term
