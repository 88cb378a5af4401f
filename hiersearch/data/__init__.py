"""A bundled microscope image with its nuclei, for examples and the documentation."""

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from hiersearch.partitions.files import read_image, read_label_map


def demo_image() -> NDArray[np.uint8]:
    """Return the demo image: fluorescent nuclei, 16 pairs of them touching.

    Returns
    -------
    uint8 array, shape (288, 384)
        Grey. Provenance: ``README.md`` beside it; public domain (CC0).

    Examples
    --------
    >>> demo_image().shape
    (288, 384)
    """
    with resources.as_file(resources.files(__name__) / "nuclei.png") as path:
        image: NDArray[np.uint8] = read_image(path)
    return image


def demo_labels() -> NDArray[np.uint16]:
    """Return the demo image's nuclei, drawn by hand: the partition that one would like to find.

    Returns
    -------
    uint16 array, shape (288, 384)
        0 background, 1 to 63 one label for each nucleus.

    Examples
    --------
    >>> int(demo_labels().max())
    63
    """
    with resources.as_file(resources.files(__name__) / "nuclei-labels.png") as path:
        return read_label_map(path).astype(np.uint16, copy=False)
