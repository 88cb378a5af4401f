"""Losses with distance maps of the target that no kept library implements, from their papers.

The maps are computed from the targets at every call (SciPy, on the CPU), so that their cost counts:
O(N k H W). Every function takes logits (N, k, H, W) and targets (N, H, W) in 0..k-1.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor


def depths(target: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pixel's depth in its class, and the greatest depth of its class, both (N, H, W).

    The depth is the Euclidean distance to the nearest pixel of another class in the image: 1 along
    the boundary. Both are 0 where the image has a single class, and so no boundary.
    """
    labels = target.cpu().numpy()
    depth = np.zeros(labels.shape)
    deepest = np.zeros(labels.shape)
    for image, image_depth, image_deepest in zip(labels, depth, deepest, strict=True):
        present = np.unique(image)
        for label in present if present.size > 1 else ():
            inside = image == label
            distance = distance_transform_edt(inside)
            image_depth[inside] = distance[inside]
            image_deepest[inside] = distance.max()
    return torch.from_numpy(depth).to(target.device), torch.from_numpy(deepest).to(target.device)


def distance_map_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Distance-map-penalised cross-entropy (Caliva et al. 2019): mean of (1 + Φ) (-ln p_y).

    Φ is the inverted distance map of the pixel's own class, normalised class by class as the paper
    does bone by bone: 1 along the boundary, falling to 1/max depth at the deepest pixel; 0 where
    the image has no boundary.
    """
    depth, deepest = depths(target)
    penalty = torch.where(depth > 0, 1 - (depth - 1) / deepest.clamp_min(1), 0.0)
    surprise = F.cross_entropy(logits, target, reduction="none")
    return ((1 + penalty.to(logits.dtype)) * surprise).mean()


def region_wise(logits: Tensor, target: Tensor) -> Tensor:
    """Region-wise loss with rectified maps (Valverde and Tohka 2022): pixels' mean of Σ_k p_k z_k.

    z_k = -depth / max depth where the target is k, and 1 elsewhere; -1 where the image has a single
    class. The minimum is reached at p = y and is negative.
    """
    depth, deepest = depths(target)
    own = torch.where(depth > 0, -depth / deepest.clamp_min(1), -1.0).to(logits.dtype)
    maps = torch.ones_like(logits).scatter(1, target[:, None], own[:, None])
    return (logits.softmax(1) * maps).sum(1).mean()
