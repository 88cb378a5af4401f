"""Pixels that belong to no region, such as the void border of a data set's objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate


def has_label(labels: NDArray[np.integer[Any]], wanted: Sequence[int]) -> NDArray[np.bool_]:
    """Return which pixels have one of some labels, whatever the type of the label map. O(pixels).

    Examples
    --------
    >>> has_label(np.array([0, 255], np.uint8), [255, -1, 300])
    array([False,  True])
    """
    bounds = np.iinfo(labels.dtype)
    possible = [label for label in wanted if bounds.min <= label <= bounds.max]
    return np.isin(labels, np.array(possible, labels.dtype))


def filled(
    labels: ArrayLike, ignore: Sequence[int], name: str = "labels"
) -> tuple[NDArray[np.integer[Any]], int]:
    """Give the pixels of ignored labels to the regions that are nearest to them.

    A partition has a region for each pixel, and where all partitions share one measure a pixel
    counts in all or in none. So what a label map leaves open is closed in the way that favours no
    region: each pixel takes the label of the nearest one that has another label.

    Parameters
    ----------
    labels : integer array, shape (H, W) or (D, H, W)
        The label map.
    ignore : sequence of int
        Labels that stand for no region.
    name : str
        What messages call the label map.

    Returns
    -------
    integer array
        Of the same shape and type; ``labels`` itself where no pixel has such a label.
    int
        How many pixels had one.

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If every pixel has such a label.

    Notes
    -----
    O(pixels), by a Euclidean distance transform. Of several nearest pixels it takes the same one
    every time.

    Examples
    --------
    >>> filled([[1, 1, 255, 255, 255, 2]], [255])
    (array([[1, 1, 1, 1, 2, 2]]), 3)
    """
    array = _validate.checked_labels(labels, name)
    void = has_label(array, ignore)
    count = int(void.sum())
    if not count:
        return array, 0
    if count == array.size:
        raise ValueError(f"{name} must have a label besides the ignored ones, got none")
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
    return array[tuple(nearest)], count
