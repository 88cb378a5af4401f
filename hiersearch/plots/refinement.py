"""The picture of a refinement: before, after, and what has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.metric import contingency_table
from hiersearch.partitions.partition import Partition
from hiersearch.plots.colours import PALETTE
from hiersearch.plots.pixels import (
    PICTURE_SIDE,
    enlarged,
    enlargement,
    image_picture,
    overlay,
    shown_slice,
)

CHANGED = (213, 0, 110)
"""Colour of pixels that have changed."""

_GAP = 12


def refinement_picture(
    image: ArrayLike | None,
    before: ArrayLike,
    after: ArrayLike,
    *,
    classes: bool = False,
    side: int = PICTURE_SIDE,
) -> NDArray[np.uint8]:
    """Draw label maps before and after refining, and the pixels that have changed, in a row.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels, or None
        What lies under the regions.
    before, after : integer array, shape (H, W) or (D, H, W)
        Label maps; of volumes the middle slice is drawn.
    classes : bool
        Whether labels are classes; see :func:`changed_pixels`. Classes have the same colours
        before and after, the most frequent one none.
    side : int
        As in :func:`hiersearch.plots.overlay`, for each of the three.

    Returns
    -------
    uint8 array, shape (f·H, 3·f·W + 24, 3)

    Raises
    ------
    TypeError, ValueError
        If the maps are not integers on one grid, or the image does not fit.

    Notes
    -----
    O(pixels of the picture).

    Examples
    --------
    >>> maps = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])
    >>> refinement_picture(np.zeros((1, 4)), *maps, side=40).shape
    (10, 144, 3)
    """
    changed = changed_pixels(before, after, classes=classes)
    z = shown_slice(changed.shape)
    marks = changed if z is None else changed[z]
    if image is None:
        base = np.full((*marks.shape, 3), 128, np.uint8)
    else:
        base = image_picture(image, changed.shape)
    maps = [labels if z is None else labels[z] for labels in map(np.asarray, (before, after))]
    if classes:
        names, counts = np.unique(maps[0], return_counts=True)
        ground = names[counts.argmax()]
        panels = [overlay(_in_class_colours(base, one, ground), one, side=side) for one in maps]
    else:
        panels = [overlay(base, one, fill="colours", side=side) for one in maps]
    factor = enlargement(marks.shape, side)
    third = enlarged(base, factor)
    third[enlarged(marks, factor)] = CHANGED
    gap = np.full((third.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, third], axis=1)


def _in_class_colours(
    picture: NDArray[np.uint8], labels: NDArray[Any], ground: int
) -> NDArray[np.uint8]:
    """Tint each class but the ``ground`` with the colour of its number, in any picture the same."""
    colours = np.array(PALETTE, np.float64)[labels % len(PALETTE)]
    strength = np.where(labels == ground, 0.0, 0.45)[..., None]
    mixed: NDArray[np.uint8] = np.round(picture * (1 - strength) + colours * strength)
    return mixed.astype(np.uint8)


def changed_pixels(
    before: ArrayLike, after: ArrayLike, *, classes: bool = False
) -> NDArray[np.bool_]:
    """Mark the pixels whose class, or whose region, is another one than before.

    Parameters
    ----------
    before, after : integer array on one grid
        Label maps.
    classes : bool
        Whether labels are classes, to be compared as they are. Regions have no names: a pixel has
        changed unless its region before and its region after are, of all, each other's largest
        part.

    Returns
    -------
    bool array, shape of the grid

    Raises
    ------
    TypeError, ValueError
        If the maps are not integers on one grid.

    Notes
    -----
    O(pixels).

    Examples
    --------
    >>> changed_pixels([[1, 1, 1, 2]], [[7, 7, 5, 5]]).tolist()
    [[False, False, True, False]]
    """
    first = _validate.checked_labels(before, "before")
    second = _validate.checked_labels(after, "after")
    _validate.checked_same_grid(first.shape, second.shape, "before", "after")
    if classes:
        return np.asarray(first != second)
    one, other = Partition.from_labels(first), Partition.from_labels(second)
    i, j, n = contingency_table(one, other)
    # Sorted by overlap, the last one written is the largest.
    order = np.argsort(n, kind="stable")
    largest_of_one, largest_of_other = np.empty(one.n_regions, int), np.empty(other.n_regions, int)
    largest_of_one[i[order]], largest_of_other[j[order]] = j[order], i[order]
    a, b = one.labels, other.labels
    return np.asarray((largest_of_one[a] != b) | (largest_of_other[b] != a))
