"""Augmented training crops, each a function of seed, step and place alone.

No crop depends on those before it, so that a run that was interrupted goes on exactly as it would
have gone, and runs with one seed see the same crops whatever their loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.networks.images import Float32, image_batch

Labels = NDArray[np.int32]

_ORDER, _CROP = 0, 1
"""Streams of random numbers: the order of the images, and what a crop looks like."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much crops vary."""

    scales: tuple[float, float] = (0.6, 1.5)
    """Least and largest side of what is cut out, in sides of the crop."""
    turns: bool = True
    """Turn by quarters of a circle; without, crops are only mirrored left to right."""
    contrast: float = 0.2
    """Standard deviation of the logarithm of the factor on intensities."""
    brightness: float = 0.2
    """Standard deviation of a shift of all intensities, which have about the scale of 1."""
    colour: float = 0.1
    """Standard deviation of a shift of each colour channel."""
    grey: float = 0.3
    """Chance that a colour image is seen in grey."""
    inverted: float = 0.15
    """Chance that dark and bright change places."""
    noisy: float = 0.3
    """Chance of noise."""
    noise: float = 0.2
    """Largest standard deviation of the noise."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        low, high = self.scales
        if not 0 < low <= high < np.inf:
            raise ValueError(f"scales must be positive and in order, got {self.scales}")
        for name in ("contrast", "brightness", "colour", "noise"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("grey", "inverted", "noisy"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be within [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image, standardised as the small U-Net wants it, with its label map."""

    image: Float32
    """(1, H, W) if it is grey, else (3, H, W)."""
    labels: Labels
    """(H, W)."""

    @staticmethod
    def of(image: ArrayLike, labels: ArrayLike) -> Sample:
        """Standardise an image as a whole: a crop's own contrast is not its image's.

        Parameters
        ----------
        image : array, shape (H, W), (H, W, 1) or (H, W, 3)
            As :class:`~hiersearch.networks.Network` takes it. Three equal channels become one.
        labels : integer array, shape (H, W)
            Within the range of int32.

        Returns
        -------
        Sample

        Raises
        ------
        ValueError, TypeError
            If image or labels are none, or do not share one grid.
        MissingExtraError
            If torch is not installed.
        """
        from hiersearch.networks.unet import standardise

        batch = image_batch(image)
        if (batch == batch[:, :1]).all():
            batch = batch[:, :1]
        array = _validate.checked_labels(labels, "labels")
        _validate.checked_same_grid(batch.shape[2:], array.shape, "image", "labels")
        low, high = int(array.min()), int(array.max())
        limits = np.iinfo(np.int32)
        if low < limits.min or high > limits.max:
            raise ValueError(f"labels must lie within int32, got {low}..{high}")
        import torch

        whole = standardise(torch.from_numpy(batch))[0, : batch.shape[1]]
        return Sample(np.ascontiguousarray(whole.numpy()), array.astype(np.int32))


class Crops:
    """Draws augmented crops: one image, one scale, one symmetry, one change of intensity.

    Parameters
    ----------
    samples : sequence of Sample
        What to cut from; no image comes twice before all came once.
    crop : int
        Side of the crops in pixels.
    seed : int
        At least 0; with the step it decides everything.
    augmentation : Augmentation
        How much they vary.

    Raises
    ------
    ValueError, TypeError
        If there is no sample, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    >>> crops = Crops([Sample.of(image, image > 128)], crop=16, seed=0)
    >>> images, labels = crops.batch(step=7, size=4)
    >>> images.shape, labels.shape, bool((crops.batch(7, 4)[0] == images).all())
    ((4, 3, 16, 16), (4, 16, 16), True)
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        crop: int,
        seed: int,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        if not samples:
            raise ValueError("samples must hold an image to cut from, got none")
        self.samples = samples
        self.crop = _validate.checked_count(crop, "crop", 1)
        self.seed = _validate.checked_count(seed, "seed", 0)
        self.augmentation = augmentation

    def batch(self, step: int, size: int) -> tuple[Float32, Labels]:
        """Return images (size, 3, crop, crop) and labels (size, crop, crop) of a step.

        O(size · crop²).
        """
        first = step * size
        pairs = [self.one(number) for number in range(first, first + size)]
        return np.stack([image for image, _ in pairs]), np.stack([labels for _, labels in pairs])

    def one(self, number: int) -> tuple[Float32, Labels]:
        """Return the crop of a number, which counts from 0 over all steps."""
        rng = np.random.default_rng([self.seed, _CROP, number])
        image, labels = self._cut(self._sample(number), rng)
        turns = int(rng.integers(4)) if self.augmentation.turns else 0
        mirrored = bool(rng.integers(2))
        image, labels = np.rot90(image, turns, (1, 2)), np.rot90(labels, turns)
        if mirrored:
            image, labels = image[:, :, ::-1], labels[:, ::-1]
        coloured = self._recoloured(image, rng)
        return np.broadcast_to(coloured, (3, *labels.shape)), np.ascontiguousarray(labels)

    def _sample(self, number: int) -> Sample:
        round_, place = divmod(number, len(self.samples))
        order = np.random.default_rng([self.seed, _ORDER, round_]).permutation(len(self.samples))
        return self.samples[int(order[place])]

    def _cut(self, sample: Sample, rng: np.random.Generator) -> tuple[Float32, Labels]:
        """Return a square piece of a sample, rescaled to the crop's side."""
        height, width = sample.labels.shape
        low, high = np.log(self.augmentation.scales)
        side = max(1, round(self.crop * float(np.exp(rng.uniform(low, high)))))
        side = min(side, height, width)
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        image = sample.image[:, top : top + side, left : left + side]
        labels = sample.labels[top : top + side, left : left + side]
        if side == self.crop:
            return image, labels
        nearest = ((np.arange(self.crop) + 0.5) * side / self.crop).astype(np.intp)
        return _resized(image, self.crop), labels[np.ix_(nearest, nearest)]

    def _recoloured(self, image: Float32, rng: np.random.Generator) -> Float32:
        """Change contrast, brightness, colour and noise; sometimes invert."""
        how = self.augmentation
        changed = image * np.float32(np.exp(rng.normal(0, how.contrast)))
        changed += np.float32(rng.normal(0, how.brightness))
        if len(changed) == 3:
            if rng.random() < how.grey:
                changed = changed.mean(axis=0, keepdims=True)
            else:
                changed += rng.normal(0, how.colour, (3, 1, 1)).astype(np.float32)
        if rng.random() < how.inverted:
            changed = -changed
        if rng.random() < how.noisy:
            noise = rng.standard_normal(changed.shape[1:], dtype=np.float32)
            changed = changed + noise * np.float32(rng.uniform(0, how.noise))
        return changed


def _resized(image: Float32, side: int) -> Float32:
    """Rescale channels to a square, with smoothing where they shrink."""
    import torch
    from torch.nn import functional

    pixels = torch.from_numpy(np.ascontiguousarray(image))[None]
    smooth = image.shape[1] > side
    scaled = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=smooth)
    array: Float32 = scaled[0].numpy()
    return array
