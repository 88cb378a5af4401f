"""How many objects are right on the nuclei test split, found from the shipped network's output.

AP at an overlap t is TP / (TP + FP + FN) of objects that overlap by IoU > t, mean over images;
its mean is over t = 0.5, 0.55, .., 0.95. Foreground ARI is the adjusted Rand index of the pixels
that belong to a nucleus. Needs HIERSEARCH_NUCLEI.

All parameters were chosen by AP@0.5 on training images, none on the test split, but not with equal
effort: the watershed tries a grid of 54 settings on every ninth training image, the dense CRF 8
settings on a third of these; the defaults of `objects` were chosen by hand: about 60
settings of an earlier form on every ninth image, about 50 of landscape, outlines and thresholds on
every eighth, about 20 of these on another eighth, too; the choice looked at all of these.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.network_outputs import NucleiCase, network_outputs
from benchmarks.question import NUCLEI, Answer, Question
from benchmarks.tables import Table

QUESTION = Question(
    "How many nuclei are told apart rightly, in AP at IoU 0.5 (mean AP)?",
    minutes=8,
    data=(NUCLEI,),
    packages=("torch",),
    optional=("pydensecrf2",),
    in_readme=True,
)

Method = Callable[[NucleiCase], NDArray[Any]]
SEEDS = (0.5, 0.6, 0.7)
BLURS = (0.0, 1.0)
FOREGROUNDS = (0.5, 0.6, 0.7)
SMALLEST = (5, 15, 30)
CRF = tuple(itertools.product((3.0, 10.0), (20.0, 60.0), (5.0, 13.0)))


def components(case: NucleiCase) -> NDArray[Any]:
    """Label connected components of the pixels where interior or boundary wins."""
    from scipy import ndimage

    return ndimage.label(case.probabilities.argmax(axis=0) > 0)[0]


def interior_components(case: NucleiCase) -> NDArray[Any]:
    """Label connected components of the pixels where interior wins."""
    from scipy import ndimage

    return ndimage.label(case.probabilities.argmax(axis=0) == 1)[0]


def seeded_watershed(
    case: NucleiCase, seed: float, blur: float, foreground: float, smallest: int
) -> NDArray[Any]:
    """Watershed on the interior channel from its components above a threshold."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    _, interior, boundary = case.probabilities
    smooth = ndimage.gaussian_filter(interior, blur) if blur else interior
    seeds, _ = ndimage.label(smooth > seed)
    seeds[np.bincount(seeds.ravel())[seeds] < smallest] = 0
    return watershed(-smooth, seeds, mask=interior + boundary > foreground)


def crf_components(case: NucleiCase, weight: float, reach: float, contrast: float) -> NDArray[Any]:
    """Components of interior after dense CRF inference on the three classes."""
    import pydensecrf.densecrf as dcrf
    from pydensecrf.utils import unary_from_softmax
    from scipy import ndimage

    height, width = case.truth.shape
    image = case.image if case.image.ndim == 3 else np.repeat(case.image[..., None], 3, axis=2)
    field = dcrf.DenseCRF2D(width, height, 3)
    field.setUnaryEnergy(unary_from_softmax(np.clip(case.probabilities, 1e-5, 1)))
    field.addPairwiseGaussian(sxy=1, compat=1)
    rgb = np.ascontiguousarray(image[..., :3], np.uint8)
    field.addPairwiseBilateral(sxy=reach, srgb=contrast, rgbim=rgb, compat=weight)
    classes = np.array(field.inference(5)).argmax(axis=0).reshape(height, width)
    return ndimage.label(classes == 1)[0]


def ours(case: NucleiCase) -> NDArray[Any]:
    """`hiersearch.refinement.objects` with its defaults."""
    from hiersearch.refinement.objects import objects

    return objects(case.image, case.probabilities).labels


def perfectly_merged(case: NucleiCase) -> NDArray[Any]:
    """Fine basins of ours, each given to the nucleus that holds most of it: what merging can do."""
    from hiersearch.refinement.objects import _from_three

    basins = _from_three(case.probabilities, 0.65, 1.0)[1]
    numbers = np.unique(case.truth, return_inverse=True)[1].reshape(case.truth.shape)
    table = np.zeros((int(basins.max()) + 1, int(numbers.max()) + 1))
    np.add.at(table, (basins.reshape(-1), numbers.reshape(-1)), 1)
    return table.argmax(axis=1)[basins]


def precisions(found: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float]:
    """AP at 0.5, and its mean over 0.5, 0.55, .., 0.95."""
    from hiersearch.evaluation import average_precision
    from hiersearch.evaluation.scores import COMMON_THRESHOLDS

    scores = average_precision(found, truth, COMMON_THRESHOLDS)
    return float(scores[0]), float(scores.mean())


def tuned(cases: list[NucleiCase], method: Callable[..., Any], grid: Any) -> tuple[Any, ...]:
    """Return the parameters with the best mean AP@0.5."""
    scored = [(np.mean([precisions(method(c, *p), c.truth)[0] for c in cases]), p) for p in grid]
    return max(scored)[1]


def run() -> list[Table]:
    from hiersearch.evaluation import foreground_ari

    train = list(network_outputs("train", every=9, largest=700))
    by_watershed = tuned(
        train, seeded_watershed, itertools.product(SEEDS, BLURS, FOREGROUNDS, SMALLEST)
    )
    methods: dict[str, Method] = {
        "components of arg-max, nucleus": components,
        "components of arg-max, interior": interior_components,
        f"watershed on interior, tuned {by_watershed}": lambda c: seeded_watershed(
            c, *by_watershed
        ),
    }
    notes = []
    try:
        import pydensecrf  # noqa: F401
    except ImportError:
        notes.append("Dense CRF was not measured: pydensecrf2 is not installed.")
    else:
        by_crf = tuned(train[::3], crf_components, CRF)
        methods[f"dense CRF, tuned {by_crf}, then components"] = lambda c: crf_components(
            c, *by_crf
        )
    methods["hiersearch, objects"] = ours
    methods["ceiling: its basins merged perfectly"] = perfectly_merged
    scores: dict[str, list[tuple[float, ...]]] = {name: [] for name in methods}
    kinds = []
    for case in network_outputs("test"):
        kinds.append(case.stained)
        for name, method in methods.items():
            begin = time.perf_counter()
            found = method(case)
            seconds = time.perf_counter() - begin
            scores[name].append(
                (*precisions(found, case.truth), foreground_ari(found, case.truth), seconds)
            )
    stained = np.array(kinds)
    table = Table(
        f"Nuclei test split, {stained.size} images ({stained.sum()} stained)",
        ("method", "AP@0.5", "grey", "stained", "mean AP", "foreground ARI", "ms an image"),
    )
    for name, rows in scores.items():
        values = np.array(rows)
        shown = [f"{v:.3f}" for v in (
            values[:, 0].mean(), values[~stained, 0].mean(), values[stained, 0].mean(),
            values[:, 1].mean(), values[:, 2].mean(),
        )]  # fmt: skip
        table.rows.append((name, *shown, f"{1e3 * np.median(values[:, 3]):.0f}"))
    table.notes += notes
    return [table]


def answer(tables: list[Table]) -> Answer:
    (table,) = tables

    def of(row: Sequence[str]) -> str:
        return f"{row[table.column('AP@0.5')]} ({row[table.column('mean AP')]})"

    own = ("hiersearch", "ceiling")
    peers = [row for row in table.rows if not row[0].startswith(own)]
    peers.sort(key=lambda row: row[1], reverse=True)
    # What was tuned is named, not to which settings.
    named = (f"{re.sub(r' [(][^)]*[)]', '', row[0])} {of(row)}" for row in peers)
    return Answer(of(table.row("hiersearch")), "; ".join(named))
