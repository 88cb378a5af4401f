"""The EM volume: neurons from a boundary map and its fragments, without seeing the ground truth.

Adapted Rand error and variation of information (bits) over the labelled voxels, against the best
threshold of mean-boundary agglomeration, which is chosen with the ground truth. Needs
HIERSEARCH_EM. And the time of greedy merging from about 3,500 regions, on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs import photo, slic, soft_output
from benchmarks.measuring import in_turn
from benchmarks.network_outputs import em_volume
from benchmarks.question import EM, PHOTO, Answer, Question
from benchmarks.tables import Table, span

QUESTION = Question(
    "How well are neurons found from a boundary map without seeing the ground truth, in adapted "
    "Rand error, and how long does merging 3,551 regions take?",
    minutes=3,
    data=(EM,),
    bundled=PHOTO,
    in_readme=True,
)

FIXED = (0.5, 0.7, 0.9, 0.95, 0.97, 0.99)
"""Mean boundary at which two regions are taken for two, without calibration."""


def errors(truth: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Adapted Rand error and variation of information over the labelled voxels."""
    from skimage.metrics import adapted_rand_error, variation_of_information

    labelled = truth > 0
    return (
        float(adapted_rand_error(truth[labelled], labels[labelled])[0]),
        float(variation_of_information(truth[labelled], labels[labelled]).sum()),
    )


def objects_table() -> Table:
    from hiersearch import build_hierarchy
    from hiersearch.refinement.objects import objects

    volume = em_volume()
    truth, fragments = volume["ground_truth"], volume["fragments"]
    boundary = volume["boundary_probability"].astype(np.float64)
    table = Table(
        "EM volume, 203 fragments",
        ("method", "regions", "adapted Rand error", "variation of information", "ms"),
    )

    def row(name: str, labels: NDArray[Any], seconds: float | None = None) -> None:
        rand, information = errors(truth, labels)
        told = "–" if seconds is None else f"{1e3 * seconds:.0f}"
        count = np.unique(labels).size
        table.rows.append((name, f"{count}", f"{rand:.4f}", f"{information:.4f}", told))

    row("fragments", fragments)
    tree = build_hierarchy(superpixels=fragments, linkage="average", boundary=boundary)
    cuts = [tree.labels_of(tree.horizontal_cut(float(a))) for a in np.unique(tree.altitudes)]
    best = min(cuts, key=lambda labels: errors(truth, labels)[0])
    row("best threshold of all, chosen with the ground truth", best)
    for height in FIXED:
        found = objects(
            None, boundary, reading="boundaries", superpixels=fragments, break_even=height
        )
        row(f"objects, break-even {height} given", found.labels)
    for name, leaves in (("these fragments", fragments), ("its own basins", None)):
        begin = time.perf_counter()
        found = objects(None, boundary, reading="boundaries", superpixels=leaves)
        seconds = time.perf_counter() - begin
        figures = found.trace[-1].figures
        row(f"**objects, calibrated ({figures['break_even']:.4f}), {name}**", found.labels, seconds)
    table.notes.append(
        "A fixed break-even needs the ground truth to be chosen, too; the calibrated one does not."
    )
    return table


def merging_case(channels: int = 12) -> tuple[NDArray[np.int32], dict[str, Any]]:
    """About 3,500 SLIC regions of a photo, with soft outputs of each kind to merge them by."""
    from hiersearch.partitions import SoftPartition
    from hiersearch.partitions.checks import pair_slices

    sharp = soft_output(channels) ** 4
    sharp /= sharp.sum(axis=0)
    offsets = np.array([(0, 1), (1, 0), (0, 9), (9, 0)])
    joined = np.ones((len(offsets), *sharp.shape[1:]), np.float32)
    for channel, offset in zip(joined, offsets, strict=True):
        one, other = pair_slices(offset, sharp.shape[1:])
        channel[one] = (sharp[:, *one] * sharp[:, *other]).sum(axis=0)
    return slic(4500), {
        "region channels": SoftPartition.from_regions(sharp),
        "class channels": SoftPartition.from_classes(sharp),
        "affinities, 4 offsets": SoftPartition.from_affinities(
            np.clip(joined, 0, 1), offsets.tolist()
        ),
    }


def merging_times() -> Table:
    from hiersearch.refinement.constraints import constrained_leaves
    from hiersearch.refinement.merging_problem import merging_problem
    from hiersearch.refinement.metric_merging import _merged, metric_merging

    labels, cases = merging_case()
    table = Table(
        f"Greedy merging, 512 × 512, {labels.max() + 1:,} regions (ms)",
        ("soft output", "merging, whole tree", "region graph and sums", "whole call", "merges"),
    )
    leaves = constrained_leaves(labels)
    for name, soft in cases.items():

        def summing(soft: Any = soft) -> Any:
            return merging_problem(soft, leaves, (0.0, 0.0), None, 1.0, False)

        problem = summing()

        def merging(problem: Any = problem) -> Any:
            return _merged(problem, leaves, True, 0)

        def whole(soft: Any = soft) -> Any:
            return metric_merging(photo(), soft, superpixels=labels)

        functions: dict[str, Callable[[], Any]] = {"m": merging, "s": summing, "w": whole}
        found = in_turn(functions, 11)
        merges = f"{whole().trace[0].figures['merges']:,}"
        table.rows.append((name, *(str(found[key]) for key in "msw"), merges))
    table.notes.append(
        "Merging goes on above the stop, to the root of the returned tree; the whole call also "
        "validates, counts and writes the refined probabilities of all pixels."
    )
    return table


def run() -> list[Table]:
    return [objects_table(), merging_times()]


def answer(tables: list[Table]) -> Answer:
    found, merging = tables
    error = "adapted Rand error"
    given, own = (row for row in found.rows if row[0].strip("*").startswith("objects, calibrated"))
    best = found.figure("best threshold of all", error)
    times = span(merging.figures("merging, whole tree"))
    return Answer(
        f"{given[found.column(error)]} from given fragments, {own[found.column(error)]} from its "
        f"own basins; {times} ms",
        f"best threshold of all, chosen with the ground truth {best}; fragments as they are "
        f"{found.figure('fragments', error)}",
    )
