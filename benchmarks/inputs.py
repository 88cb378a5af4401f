"""The images, superpixels and soft outputs that several benchmarks share."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray


@functools.cache
def photo() -> NDArray[np.uint8]:
    """512 × 512 RGB photo: the astronaut of scikit-image."""
    from skimage.data import astronaut

    return astronaut()


@functools.cache
def slic(segments: int) -> NDArray[np.int32]:
    """SLIC superpixels of the photo, numbered from 0; they come out fewer than asked for."""
    from skimage.segmentation import relabel_sequential
    from skimage.segmentation import slic as scikit_slic

    labels = scikit_slic(photo(), n_segments=segments, compactness=10, start_label=1)
    return relabel_sequential(labels)[0].astype(np.int32) - 1


@functools.cache
def soft_output(channels: int) -> NDArray[np.float32]:
    """Smooth random probabilities, sharpened like a network's: (channels, 512, 512)."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    fields = [gaussian_filter(rng.standard_normal((512, 512)), 8) for _ in range(channels)]
    scores = np.exp(24 * np.stack(fields))
    return (scores / scores.sum(axis=0)).astype(np.float32)
