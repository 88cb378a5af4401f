"""The file of a trained network: a state dictionary with what one needs to know to use it.

``torch.load(..., weights_only=True)`` reads it: a dictionary of tensors, numbers, texts and lists.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from hiersearch import _validate
from hiersearch.choices import (
    ACTIVATIONS,
    TRAINED_READINGS,
    Activation,
    TrainedReading,
)
from hiersearch.partitions.checks import checked_offsets
from hiersearch.partitions.files import write_atomically
from hiersearch.partitions.output import reading_kind

MODEL_FORMAT = "hiersearch network"
CHECKPOINT_FORMAT = "hiersearch training checkpoint"
VERSION = 2
MOST_WIDTHS = 8
"""Resolutions of the small U-Net at most: with more, an image is padded to hundreds of pixels."""


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """What a trained network's file says besides its weights."""

    reading: TrainedReading
    """What its channels mean."""
    names: tuple[str, ...]
    """What each channel is called."""
    offsets: tuple[tuple[int, ...], ...] | None
    """Of affinities; the foreground comes before them."""
    widths: tuple[int, ...]
    """Feature channels of the small U-Net."""
    training: dict[str, Any]
    """How it was trained, for people to read; JSON types only."""

    @property
    def activation(self) -> Activation:
        """What makes probabilities of the network's output."""
        return "softmax" if reading_kind(self.reading).exclusive else "sigmoid"


def write_model(
    path: str | os.PathLike[str], header: ModelHeader, weights: Mapping[str, Any]
) -> None:
    """Write a trained network; the file appears whole or not at all.

    Parameters
    ----------
    path : path
        Where, with an ending that `load_network` knows: .pt or .pth.
    header : ModelHeader
        What the file says besides the weights.
    weights : mapping of str to Tensor
        State dictionary of a :class:`~hiersearch.networks.unet.SmallUNet`.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If the file cannot be written.
    """
    import torch

    content = {
        "format": MODEL_FORMAT,
        "version": VERSION,
        "reading": header.reading,
        "names": list(header.names),
        "offsets": None if header.offsets is None else [list(step) for step in header.offsets],
        "activation": header.activation,
        "widths": list(header.widths),
        "training": header.training,
        "state": dict(weights),
    }
    with write_atomically(path) as stream:
        torch.save(content, stream)


def parsed_header(content: Mapping[str, Any]) -> ModelHeader:
    """Check what the file of a trained network says about itself.

    Raises
    ------
    ValueError
        Saying what is wrong with it.
    """
    version = content.get("version")
    if version != VERSION:
        raise ValueError(f"its format has version {version}, and this package reads {VERSION}")
    try:
        reading = cast(
            TrainedReading,
            _validate.checked_choice(content["reading"], TRAINED_READINGS, "reading"),
        )
        names = tuple(str(name) for name in content["names"])
        given = content["offsets"]
        offsets = None if given is None else tuple(tuple(step) for step in given)
        widths = tuple(int(width) for width in content["widths"])
        training = dict(content["training"])
        _validate.checked_choice(content["activation"], ACTIVATIONS, "activation")
    except Exception as error:  # a crafted file may hold anything anywhere
        raise ValueError(f"it does not say what its channels are ({error})") from error
    header = ModelHeader(reading, names, offsets, widths, training)
    if content["activation"] != header.activation:
        raise ValueError(f"its {reading} come with the activation {content['activation']!r}")
    if (offsets is not None) != reading_kind(reading).between_pixels:
        raise ValueError(f"its {reading} come with the offsets {offsets}")
    if offsets is not None:
        # Grids differ from image to image; two axes are what is known of them.
        checked_offsets(offsets, len(names) - 1, (1, 1))
    return header
