"""What a network's channels are trained to mean, and the targets that label maps give them.

Three readings: "objects" (background, interior, boundary) and "affinities" for label maps of
instances (0 is the background, every other label one object), "classes" for maps of classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.choices import TRAINED_READINGS, TrainedReading
from hiersearch.partitions.output import reading_kind

IGNORED = -1
"""In targets: a pixel that does not count."""


def three_classes(labels: ArrayLike, seam_reach: int = 1) -> NDArray[np.int64]:
    """Return background 0, interior 1, boundary 2 for a label map of instances.

    The boundary is the outermost pixel of every object, the pixels of an object that lie within
    ``seam_reach`` pixels of another object, and the background within one pixel of two objects.
    Interiors are then one component per object, 2 · ``seam_reach`` pixels apart where they touch.

    Parameters
    ----------
    labels : integer array, shape (H, W) or (D, H, W)
        0 is background; ``IGNORED`` (-1) stays so, and counts as background for what is beside it.
    seam_reach : int
        At least 1.

    Returns
    -------
    int64 array, shape of labels

    Raises
    ------
    TypeError, ValueError
        If labels are no label map or hold a number below -1.

    Notes
    -----
    O(pixels).

    Examples
    --------
    >>> three_classes([[0, 1, 1, 1, 2, 2, 2, 0, -1]]).tolist()
    [[0, 2, 1, 2, 2, 1, 2, 0, -1]]
    """
    from scipy import ndimage

    given = _checked_instances(labels)
    _validate.checked_count(seam_reach, "seam_reach", 1)
    objects = np.maximum(given, 0)
    inside = objects > 0
    classes = inside.astype(np.int64)
    beside_background = ndimage.minimum_filter(inside, 3, mode="nearest") < inside
    touching = seams(objects, 1)
    classes[beside_background | touching] = 2
    if seam_reach > 1:
        classes[inside & seams(objects, seam_reach)] = 2
    classes[given == IGNORED] = IGNORED
    return classes


def seams(labels: ArrayLike, reach: int) -> NDArray[np.bool_]:
    """Return where two or more objects lie within ``reach`` pixels (in a square).

    Parameters
    ----------
    labels : integer array, shape (H, W) or (D, H, W)
        As in `three_classes`.
    reach : int
        At least 1.

    Returns
    -------
    bool array, shape of labels

    Raises
    ------
    TypeError, ValueError
        As `three_classes`.

    Examples
    --------
    >>> seams([[1, 1, 1, 2, 2, 0]], 1).astype(int).tolist()
    [[0, 0, 1, 1, 0, 0]]
    """
    from scipy import ndimage

    objects = np.maximum(_checked_instances(labels), 0)
    size = 2 * _validate.checked_count(reach, "reach", 1) + 1
    beyond = np.int32(np.iinfo(np.int32).max)
    largest = ndimage.maximum_filter(objects, size, mode="nearest")
    smallest = ndimage.minimum_filter(np.where(objects == 0, beyond, objects), size, mode="nearest")
    return np.asarray((largest > 0) & (smallest != largest))


def target_of_labels(labels: ArrayLike, reading: TrainedReading) -> NDArray[np.int64]:
    """Return what a loss is given for a label map: a class a pixel, or an instance a pixel.

    Parameters
    ----------
    labels : integer array, shape (H, W)
        Instances, or classes for reading "classes"; ``IGNORED`` (-1) where a pixel doesn't count.
    reading : {"objects", "classes", "affinities"}
        What the network's channels are to mean.

    Returns
    -------
    int64 array, shape of labels
        `three_classes` of the labels, or the labels themselves.

    Raises
    ------
    TypeError, ValueError
        If the labels or the reading are none of these.

    Examples
    --------
    >>> target_of_labels([[0, 7, 7, 7, 0]], "objects").tolist()
    [[0, 2, 1, 2, 0]]
    """
    _validate.checked_choice(reading, TRAINED_READINGS, "reading")
    if reading_kind(reading).of_objects:
        return three_classes(labels)
    return _validate.checked_labels(labels, "labels").astype(np.int64)


def channel_names(
    reading: TrainedReading, *, classes: int = 0, offsets: Sequence[Sequence[int]] = ()
) -> tuple[str, ...]:
    """Return what each output channel of a network is called.

    Examples
    --------
    >>> channel_names("affinities", offsets=[(0, 1), (1, 0)])
    ('foreground', 'together 0,1', 'together 1,0')
    """
    _validate.checked_choice(reading, TRAINED_READINGS, "reading")
    kind = reading_kind(reading)
    if kind.channel_names is not None:
        return kind.channel_names
    if kind.of_classes:
        return tuple(f"class {number}" for number in range(classes))
    return (
        "foreground",
        *(f"together {','.join(str(step) for step in offset)}" for offset in offsets),
    )


def object_size(label_maps: Iterable[ArrayLike]) -> float:
    """Return the median diameter of the objects of some label maps, in pixels.

    Parameters
    ----------
    label_maps : iterable of integer arrays (H, W)
        Instances; 0 and negative labels are none.

    Returns
    -------
    float
        Median over all objects of the diameter of a disk of their area.

    Raises
    ------
    ValueError
        If there is no object.

    Notes
    -----
    O(pixels log pixels).

    Examples
    --------
    >>> round(object_size([[[0, 1, 1, 1], [0, 1, 1, 1]]]), 2)
    2.76
    """
    areas: list[NDArray[Any]] = []
    for labels in label_maps:
        array = _validate.checked_labels(labels, "labels")
        areas.append(np.unique(array[array > 0], return_counts=True)[1])
    every = np.concatenate(areas) if areas else np.empty(0)
    if not every.size:
        raise ValueError("label maps must hold an object to measure, got none")
    return float(np.median(2 * np.sqrt(every / np.pi)))


def _checked_instances(labels: ArrayLike) -> NDArray[np.int32]:
    """Return a label map as int32, which filters are fast on."""
    array = _validate.checked_labels(labels, "labels")
    low, high = int(array.min()), int(array.max())
    if low < IGNORED or high >= np.iinfo(np.int32).max:
        raise ValueError(
            f"labels must be within 0..{np.iinfo(np.int32).max - 1}, or {IGNORED} where ignored, "
            f"got {low if low < IGNORED else high}"
        )
    return array.astype(np.int32)
