"""Kernel for sums over the regions of a target, on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled

LANES = 4
"""Sums kept side by side: neighbours mostly share a label, and an addition need not wait for the
one before."""


@compiled
def add_by_label(
    values: NDArray[np.floating],
    labels: NDArray[np.int64],
    weights: NDArray[np.floating],
    sums: NDArray[np.float64],
) -> None:
    """Add weighted values (N, k, n) of pixels with labels (N, n) to sums (N, k, regions, 4)."""
    images, channels, pixels = values.shape
    for i in range(images):
        for j in range(channels):
            for p in range(pixels):
                sums[i, j, labels[i, p], p % LANES] += weights[i, p] * values[i, j, p]
