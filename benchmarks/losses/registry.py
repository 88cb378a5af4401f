"""Every loss of the comparison under one name: where it comes from and how to make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from benchmarks.losses import field, ours
from benchmarks.losses import written_likelihoods as likelihoods
from benchmarks.losses import written_maps as maps
from benchmarks.losses import written_overlaps as overlaps
from benchmarks.losses.field import Loss

Make = Callable[[int, Sequence[float]], Loss]
"""Number of classes and their shares of the training pixels -> a loss, ready to be called."""


@dataclass(frozen=True, slots=True)
class LossEntry:
    """One loss of the comparison."""

    name: str
    """Key in :data:`LOSSES`, fit for a file name."""
    title: str
    """Name in tables."""
    source: str
    """Who computes it: torch, monai, kornia, written (here, from the paper) or hiersearch."""
    reference: str
    """Authors and year of the paper."""
    make: Make
    """Makes it. A loss with parameters to train with the network's is a ``torch.nn.Module``."""


def _simple(function: Callable[[Tensor, Tensor], Tensor]) -> Make:
    """Return the maker of a loss that needs neither classes nor progress."""
    return lambda n_classes, class_frequencies: (
        lambda logits, target, step_share: function(logits, target)
    )


def _exponential_logarithmic(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    return lambda logits, target, step_share: overlaps.exponential_logarithmic(
        logits, target, class_frequencies
    )


def _t_loss(n_classes: int, class_frequencies: Sequence[float]) -> Loss:
    return likelihoods.TLoss()


_THIS_PROJECT = "this project"

_OURS = tuple(
    LossEntry(
        name,
        title,
        "hiersearch",
        _THIS_PROJECT,
        partial(ours.partition_metric, settings=settings, with_cross_entropy=with_cross_entropy),
    )
    for with_cross_entropy, forms in ((False, ours.FORMS), (True, ours.WITH_CROSS_ENTROPY))
    for name, title, settings in forms
)

_FIELD = (
    LossEntry("cross-entropy", "Cross-entropy", "torch", "–", field.cross_entropy),
    LossEntry("top-k", "Top-k cross-entropy", "torch", "Wu et al. 2016", field.top_k_cross_entropy),
    LossEntry("focal", "Focal", "monai", "Lin et al. 2017", field.focal),
    LossEntry("dice", "Dice", "monai", "Milletari et al. 2016", field.dice),
    LossEntry("dice-ce", "Dice + cross-entropy", "monai", "Isensee et al. 2018", field.dice_ce),
    LossEntry(
        "generalised-dice",
        "Generalised Dice",
        "monai",
        "Sudre et al. 2017",
        field.generalised_dice,
    ),
    LossEntry("iou", "IoU", "monai", "Rahman and Wang 2016", field.intersection_over_union),
    LossEntry("tversky", "Tversky", "monai", "Salehi et al. 2017", field.tversky),
    LossEntry(
        "wasserstein-dice",
        "Wasserstein Dice",
        "monai",
        "Fidon et al. 2017",
        field.wasserstein_dice,
    ),
    LossEntry("lovasz", "Lovász", "kornia", "Berman et al. 2018", field.lovasz),
    LossEntry("boundary", "Boundary", "monai", "Kervadec et al. 2019", field.boundary),
    LossEntry("hausdorff", "Hausdorff", "monai", "Karimi and Salcudean 2019", field.hausdorff),
    LossEntry("unified-focal", "Unified focal", "monai", "Yeung et al. 2022", field.unified_focal),
)

_WRITTEN = (
    LossEntry(
        "focal-tversky",
        "Focal Tversky",
        "written",
        "Abraham and Khan 2018",
        _simple(overlaps.focal_tversky),
    ),
    LossEntry(
        "log-cosh-dice",
        "Log-cosh Dice",
        "written",
        "Jadon 2020",
        _simple(overlaps.log_cosh_dice),
    ),
    LossEntry(
        "sensitivity-specificity",
        "Sensitivity–specificity",
        "written",
        "Brosch et al. 2015",
        _simple(overlaps.sensitivity_specificity),
    ),
    LossEntry(
        "boundary-dou",
        "Boundary DoU",
        "written",
        "Sun et al. 2023",
        _simple(overlaps.boundary_difference_over_union),
    ),
    LossEntry(
        "exponential-logarithmic",
        "Exponential logarithmic",
        "written",
        "Wong et al. 2018",
        _exponential_logarithmic,
    ),
    LossEntry(
        "distance-map-ce",
        "Distance-map cross-entropy",
        "written",
        "Caliva et al. 2019",
        _simple(maps.distance_map_cross_entropy),
    ),
    LossEntry(
        "region-wise",
        "Region-wise",
        "written",
        "Valverde and Tohka 2022",
        _simple(maps.region_wise),
    ),
    LossEntry("t-loss", "T-loss", "written", "Gonzalez-Jimenez et al. 2023", _t_loss),
    LossEntry(
        "region-mutual-information",
        "Region mutual information",
        "written",
        "Zhao et al. 2019",
        _simple(likelihoods.region_mutual_information),
    ),
)

LOSSES: dict[str, LossEntry] = {entry.name: entry for entry in (*_OURS, *_FIELD, *_WRITTEN)}
"""All losses of the comparison by name."""

LEFT_OUT: dict[str, str] = {
    "boundary-aware (Hayder et al. 2017)": (
        "not a loss on class maps: a box-proposal network predicts, for each box, the binary code "
        "of the distance to the object's boundary, decoded by an inverse distance transform"
    ),
    "active boundary (Wang et al. 2022)": (
        "not a function of the output alone that fits a few lines: it detects the predicted "
        "boundary by a threshold found anew in each image, resolves the moves of its pixels, and "
        "is defined as an addition to cross-entropy and Lovász with weights of its own"
    ),
    "InverseForm (Borse et al. 2021)": (
        "needs a second network, trained beforehand to regress the transformation between two "
        "boundary maps, and a boundary head beside the class head"
    ),
    "conditional boundary (Wu et al. 2023)": (
        "acts on the features before the classifier, with class centres of correctly classified "
        "neighbours: it needs the network's inside, not its logits"
    ),
}
"""Losses of the survey that are not compared, and why."""
