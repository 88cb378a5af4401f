"""The losses of a training by name; imports torch when one is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hiersearch.networks.channels import IGNORED
from hiersearch.networks.training.settings import TrainingSettings
from hiersearch.partitions.output import reading_kind

if TYPE_CHECKING:
    from torch import Tensor

Objective = Callable[["Tensor", "Tensor"], "Tensor"]
"""From logits (N, k, H, W) and int64 targets (N, H, W) to a scalar."""

BOUNDARY_WEIGHT = 2.0
"""Weight of boundary pixels in the cross-entropy; background and interior weigh 1."""

MEASURE = "tempered"
"""Measure of the partition metric: the best in the comparison of losses, see docs/losses.md."""


def objective(
    settings: TrainingSettings, offsets: tuple[tuple[int, ...], ...] | None = None
) -> Objective:
    """Return the loss that the settings name.

    Pixels with the target ``IGNORED`` don't count; where none is left, the loss is 0.

    Parameters
    ----------
    settings : TrainingSettings
        Its ``loss`` and ``reading`` decide.
    offsets : tuple of offsets, optional
        Of affinities.
    """
    match settings.loss:
        case "cross-entropy":
            return _cross_entropy(settings)
        case "partition-metric":
            return _partition_metric()
        case "partition-metric+cross-entropy":
            metric, likelihood = _partition_metric(), _cross_entropy(settings)
            return lambda output, target: metric(output, target) + likelihood(output, target)
        case _:
            from hiersearch.losses import AffinityMetricLoss

            return AffinityMetricLoss(
                offsets or (), foreground=True, background=0, ignore_index=IGNORED, checks=False
            )


def _partition_metric() -> Objective:
    from hiersearch.losses import PartitionMetricLoss

    # Labels were checked when they were read, and the training names a loss that is not finite.
    return PartitionMetricLoss(measure=MEASURE, per="batch", ignore_index=IGNORED, checks=False)


def _cross_entropy(settings: TrainingSettings) -> Objective:
    import torch
    from torch.nn import functional

    instances = reading_kind(settings.reading).of_objects
    of_classes = torch.tensor([1.0, 1.0, BOUNDARY_WEIGHT]) if instances else None

    def loss(output: Tensor, target: Tensor) -> Tensor:
        kept = target != IGNORED
        weights = kept.to(output.dtype)
        if of_classes is not None:
            weights = weights * of_classes[target.clamp(min=0)]
        losses = functional.cross_entropy(output, target, ignore_index=IGNORED, reduction="none")
        # Not the mean that torch offers, which is NaN where no pixel counts.
        return (weights * losses).sum() / weights.sum().clamp(min=1.0)

    return loss
