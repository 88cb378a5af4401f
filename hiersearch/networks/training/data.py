"""What a training is given: checked images and label maps, some of them held out."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.errors import DoubtfulInputWarning
from hiersearch.networks.channels import IGNORED, object_size
from hiersearch.networks.training.checkpoints import Identity
from hiersearch.networks.training.crops import Sample
from hiersearch.networks.training.settings import TrainingSettings
from hiersearch.partitions.output import reading_kind

Labels = NDArray[np.int32]

MOST_CLASSES = 256
"""More classes than this are taken for instances by mistake, unless their number is given."""

VOID = 255
"""What marks pixels that don't count in most class maps of 8 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Checked images and label maps, divided into those trained on and those held out."""

    samples: list[Sample]
    """What is trained on."""
    held_out: list[int]
    """Places of the images for validation, in random order."""
    names: list[str]
    """What messages call the images."""
    images: list[NDArray[Any]]
    """All of them, as given."""
    labels: list[Labels]
    """All label maps, with ``IGNORED`` where pixels don't count."""
    identity: Identity
    """Settings with what was measured on the label maps, and a digest of the data."""

    @staticmethod
    def of(
        images: Sequence[ArrayLike],
        label_maps: Sequence[ArrayLike],
        names: Sequence[str] | None,
        settings: TrainingSettings,
    ) -> TrainingData:
        """Check images and label maps, measure what the settings leave open, hold some out."""
        called = [f"image {i}" for i in range(len(images))] if names is None else list(names)
        if not len(images) == len(label_maps) == len(called):
            raise ValueError(
                f"images, label_maps and names must be as many, got {len(images)}, "
                f"{len(label_maps)} and {len(called)}"
            )
        held = _held_out(len(images), settings)
        arrays = [np.asarray(image) for image in images]
        labels = [
            _checked(one, name, settings) for one, name in zip(label_maps, called, strict=True)
        ]
        ignore = settings.ignore
        if ignore is not None and not any((np.asarray(one) == ignore).any() for one in label_maps):
            warnings.warn(
                f"no label map holds the label {ignore}, which is to be ignored",
                DoubtfulInputWarning,
                stacklevel=3,
            )
        full, offsets = _measured(labels, settings)
        used = [i for i in range(len(images)) if i not in held]
        samples = []
        for i in range(len(images)):
            try:
                sample = Sample.of(arrays[i], labels[i])
            except (ValueError, TypeError) as error:
                raise type(error)(f"{called[i]}: {error}") from error
            if i in used:
                samples.append(sample)
        identity = Identity(full, offsets, len(images), _digest(arrays, labels))
        return TrainingData(samples, held, called, arrays, labels, identity)


def _held_out(count: int, settings: TrainingSettings) -> list[int]:
    """Return which images are for validation, in random order."""
    if settings.validation == 0:
        if count < 1:
            raise ValueError("images must hold one image to train on, got none")
        return []
    held = max(1, round(settings.validation * count))
    if count - held < 1:
        raise ValueError(
            f"images must be at least {max(2, held + 1)} to hold out a share of "
            f"{settings.validation} for validation, got {count}: give validation=0 for none"
        )
    # Apart from the numbers that crops are drawn with.
    order = np.random.default_rng([settings.seed, 2]).permutation(count)
    return [int(i) for i in order[:held]]


def _checked(labels: ArrayLike, name: str, settings: TrainingSettings) -> Labels:
    """Return a label map as int32 with ``IGNORED`` for what doesn't count."""
    array = _validate.checked_labels(labels, f"labels of {name}")
    kept = np.ones(array.shape, np.bool_)
    if settings.ignore is not None:
        kept = array != settings.ignore
    low = int(array.min(where=kept, initial=0))
    high = int(array.max(where=kept, initial=0))
    if low < 0:
        raise ValueError(
            f"labels of {name} must be 0 or more where they count, got {low}: ignore={low} if it "
            "marks pixels that don't"
        )
    if high >= np.iinfo(np.int32).max:
        raise ValueError(f"labels of {name} must be below 2**31 - 1, got {high}: renumber them")
    if settings.classes is not None and high >= settings.classes:
        raise ValueError(
            f"labels of {name} must be classes within 0..{settings.classes - 1}, got {high}"
        )
    # First the wider type: in one of 8 or 16 bits, or without a sign, IGNORED is another label.
    checked: Labels = array.astype(np.int32)
    checked[~kept] = IGNORED
    return checked


def _measured(
    labels: Sequence[Labels], settings: TrainingSettings
) -> tuple[TrainingSettings, tuple[tuple[int, ...], ...] | None]:
    """Fill in what the data say: the number of classes, or the objects' size and the offsets."""
    largest = max(int(one.max()) for one in labels)
    if reading_kind(settings.reading).of_classes:
        if settings.classes is None and not 1 <= largest < MOST_CLASSES:
            raise ValueError(
                f"label maps must hold 2 to {MOST_CLASSES} classes, got labels up to {largest}: "
                "give classes if so many are meant"
            )
        if (
            settings.classes is None
            and largest == VOID
            and not any((one == VOID - 1).any() for one in labels)
        ):
            warnings.warn(
                f"label {VOID} is taken as a class, and there is no label {VOID - 1}: give "
                f"ignore={VOID} (--ignore {VOID}) if it marks pixels that don't count",
                DoubtfulInputWarning,
                stacklevel=4,
            )
        return replace(settings, classes=settings.classes or largest + 1), None
    if largest < 1:
        raise ValueError("label maps must hold an object, got only background")
    if not reading_kind(settings.reading).between_pixels:
        return settings, None
    from hiersearch.losses import affinity_offsets

    size = round(object_size(labels), 1) if settings.size is None else float(settings.size)
    offsets = tuple(tuple(int(step) for step in offset) for offset in affinity_offsets(size))
    reach = max(abs(step) for offset in offsets for step in offset)
    if reach >= settings.crop:
        raise ValueError(
            f"crop must be larger than the largest offset, {reach} for objects of {size:g} pixels, "
            f"got {settings.crop}"
        )
    return replace(settings, size=size), offsets


def _digest(images: Sequence[NDArray[Any]], labels: Sequence[Labels]) -> str:
    digest = hashlib.sha256()
    for array in (*images, *labels):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
