"""What ``hiersearch refine`` does with each image, and what it reports and writes."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import evaluation
from hiersearch.cli import inputs
from hiersearch.cli.console import print_line, print_table, progress
from hiersearch.cli.errors import Interrupted, UsageError, sentence, stops_all, with_name
from hiersearch.cli.names import FreeNames
from hiersearch.cli.outputs import Destination, input_files
from hiersearch.cli.soft_outputs import SoftSource
from hiersearch.partitions.files import read_plain_image, write_atomically, write_label_map
from hiersearch.refinement.pipeline import refine

if TYPE_CHECKING:
    from hiersearch.refinement.refinement import Refinement

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
SOFT_OUTPUTS = (".npy", ".npz", ".pt", ".png", ".tif", ".tiff")
LABEL_MAPS = (".png", ".tif", ".tiff", ".npy", ".npz")

SCORES = {
    "class_iou": "class IoU, mean",
    "boundary_iou": "class IoU within 3 pixels of boundaries",
    "foreground_ari": "foreground ARI",
    "average_precision_50": "AP at IoU 0.5",
    "average_precision": "AP, mean over IoU 0.5 to 0.95",
    "adapted_rand_error": "adapted Rand error",
    "variation_of_information": "variation of information (bits)",
}
"""Names of the scores in summaries and in tables."""

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class RefineJob:
    """What was asked for, alike for all images."""

    source: SoftSource
    """Where soft outputs come from."""
    methods: tuple[str, ...] | None
    """Methods to be used in turn; None for the default of the reading."""
    ignore: int | None
    """True label that does not count."""
    device: str = "cpu"
    """What does the heavy work of the methods that can use a GPU."""


# --- one image, or a folder -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """One image that is to be refined."""

    image: Path
    """The image."""
    soft: Path | None
    """Its saved soft output, or None where a network is run."""
    truth: Path | None
    """Label map to score against."""
    destination: Destination
    """Where its files go."""
    of_several: bool
    """Whether it is one of a folder."""


def planned(
    image: Path, soft: Path | None, truth: Path | None, destination: Destination
) -> list[Task]:
    """Return what is to be done, after checking all that can be checked before any work.

    Raises
    ------
    UsageError
        If a folder has no images or several of one name, an image has no soft output or truth,
        or a file is in the way of a result.
    """
    common = destination.inputs
    if not image.is_dir():
        destination = replace(destination, inputs=common | input_files(image, soft, truth))
        tasks = [Task(image, soft, truth, destination, False)]
    else:
        free = FreeNames(destination.record)
        tasks = []
        for path in _images(image):
            own_soft = _partner(path, soft, SOFT_OUTPUTS, "--soft")
            own_truth = _partner(path, truth, LABEL_MAPS, "--truth")
            tasks.append(
                Task(
                    path,
                    own_soft,
                    own_truth,
                    # Results of one image never hit the inputs of another: all are checked.
                    destination.inside(free.of(path.stem)),
                    True,
                )
            )
        every = (path for task in tasks for path in (task.image, task.soft, task.truth))
        inputs_read = common | input_files(*every)
        tasks = [
            replace(task, destination=replace(task.destination, inputs=inputs_read))
            for task in tasks
        ]
        replace(destination, inputs=inputs_read).check([destination.record])
    for task in tasks:
        names = ["labels.npy", "probabilities.npy", "before-after.png", destination.record]
        # Of other files, only reading them tells whether they are volumes.
        if task.image.suffix.lower() in (".png", ".jpg", ".jpeg"):
            names.append("labels.png")
        task.destination.check(names)
    return tasks


def refine_all(
    tasks: list[Task], destination: Destination, job: RefineJob, *, quiet: bool
) -> dict[str, Any]:
    """Refine an image or the images of a folder; return the summary that was written.

    Images of a folder that cannot be refined are left out and listed under "failed".
    """
    if not tasks[0].of_several:
        with progress("Refining", quiet):
            return _refine_one(tasks[0], job)
    summaries, failed = [], []
    for task in _with_progress(tasks, quiet):
        try:
            summaries.append(_refine_one(task, job))
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"{len(summaries)} of {len(tasks)} images are in {destination.folder}"
            ) from error
        except Exception as error:
            message = sentence(error)
            if message is None:
                raise
            if stops_all(error):
                raise UsageError(
                    f"{message}; {len(summaries)} of {len(tasks)} images are in "
                    f"{destination.folder}"
                ) from error
            failed.append({"image": str(task.image), "error": message})
    if not summaries:
        raise UsageError(
            f"none of {len(tasks)} images could be refined, the first: "
            f"{with_name(failed[0]['image'], failed[0]['error'])}"
        )
    summary: dict[str, Any] = {
        "folder": str(destination.folder),
        "images": summaries,
        "failed": failed,
    }
    if tasks[0].truth is not None:
        summary["scores"] = {
            when: _mean_scores([one["scores"][when] for one in summaries])
            for when in ("before", "after")
        }
    with destination.staged() as stage:
        destination.write_record(stage, summary)
    return summary


def _images(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in IMAGES and path.is_file()
    )
    if not found:
        raise UsageError(f"{folder} must hold images ({', '.join(IMAGES)}), got none")
    stems = Counter(path.stem for path in found)
    for stem, count in stems.items():
        if count > 1:
            raise UsageError(f"{folder} must hold one image of each name, got several of {stem!r}")
    return found


def _partner(
    image: Path, folder: Path | None, endings: tuple[str, ...], option: str
) -> Path | None:
    """Return the file of an image's stem in another folder."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise UsageError(f"{option} must be a folder where IMAGE is one, got {folder}")
    found = [folder / (image.stem + ending) for ending in endings]
    found = [path for path in found if path.exists()]
    if len(found) != 1:
        got = "none" if not found else " and ".join(path.name for path in found)
        raise UsageError(f"{option} {folder} must hold one file for {image.name}, got {got}")
    return found[0]


def _with_progress(items: list[Any], quiet: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal or quiet:
        yield from items  # a progress bar that is not shown ends the line all the same
    else:
        yield from track(items, "Refining", console=console)


def _refine_one(task: Task, job: RefineJob) -> dict[str, Any]:
    image, soft, truth = task.image, task.soft, task.truth
    begin = time.perf_counter()
    pixels = read_plain_image(image)
    output = job.source.of_image(pixels, image, soft)
    task.destination.check(["labels.png" if len(output.grid) == 2 else "labels.tif"])
    goal = None if truth is None else inputs.labels_on_grid(truth, output.grid, "truth")
    before = output.plain_labels()
    seconds = {"preparing": time.perf_counter() - begin}
    begin = time.perf_counter()
    found = refine(pixels, output, method=job.methods, device=job.device)
    seconds["refining"] = time.perf_counter() - begin
    scores = None
    if goal is not None:
        states = {"before": (before, output), "after": (found.labels, found.output)}
        backgrounds = {"before": output.has_background, "after": found.has_background}
        scores = {
            when: _scores(labels, goal, of.rows_are_classes, backgrounds[when], job.ignore)
            for when, (labels, of) in states.items()
        }
    ignored = None
    if goal is not None and job.ignore is not None:
        ignored = int(np.count_nonzero(goal == job.ignore))
    return _write(task, pixels, before, found, scores, seconds, ignored)


# --- scores ---------------------------------------------------------------------------------


def _scores(
    found: Labels, truth: Labels, of_classes: bool, has_background: bool, ignore: int | None
) -> dict[str, Any]:
    """Return the scores that go with the truth: of classes, or of instances."""
    if of_classes:
        classes = evaluation.class_iou(found, truth, ignore=ignore)
        near = evaluation.boundary_iou(found, truth, ignore=ignore)
        return {
            "class_iou": _finite(classes.mean),
            "class_iou_of_classes": [_finite(value) for value in classes.of_classes],
            "boundary_iou": _finite(near.mean),
        }
    instances = found if has_background else _without_background(found, truth)
    scores: dict[str, Any] = {
        "foreground_ari": evaluation.foreground_ari(found, truth, ignore=ignore),
        "average_precision_50": float(
            evaluation.average_precision(instances, truth, ignore=ignore)[0]
        ),
        "average_precision": evaluation.mean_average_precision(instances, truth, ignore=ignore),
    }
    # Pairs of pixels count where the truth has instances, as usual in connectomics.
    kept = truth if ignore is None else np.where(truth == ignore, 0, truth)
    if kept.any():
        error = evaluation.adapted_rand_error(found=found, truth=kept, ignore=0)
        splits, merges = evaluation.variation_of_information(found=found, truth=kept, ignore=0)
        scores |= {
            "adapted_rand_error": _finite(error),
            "variation_of_information": splits + merges,
            "splits": splits,
            "merges": merges,
        }
    return scores


def _without_background(found: Labels, truth: Labels) -> Labels:
    """Renumber regions from 1, with 0 for the one that most of the true background lies in."""
    regions = found.astype(np.int64) - int(found.min()) + 1
    background = truth == 0
    if background.any():
        counts = np.bincount(regions[background])
        regions[regions == counts.argmax()] = 0
    return regions


def _finite(value: float) -> float | None:
    # JSON has no NaN: what is not defined is null.
    return float(value) if math.isfinite(value) else None


def _mean_scores(scores: list[dict[str, Any]]) -> dict[str, Any]:
    means = {}
    for name in SCORES:
        values = [one[name] for one in scores if one.get(name) is not None]
        if values:
            means[name] = float(np.mean(values))
    return means


# --- what is written ------------------------------------------------------------------------


def _write(
    task: Task,
    pixels: NDArray[Any],
    before: Labels,
    found: Refinement,
    scores: dict[str, Any] | None,
    seconds: dict[str, float],
    ignored: int | None,
) -> dict[str, Any]:
    """Write the files of one image; return the summary."""
    from hiersearch.plots import save_picture
    from hiersearch.plots.refinement import changed_pixels, refinement_picture

    folder = task.destination.folder
    begin = time.perf_counter()
    classes = found.output.rows_are_classes
    fits = found.labels.ndim == 2 and int(found.labels.max()) < 2**16
    names = {
        "labels": "labels.npy",
        "label_map": "labels.png" if fits else "labels.tif",
        "probabilities": "probabilities.npy",
        "picture": "before-after.png",
        "summary": "summary.json",
    }
    with task.destination.staged() as stage:
        write_label_map(stage / names["labels"], found.labels)
        write_label_map(stage / names["label_map"], found.labels)
        with write_atomically(stage / names["probabilities"]) as stream:
            np.save(stream, found.output.channels)
        picture = refinement_picture(pixels, before, found.labels, classes=classes)
        save_picture(picture, stage / names["picture"])
        changed = int(changed_pixels(before, found.labels, classes=classes).sum())
        seconds["writing"] = time.perf_counter() - begin
        summary: dict[str, Any] = {
            "image": str(task.image),
            "grid": list(found.labels.shape),
            "reading": found.output.reading,
            "regions": found.partition.n_regions,
            "changed_pixels": changed,
            "changed_share": changed / found.labels.size,
            "trace": [
                {"method": step.method, "seconds": step.seconds, **step.figures}
                for step in found.trace
            ],
            "seconds": {step: round(value, 6) for step, value in seconds.items()},
            "files": {key: str(folder / name) for key, name in names.items()},
        }
        if ignored is not None:
            summary["ignored_pixels"] = ignored
        if scores is not None:
            summary["scores"] = scores
        task.destination.write_record(stage, summary)
    return summary


def print_refined(summary: dict[str, Any]) -> None:
    """Write tables of what was done to standard output."""
    images = summary.get("images", [summary])
    rows = [
        [
            Path(one["image"]).name,
            f"{one['regions']:,}",
            f"{100 * one['changed_share']:.2f} %",
            f"{1000 * one['seconds']['refining']:.0f} ms",
        ]
        for one in images
    ]
    title = f"Refined, read as {images[0]['reading']}"
    print_table(title, ["image", "regions", "pixels changed", "time"], rows)
    if "scores" in summary:
        before, after = summary["scores"]["before"], summary["scores"]["after"]
        rows = [
            [title, _number(before.get(name)), _number(after.get(name))]
            for name, title in SCORES.items()
            if name in before or name in after
        ]
        print_table("Scores", ["", "before", "after"], rows)
    print_line("wrote:")
    if "folder" in summary:
        print_line(f"  {os.path.relpath(summary['folder'])}")
        return
    for path in summary["files"].values():
        print_line(f"  {os.path.relpath(path)}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
