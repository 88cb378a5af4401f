"""The two problems that losses are compared on: images, class maps, instances, and the network.

Each is a :class:`Problem`. The nuclei folder is named by the environment variable
``HIERSEARCH_NUCLEI``; the shapes are drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from hiersearch.networks.unet import standardise

Probabilities = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image with its truth."""

    image: Tensor
    """float32, (3, H, W), standardised."""
    classes: NDArray[np.int64]
    """(H, W), from 0."""
    instances: NDArray[np.int32]
    """(H, W), 0 no instance, 1.. one label an instance."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Data with the network and the reading of its output that every loss gets."""

    name: str
    class_names: tuple[str, ...]
    """Background first."""
    widths: tuple[int, ...]
    """Of the small U-Net."""
    crop: int
    """Side of the training crops, in pixels."""
    batch: int
    """Crops a step."""
    train: list[Sample]
    validation: list[Sample]
    """What learning rates and configurations are chosen on."""
    test: list[Sample]
    """Scored once, after training with the chosen rate."""
    objects: Callable[[Probabilities], NDArray[Any]]
    """Instances (H, W) of probabilities (k, H, W)."""

    def class_frequencies(self) -> NDArray[np.float64]:
        """Share of the training pixels that each class has, (k,)."""
        counts = np.zeros(len(self.class_names))
        for sample in self.train:
            counts += np.bincount(sample.classes.ravel(), minlength=counts.size)
        return counts / counts.sum()

    def digest(self) -> str:
        """Eight hexadecimal digits that change with any sample. O(pixels)."""
        summary = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            summary.update(str(len(split)).encode())
            for sample in split:
                summary.update(sample.image.numpy().tobytes())
                summary.update(sample.classes.tobytes())
        return summary.hexdigest()[:8]


# --- shapes -------------------------------------------------------------------------------


def shapes_problem(train: int = 400, validation: int = 100, test: int = 200) -> Problem:
    """Return the synthetic shapes; their instances are the connected components of classes."""
    from benchmarks.losses.shapes import CLASSES, SIDE, scenes

    splits = [
        [
            Sample(_standardised(scene.image), scene.classes, scene.instances)
            for scene in scenes(count, seed)
        ]
        for seed, count in enumerate((train, validation, test))
    ]
    return Problem("shapes", CLASSES, (8, 16, 32), SIDE, 4, *splits, class_components)


SMALLEST_OBJECT = 8
"""Components of a class with fewer pixels are no instances; shapes have 12 or more."""


def class_components(probabilities: Probabilities) -> NDArray[np.int32]:
    """Label connected components (4 neighbours) of every class of the arg-max map but 0."""
    classes = probabilities.argmax(axis=0)
    instances = np.zeros(classes.shape, np.int32)
    count = 0
    for kind in range(1, len(probabilities)):
        parts, found = ndimage.label(classes == kind)
        parts[np.bincount(parts.ravel())[parts] < SMALLEST_OBJECT] = 0
        instances += np.where(parts > 0, parts + count, 0).astype(np.int32)
        count += found
    return instances


# --- nuclei -------------------------------------------------------------------------------

LARGEST_NUCLEI_IMAGE = 360
"""Longest side of the images that are used, in pixels: most images, and the quick ones."""


def nuclei_problem(train: int | None = None, validation: int = 20, test: int = 40) -> Problem:
    """Return the nuclei, grey and stained, in three classes: background, interior, boundary.

    Training and validation images are of the train split (all of it where ``train`` is None),
    in an order drawn once; test images are spread evenly over the test split.
    """
    from benchmarks.network_outputs import nuclei_names
    from hiersearch.networks.channels import OBJECT_CHANNELS

    names = nuclei_names("train", largest=LARGEST_NUCLEI_IMAGE)
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    scored = nuclei_names("test", largest=LARGEST_NUCLEI_IMAGE)
    picked = np.linspace(0, len(scored) - 1, min(test, len(scored))).astype(int)
    chosen = (
        names[validation:][:train],
        names[:validation],
        [scored[i] for i in picked],
    )
    splits = [[_nuclei_sample(name) for name in split] for split in chosen]
    return Problem("nuclei", OBJECT_CHANNELS, (8, 16, 32, 48), 80, 4, *splits, separated_interiors)


def _nuclei_sample(name: str) -> Sample:
    from skimage.io import imread

    from benchmarks.network_outputs import data_path
    from benchmarks.question import NUCLEI
    from hiersearch.networks.channels import three_classes

    folder = data_path(NUCLEI)
    instances = imread(folder / f"{name}-labels.png").astype(np.int32)
    image = imread(folder / f"{name}.png")
    return Sample(_standardised(image), three_classes(instances, 1), instances)


SMALLEST_SEED = 5
"""Interiors with fewer pixels are no nuclei."""


def separated_interiors(probabilities: Probabilities) -> NDArray[np.int32]:
    """Flood the foreground from the components of the interior, by the interior's probability.

    Seeds and foreground are read off the arg-max map, and a watershed depends on the order of the
    values alone: no threshold that a badly calibrated output could miss.
    """
    from skimage.segmentation import watershed

    classes = probabilities.argmax(axis=0)
    seeds, _ = ndimage.label(classes == 1)
    seeds[np.bincount(seeds.ravel())[seeds] < SMALLEST_SEED] = 0
    return watershed(-probabilities[1], seeds, mask=classes > 0).astype(np.int32)


def _standardised(image: NDArray[np.uint8]) -> Tensor:
    """Return an 8-bit grey or RGB image as the network takes it, (3, H, W)."""
    channels = image[None] if image.ndim == 2 else np.moveaxis(image[..., :3], -1, 0)
    scaled = np.ascontiguousarray(channels, dtype=np.float32) / 255.0
    return standardise(torch.from_numpy(scaled)[None])[0].contiguous()


PROBLEMS: dict[str, Callable[..., Problem]] = {"shapes": shapes_problem, "nuclei": nuclei_problem}
"""By name; each takes the numbers of training, validation and test images."""
