"""Scores of class maps against ground truth: intersection over union, everywhere or at boundaries.

As in :mod:`hiersearch.evaluation.scores`, ``ignore`` names a label of the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.evaluation.scores import Labels, checked_pair

MOST_CLASSES = 2**14
"""Most classes: a confusion matrix of so many takes 2 GiB."""


@dataclass(frozen=True, slots=True, eq=False)
class IoU:
    """Intersection over union of classes."""

    of_classes: NDArray[np.float64]
    """(classes,) IoU of each class; NaN where neither map has a counted pixel of it."""

    @property
    def mean(self) -> float:
        """Mean over the classes that come up; NaN where none does."""
        found = self.of_classes[~np.isnan(self.of_classes)]
        return float(found.mean()) if found.size else float("nan")


def class_confusion(
    found: ArrayLike,
    truth: ArrayLike,
    classes: int,
    *,
    ignore: int | None = None,
    within: float | None = None,
) -> NDArray[np.int64]:
    """Count pixels by true and found class.

    Parameters
    ----------
    found, truth : integer array, shape (H, W) or (D, H, W)
        Class of each pixel, 0..classes - 1.
    classes : int
        Number of classes, at most 16,384.
    ignore : int, optional
        True label, of any value, whose pixels don't count.
    within : float, optional
        Count only pixels within this many pixels of a boundary between true classes: at 1, those
        beside another class, on both sides. All pixels where omitted.

    Returns
    -------
    int64 array, shape (classes, classes)
        Row: true class; column: found class. Matrices of several images add up.

    Raises
    ------
    TypeError, ValueError
        If the maps are not integers on one grid, or hold a class that is none, or ``classes`` is
        out of range.

    Notes
    -----
    O(pixels).

    Examples
    --------
    >>> class_confusion([[0, 0, 1, 1]], [[0, 1, 1, 9]], 2, ignore=9).tolist()
    [[1, 0], [1, 1]]
    """
    guess, goal = checked_pair(found, truth)
    _validate.checked_count(classes, "classes", 1, MOST_CLASSES)
    kept = np.ones(goal.shape, np.bool_) if ignore is None else goal != ignore
    for name, labels in (("found", guess[kept]), ("truth", goal[kept])):
        if labels.size and (int(labels.min()) < 0 or int(labels.max()) >= classes):
            raise ValueError(
                f"{name} must hold classes within 0..{classes - 1}, "
                f"got {labels.min()}..{labels.max()}"
            )
    if within is not None:
        kept &= _near_boundaries(goal, kept, within)
    pairs = goal[kept].astype(np.int64) * classes + guess[kept].astype(np.int64)
    counts = np.bincount(pairs, minlength=classes * classes).astype(np.int64)
    return counts.reshape(classes, classes)


def iou_of_confusion(confusion: NDArray[np.integer[Any]]) -> IoU:
    """Return the IoU of every class from a confusion matrix (classes, classes)."""
    right = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
    with np.errstate(invalid="ignore"):
        return IoU(right / union)


def class_iou(
    found: ArrayLike, truth: ArrayLike, *, classes: int | None = None, ignore: int | None = None
) -> IoU:
    """Intersection over union of every class.

    Parameters
    ----------
    found, truth, ignore
        As in :func:`class_confusion`.
    classes : int, optional
        Number of classes; the largest label of both maps plus one where omitted.

    Returns
    -------
    IoU

    Raises
    ------
    TypeError, ValueError
        As :func:`class_confusion`.

    Examples
    --------
    >>> score = class_iou([[0, 0, 1, 1]], [[0, 1, 1, 1]])
    >>> score.of_classes.round(3).tolist(), round(score.mean, 3)
    ([0.5, 0.667], 0.583)
    """
    count = _class_count(found, truth, ignore) if classes is None else classes
    return iou_of_confusion(class_confusion(found, truth, count, ignore=ignore))


def boundary_iou(
    found: ArrayLike,
    truth: ArrayLike,
    *,
    pixels: float = 3,
    classes: int | None = None,
    ignore: int | None = None,
) -> IoU:
    """IoU of every class among the pixels near boundaries between true classes.

    Parameters
    ----------
    found, truth, classes, ignore
        As in :func:`class_iou`. A border of ignored pixels is no boundary.
    pixels : float
        How near, Euclidean, at least 1.

    Returns
    -------
    IoU
        All NaN where the truth has no boundary.

    Raises
    ------
    TypeError, ValueError
        As :func:`class_confusion`, and if ``pixels`` is below 1.

    Examples
    --------
    >>> boundary_iou([[0, 0, 0, 1, 1, 0]], [[0, 0, 1, 1, 1, 1]], pixels=1).of_classes.tolist()
    [0.5, 0.0]
    """
    count = _class_count(found, truth, ignore) if classes is None else classes
    return iou_of_confusion(class_confusion(found, truth, count, ignore=ignore, within=pixels))


def _class_count(found: ArrayLike, truth: ArrayLike, ignore: int | None) -> int:
    guess, goal = checked_pair(found, truth)
    if ignore is not None:
        kept = goal != ignore
        guess, goal = guess[kept], goal[kept]
    return 1 + max((int(labels.max()) for labels in (guess, goal) if labels.size), default=0)


def _near_boundaries(truth: Labels, kept: NDArray[np.bool_], within: float) -> NDArray[np.bool_]:
    """Mark the pixels within some distance of where two true classes that count meet."""
    from scipy import ndimage

    if not (np.isfinite(within) and within >= 1):
        raise ValueError(f"pixels must be a number of at least 1, got {within!r}")
    beside = np.zeros(truth.shape, np.bool_)
    for axis in range(truth.ndim):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(truth.ndim))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(truth.ndim))
        step = (truth[low] != truth[high]) & kept[low] & kept[high]
        beside[low] |= step
        beside[high] |= step
    if not beside.any():
        return beside
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~beside) <= within - 1
    return near
