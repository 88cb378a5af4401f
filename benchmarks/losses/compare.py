"""One problem's comparison as tables and a picture: reads the runs that exist, does the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.losses.answer import CHOSEN
from benchmarks.losses.data import PROBLEMS
from benchmarks.losses.registry import LOSSES
from benchmarks.losses.runner import BUDGETS, SEEDS, Comparison, Run, complete
from benchmarks.losses.tables import (
    SCORES,
    difference_table,
    picture,
    score_table,
    values,
)
from benchmarks.tables import Table

REFERENCES = ("dice", "dice-ce")
"""Losses that all are compared with, seed by seed."""
CONFIRMED = {"shapes": 15}
"""Seeds in all of the chosen form and the references, where it is confirmed with more of them."""
INTERVALS = (
    "In hundredths: mean ± standard deviation over seeds [95 % interval by Student's t, not "
    "corrected for the number of losses] seeds above 0 / seeds."
)
DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = {name: entry.title for name, entry in LOSSES.items()}


def run(data: str) -> list[Table]:
    """Return the tables of "shapes" or "nuclei" and save its picture in docs/."""
    torch.set_num_threads(1)
    comparison = Comparison.of(PROBLEMS[data](), BUDGETS[data])
    failed = complete(comparison, list(LOSSES), SEEDS, wait=True)
    runs = {name: comparison.chosen_runs(name) for name in LOSSES if name not in failed}
    picture(
        DOCS / f"losses-{data}.png",
        f"{data.capitalize()}, test split: {SEEDS} seeds (dots) and their mean (bar); "
        "the partition metric's forms in red",
        runs,
        NAMES,
        is_ours,
    )
    return [*report(comparison, runs, failed), *confirmation(comparison, runs)]


def report(
    comparison: Comparison, runs: Mapping[str, Sequence[Run]], failed: Mapping[str, str]
) -> list[Table]:
    """Return the table of scores and the paired differences to each reference."""
    problem, budget = comparison.problem, comparison.budget
    scores = score_table(f"{problem.name}: scores on the test split", runs, NAMES)
    scores.notes += [
        f"{len(problem.train)} training, {len(problem.validation)} validation and "
        f"{len(problem.test)} test images; {budget.steps} steps of {problem.batch} crops of "
        f"{problem.crop}²; U-Net of widths {problem.widths}; one thread. Rate: the best of "
        f"{', '.join(f'{rate:g}' for rate in budget.rates)} by validation class IoU with another "
        f"seed. Mean ± standard deviation over seeds.",
        *(f"{NAMES[name]} failed: {reason}." for name, reason in failed.items()),
    ]
    chosen = chosen_form(runs)
    if chosen is not None:
        scores.notes.append(f"{CHOSEN}{NAMES[chosen]} has the best validation class IoU.")
    tables = [scores]
    for reference in REFERENCES:
        if reference in runs:
            table = difference_table(
                f"{problem.name}: paired differences to {NAMES[reference]}", runs, reference, NAMES
            )
            table.notes.append(INTERVALS)
            tables.append(table)
    return tables


def confirmation(comparison: Comparison, runs: Mapping[str, Sequence[Run]]) -> list[Table]:
    """Compare the chosen form with the references by seeds that had no part in choosing it."""
    chosen, name = chosen_form(runs), comparison.problem.name
    if chosen is None or name not in CONFIRMED:
        return []
    seeds, losses = CONFIRMED[name], (chosen, *REFERENCES)
    complete(comparison, losses, seeds, wait=True)
    fresh = {loss: comparison.chosen_runs(loss, seeds)[SEEDS:] for loss in losses}
    tables = []
    for reference in REFERENCES:
        pair = {loss: fresh[loss] for loss in (chosen, reference)}
        title = f"{name}: {seeds - SEEDS} further seeds, differences to {NAMES[reference]}"
        tables.append(difference_table(title, pair, reference, NAMES))
    tables[-1].notes.append(INTERVALS)
    return tables


def chosen_form(runs: Mapping[str, Sequence[Run]]) -> str | None:
    """Return the form of the partition metric with the best mean validation class IoU."""
    forms = {
        name: float(np.mean([run.validation["class_iou"] for run in of_loss]))
        for name, of_loss in runs.items()
        if is_ours(name) and of_loss
    }
    return max(forms, key=lambda name: forms[name]) if forms else None


def is_ours(loss: str) -> bool:
    """Whether a loss is a form of the partition metric."""
    return LOSSES[loss].source == "hiersearch"


def summary(runs: Mapping[str, Sequence[Run]]) -> str:
    """Mean test scores by loss, one line each."""
    lines = []
    for name, of_loss in runs.items():
        if of_loss:
            means = (f"{title} {values(of_loss, s).mean():.3f}" for s, title in SCORES.items())
            lines.append(f"{name}: {', '.join(means)}")
    return "\n".join(lines)
