"""Trainings of affinities and of three classes at equal budgets, kept on disk, and their scores.

See :mod:`benchmarks.questions.losses_affinities` for what is compared with what.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import ROOT
from benchmarks.network_outputs import data_path
from benchmarks.question import NUCLEI
from benchmarks.tables import Table
from hiersearch.evaluation import average_precision, foreground_ari
from hiersearch.evaluation.scores import COMMON_THRESHOLDS
from hiersearch.networks import Network, TrainingSettings, train
from hiersearch.networks.channels import seams
from hiersearch.partitions.files import read_label_map, read_plain_image
from hiersearch.refinement.objects import _without_small_holes, objects

Labels = NDArray[np.integer[Any]]

RESULTS = ROOT / "out" / "losses"
PICTURE = ROOT / "docs" / "losses-affinities.png"
SEEDS = (0, 1, 2, 3, 4)
TRAINED, HELD_OUT = 200, 20
LARGEST = 520
"""Rows of the largest images that are used."""
REACH = 2
"""Pixels within which two nuclei touch."""
BUDGET = TrainingSettings(steps=300, batch=8, crop=96, validation=0.0)
ARMS = {
    "three classes": dataclasses.replace(BUDGET, reading="objects", loss=""),
    "affinities": dataclasses.replace(BUDGET, reading="affinities", loss="", size=20.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An image with its truth."""

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Scores:
    """What one way of reading a trained network is worth."""

    settings: tuple[float, ...]
    """The best on the held-out images."""
    held_out: float
    """AP@0.5 + mean AP on these."""
    ap_50: float
    mean_ap: float
    foreground_ari: float
    touching: float
    """Share of the touching nuclei that were found."""
    ms: float
    """Milliseconds an image, median."""


# --- data -----------------------------------------------------------------------------------


def grey_names(split: str) -> list[str]:
    """Names of the grey images of a split that are small enough, in the manifest's order."""
    with (data_path(NUCLEI) / "manifest.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == split]
    return [row["name"] for row in rows if row["gray"] == "1" and int(row["height"]) <= LARGEST]


def read(names: Sequence[str]) -> list[Case]:
    folder = data_path(NUCLEI)
    return [
        Case(
            name,
            read_plain_image(folder / f"{name}.png"),
            read_label_map(folder / f"{name}-labels.png").astype(np.int32),
        )
        for name in names
    ]


def train_names() -> tuple[list[str], list[str]]:
    """Names of the held-out images and of those trained on, in an order drawn once."""
    names = grey_names("train")
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    return names[:HELD_OUT], names[HELD_OUT : HELD_OUT + TRAINED]


# --- ways of reading a network's output -----------------------------------------------------


def watershed_from_interiors(
    soft: NDArray[np.float32], seed: float, blur: float, foreground: float, smallest: float
) -> Labels:
    """Flood the foreground from the interior's components that are sure and large enough."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    interior = ndimage.gaussian_filter(soft[1], blur) if blur else soft[1]
    seeds, _ = ndimage.label(interior > seed)
    seeds[np.bincount(seeds.ravel())[seeds] < smallest] = 0
    mask = _without_small_holes(soft[1] + soft[2] > foreground)
    return np.asarray(watershed(-interior, seeds, mask=mask))


def objects_from_three(
    soft: NDArray[np.float32], persistence: float, certainty: float, confidence: float, size: float
) -> Labels:
    return objects(
        None,
        soft,
        persistence=persistence,
        certainty=certainty,
        confidence=confidence,
        minimum_size=int(size),
    ).labels


def objects_from_affinities(
    soft: NDArray[np.float32],
    offsets: Sequence[Sequence[int]],
    break_even: float,
    certainty: float,
    size: float,
) -> Labels:
    return objects(
        None,
        soft[1:],
        reading="affinities",
        offsets=offsets,
        foreground=soft[0],
        break_even=break_even,
        certainty=certainty,
        minimum_size=int(size),
    ).labels


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A way to objects from a network's output, with the settings that are tried."""

    read: Callable[..., Labels]
    settings: tuple[tuple[float, ...], ...]


def ways(arm: str, network: Network) -> dict[str, Way]:
    if arm == "affinities":
        offsets = network.offsets
        tried = itertools.product((0.2, 0.3, 0.4), (0.45, 0.55), (20, 40))
        return {
            "affinities, objects": Way(
                lambda soft, *given: objects_from_affinities(soft, offsets, *given), tuple(tried)
            )
        }
    by_watershed = itertools.product((0.5, 0.6, 0.7), (0.0, 1.0), (0.5,), (5, 20))
    by_objects = itertools.product((0.7, 1.0, 1.5), (0.5, 0.65), (0.5,), (20, 40))
    return {
        "three classes, watershed": Way(watershed_from_interiors, tuple(by_watershed)),
        "three classes, objects": Way(objects_from_three, tuple(by_objects)),
    }


# --- scores ---------------------------------------------------------------------------------


def touching_found(found: Labels, truth: Labels) -> tuple[int, int]:
    """Count touching nuclei that some object overlaps by IoU > 0.5, and touching nuclei."""
    touching = np.unique(truth[seams(truth, REACH) & (truth > 0)])
    hits = 0
    for nucleus in touching:
        mask = truth == nucleus
        object_, overlap = np.unique(found[mask & (found > 0)], return_counts=True)
        if object_.size:
            best = object_[overlap.argmax()]
            hits += overlap.max() > 0.5 * np.count_nonzero(mask | (found == best))
    return int(hits), touching.size


def precisions(found: Labels, truth: Labels) -> tuple[float, float]:
    """AP at 0.5, and its mean over 0.5, 0.55, .., 0.95."""
    scores = average_precision(found, truth, COMMON_THRESHOLDS)
    return float(scores[0]), float(scores.mean())


def scored(way: Way, network: Network, held_out: Sequence[Case], test: Sequence[Case]) -> Scores:
    """Choose settings on held-out images, and score them on test images."""
    outputs = [network(case.image) for case in held_out]
    best, settings = max(
        (
            np.mean(
                [
                    sum(precisions(way.read(soft, *given), case.truth))
                    for soft, case in zip(outputs, held_out, strict=True)
                ]
            ),
            given,
        )
        for given in way.settings
    )
    rows, counts, seconds = [], [], []
    for case in test:
        soft = network(case.image)
        begin = time.perf_counter()
        found = way.read(soft, *settings)
        seconds.append(time.perf_counter() - begin)
        rows.append((*precisions(found, case.truth), foreground_ari(found, case.truth)))
        counts.append(touching_found(found, case.truth))
    hits, touching = np.sum(counts, axis=0)
    means = [float(mean) for mean in np.mean(rows, axis=0)]
    return Scores(
        settings, float(best), *means, float(hits / touching), 1e3 * float(np.median(seconds))
    )


# --- runs -----------------------------------------------------------------------------------


def folder_of_runs() -> Path:
    """Folder of the runs under these settings: others are kept apart."""
    arms = {name: asdict(settings) for name, settings in ARMS.items()}
    identity = json.dumps([arms, TRAINED, HELD_OUT, LARGEST], sort_keys=True)
    return RESULTS / f"affinities-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def trained(arm: str, seed: int, cases: Sequence[Case]) -> Network:
    """Train, or go on from the checkpoint; a finished training is only read."""
    checkpoint = folder_of_runs() / f"{arm.replace(' ', '-')}-{seed}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    return train(
        [case.image for case in cases],
        [case.truth for case in cases],
        dataclasses.replace(ARMS[arm], seed=seed),
        checkpoint=checkpoint,
    ).network


def results(arm: str, seed: int) -> dict[str, Scores]:
    """Scores of each way of reading; from the file where it is there."""
    kept = folder_of_runs() / f"{arm.replace(' ', '-')}-{seed}.json"
    if not kept.exists():
        held_out, used = train_names()
        network = trained(arm, seed, read(used))
        cases = read(held_out), read(grey_names("test"))
        found = {
            name: asdict(scored(way, network, *cases)) for name, way in ways(arm, network).items()
        }
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(found, indent=2) + "\n")
        partial.replace(kept)
    return {
        name: Scores(**{**fields, "settings": tuple(fields["settings"])})
        for name, fields in json.loads(kept.read_text()).items()
    }


SHOWN = {
    "ap_50": "AP@0.5",
    "mean_ap": "mean AP",
    "touching": "touching found",
    "foreground_ari": "foreground ARI",
}


def tables(runs: dict[str, list[Scores]]) -> Iterator[Table]:
    """Scores by way of reading, and paired differences of affinities to the others."""
    from scipy import stats

    n = len(next(iter(runs.values())))
    scores = Table(
        f"Nuclei from two trainings at equal budgets, {n} seeds: mean ± standard deviation",
        ("channels, objects by", *SHOWN.values(), "ms an image"),
    )
    values = {
        name: {s: np.array([getattr(run, s) for run in of_way]) for s in (*SHOWN, "ms")}
        for name, of_way in runs.items()
    }
    for name, of_way in values.items():
        cells = [f"{of_way[s].mean():.3f} ± {of_way[s].std(ddof=1):.3f}" for s in SHOWN]
        scores.rows.append((name, *cells, f"{of_way['ms'].mean():.0f}"))
    chosen = (f"{name}: {', '.join(str(run.settings) for run in r)}" for name, r in runs.items())
    scores.notes.append(f"Settings chosen, seed by seed: {'; '.join(chosen)}.")
    yield scores
    ours = next(name for name in runs if name.startswith("affinities"))
    paired = Table(
        f"Paired differences of {ours!r} to the others",
        ("to", *(f"Δ {title}" for title in SHOWN.values())),
        notes=[
            "In hundredths: mean ± standard deviation over seeds [95 % interval by Student's t] "
            "seeds above 0 / seeds."
        ],
    )
    reach = stats.t.ppf(0.975, n - 1) / np.sqrt(n)
    for name in runs:
        if name != ours:
            cells = []
            for score in SHOWN:
                gains = 100 * (values[ours][score] - values[name][score])
                mean, spread = gains.mean(), gains.std(ddof=1)
                low, high = mean - reach * spread, mean + reach * spread
                wins = np.count_nonzero(gains > 0)
                cells.append(f"{mean:+.1f} ± {spread:.1f} [{low:+.1f}, {high:+.1f}] {wins}/{n}")
            paired.rows.append((name, *cells))
    yield paired


def picture(path: Path) -> None:
    """Save one test image, that with the most touching nuclei, as truth and both arms see it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from skimage.segmentation import mark_boundaries

    seed = SEEDS[0]
    cases = read(grey_names("test"))
    case = max(cases, key=lambda case: touching_found(case.truth, case.truth)[1])
    panels = {"truth": case.truth}
    used = read(train_names()[1])
    for arm in ARMS:
        network = trained(arm, seed, used)
        chosen = results(arm, seed)
        for name, way in ways(arm, network).items():
            panels[name] = way.read(network(case.image), *chosen[name].settings)
    image = np.sqrt(case.image / case.image.max())
    figure = Figure(figsize=(5 * len(panels), 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, labels) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.imshow(mark_boundaries(image, labels, color=(1, 0.8, 0), mode="inner"))
        precision = precisions(labels, case.truth)[0]
        hits, touching = touching_found(labels, case.truth)
        axes.set_title(f"{name}\nAP@0.5 {precision:.2f}, {hits} of {touching} touching found")
        axes.set_axis_off()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)


def all_results(seeds: Sequence[int]) -> dict[str, list[Scores]]:
    """Scores of each way of reading by seed; what is missing is trained."""
    import torch

    torch.set_num_threads(1)
    runs: dict[str, list[Scores]] = {}
    for seed, arm in itertools.product(seeds, ARMS):
        for name, scores in results(arm, seed).items():
            runs.setdefault(name, []).append(scores)
    return runs
