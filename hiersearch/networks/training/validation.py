"""Scores of a network on labelled images that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import evaluation
from hiersearch.choices import TrainedReading
from hiersearch.evaluation.class_maps import class_confusion, iou_of_confusion
from hiersearch.networks.channels import IGNORED
from hiersearch.networks.network import Network
from hiersearch.partitions.output import reading_kind
from hiersearch.refinement.pipeline import refine

LabelMaps = Sequence[NDArray[np.integer[Any]]]

_INSTANCES = {
    "average_precision_50": "AP at IoU 0.5",
    "average_precision": "AP, mean over IoU 0.5 to 0.95",
    "foreground_ari": "foreground ARI",
}
SCORES: dict[TrainedReading, dict[str, str]] = {
    "objects": _INSTANCES,
    "classes": {"class_iou": "class IoU, mean", "accuracy": "accuracy"},
    "affinities": _INSTANCES,
}
"""Scores of each reading with their names; the first says which network is best."""


def validation_scores(
    network: Network,
    images: Sequence[ArrayLike],
    label_maps: LabelMaps,
    reading: TrainedReading,
    *,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Score a network as it will be used.

    Instances come from the package's own search, `refine`, and their scores are means
    over images. Classes are the arg-max; their IoU is over all pixels, its mean over the classes
    that occur.

    Parameters
    ----------
    network : Network
        Which knows its reading.
    images : sequence of arrays
        One or more.
    label_maps : sequence of integer arrays (H, W)
        ``IGNORED`` (-1) where a pixel doesn't count.
    reading : {"objects", "classes", "affinities"}
        What the label maps are of.
    between : callable
        Called before each image; what it raises ends the scoring.

    Returns
    -------
    dict
        Of ``SCORES`` of the reading, each at most 1; NaN where nothing counts.
    """
    if reading_kind(reading).of_classes:
        return _class_scores(network, images, label_maps, between)
    rows = []
    for image, truth in zip(images, label_maps, strict=True):
        between()
        found = refine(image, network.predict(image)).labels
        rows.append(
            (
                float(evaluation.average_precision(found, truth, ignore=IGNORED)[0]),
                evaluation.mean_average_precision(found, truth, ignore=IGNORED),
                evaluation.foreground_ari(found, truth, ignore=IGNORED),
            )
        )
    means = np.mean(rows, axis=0)
    return {name: float(mean) for name, mean in zip(SCORES[reading], means, strict=True)}


def _class_scores(
    network: Network,
    images: Sequence[ArrayLike],
    label_maps: LabelMaps,
    between: Callable[[], None],
) -> dict[str, float]:
    total: NDArray[np.int64] | None = None
    for image, truth in zip(images, label_maps, strict=True):
        between()
        probabilities = network(image)
        classes = len(probabilities)
        counts = class_confusion(probabilities.argmax(axis=0), truth, classes, ignore=IGNORED)
        total = counts if total is None else total + counts
    assert total is not None
    pixels = int(total.sum())
    accuracy = float(np.trace(total)) / pixels if pixels else float("nan")
    return {"class_iou": float(iou_of_confusion(total).mean), "accuracy": accuracy}
