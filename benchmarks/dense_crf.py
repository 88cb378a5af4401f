"""A dense CRF (pydensecrf2) as it is used after a network, to compare refinements with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]
Method = Callable[[NDArray[np.uint8], NDArray[np.float32]], Labels]
"""From an image and probabilities to labels."""


def dense_crf(setting: tuple[int, int, int]) -> Method:
    """Return 5 iterations with a range in pixels, one in grey levels, and a weight of colours."""
    import pydensecrf.densecrf as crf

    pixels, levels, weight = setting

    def run(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> Labels:
        k, height, width = probabilities.shape
        field = crf.DenseCRF2D(width, height, k)
        energies = -np.log(np.maximum(probabilities, 1e-7)).reshape(k, -1)
        field.setUnaryEnergy(np.ascontiguousarray(energies, np.float32))
        field.addPairwiseGaussian(sxy=3, compat=3)
        colours = np.broadcast_to(image.reshape(height, width, -1), (height, width, 3))
        field.addPairwiseBilateral(
            sxy=pixels, srgb=levels, rgbim=np.array(colours, np.uint8), compat=weight
        )
        return np.array(field.inference(5)).argmax(axis=0).reshape(height, width)

    return run
