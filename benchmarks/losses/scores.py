"""Scores of a trained network on a split: of class maps, instances, boundaries and confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.losses.data import Probabilities, Problem, Sample
from hiersearch.evaluation import (
    average_precision,
    class_confusion,
    foreground_ari,
    iou_of_confusion,
)
from hiersearch.evaluation.scores import COMMON_THRESHOLDS
from hiersearch.networks.unet import SmallUNet

BOUNDARY_PIXELS = 2
"""How far a boundary may lie from its counterpart."""
CONFIDENCE_BINS = 15


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores on one split, each within [0, 1]."""

    class_iou: float
    """Mean over classes; the counts of all images pooled."""
    foreground_iou: float
    """The same without class 0."""
    foreground_ari: float
    """Of instances, over the pixels of true instances; mean over images, like the next three."""
    ap_50: float
    """TP / (TP + FP + FN) of instances that overlap by IoU > 0.5, whatever their class."""
    mean_ap: float
    """The same, mean over 0.5, 0.55, .., 0.95."""
    boundary_f: float
    """F-score of the boundaries between instances and to background, within 2 pixels."""
    calibration_error: float
    """Expected calibration error of the likeliest class; all pixels pooled, 15 bins."""


def class_scores(network: SmallUNet, problem: Problem, samples: list[Sample]) -> float:
    """Mean class IoU alone: what learning rates are chosen by."""
    confusion = sum(
        class_confusion(soft.argmax(axis=0), sample.classes, len(problem.class_names))
        for sample, soft in zip(samples, outputs(network, samples), strict=True)
    )
    return iou_of_confusion(np.asarray(confusion)).mean


def all_scores(network: SmallUNet, problem: Problem, samples: list[Sample]) -> Scores:
    """Return every score. O(pixels · classes)."""
    k = len(problem.class_names)
    confusion = np.zeros((k, k), np.int64)
    bins = np.zeros((CONFIDENCE_BINS, 3))
    of_images = []
    for sample, soft in zip(samples, outputs(network, samples), strict=True):
        confusion += class_confusion(soft.argmax(axis=0), sample.classes, k)
        bins += confidence_counts(soft, sample.classes)
        found = problem.objects(soft)
        precisions = average_precision(found, sample.instances, COMMON_THRESHOLDS)
        of_images.append(
            (
                foreground_ari(found, sample.instances),
                precisions[0],
                precisions.mean(),
                boundary_f(found, sample.instances),
            )
        )
    iou = iou_of_confusion(confusion)
    return Scores(
        iou.mean,
        float(np.nanmean(iou.of_classes[1:])),
        *(float(v) for v in np.mean(of_images, axis=0)),
        calibration_error(bins),
    )


@torch.no_grad()
def outputs(network: SmallUNet, samples: list[Sample]) -> list[Probabilities]:
    """Probabilities (k, H, W) of each sample; neighbours of one size go through together."""
    found: list[Probabilities] = []
    at = 0
    while at < len(samples):
        grid, end = samples[at].image.shape, at
        while end < len(samples) and end - at < 8 and samples[end].image.shape == grid:
            end += 1
        images = torch.stack([sample.image for sample in samples[at:end]])
        found += list(network.forward_standardised(images).softmax(dim=1).numpy())
        at = end
    return found


def boundary_f(found: NDArray[Any], truth: NDArray[Any], pixels: float = BOUNDARY_PIXELS) -> float:
    """F-score of boundary pixels that lie within some distance of a boundary pixel of the other.

    Boundary pixels have one of the 4 neighbours in another region, on both sides of a boundary.
    1 where neither map has a boundary, 0 where one has none. O(pixels).

    Source: D. Martin, C. Fowlkes, J. Malik, "Learning to detect natural image boundaries" (2004);
    without their one-to-one assignment, as in G. Csurka et al. (2013).
    """
    a, b = _boundaries(found), _boundaries(truth)
    if not (a.any() and b.any()):
        return float(a.any() == b.any())
    precision = (ndimage.distance_transform_edt(~b)[a] <= pixels).mean()
    recall = (ndimage.distance_transform_edt(~a)[b] <= pixels).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _boundaries(labels: NDArray[Any]) -> NDArray[np.bool_]:
    at = np.zeros(labels.shape, np.bool_)
    below, beside = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    at[1:] |= below
    at[:-1] |= below
    at[:, 1:] |= beside
    at[:, :-1] |= beside
    return at


def confidence_counts(probabilities: Probabilities, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Pixels, summed confidence and right pixels by bin of confidence, (bins, 3)."""
    confidence = probabilities.max(axis=0).ravel().astype(np.float64)
    right = (probabilities.argmax(axis=0) == classes).ravel()
    bins = np.minimum((confidence * CONFIDENCE_BINS).astype(np.intp), CONFIDENCE_BINS - 1)
    columns = (None, confidence, right)
    return np.stack(
        [np.bincount(bins, weights, CONFIDENCE_BINS).astype(np.float64) for weights in columns],
        axis=1,
    )


def calibration_error(counts: NDArray[np.float64]) -> float:
    """Return the expected calibration error of `confidence_counts`: Σ |right − confidence| / n.

    Source: C. Guo et al., "On calibration of modern neural networks" (2017).
    """
    return float(np.abs(counts[:, 2] - counts[:, 1]).sum() / counts[:, 0].sum())
