"""What a training reports on its way, and what comes out of it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hiersearch.networks.models import ModelHeader, write_model
from hiersearch.networks.network import Network
from hiersearch.networks.training.settings import TrainingSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, as reported after every step."""

    step: int
    """Steps made."""
    steps: int
    """Steps of the whole training."""
    loss: float
    """Mean loss of the last steps."""
    score: tuple[str, float] | None
    """Name and value of the last validation's deciding score."""


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """A finished training."""

    network: Network
    """Ready to be called with images, with the best weights."""
    settings: TrainingSettings
    """With everything filled in that was measured on the data."""
    weights: dict[str, torch.Tensor]
    """State dictionary at the step with the best validation; the last one without validation."""
    final_weights: dict[str, torch.Tensor]
    """State dictionary after the last step."""
    best_step: int
    """Step of ``weights``."""
    losses: tuple[float, ...]
    """One for each step."""
    scores: tuple[dict[str, float], ...]
    """Of each validation: its "step", and the scores; empty without validation."""
    trained_on: int
    """Number of images."""
    held_out: tuple[str, ...]
    """Names of the images for validation."""
    seconds: float
    """Time spent, interruptions not counted."""

    def summary(self) -> dict[str, Any]:
        """Return what happened in JSON types, a row for each validation."""
        best = next((row for row in self.scores if row["step"] == self.best_step), None)
        return {
            "settings": {**asdict(self.settings), "widths": list(self.settings.widths)},
            "channel_names": list(self.network.channels or ()),
            "offsets": [list(step) for step in self.network.offsets or ()] or None,
            "trained_on": self.trained_on,
            "held_out": list(self.held_out),
            "best_step": self.best_step,
            "best_scores": None if best is None else _finite(best),
            "curve": self.curve(),
            "seconds": round(self.seconds, 3),
        }

    def curve(self) -> list[dict[str, float | None]]:
        """Return the learning curve: step, mean loss since the row before, and scores."""
        every, steps = self.settings.every, len(self.losses)
        scores = {int(row["step"]): row for row in self.scores}
        rows = []
        for last in [*range(every, steps, every), steps]:
            first = (last - 1) // every * every
            mean = float(np.mean(self.losses[first:last]))
            rows.append(_finite({"step": last, "loss": mean} | scores.get(last, {})))
        return rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network with its best weights, for `load_network` and the command line.

        Raises
        ------
        ValueError
            If the name ends in neither .pt nor .pth.
        FileNotFoundError, IsADirectoryError, PermissionError
            If the file cannot be written.
        """
        checked_model_path(path)
        summary = self.summary()
        del summary["channel_names"], summary["offsets"]
        write_model(
            path,
            ModelHeader(
                self.settings.reading,
                self.network.channels or (),
                self.network.offsets,
                self.settings.widths,
                summary,
            ),
            self.weights,
        )


def checked_model_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a network to be written, if its ending is one that is loaded again."""
    file = Path(path)
    if file.suffix.lower() not in (".pt", ".pth"):
        raise ValueError(f"the network's file must end in .pt or .pth, got {file.name!r}")
    return file


def _finite(row: dict[str, float]) -> dict[str, float | None]:
    # JSON has no NaN: what is not defined is null.
    return {name: value if math.isfinite(value) else None for name, value in row.items()}
