"""Class maps: what refining adds to a network's classes, against a dense CRF and a guided filter.

The shipped network's background, interior and boundary of nuclei, read as classes: as they are, and
as two (background; nucleus = interior + boundary), on the test split, grey fluorescence and stained
histology images apart. ``HIERSEARCH_NUCLEI`` names the data folder. The CRF (pydensecrf2) and the
guided filter are tuned for each of the four cases on the train split; ours have their defaults.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.dense_crf import Labels, Method, dense_crf
from benchmarks.network_outputs import NucleiCase, network_outputs
from benchmarks.question import NUCLEI, Answer, Question
from benchmarks.tables import Table, figure, shown

QUESTION = Question(
    "How right are a network's classes of nuclei once refined, in IoU (%) of two classes on "
    "stained, grey images?",
    minutes=10,
    data=(NUCLEI,),
    packages=("torch", "pydensecrf2"),
    in_readme=True,
)
CRF_SETTINGS = ((20, 5, 5), (20, 13, 3), (40, 8, 5), (60, 13, 10))
"""Range in pixels, range in grey levels and weight of the bilateral kernel."""
GUIDED_SETTINGS = tuple(itertools.product((2, 4), (1e-4, 1e-3, 1e-2)))
"""Radius in pixels and regularisation of the guided filter."""

TUNED_ON = 12
"""Train images of each kind that the peers are tuned on."""


def two_classes(case: NucleiCase) -> tuple[NDArray[np.float32], Labels]:
    background = case.probabilities[0]
    return np.stack([background, 1 - background]), (case.truth > 0).astype(np.int64)


def three_classes(case: NucleiCase) -> tuple[NDArray[np.float32], Labels]:
    from hiersearch.networks.channels import three_classes as truth_of

    return case.probabilities, truth_of(case.truth)


def guided_filter(setting: tuple[int, float]) -> Method:
    """He, Sun & Tang, "Guided image filtering" (2013), with the grey image as the guide."""
    from scipy.ndimage import uniform_filter

    radius, regularisation = setting

    def run(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> Labels:
        grey = image.reshape(*image.shape[:2], -1).mean(axis=2) / 255

        def mean(field: NDArray[Any]) -> NDArray[Any]:
            return uniform_filter(field, 2 * radius + 1)

        centre = mean(grey)
        spread = mean(grey * grey) - centre * centre + regularisation
        filtered = []
        for channel in probabilities.astype(np.float64):
            slope = (mean(grey * channel) - centre * mean(channel)) / spread
            filtered.append(mean(slope) * grey + mean(mean(channel) - slope * centre))
        return np.argmax(filtered, axis=0)

    return run


def ours(method: Any = None, **options: Any) -> Method:
    from hiersearch.refinement.pipeline import refine

    def run(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> Labels:
        return refine(
            image, probabilities, reading="classes", method=method, options=options
        ).labels

    return run


def scores(
    cases: list[NucleiCase], read: Callable[[NucleiCase], Any], method: Method
) -> dict[str, float]:
    """Score over all pixels of all images, the mean over images, and time an image."""
    from hiersearch.evaluation import class_confusion, iou_of_confusion

    sums: dict[float | None, Any] = {None: 0, 3.0: 0}
    means: dict[float | None, list[float]] = {None: [], 3.0: []}
    seconds = []
    for case in cases:
        probabilities, truth = read(case)
        begin = time.perf_counter()
        found = method(case.image, probabilities)
        seconds.append(time.perf_counter() - begin)
        for within in sums:
            counts = class_confusion(found, truth, probabilities.shape[0], within=within)
            sums[within] = sums[within] + counts
            means[within].append(iou_of_confusion(counts).mean)
    return {
        "iou": iou_of_confusion(sums[None]).mean,
        "near": iou_of_confusion(sums[3.0]).mean,
        "image iou": float(np.mean(means[None])),
        "image near": float(np.nanmean(means[3.0])),
        "milliseconds": 1e3 * float(np.median(seconds)),
    }


def tuned(
    cases: list[NucleiCase],
    read: Callable[[NucleiCase], Any],
    make: Callable[[Any], Method],
    settings: tuple[Any, ...],
) -> tuple[Any, Method]:
    """Return the setting with the best sum of the four scores on train images."""

    def worth(setting: Any) -> float:
        found = scores(cases, read, make(setting))
        return sum(value for name, value in found.items() if name != "milliseconds")

    best = max(settings, key=worth)
    return best, make(best)


def run() -> Iterator[Table]:
    train = list(network_outputs("train", 6))
    test = list(network_outputs("test"))
    for is_stained, (word, read) in itertools.product(
        (False, True), (("two classes", two_classes), ("three classes", three_classes))
    ):
        own = [case for case in train if case.stained == is_stained][:TUNED_ON]
        # Every third of the many grey ones; all of the few stained ones.
        cases = [case for case in test if case.stained == is_stained][:: 1 if is_stained else 3]
        crf, by_crf = tuned(own, read, dense_crf, CRF_SETTINGS)
        guided, by_guided = tuned(own, read, guided_filter, GUIDED_SETTINGS)
        methods: dict[str, Method] = {
            "arg-max": lambda image, probabilities: probabilities.argmax(axis=0),
            f"dense CRF, tuned: {crf}": by_crf,
            f"guided filter, tuned: {guided}": by_guided,
            "tree_voting, 1 tree": ours("tree_voting", tree_voting={"trees": 1}),
            "**refine** (tree_voting, 2 trees)": ours(),
            "the same, all classes vote": ours("tree_voting", tree_voting={"support": 0}),
            "tree_voting, 2 steps": ours("tree_voting", tree_voting={"steps": 2}),
            "best_cut": ours("best_cut"),
            "tree_voting, then best_cut": ours(("tree_voting", "best_cut")),
        }
        kind = "stained" if is_stained else "grey"
        table = Table(
            f"{len(cases)} {kind} images, {word}: IoU (%), all pixels · mean over images",
            ("method", "class IoU", "within 3 pixels of boundaries", "median ms an image"),
        )
        for name, method in methods.items():
            method(cases[0].image, read(cases[0])[0])  # compile
            found = {key: 100 * value for key, value in scores(cases, read, method).items()}
            table.rows.append(
                (
                    name,
                    f"{found['iou']:.2f} · {found['image iou']:.2f}",
                    f"{found['near']:.2f} · {found['image near']:.2f}",
                    shown(found["milliseconds"] / 100),
                )
            )
        table.notes.append(f"Peers tuned on {len(own)} train images of the kind.")
        yield table


def answer(tables: list[Table]) -> Answer:
    grey, stained = (
        next(table for table in tables if kind in table.title and "two classes" in table.title)
        for kind in ("grey", "stained")
    )

    def of(name: str) -> str:
        both = (table.row(name)[1].split(" · ")[0] for table in (stained, grey))
        return ", ".join(map(figure, both))

    return Answer(
        of("refine"),
        f"arg-max {of('arg-max')}; dense CRF tuned for each {of('dense CRF')}; guided filter tuned "
        f"for each {of('guided filter')}",
    )
