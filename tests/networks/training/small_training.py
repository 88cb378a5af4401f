"""Tiny images with label maps, and settings of tiny trainings."""

import numpy as np

TINY = {"widths": (4, 6), "batch": 2, "crop": 16, "every": 4}


def squares(count=4, side=24, seed=0):
    """Images of two bright squares that touch, on a dark ground, with their instances."""
    rng = np.random.default_rng(seed)
    images, label_maps = [], []
    for _ in range(count):
        labels = np.zeros((side, side), np.int32)
        top, left = rng.integers(2, 8, 2)
        labels[top : top + 9, left : left + 6] = 1
        labels[top : top + 9, left + 6 : left + 12] = 2
        noise = rng.integers(0, 40, (side, side))
        images.append((noise + 150 * (labels > 0)).astype(np.uint8))
        label_maps.append(labels)
    return images, label_maps
