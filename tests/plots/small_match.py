"""Small finished searches for pictures."""

import numpy as np

from hiersearch.hierarchy.matching import match
from hiersearch.partitions import SoftPartition


def squares(height=20, width=30):
    """Two bright squares on a dark ground, and the probabilities of bright and dark."""
    image = np.zeros((height, width))
    image[4:10, 4:12] = 1
    image[12:18, 16:26] = 1
    bright = np.where(image > 0, 0.9, 0.05)
    return image, np.stack([1 - bright, bright])


def squares_match(**options):
    image, probabilities = squares()
    target = SoftPartition.from_classes(probabilities)
    options = {"superpixels": "pixels", "linkage": "average"} | options
    return image, probabilities, match(image, target, **options)
