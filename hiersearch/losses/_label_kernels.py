"""Kernels for sums over the regions of a target and their slopes, on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled

LANES = 4
"""Sums kept side by side: neighbours mostly share a label, and an addition need not wait for the
one before."""

BLOCK = 1024
"""Pixels at once on the way back: what is looked at twice stays in the cache."""


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


@compiled
def add_slopes(
    slopes: NDArray[np.floating],
    soft: NDArray[np.floating],
    cross: NDArray[np.floating],
    labels: NDArray[np.int64],
    weights: NDArray[np.floating],
    logits: bool,
) -> None:
    """Turn slopes (N, k, n) of own overlaps into those of all, of probabilities or of logits.

    Adds cross (N, k, regions) at each pixel's label, takes all times the weights (N, n), and where
    ``logits`` goes back through the softmax that gave soft (N, k, n).
    """
    images, channels, pixels = soft.shape
    means = np.empty(BLOCK, slopes.dtype)
    # Without a sign: no look whether an index counts from the end.
    names = np.empty(BLOCK, np.uint32)
    for i in range(images):
        for begin in range(0, pixels, BLOCK):
            end = min(begin + BLOCK, pixels)
            size, shares = end - begin, weights[i, begin:end]
            for q in range(size):
                means[q], names[q] = 0, labels[i, begin + q]
            for j in range(channels):
                added, row, own = cross[i, j], slopes[i, j, begin:end], soft[i, j, begin:end]
                for q in range(size):
                    row[q] = shares[q] * (row[q] + added[names[q]])
                if logits:
                    for q in range(size):
                        means[q] += row[q] * own[q]
            if logits:
                for j in range(channels):
                    row, own = slopes[i, j, begin:end], soft[i, j, begin:end]
                    for q in range(size):
                        row[q] = (row[q] - means[q]) * own[q]
