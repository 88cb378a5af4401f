"""Scores against ground truth: of instances and of partitions.

Label maps are 2-D or 3-D and share one grid; three axes are one volume, in which a label is one
instance: the maps of a batch go in one by one, or with labels of their own. ``ignore`` names a
label of the *truth* whose pixels don't count. Where scikit-image has a score, it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.partitions.partition import Partition, compact

Labels = NDArray[np.integer[Any]]

COMMON_THRESHOLDS = tuple(i / 100 for i in range(50, 100, 5))
"""0.5, 0.55, ..., 0.95: what mean average precision is the mean over."""


# --- instances ------------------------------------------------------------------------------


def instance_matches(
    found: ArrayLike,
    truth: ArrayLike,
    thresholds: Sequence[float] = COMMON_THRESHOLDS,
    *,
    background: int = 0,
    ignore: int | None = None,
) -> NDArray[np.int64]:
    """Count hits, false alarms and misses of instances at IoU thresholds.

    Parameters
    ----------
    found, truth : integer array, shape (H, W) or (D, H, W)
        Instance of each pixel.
    thresholds : sequence of float
        Each within [0.5, 1): two instances match if their IoU is above it. From 0.5 on an
        instance matches one other at most, so counting pairs is matching.
    background : int
        Label that is no instance, in both maps.
    ignore : int, optional
        True label whose pixels don't count.

    Returns
    -------
    int64 array, shape (thresholds, 3)
        True positives, false positives, false negatives.

    Raises
    ------
    TypeError, ValueError
        If the maps are not integers on one grid or a threshold is out of range.

    Notes
    -----
    O(pixels).

    Examples
    --------
    >>> instance_matches([[1, 1, 2, 0]], [[7, 7, 7, 0]], (0.5, 0.7)).tolist()
    [[1, 1, 0], [0, 2, 1]]
    """
    levels = np.asarray(thresholds, np.float64)
    if levels.ndim != 1 or not ((levels >= 0.5) & (levels < 1)).all():
        raise ValueError(f"thresholds must be within [0.5, 1), got {thresholds!r}")
    guess, goal = checked_pair(found, truth)
    kept = None if ignore is None else goal != ignore
    counted = _Overlaps.of(guess, goal, kept)
    of_found, of_truth = counted.found_values != background, counted.truth_values != background
    n_found, n_truth = int(of_found.sum()), int(of_truth.sum())
    inside = of_found[counted.i] & of_truth[counted.j]
    i, j, n = counted.i[inside], counted.j[inside], counted.n[inside]
    overlap = n / (counted.found_sizes[i] + counted.truth_sizes[j] - n)
    hits = (overlap > levels[:, None]).sum(axis=1)
    return np.stack([hits, n_found - hits, n_truth - hits], axis=1).astype(np.int64)


def average_precision(
    found: ArrayLike,
    truth: ArrayLike,
    thresholds: Sequence[float] = (0.5,),
    *,
    background: int = 0,
    ignore: int | None = None,
) -> NDArray[np.float64]:
    """Average precision of instances, TP / (TP + FP + FN), at each IoU threshold.

    Parameters
    ----------
    found, truth, thresholds, background, ignore
        As in :func:`instance_matches`.

    Returns
    -------
    float64 array, shape (thresholds,)
        1 where neither map has an instance.

    Raises
    ------
    TypeError, ValueError
        As :func:`instance_matches`.

    Notes
    -----
    The definition of the Data Science Bowl 2018. O(pixels).

    Examples
    --------
    >>> average_precision([[1, 1, 2, 0]], [[7, 7, 7, 0]], (0.5, 0.7)).tolist()
    [0.5, 0.0]
    """
    counts = instance_matches(found, truth, thresholds, background=background, ignore=ignore)
    total = counts.sum(axis=1)
    return np.where(total > 0, counts[:, 0] / np.maximum(total, 1), 1.0)


def mean_average_precision(
    found: ArrayLike, truth: ArrayLike, *, background: int = 0, ignore: int | None = None
) -> float:
    """Mean of :func:`average_precision` over the IoU thresholds 0.5, 0.55, ..., 0.95."""
    every = average_precision(found, truth, COMMON_THRESHOLDS, background=background, ignore=ignore)
    return float(every.mean())


def foreground_ari(
    found: ArrayLike, truth: ArrayLike, *, background: int = 0, ignore: int | None = None
) -> float:
    """Return the adjusted Rand index over the pixels of true instances alone.

    Parameters
    ----------
    found, truth : integer array, shape (H, W) or (D, H, W)
        Instance of each pixel. What is found on true background does not count; found background
        is a region like others where the truth has instances.
    background : int
        True label without instances.
    ignore : int, optional
        Another true label whose pixels don't count.

    Returns
    -------
    float
        1 for equal partitions of the foreground (an empty one, too), about 0 by chance.

    Raises
    ------
    TypeError, ValueError
        If the maps are not integers on one grid.

    Notes
    -----
    Pairs are counted in exact integers. O(pixels). Hubert & Arabie, "Comparing partitions" (1985).

    Examples
    --------
    >>> foreground_ari([[5, 5, 6, 6, 3]], [[1, 1, 2, 2, 0]])
    1.0
    """
    guess, goal = checked_pair(found, truth)
    kept = goal != background
    if ignore is not None:
        kept &= goal != ignore
    if not kept.any():
        return 1.0
    counted = _Overlaps.of(guess, goal, kept)
    joined, of_found, of_truth, all_pairs = (
        _pairs(sizes)
        for sizes in (counted.n, counted.found_sizes, counted.truth_sizes, kept.sum(keepdims=True))
    )
    if of_found == of_truth == joined:
        return 1.0
    # Both sides multiplied by the number of pairs, so that integers stay exact.
    expected = of_found * of_truth
    return 2 * (joined * all_pairs - expected) / (all_pairs * (of_found + of_truth) - 2 * expected)


def _pairs(sizes: NDArray[Any]) -> int:
    """Return the number of pairs of pixels inside regions of these sizes, exactly."""
    counts = sizes.astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Overlaps:
    """Regions of two label maps and the pixels that they share, where pixels count."""

    found_values: Labels
    truth_values: Labels
    found_sizes: NDArray[np.int64]
    truth_sizes: NDArray[np.int64]
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    n: NDArray[np.int64]

    @staticmethod
    def of(found: Labels, truth: Labels, kept: NDArray[np.bool_] | None) -> _Overlaps:
        """Count; regions without a pixel that counts are left out."""
        if kept is not None and not kept.any():
            none, values = np.empty(0, np.int64), found.reshape(-1)[:0]
            return _Overlaps(values, values, none, none, none, none, none)
        mask = slice(None) if kept is None else kept.reshape(-1)
        a, found_values = compact(found.reshape(-1)[mask])
        b, truth_values = compact(truth.reshape(-1)[mask])
        keys = a.astype(np.int64) * truth_values.size + b
        pairs, n = np.unique(keys, return_counts=True)
        i, j = np.divmod(pairs, truth_values.size)
        sizes = [
            np.bincount(x, minlength=v.size) for x, v in ((a, found_values), (b, truth_values))
        ]
        return _Overlaps(found_values, truth_values, sizes[0], sizes[1], i, j, n)


# --- partitions -----------------------------------------------------------------------------


def adapted_rand_error(*, found: ArrayLike, truth: ArrayLike, ignore: int | None = None) -> float:
    """Adapted Rand error: 1 − F-score of the pairs of pixels that are joined (scikit-image).

    Parameters
    ----------
    found, truth : integer array, shape (H, W) or (D, H, W)
        Region of each pixel, of any integers.
    ignore : int, optional
        True label whose pixels don't count; 0 for connectomics' usual form.

    Returns
    -------
    float
        Within [0, 1]; NaN where no two pixels are joined.

    Raises
    ------
    TypeError, ValueError
        If the maps are not integers on one grid, or no pixel counts.

    Notes
    -----
    O(pixels log pixels).

    Examples
    --------
    >>> adapted_rand_error(found=[[1, 1, 2, 2]], truth=[[4, 4, 4, 0]], ignore=0)
    0.5
    """
    from skimage import metrics

    rand: Any = metrics.adapted_rand_error
    a, b = _kept_numbers(found, truth, ignore)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(rand(b, a, ignore_labels=())[0])


def variation_of_information(
    *, found: ArrayLike, truth: ArrayLike, ignore: int | None = None
) -> tuple[float, float]:
    """Conditional entropies in bits (scikit-image): of splits and of merges.

    Parameters
    ----------
    found, truth, ignore
        As in :func:`adapted_rand_error`.

    Returns
    -------
    splits, merges : float
        H(found | truth), which splits of true regions raise, and H(truth | found), which merges
        raise. Their sum is the variation of information.

    Raises
    ------
    TypeError, ValueError
        As :func:`adapted_rand_error`.

    Examples
    --------
    >>> variation_of_information(found=[[1, 1, 2, 2]], truth=[[4, 4, 4, 4]])
    (1.0, 0.0)
    """
    from skimage import metrics

    information: Any = metrics.variation_of_information
    a, b = _kept_numbers(found, truth, ignore)
    splits, merges = information(b, a, ignore_labels=())
    # Rounding may leave −1e-17, and −0.
    return max(0.0, float(splits)) + 0.0, max(0.0, float(merges)) + 0.0


def _kept_numbers(
    found: ArrayLike, truth: ArrayLike, ignore: int | None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Region numbers of the pixels that count: scikit-image allocates by the largest label."""
    guess, goal = (labels.reshape(-1) for labels in checked_pair(found, truth))
    if ignore is not None:
        kept = goal != ignore
        if not kept.any():
            raise ValueError(f"ignore={ignore} leaves no pixel to compare")
        guess, goal = guess[kept], goal[kept]
    return compact(guess)[0], compact(goal)[0]


def checked_pair(found: ArrayLike, truth: ArrayLike) -> tuple[Labels, Labels]:
    """Return two label maps that share one grid, partitions' with the labels they came from."""
    guess, goal = (
        labels.original_labels
        if isinstance(labels, Partition)
        else _validate.checked_labels(labels, name)
        for labels, name in ((found, "found"), (truth, "truth"))
    )
    _validate.checked_same_grid(guess.shape, goal.shape, "found", "truth")
    return guess, goal
