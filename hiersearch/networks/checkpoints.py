"""Where a training stands, in a file: enough to go on exactly as if it had never stopped.

No state of random numbers is kept, since there is none: crops are functions of seed and step.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hiersearch._errors import FileFormatError
from hiersearch.networks.models import CHECKPOINT_FORMAT, VERSION
from hiersearch.networks.settings import TrainingSettings
from hiersearch.partitions.files import write_atomically


@dataclass(slots=True, eq=False)
class Standing:
    """Where a training stands after some steps."""

    weights: dict[str, Any]
    """State dictionary of the network."""
    optimiser: dict[str, Any]
    """State dictionary of the optimiser."""
    losses: list[float] = field(default_factory=list)
    """One for each step that was made."""
    scores: list[dict[str, float]] = field(default_factory=list)
    """Of each validation: its "step", and the scores."""
    best_weights: dict[str, Any] | None = None
    """Weights at the best validation so far."""
    best_step: int = 0
    """Step of the best validation so far."""
    seconds: float = 0.0
    """Time spent so far."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What two trainings must share for one to go on where the other stopped."""

    settings: TrainingSettings
    """With everything filled in that was measured on the data."""
    offsets: tuple[tuple[int, ...], ...] | None
    """Of affinities."""
    images: int
    """How many there are, those held out included."""
    data: str
    """Digest of images and label maps."""

    def stored(self) -> dict[str, Any]:
        """Return it as plain values, settings among the rest."""
        offsets = None if self.offsets is None else [list(step) for step in self.offsets]
        settings = {**asdict(self.settings), "widths": list(self.settings.widths)}
        return {**settings, "offsets": offsets, "images": self.images, "data": self.data}


def write_checkpoint(path: str | os.PathLike[str], identity: Identity, standing: Standing) -> None:
    """Write where a training stands; the file appears whole or not at all."""
    import torch

    content = {
        "format": CHECKPOINT_FORMAT,
        "version": VERSION,
        "identity": identity.stored(),
        "standing": {name: getattr(standing, name) for name in Standing.__slots__},
    }
    with write_atomically(path) as stream:
        torch.save(content, stream)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Say whether a file is a checkpoint of a training, whichever."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # pickle, zip, EOF, Unicode and runtime errors alike
        return False
    return isinstance(content, Mapping) and content.get("format") == CHECKPOINT_FORMAT


def read_checkpoint(path: str | os.PathLike[str], identity: Identity) -> Standing:
    """Read where a training stood, if it is the one that is asked for.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is damaged or no checkpoint.
    ValueError
        If it is of another training; the message names the first difference.
    """
    import torch

    file = Path(path)
    with file.open("rb"):  # a missing or forbidden file says so itself
        pass
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, EOF, Unicode and runtime errors alike
        raise FileFormatError(f"cannot read {file} as a checkpoint: it is damaged.") from error
    if not isinstance(content, Mapping) or content.get("format") != CHECKPOINT_FORMAT:
        raise FileFormatError(f"cannot read {file} as a checkpoint: it is something else.")
    if content.get("version") != VERSION:
        raise FileFormatError(
            f"cannot read {file} as a checkpoint: its format has version "
            f"{content.get('version')}, and this package reads {VERSION}."
        )
    _check_same(file, content["identity"], identity.stored())
    return Standing(**content["standing"])


def _check_same(file: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for name, value in new.items():
        if old.get(name) != value:
            if name == "data":
                what = "other images or label maps"
            else:
                what = f"{name} {old.get(name)!r}, and not {value!r}"
            raise ValueError(
                f"checkpoint {file} must be of this training, but was made with {what}: "
                "start afresh, or write elsewhere"
            )
