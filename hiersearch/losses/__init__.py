"""The metric as a training loss. Importing this package imports torch, an extra."""

from __future__ import annotations

from hiersearch.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingExtraError("torch", "torch", "A training loss") from error

from hiersearch.losses.affinity_metric import AffinityMetricLoss, affinity_metric_loss
from hiersearch.losses.affinity_pairs import affinity_offsets, affinity_targets
from hiersearch.losses.measures import target_measure
from hiersearch.losses.partition_metric import PartitionMetricLoss, partition_metric_loss

__all__ = [
    "AffinityMetricLoss",
    "PartitionMetricLoss",
    "affinity_metric_loss",
    "affinity_offsets",
    "affinity_targets",
    "partition_metric_loss",
    "target_measure",
]
