"""Nuclei from affinities under our loss, and from three classes, at equal budgets.

The question: do affinities tell touching nuclei apart more often? Two trainings share the network
but for its head, the first weights of all other layers, 200 grey images of the train split, their
crops, the steps and learning rates. One has affinities and a foreground as its channels, trained
with `AffinityMetricLoss` and read by the package's own search, `objects`. The other has background,
interior and boundary, trained with cross-entropy in which the boundary weighs twice, and read by a
watershed from the interior's components, or by `objects`. Each way of reading has 12 settings; the
best by AP@0.5 + mean AP on 20 other images of the train split, for each seed anew, is scored on all
grey test images of at most 520 rows.

A touching nucleus has another one within 2 pixels (in a square); it is found where an object
overlaps it by IoU > 0.5. AP and foreground ARI are means over images, the share of found touching
nuclei is over all of them. Needs HIERSEARCH_NUCLEI. Runs are kept in out/losses/ and go on where
they stopped; several processes may share them by seeds, as in

    python -m benchmarks losses_affinities --seeds 0,2,4
"""

from __future__ import annotations

import argparse

from benchmarks.question import NUCLEI, Answer, Question
from benchmarks.tables import Table, figure

QUESTION = Question(
    "How many touching nuclei are found by affinities trained under the metric, at equal budgets, "
    "and with which AP at IoU 0.5?",
    minutes=120,
    data=(NUCLEI,),
    packages=("torch",),
    in_readme=True,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `python -m benchmarks losses_affinities` takes."""
    parser.add_argument(
        "--seeds",
        type=seeds_of,
        help="do and show the runs of these seeds alone, with commas between, without tables",
    )


def seeds_of(text: str) -> list[int]:
    """Read seeds with commas between."""
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas, got {text!r}") from None


def run(seeds: list[int] | None = None) -> list[Table]:
    """Return the tables of all seeds, or do and show the runs of some."""
    from benchmarks.losses import affinities

    if seeds is None:
        runs = affinities.all_results(affinities.SEEDS)
        affinities.picture(affinities.PICTURE)
        return list(affinities.tables(runs))
    for seed in seeds:
        for name, (scores,) in affinities.all_results([seed]).items():
            print(f"seed {seed}, {name}: {scores}", flush=True)
    return []


def answer(tables: list[Table]) -> Answer:
    table = tables[0]

    def of(row: list[str]) -> str:
        found, precision = (
            figure(row[table.column(score)]) for score in ("touching found", "AP@0.5")
        )
        return f"{found} ({precision})"

    peers = [list(row) for row in table.rows if not row[0].startswith("affinities")]
    return Answer(of(table.row("affinities")), "; ".join(f"{row[0]} {of(row)}" for row in peers))
