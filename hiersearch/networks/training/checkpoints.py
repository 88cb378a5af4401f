"""Where a training stands, in a file: enough to go on exactly as if it had never stopped.

No state of random numbers is kept, since there is none: crops are functions of seed and step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiersearch.errors import FileFormatError
from hiersearch.networks.models import CHECKPOINT_FORMAT, VERSION
from hiersearch.networks.training.settings import TrainingSettings
from hiersearch.partitions.files import write_atomically
from hiersearch.partitions.torch_files import torch_content

if TYPE_CHECKING:
    from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter, beside the number of its steps."""


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
    try:
        content = torch_content(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and content.get("format") == CHECKPOINT_FORMAT


def read_checkpoint(
    path: str | os.PathLike[str], identity: Identity, module: nn.Module
) -> Standing:
    """Read where a training stood, if it is the one that is asked for.

    Parameters
    ----------
    path : path
        What `write_checkpoint` wrote.
    identity : Identity
        Of the training that is to go on.
    module : nn.Module
        Its network, for the shapes of weights; it stays as it is.

    Returns
    -------
    Standing
        Whose state of the optimiser lacks the settings ("param_groups"): they follow from those of
        the training.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is damaged, lacks something or is no checkpoint.
    ValueError
        If it is of another training; the message names the first difference.
    """
    file = Path(path)
    try:
        content = torch_content(file)
    except ValueError as error:
        raise _refused(file, str(error)) from error
    try:
        ours = isinstance(content, Mapping) and content.get("format") == CHECKPOINT_FORMAT
        if not ours:
            raise _refused(file, "it is something else")
        version = content.get("version")
        if version != VERSION:
            raise _refused(
                file, f"its format has version {version}, and this package reads {VERSION}"
            )
        old = content.get("identity")
        if not isinstance(old, Mapping):
            raise _refused(file, "it does not say which training it is of")
        difference = _difference(old, identity.stored())
        standing = None if difference else _standing(content.get("standing"), identity, module)
    except FileFormatError:
        raise
    except _Fault as error:
        raise _refused(file, str(error)) from error
    except Exception as error:  # a crafted file may hold anything anywhere
        raise _refused(file, "it holds something else than a checkpoint does") from error
    if standing is None:
        raise ValueError(
            f"checkpoint {file} must be of this training, but was made with {difference}: "
            "start afresh, or write elsewhere"
        )
    return standing


class _Fault(ValueError):
    """What is wrong with a checkpoint, as a reason."""


def _refused(file: Path, reason: str) -> FileFormatError:
    return FileFormatError(f"cannot read {file} as a checkpoint: {reason}.")


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return in which way two identities differ first, or None."""
    for name, value in new.items():
        if old.get(name) != value:
            if name == "data":
                return "other images or label maps"
            return f"{name} {old.get(name)!r}, and not {value!r}"
    return None


def _standing(values: Any, identity: Identity, module: nn.Module) -> Standing:
    """Check all that a training goes on with, so that it goes on or never starts."""
    if not isinstance(values, Mapping) or set(values) != set(Standing.__slots__):
        raise _Fault("it does not say where the training stood")
    at = Standing(**values)
    steps = identity.settings.steps
    numbers = [*at.losses, at.seconds, *(value for row in at.scores for value in row.values())]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise _Fault("its losses and scores must be numbers")
    if len(at.losses) > steps or not all(math.isfinite(loss) for loss in at.losses):
        raise _Fault(f"it must hold finite losses of at most {steps} steps")
    validated = [row["step"] for row in at.scores]
    if validated != sorted(set(validated)) or not all(0 < n <= len(at.losses) for n in validated):
        raise _Fault("its scores must be of steps that were made")
    if at.best_step not in (validated or [0]) or (at.best_weights is None) != (not validated):
        raise _Fault("its best weights must be those of a validation")
    _check_weights(at.weights, module)
    if at.best_weights is not None:
        _check_weights(at.best_weights, module)
    at.optimiser = {"state": _checked_moments(at.optimiser["state"], module, bool(at.losses))}
    return at


def _check_weights(weights: Any, module: nn.Module) -> None:
    expected = {name: (value.shape, value.dtype) for name, value in module.state_dict().items()}
    if {name: (value.shape, value.dtype) for name, value in weights.items()} != expected:
        raise _Fault("its weights are not those of this network")


def _checked_moments(state: Any, module: nn.Module, begun: bool) -> dict[int, Any]:
    """Return the optimiser's state of each parameter; there is none before the first step."""
    import torch

    parameters = list(module.parameters()) if begun else []
    if set(state) != set(range(len(parameters))):
        raise _Fault("its optimiser is not that of this network")
    for number, parameter in enumerate(parameters):
        own = state[number]
        shapes = {"step": torch.Size(()), **dict.fromkeys(MOMENTS, parameter.shape)}
        if {name: value.shape for name, value in own.items()} != shapes or not all(
            value.dtype == parameter.dtype for value in own.values()
        ):
            raise _Fault("its optimiser is not that of this network")
    return dict(state)
