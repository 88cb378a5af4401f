"""The partition metric's forms, as entries of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from benchmarks.losses.field import Loss

FORMS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ours-bare", "Ours, bare", {"anchor": 0.0}),
    ("ours-anchored", "Ours, anchored", {}),
    ("ours-root", "Ours, anchored, root", {"form": "root"}),
    ("ours-class-balanced", "Ours, anchored, class-balanced", {"measure": "class-balanced"}),
    ("ours-region-balanced", "Ours, anchored, region-balanced", {"measure": "region-balanced"}),
    ("ours-boundary", "Ours, anchored, boundary-weighted", {"measure": "boundary"}),
    ("ours-expected", "Ours, anchored, expected", {"form": "expected"}),
    ("ours-straight-through", "Ours, anchored, straight-through", {"straight_through": True}),
    (
        "ours-tempered",
        "Ours, anchored, tempered, by batch",
        {"measure": "tempered", "per": "batch"},
    ),
)
"""Name, title, and what differs from the defaults of ``PartitionMetricLoss`` (anchor 1)."""

WITH_CROSS_ENTROPY: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "ours-class-balanced-image-ce",
        "Ours, class-balanced, + cross-entropy",
        {"measure": "class-balanced"},
    ),
    (
        "ours-class-balanced-batch-ce",
        "Ours, class-balanced, by batch, + cross-entropy",
        {"measure": "class-balanced", "per": "batch"},
    ),
    (
        "ours-tempered-ce",
        "Ours, tempered, by batch, + cross-entropy",
        {"measure": "tempered", "per": "batch"},
    ),
)
"""The same for sums of the metric and cross-entropy, each with weight 1."""


def partition_metric(
    n_classes: int,
    class_frequencies: Sequence[float],
    settings: Mapping[str, Any],
    with_cross_entropy: bool = False,
) -> Loss:
    """Return ``PartitionMetricLoss`` with ``settings``, alone or plus cross-entropy."""
    from hiersearch.losses import PartitionMetricLoss

    metric = PartitionMetricLoss(**settings)

    def loss(logits: Tensor, target: Tensor, step_share: float) -> Tensor:
        value = metric(logits, target)
        return value + F.cross_entropy(logits, target) if with_cross_entropy else value

    return loss
