"""The T-loss and the region mutual information loss, written from their papers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TLoss(nn.Module):
    """T-loss (Gonzalez-Jimenez et al. 2023): the negative log-likelihood of Student's t per image.

    The errors δ of an image, of all its D = k·H·W softmax values against the one-hot target, are
    one sample of a D-variate t distribution with unit scale and ν degrees of freedom:
    -ln Γ((ν+D)/2) + ln Γ(ν/2) + D/2 ln(πν) + (ν+D)/2 ln(1 + Σ δ²/ν), mean over images. ν is a
    parameter to train with the network, as exp of a free number plus 1e-8; it starts at 1. The
    value is divided by D, a constant, to be of the other losses' size; it may be negative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_nu = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor, target: Tensor, step_share: float = 0.0) -> Tensor:
        """Return the loss of logits (N, k, H, W) against targets (N, H, W); O(N k H W)."""
        truth = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
        squared = (logits.softmax(1) - truth).square().sum((1, 2, 3))
        size = truth[0].numel()
        # lgamma of thousands minus lgamma of thousands: in float32 little would be left.
        nu = self.log_nu.double().exp() + 1e-8
        constant = nu.div(2).lgamma() - nu.add(size).div(2).lgamma()
        constant = constant + size / 2 * (math.pi * nu).log()
        loss = constant + (nu + size) / 2 * (squared.double() / nu).log1p()
        return (loss.mean() / size).to(logits.dtype)


def conditional_log_determinants(
    truth: Tensor, probability: Tensor, side: int, ridge: float = 1e-6
) -> Tensor:
    """Return ½ ln det(M + ridge·I) / d for maps (..., H, W), of shape (...).

    Each pixel stands for the d = side² values of its neighbourhood, of the truth (Y) and of the
    probability (P); M = Σ_Y - Cov(Y, P) (Σ_P + ridge·I)⁻¹ Cov(Y, P)ᵀ is the covariance of Y given
    P if both are normal, so that -½ ln det M bounds their mutual information from below, up to a
    constant of the truth.
    """
    points = [
        values.unfold(-2, side, 1).unfold(-2, side, 1).flatten(-2).flatten(-3, -2)
        for values in (truth, probability)
    ]
    centred_truth, centred = [values - values.mean(-2, keepdim=True) for values in points]
    n_points, dimension = centred.shape[-2:]
    identity = torch.eye(dimension, dtype=centred.dtype, device=centred.device)
    covariance = centred_truth.mT @ centred_truth / n_points
    cross = centred_truth.mT @ centred / n_points
    inner = centred.mT @ centred / n_points + ridge * identity
    given = covariance - cross @ torch.linalg.solve(inner, cross.mT)
    return torch.linalg.slogdet(given + ridge * identity).logabsdet / (2 * dimension)


def region_mutual_information(
    logits: Tensor, target: Tensor, share: float = 0.9, side: int = 3, pooling: int = 3
) -> Tensor:
    """Region mutual information loss (Zhao et al. 2019).

    share · cross-entropy + (1 - share) · Σ over classes of the mean over images of
    ½ ln det(M) / d, with neighbourhoods of 3×3 after average pooling by 3, in double precision. May
    be negative. O(N k H W d).

    The second term alone does not know p from 1 - p. The paper's share of ½ suits the pretrained
    networks that it trains; from random weights the second term then wins and training stalls (on
    the shapes, no foreground after 500 steps at ½; at 0.9 it learns), hence 0.9.
    """
    truth = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).double()
    pooled_truth = F.avg_pool2d(truth, pooling)
    pooled = F.avg_pool2d(logits.softmax(1).double(), pooling)
    regions = conditional_log_determinants(pooled_truth, pooled, side).mean(0).sum()
    return share * F.cross_entropy(logits, target) + (1 - share) * regions.to(logits.dtype)
