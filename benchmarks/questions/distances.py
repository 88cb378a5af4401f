"""One distance between two real label maps, against the tables that users build today."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.inputs import photo
from benchmarks.measuring import in_turn
from benchmarks.question import Answer, Question
from benchmarks.tables import Table, shown, span

QUESTION = Question(
    "How long does one distance between two label maps of 256 × 256 take?",
    minutes=0.8,
    bundled="the astronaut of scikit-image, nuclei of the tests",
    packages=("scikit-learn",),
    in_readme=True,
)


def _pairs():
    """Label maps of one grid: segmentations of a photo, and two nuclei maps of the tests."""
    from skimage.io import imread
    from skimage.segmentation import felzenszwalb

    from hiersearch.data import demo_labels

    crop = photo()[128:384, 128:384]
    yield "photo, Felzenszwalb 100 and 200", felzenszwalb(crop, 100), felzenszwalb(crop, 200)
    yield "photo, Felzenszwalb 300 and 1000", felzenszwalb(crop, 300), felzenszwalb(crop, 1000)
    folder = Path(__file__).parents[2] / "tests" / "data"
    maps = [imread(path) for path in sorted(folder.glob("*-labels.png"))]
    square = [m for m in [*maps, demo_labels()] if min(m.shape) >= 256]
    if len(square) >= 2:
        yield "nuclei, two images", square[0][:256, :256], square[1][:256, :256]


def run() -> list[Table]:
    from skimage.metrics import contingency_table
    from sklearn.metrics.cluster import pair_confusion_matrix

    from hiersearch.metric import distance
    from hiersearch.partitions import Partition

    table = Table(
        "One distance between label maps of 256 × 256 (µs)",
        (
            "label maps",
            "regions; runs",
            "distance of partitions",
            "ns a run",
            "encoding both",
            "scikit-image's table ÷ ours",
            "scikit-learn's pairs ÷ ours",
            "÷ ours with encoding",
        ),
    )
    for name, a, b in _pairs():
        a, b = a.astype(np.int32), b.astype(np.int32)
        first, second = Partition.from_labels(a), Partition.from_labels(b)

        def ours(first=first, second=second):
            return distance(first, second, normalized=False)

        def encoding(a=a, b=b):
            return Partition.from_labels(a), Partition.from_labels(b)

        def with_table(a=a, b=b):
            counts = contingency_table(a, b)
            rows = np.asarray(counts.sum(axis=1)).astype(np.int64)
            columns = np.asarray(counts.sum(axis=0)).astype(np.int64)
            cells = counts.data.astype(np.int64)
            return int((rows**2).sum() + (columns**2).sum() - 2 * (cells**2).sum())

        def with_pairs(a=a, b=b):
            matrix = pair_confusion_matrix(a.reshape(-1), b.reshape(-1))
            return int(matrix[0, 1] + matrix[1, 0])

        assert ours() == with_table() == with_pairs()
        found = in_turn(
            {"ours": ours, "encoding": encoding, "table": with_table, "pairs": with_pairs}, 21
        )
        runs = first.n_runs + second.n_runs
        whole = found["ours"].median + found["encoding"].median
        table.rows.append(
            (
                name,
                f"{first.n_regions}, {second.n_regions}; {first.n_runs:,}, {second.n_runs:,}",
                shown(1e3 * found["ours"].median),
                shown(1e6 * found["ours"].median / runs),
                shown(1e3 * found["encoding"].median),
                shown(found["table"].median / found["ours"].median),
                shown(found["pairs"].median / found["ours"].median),
                f"{shown(found['table'].median / whole)}, {shown(found['pairs'].median / whole)}",
            )
        )
    table.notes.append("Agreement: all three give the same integer for every pair.")
    return [table]


def answer(tables: list[Table]) -> Answer:
    (table,) = tables
    ours, each, by_table, by_pairs = (
        span(table.figures(column))
        for column in (
            "distance of partitions",
            "ns a run",
            "scikit-image's table ÷ ours",
            "scikit-learn's pairs ÷ ours",
        )
    )
    return Answer(
        f"{ours} µs in run-length form, {each} ns a run",
        f"scikit-image's contingency table {by_table} times as long; scikit-learn's pair confusion "
        f"matrix {by_pairs} times",
    )
