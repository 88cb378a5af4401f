"""Scores of a segmentation against ground truth."""

from hiersearch.evaluation.class_maps import (
    IoU,
    boundary_iou,
    class_confusion,
    class_iou,
    iou_of_confusion,
)
from hiersearch.evaluation.scores import (
    adapted_rand_error,
    average_precision,
    foreground_ari,
    instance_matches,
    mean_average_precision,
    variation_of_information,
)

__all__ = [
    "IoU",
    "adapted_rand_error",
    "average_precision",
    "boundary_iou",
    "class_confusion",
    "class_iou",
    "foreground_ari",
    "instance_matches",
    "iou_of_confusion",
    "mean_average_precision",
    "variation_of_information",
]
