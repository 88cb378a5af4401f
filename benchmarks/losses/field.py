"""Losses that kept libraries implement: torch, MONAI and kornia, with the choices made for each.

The same choices hold for everything built on overlaps, here and in
:mod:`benchmarks.losses.written_overlaps`: all
classes count, the background too; overlaps are summed over the batch, as if it were one image, so
that a class missing from one image is no failure there (libraries without such an option get the
batch laid out as one image); sizes are sums of probabilities, not of their squares; numerator and
denominator are smoothed by 1e-5; the value is the mean over classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, float], Tensor]
"""Logits (N, k, H, W) float, target (N, H, W) int64 in 0..k-1, share of training done -> scalar."""

SMOOTH = 1e-5
"""Added to numerator and denominator of every overlap."""

OVERLAP: dict[str, Any] = {
    "include_background": True,
    "to_onehot_y": True,
    "softmax": True,
    "batch": True,
    "smooth_nr": SMOOTH,
    "smooth_dr": SMOOTH,
}
"""Settings of MONAI's losses that are built on overlaps."""


def as_one_image(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch (N, k, H, W), (N, H, W) as one image (1, k, N·H, W), (1, N·H, W)."""
    batch, classes, height, width = logits.shape
    return (
        logits.transpose(0, 1).reshape(1, classes, batch * height, width),
        target.reshape(1, batch * height, width),
    )


def with_channel(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return a MONAI loss as one of the comparison: targets gain a channel, progress is dropped."""
    return lambda logits, target, step_share: loss(logits, target[:, None])


def cross_entropy(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Cross-entropy, mean over pixels."""
    return lambda logits, target, step_share: F.cross_entropy(logits, target)


def top_k_cross_entropy(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Cross-entropy of the tenth of the batch's pixels where it is largest (Wu et al. 2016)."""

    def loss(logits: Tensor, target: Tensor, step_share: float) -> Tensor:
        surprise = F.cross_entropy(logits, target, reduction="none").flatten()
        return surprise.topk(max(1, surprise.numel() // 10)).values.mean()

    return loss


def focal(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Focal loss (1-p)² · cross-entropy, softmax form, no class weights (Lin et al. 2017)."""
    from monai.losses import FocalLoss

    return with_channel(FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0))


def dice(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Dice loss 1 - 2 Σ p·y / (Σ p + Σ y) (Milletari et al. 2016)."""
    from monai.losses import DiceLoss

    return with_channel(DiceLoss(**OVERLAP))


def dice_ce(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Dice loss plus cross-entropy, both with weight 1 (Isensee et al. 2018)."""
    from monai.losses import DiceCELoss

    return with_channel(DiceCELoss(**OVERLAP))


def intersection_over_union(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Soft Jaccard loss 1 - Σ p·y / (Σ p + Σ y - Σ p·y) (Rahman and Wang 2016)."""
    from monai.losses import DiceLoss

    return with_channel(DiceLoss(**OVERLAP, jaccard=True))


def generalised_dice(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Generalised Dice loss: classes weighted by 1/size² in one quotient (Sudre et al. 2017)."""
    from monai.losses import GeneralizedDiceLoss

    return with_channel(GeneralizedDiceLoss(**OVERLAP))


def tversky(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Tversky loss with 0.3 on false alarms and 0.7 on misses (Salehi et al. 2017)."""
    from monai.losses import TverskyLoss

    return with_channel(TverskyLoss(**OVERLAP, alpha=0.3, beta=0.7))


def wasserstein_dice(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Generalised Wasserstein Dice loss (Fidon et al. 2017).

    Class 0, the background, is at distance 1 from the others, which are at ½ from one another, in
    the manner of the paper's nested classes.
    """
    from monai.losses import GeneralizedWassersteinDiceLoss

    distances = torch.full((n_classes, n_classes), 0.5)
    distances[0, :] = distances[:, 0] = 1.0
    distances.fill_diagonal_(0.0)
    loss = GeneralizedWassersteinDiceLoss(distances, smooth_nr=SMOOTH, smooth_dr=SMOOTH)
    return lambda logits, target, step_share: loss(*as_one_image(logits, target))


def lovasz(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Lovász-softmax loss (Berman et al. 2018), on the batch as one image, over all classes."""
    from kornia.losses import lovasz_softmax_loss

    return lambda logits, target, step_share: lovasz_softmax_loss(*as_one_image(logits, target))


def boundary(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Boundary loss (Kervadec et al. 2019) as its authors train it, beside generalised Dice.

    (1-α) · generalised Dice + α · boundary, where α rises with training from 0.01 to 0.99. The
    boundary term is the mean of p times the signed distance to the class's boundary.
    """
    from monai.losses import BoundaryLoss

    region = generalised_dice(n_classes, class_frequencies)
    surface = with_channel(BoundaryLoss(to_onehot_y=True, softmax=True))

    def loss(logits: Tensor, target: Tensor, step_share: float) -> Tensor:
        alpha = 0.01 + 0.98 * step_share
        region_value = region(logits, target, step_share)
        return (1 - alpha) * region_value + alpha * surface(logits, target, step_share)

    return loss


def hausdorff(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Hausdorff loss by distance transforms (Karimi and Salcudean 2019), in equal parts with Dice.

    The authors weigh the two terms so that they are equal, by the means of each epoch; here, where
    training has few epochs, step by step.
    """
    from monai.losses import HausdorffDTLoss

    region = dice(n_classes, class_frequencies)
    surface = with_channel(HausdorffDTLoss(include_background=True, to_onehot_y=True, softmax=True))

    def loss(logits: Tensor, target: Tensor, step_share: float) -> Tensor:
        distance = surface(logits, target, step_share)
        overlap = region(logits, target, step_share)
        weight = distance.detach() / overlap.detach().clamp_min(SMOOTH)
        return distance + weight * overlap

    return loss


def unified_focal(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    """Asymmetric unified focal loss (Yeung et al. 2022), with MONAI's weights.

    MONAI's is for two classes and expects probabilities (its documentation says logits): every
    foreground class is taken against the rest, on the batch as one image, and the mean is returned.
    """
    from monai.losses import AsymmetricUnifiedFocalLoss

    binary = AsymmetricUnifiedFocalLoss()

    def loss(logits: Tensor, target: Tensor, step_share: float) -> Tensor:
        logits, target = as_one_image(logits, target)
        probability = logits.softmax(1)
        values = []
        for label in range(1, n_classes):
            inside = probability[:, label]
            truth = (target == label).to(logits.dtype)
            values.append(
                binary(torch.stack([1 - inside, inside], 1), torch.stack([1 - truth, truth], 1))
            )
        return torch.stack(values).mean()

    return loss
