"""Do the runs of the comparison of losses, some or all; several processes may share them.

From the root of the repository, for instance in two shells:

    python -m benchmarks.losses shapes
    python -m benchmarks.losses nuclei --losses dice,ours-anchored

``python -m benchmarks losses_shapes losses_nuclei`` makes the tables, and runs what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import torch

from benchmarks.losses.compare import summary
from benchmarks.losses.data import PROBLEMS
from benchmarks.losses.registry import LOSSES
from benchmarks.losses.runner import BUDGETS, RESULTS, SEEDS, Comparison, complete


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.losses",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", choices=tuple(PROBLEMS))
    parser.add_argument("--losses", help="names with commas between; all where omitted")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="compared runs of each loss")
    parser.add_argument("--steps", type=int, help="another budget, whose runs are kept apart")
    parser.add_argument(
        "--smoke", action="store_true", help="2 steps, 1 seed, few images; nothing is kept"
    )
    options = parser.parse_args()
    losses = options.losses.split(",") if options.losses else list(LOSSES)
    unknown = [name for name in losses if name not in LOSSES]
    if unknown:
        parser.error(f"--losses must be among {', '.join(LOSSES)}, got {', '.join(unknown)}")
    if options.seeds < 1 or (options.steps is not None and options.steps < 1):
        parser.error("--seeds and --steps must be at least 1")
    torch.set_num_threads(1)
    budget = BUDGETS[options.data]
    if options.steps:
        budget = dataclasses.replace(budget, steps=options.steps)
    if options.smoke:
        budget = dataclasses.replace(budget, steps=2)
        with tempfile.TemporaryDirectory() as folder:
            do(Comparison.of(PROBLEMS[options.data](8, 2, 2), budget, Path(folder)), losses, 1)
    else:
        do(Comparison.of(PROBLEMS[options.data](), budget, RESULTS), losses, options.seeds)


def do(comparison: Comparison, losses: list[str], seeds: int) -> None:
    """Run, print the means of what is there, and exit with 1 if a loss failed."""
    failed = complete(comparison, losses, seeds)
    print(summary({name: comparison.chosen_runs(name, seeds) for name in losses}))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
