"""What ``demo`` and ``match`` report and write."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hiersearch.cli.console import print_line, print_table
from hiersearch.cli.names import shown
from hiersearch.cli.outputs import Destination
from hiersearch.hierarchy.cut_result import CutResult
from hiersearch.hierarchy.cuts import horizontal_curve
from hiersearch.metric import distance
from hiersearch.partitions.files import write_label_map
from hiersearch.partitions.output import SoftOutput

if TYPE_CHECKING:
    from hiersearch.hierarchy.matching import Match


@dataclass(frozen=True, slots=True)
class MatchJob:
    """What was asked for, as it goes into the summary."""

    image: str
    """Path or name of the image."""
    source: dict[str, str]
    """``{"soft": path}`` or ``{"network": path or name}``."""
    superpixels: str
    """Method or path."""
    linkage: str
    """Name of the linkage."""
    class_weight: float = 0.0
    """λ of the class property term."""
    overview: bool = True
    """Whether to draw the figure of six panels, which takes Matplotlib a second or two."""


def summary_of(
    match: Match, job: MatchJob, reading: str, seconds: dict[str, float], folder: Path
) -> dict[str, Any]:
    """Return the JSON summary of a match; files are named as :func:`write_results` does."""
    best, horizontal = match.best, match.horizontal
    names = file_names(match, job)
    finest = float(horizontal_curve(match.tree, match.costs).distances[0])
    rho = float(distance(match.target, best.partition)) if job.class_weight else best.distance
    summary: dict[str, Any] = {
        "distance": rho,
        "regions": best.n_regions,
        "partition": str(folder / names["partition"]),
        "candidates": best.candidates,
        "candidates_log10": best.log10_candidates,
        "objective": best.distance,
        "horizontal": None if horizontal is None else _horizontal(horizontal),
        "superpixels": {
            "method": job.superpixels,
            "regions": match.tree.n_leaves,
            "distance": finest if math.isfinite(finest) else None,
        },
        "image": job.image,
        "grid": list(match.tree.grid),
        **job.source,
        "reading": reading,
        "linkage": job.linkage,
        "class_weight": job.class_weight,
        "seconds": {step: round(value, 6) for step, value in seconds.items()},
        "files": {key: str(folder / name) for key, name in names.items()},
    }
    if best.classes is not None:
        summary["classes"] = best.classes.tolist()
    if len(match.nearest) > 1:
        summary["nearest"] = [
            {
                "distance": cut.distance,
                "regions": cut.n_regions,
                "partition": str(folder / (names["partition"] if i == 0 else _rank_name(i))),
            }
            for i, cut in enumerate(match.nearest)
        ]
    return summary


def _horizontal(cut: CutResult) -> dict[str, Any]:
    altitude = cut.altitude
    return {
        "distance": cut.distance,
        "regions": cut.n_regions,
        "candidates": cut.candidates,
        # JSON has no infinity: the cut at the leaves begins at none.
        "altitude": altitude if altitude is not None and math.isfinite(altitude) else None,
    }


def _rank_name(place: int) -> str:
    return f"labels-{place + 1}.npy"


def file_names(match: Match, job: MatchJob) -> dict[str, str]:
    """Return the names of the files that a match writes."""
    fits = len(match.tree.grid) == 2 and match.best.n_regions <= 2**16
    names = {
        "partition": "labels.npy",
        "label_map": "labels.png" if fits else "labels.tif",
        "overlay": "overlay.png",
        "summary": "summary.json",
    }
    if job.overview:
        names["overview"] = "overview.png"
    return names


def write_results(
    destination: Destination,
    image: NDArray[Any],
    match: Match,
    job: MatchJob,
    seconds: dict[str, float],
    *,
    output: SoftOutput,
    channel_names: tuple[str, ...] | None,
) -> dict[str, Any]:
    """Write label maps, pictures and summary; return the summary."""
    from hiersearch.plots import overlay, save_picture

    names = file_names(match, job)
    labels = match.best.labels
    with destination.staged() as stage:
        begin = time.perf_counter()
        write_label_map(stage / names["partition"], labels)
        write_label_map(stage / names["label_map"], labels)
        for place, cut in enumerate(match.nearest[1:], start=1):
            write_label_map(stage / _rank_name(place), cut.labels)
        save_picture(overlay(image, labels), stage / names["overlay"])
        if job.overview:
            _write_overview(stage / names["overview"], image, match, job, output, channel_names)
        seconds["writing"] = time.perf_counter() - begin
        summary = summary_of(match, job, output.reading, seconds, destination.folder)
        destination.write_record(stage, summary)
    return summary


def _write_overview(
    path: Path,
    image: NDArray[Any],
    match: Match,
    job: MatchJob,
    output: SoftOutput,
    channel_names: tuple[str, ...] | None,
) -> None:
    from hiersearch.plots import match_figure, save_figure

    figure = match_figure(
        image,
        match,
        # Pairs of pixels are drawn as the target that they are read as.
        probabilities=None if output.kind.between_pixels else output.channels,
        channel_names=channel_names,
        title=shown(Path(job.image).name),
    )
    save_figure(figure, path)


def print_results(summary: dict[str, Any]) -> None:
    """Write the table of a match and the files it left to standard output."""
    seconds = summary["seconds"]
    leaves, horizontal = summary["superpixels"], summary["horizontal"]
    rows = [
        [
            f"superpixels ({Path(leaves['method']).name})",
            f"{leaves['regions']:,}",
            _number(leaves["distance"]),
            "",
            _time(seconds, "superpixels"),
        ]
    ]
    if horizontal is None:
        rows.append(["best horizontal cut", "none allowed", "", "", ""])
    else:
        rows.append(
            [
                "best horizontal cut",
                f"{horizontal['regions']:,}",
                _number(horizontal["distance"]),
                horizontal["candidates"],
                _time(seconds, "horizontal cut"),
            ]
        )
    rows.append(
        [
            "best of all cuts",
            f"{summary['regions']:,}",
            _number(summary["objective"]),
            summary["candidates"],
            _time(seconds, "best cut"),
        ]
    )
    title = f"{Path(summary['image']).name}, read as {summary['reading']}"
    print_table(title, ["partition", "regions", "distance", "best of", "time"], rows)
    steps = ", ".join(f"{step} {_seconds(value)}" for step, value in seconds.items())
    print_line(f"time: {steps}")
    print_line("wrote:")
    for path in summary["files"].values():
        print_line(f"  {os.path.relpath(path)}")
    for cut in summary.get("nearest", [])[1:]:
        print_line(
            f"  {os.path.relpath(cut['partition'])}  "
            f"(distance {cut['distance']:.6g}, {cut['regions']:,} regions)"
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _time(seconds: dict[str, float], step: str) -> str:
    return _seconds(seconds[step]) if step in seconds else ""


def _seconds(value: float) -> str:
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"
