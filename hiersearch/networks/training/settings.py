"""What a training depends on, besides the data; no torch is needed to say it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hiersearch import _validate
from hiersearch.choices import TRAINED_READINGS, TrainedReading, TrainingLoss
from hiersearch.networks.models import MOST_WIDTHS
from hiersearch.partitions.output import reading_kind

LOSSES: dict[TrainedReading, tuple[TrainingLoss, ...]] = {
    "objects": (
        "cross-entropy",
        "partition-metric",
        "partition-metric+cross-entropy",
    ),
    "classes": ("cross-entropy", "partition-metric", "partition-metric+cross-entropy"),
    "affinities": ("affinity-metric",),
}
"""The losses that train for each reading."""

DEFAULT_LOSSES: dict[TrainedReading, TrainingLoss] = {
    "objects": "cross-entropy",
    "classes": "partition-metric+cross-entropy",
    "affinities": "affinity-metric",
}
"""The loss that is taken where none is given, chosen by the benchmarks."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What a training depends on, besides the data.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, or does not go with the others.

    Examples
    --------
    >>> TrainingSettings(reading="affinities").loss
    'affinity-metric'
    """

    reading: TrainedReading = "objects"
    """What the network's channels are to mean."""
    loss: str = ""
    """One of ``LOSSES``; the reading's own in ``DEFAULT_LOSSES`` where empty."""
    classes: int | None = None
    """Number of classes; the largest label plus one where None. For reading "classes" only."""
    ignore: int | None = None
    """Label whose pixels don't count."""
    size: float | None = None
    """Diameter of objects in pixels; measured where None. For reading "affinities" only."""
    widths: tuple[int, ...] = (16, 32, 64, 96)
    """Feature channels of the small U-Net at each resolution, finest first."""
    steps: int = 1000
    """Gradient steps."""
    batch: int = 8
    """Crops a step."""
    crop: int = 128
    """Side of the crops in pixels."""
    rate: float = 4e-3
    """Peak of the one-cycle learning rate."""
    weight_decay: float = 1e-2
    """Of AdamW."""
    seed: int = 0
    """Decides first weights, held-out images and crops."""
    validation: float = 0.1
    """Share of the images that is held out for validation; 0 for none."""
    every: int = 100
    """Steps between two validations, and between two checkpoints."""
    turns: bool = True
    """Turn crops by quarters; without, they are only mirrored left to right."""

    def __post_init__(self) -> None:
        """Check the settings, and fill in the loss."""
        _validate.checked_choice(self.reading, TRAINED_READINGS, "reading")
        if not self.loss:
            object.__setattr__(self, "loss", DEFAULT_LOSSES[self.reading])
        if self.loss not in LOSSES[self.reading]:
            raise ValueError(
                f"loss for reading {self.reading!r} must be one of "
                f"{', '.join(LOSSES[self.reading])}, got {self.loss!r}"
            )
        kind = reading_kind(self.reading)
        for name, of, fits in (
            ("classes", "classes", kind.of_classes),
            ("size", "affinities", kind.between_pixels),
        ):
            value = getattr(self, name)
            if value is not None and not fits:
                raise ValueError(f"{name} is for reading {of!r} only, got {value}")
        if self.classes is not None:
            _validate.checked_count(self.classes, "classes", 2)
        for name, low in (("steps", 1), ("batch", 1), ("crop", 8), ("seed", 0), ("every", 1)):
            _validate.checked_count(getattr(self, name), name, low)
        if not 1 <= len(self.widths) <= MOST_WIDTHS:
            raise ValueError(
                f"widths must hold one to {MOST_WIDTHS} widths, got {len(self.widths) or 'none'}"
            )
        for width in self.widths:
            _validate.checked_count(width, "widths", 1)
        for name in ("rate", "size"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be a share within [0, 1), got {self.validation}")
