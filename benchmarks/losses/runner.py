"""Runs of every loss, kept on disk: what exists is not run again, and processes share the work.

Each run is one JSON file in a folder of its data and budget: another budget or other data have
another folder, so that their results never mix. (The rates that are tried are no part of a run:
its own rate is in its name.) A process claims a loss by a file lock, which the
system releases when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.losses.data import Problem
from benchmarks.losses.registry import LOSSES, LossEntry
from benchmarks.losses.scores import all_scores, class_scores
from benchmarks.losses.training import Budget, train

RESULTS = Path(__file__).resolve().parents[2] / "out" / "losses"

BUDGETS = {
    "shapes": Budget(steps=220, rates=(0.01, 0.03, 0.1)),
    "nuclei": Budget(steps=120, rates=(0.01, 0.03, 0.1)),
}
TUNING_SEED = 0
"""Of the runs that choose the rate; the compared runs have seeds 1, 2, ..."""
SEEDS = 5


@dataclass(frozen=True, slots=True)
class Run:
    """What one training gave."""

    loss: str
    rate: float
    seed: int
    validation: dict[str, float]
    """Scores by name; a tuning run has class_iou alone."""
    test: dict[str, float] | None
    """None for a tuning run: the test split is not looked at before the rate is chosen."""
    diverged_at: int | None
    """Step at which training broke off; its network was scored as it was."""
    loss_ms: float
    step_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One problem with one budget, and the folder of its runs."""

    problem: Problem
    budget: Budget
    folder: Path

    @staticmethod
    def of(problem: Problem, budget: Budget, results: Path = RESULTS) -> Comparison:
        """Name the folder after the settings, make it and keep the settings in it."""
        settings = {
            "data": problem.name,
            "digest": problem.digest(),
            "images": [len(s) for s in (problem.train, problem.validation, problem.test)],
            "widths": problem.widths,
            "crop": problem.crop,
            "batch": problem.batch,
            "steps": budget.steps,
            "weight_decay": budget.weight_decay,
        }
        text = json.dumps(settings, indent=2)
        name = f"{problem.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        folder = results / name
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "settings.json", text)
        return Comparison(problem, budget, folder)

    def run(self, loss: str, rate: float, seed: int) -> Run | None:
        """Return a run that exists, else None."""
        path = self.path(loss, rate, seed)
        if not path.exists():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Run(**{f.name: kept[f.name] for f in dataclasses.fields(Run)})

    def path(self, loss: str, rate: float, seed: int) -> Path:
        """Return where a run is kept."""
        return self.folder / f"{loss}--rate-{rate:g}--seed-{seed}.json"

    def best_rate(self, loss: str) -> float | None:
        """Return the rate with the best validation class IoU, the lower of equals, once all ran."""
        tuning = [self.run(loss, rate, TUNING_SEED) for rate in sorted(self.budget.rates)]
        if None in tuning:
            return None
        return max((run for run in tuning if run), key=lambda run: run.validation["class_iou"]).rate

    def chosen_runs(self, loss: str, seeds: int = SEEDS) -> list[Run]:
        """Return the compared runs of a loss that exist, by seed."""
        rate = self.best_rate(loss)
        if rate is None:
            return []
        runs = [self.run(loss, rate, seed) for seed in range(1, seeds + 1)]
        return [run for run in runs if run is not None]


def complete(
    comparison: Comparison, losses: Sequence[str], seeds: int = SEEDS, wait: bool = False
) -> dict[str, str]:
    """Run what is missing of some losses; return those that failed with their errors.

    Losses that another process has claimed are left to it; with ``wait`` the function returns
    once they are done as well. A loss that raises is passed over.
    """
    failed: dict[str, str] = {}
    left = list(losses)
    for blocking in (False, True) if wait else (False,):
        for name in left.copy():
            with _claim(comparison.folder / f"{name}.lock", blocking) as claimed:
                if not claimed:
                    continue
                left.remove(name)
                try:
                    _complete_loss(comparison, LOSSES[name], seeds)
                except Exception as error:
                    failed[name] = f"{type(error).__name__}: {error}"
                    print(f"{name} failed: {failed[name]}", file=sys.stderr, flush=True)
    return failed


def _complete_loss(comparison: Comparison, entry: LossEntry, seeds: int) -> None:
    for rate in comparison.budget.rates:
        _ensure(comparison, entry, rate, TUNING_SEED)
    rate = comparison.best_rate(entry.name)
    assert rate is not None
    for seed in range(1, seeds + 1):
        _ensure(comparison, entry, rate, seed)


def _ensure(comparison: Comparison, entry: LossEntry, rate: float, seed: int) -> None:
    """Do a run, unless it exists, and write it."""
    path = comparison.path(entry.name, rate, seed)
    if path.exists():
        return
    _progress(f"{entry.name}, rate {rate:g}, seed {seed}")
    begin = time.perf_counter()
    run = _run(comparison, entry, rate, seed)
    _progress("")
    _write(path, json.dumps(asdict(run), indent=2, allow_nan=True))
    print(
        f"{entry.name} rate {rate:g} seed {seed}: {time.perf_counter() - begin:.1f} s, "
        f"validation class IoU {run.validation['class_iou']:.3f}",
        file=sys.stderr,
        flush=True,
    )


def _run(comparison: Comparison, entry: LossEntry, rate: float, seed: int) -> Run:
    problem = comparison.problem
    loss = entry.make(len(problem.class_names), problem.class_frequencies().tolist())
    trained = train(problem, loss, rate, seed, comparison.budget)
    test = None
    if seed == TUNING_SEED:
        validation = {"class_iou": class_scores(trained.network, problem, problem.validation)}
    else:
        validation = asdict(all_scores(trained.network, problem, problem.validation))
        test = asdict(all_scores(trained.network, problem, problem.test))
    return Run(
        entry.name, rate, seed, validation, test, trained.diverged_at, trained.loss_ms,
        trained.step_ms,
    )  # fmt: skip


@contextlib.contextmanager
def _claim(path: Path, blocking: bool) -> Iterator[bool]:
    """Hold a file lock; yield whether it was to be had."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _write(path: Path, text: str) -> None:
    """Write as a whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _progress(text: str) -> None:
    """Show what is running, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
