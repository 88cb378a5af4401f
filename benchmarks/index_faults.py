"""Races, kills, lost power, full disks, damage, crafted folders: what an index loses or gets wrong.

Every count of a fault should be 0. Each part of the trials runs in a process of its own, so that
one that kills its process is counted as a crash.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.measuring import Table
from tests.index import tracing
from tests.index.damages import damage_files
from tests.index.faults import Findings, Model, after, kill_writers, operation, resolved
from tests.index.full_disks import FAILING, fail_calls, limit_sizes
from tests.index.isolation import Crash, outcomes
from tests.index.power_losses import lose_power
from tests.index.unlocked import write_at_once

RACES = ("create", "add", "compact", "fork", "threads")


@dataclass(frozen=True)
class Counts:
    """How many trials of each kind; of full disks at least about as many."""

    races: int = 1000
    kills: int = 300
    power_losses: int = 1200
    full_disks: int = 360
    unlocked: int = 300
    damages: int = 3000
    crafted: int = 2000


QUICK = Counts(5, 2, 20, 8, 6, 30, 10)
"""Counts for a look that takes seconds."""


@dataclass(frozen=True)
class Part:
    """Some trials, done in one process unless they kill it."""

    kind: str
    """A field of :class:`Counts`."""
    row: str
    """Which row of the table they count for."""
    function: str
    """What does them, as ``module:name``."""
    trials: Sequence[tuple[Any, ...]]
    """Arguments of the function, one tuple a call."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `python -m benchmarks index_faults` takes."""
    parser.add_argument("--quick", action="store_true", help="few trials of each kind")
    parser.add_argument("--seed", type=int, default=0, help="what all trials follow from")
    parser.add_argument("--processes", type=int, help="how many at a time, default one a core")
    for one in fields(Counts):
        name = "--" + one.name.replace("_", "-")
        parser.add_argument(name, type=int, metavar="N", help=f"trials, default {one.default:,}")


def run(
    quick: bool = False, seed: int = 0, processes: int | None = None, **counts: int | None
) -> list[Table]:
    """Do all trials.

    Parameters
    ----------
    quick : bool
        Whether :data:`QUICK` says how many trials there are of what ``counts`` doesn't name.
    seed : int
        What all of them follow from.
    processes : int, optional
        How many run at a time, default one a core.
    counts : int
        Fields of :class:`Counts`.

    Raises
    ------
    SystemExit
        If system calls can't be traced here.
    """
    reason = tracing.missing()
    if reason is not None:
        raise SystemExit(f"index_faults traces system calls: {reason}")
    chosen = {name: count for name, count in counts.items() if count is not None}
    parts = planned(replace(QUICK if quick else Counts(), **chosen), seed)
    found: dict[tuple[str, str], list[Findings]] = {}
    with ThreadPoolExecutor(processes or os.cpu_count()) as pool:
        for part, findings in zip(parts, pool.map(done, parts), strict=True):
            found.setdefault((part.kind, part.row), []).extend(findings)
    return [_summary(found), _details(found)]


def planned(counts: Counts, seed: int) -> list[Part]:
    """Return the parts of a run."""
    parts: list[Part] = []

    def plan(kind: str, row: str, function: str, *arguments: Any, most: int, share: float) -> None:
        total = max(1, round(getattr(counts, kind) * share)) if getattr(counts, kind) else 0
        for i, count in enumerate(_shares(total, most)):
            trial = (*arguments, count, 1000 * seed + i)
            parts.append(Part(kind, row, f"benchmarks.index_faults:{function}", [trial]))

    for kind in RACES:
        plan("races", f"races: {kind}", "race", kind, most=50, share=1 / len(RACES))
    for name, share in SHARES.items():
        workload = f"tests.index.{name}_workload:{name.title()}Workload"
        plan("kills", f"writers killed, {name}", "kill", workload, most=40, share=share)
        row = f"power lost, {name}"
        plan("power_losses", row, "lose", workload, 0, most=150, share=share * 0.8)
        row = f"power lost after syncing failed, {name}"
        plan("power_losses", row, "lose", workload, 7, most=150, share=share * 0.2)
        row = f"disk full or failing, {name}"
        for failing in (*FAILING, "size"):
            each = share / (len(FAILING) + 1)
            plan("full_disks", row, "fail", workload, failing, most=40, share=each)
        row = f"two writers, locks do nothing, {name}"
        plan("unlocked", row, "unlock", workload, most=100, share=share)
        plan("damages", f"files damaged, {name}", "damage", workload, most=250, share=share)
    row = "crafted folders, checksums right"
    for start in range(0, counts.crafted, 250):
        indices = range(start, min(start + 250, counts.crafted))
        trials = [(seed, index) for index in indices]
        parts.append(Part("crafted", row, "tests.index.crafted:crafted_outcome", trials))
    return parts


SHARES = {"store": 0.75, "index": 0.25}
"""How the trials are shared between a store of arrays and an index of label maps."""


def _shares(total: int, most: int) -> list[int]:
    """Split a number of trials into parts of about the same size."""
    n_parts = -(-total // most)
    return [total // n_parts + (i < total % n_parts) for i in range(n_parts)] if total else []


def done(part: Part) -> list[Findings]:
    """Do a part, and count a crash for each time that it ended its process."""
    found = []
    for number, outcome in enumerate(outcomes(part.function, part.trials)):
        if isinstance(outcome, Findings):
            found.append(outcome)
            continue
        one = Findings(trials=1)
        trial = part.trials[number]
        if isinstance(outcome, Crash):
            one.note("crashed", f"{part.row} {trial}: {outcome.reason}")
        elif outcome not in ("answered", "refused"):
            one.note("wrong", f"{part.row} {trial}: {outcome}")
        found.append(one)
    return found


# --- parts, each with a folder of its own ---------------------------------------------------


def race(kind: str, rounds: int, seed: int) -> Findings:
    from tests.index.races import run_rounds

    counts = run_rounds(kind, rounds, seed)
    found = Findings(counts["rounds"], lost=counts["lost"], unreadable=counts["unreadable"])
    found.wrong = counts["errors"]
    return found


def kill(workload: str, trials: int, seed: int) -> Findings:
    with tempfile.TemporaryDirectory() as folder:
        return kill_writers(workload, Path(folder, "folder"), trials, seed)


def lose(workload: str, failing: int, trials: int, seed: int) -> Findings:
    with tempfile.TemporaryDirectory() as folder:
        each = failing + seed % 5 if failing else 0
        return lose_power(workload, Path(folder), trials, seed, failing=each)


def fail(workload: str, failing: str, failures: int, seed: int) -> Findings:
    with tempfile.TemporaryDirectory() as folder:
        if failing == "size":
            step = max(1, 16_000 // failures)
            return limit_sizes(workload, Path(folder), range(100, 16_000, step), seed)
        error = ("ENOSPC", "EIO", "EDQUOT")[seed % 3]
        every = {"data": 23, "syncing": 5, "names": 5}[failing] + 2 * (seed % 7)
        operations = failures if failures > 10 else 10
        return fail_calls(workload, Path(folder), operations, failing, every, error)


def unlock(workload: str, rounds: int, seed: int) -> Findings:
    with tempfile.TemporaryDirectory() as folder:
        return write_at_once(workload, Path(folder), rounds, seed)


def damage(workload: str, trials: int, seed: int) -> Findings:
    with tempfile.TemporaryDirectory() as scratch:
        folder, thing = Path(scratch, "folder"), resolved(workload)
        model: Model = {}
        thing.create(folder)
        with thing.opened(folder, True) as handle:
            for index in range(12):
                step = operation(seed, index, model)
                thing.apply(handle, step)
                model = after(model, step)
        return damage_files(thing, folder, Path(scratch), trials, seed)


# --- tables ---------------------------------------------------------------------------------

FAULTS = ("lost", "wrong", "unreadable", "unnoticed", "crashed")


def _summary(found: dict[tuple[str, str], list[Findings]]) -> Table:
    table = Table("What was tried, and what went wrong", ("what", "trials", *FAULTS))
    examples: list[str] = []
    for (_, row), findings in found.items():
        counts = [sum(getattr(one, name) for one in findings) for name in ("trials", *FAULTS)]
        table.rows.append([row, *(f"{count:,}" for count in counts)])
        examples += [example for one in findings for example in one.examples][:3]
    everything = [one for findings in found.values() for one in findings]
    totals = [sum(getattr(one, name) for one in everything) for name in ("trials", *FAULTS)]
    table.rows.append(["**all**", *(f"**{total:,}**" for total in totals)])
    table.notes.append(
        "Lost: an acknowledged commit was not there afterwards, or more than the one under way "
        "was. Wrong: something was returned that nobody wrote, or an error said what was not so. "
        "Unreadable: it did not open, verify, or take the next commit. Unnoticed: neither reading "
        "nor verifying reported the damage. Crashed: the process died or hung."
    )
    table.notes += [f"- {example}" for example in examples]
    return table


def _details(found: dict[tuple[str, str], list[Findings]]) -> Table:
    table = Table("What else was counted", ("what", "counts"))
    ours = {one.name for one in fields(Findings)}
    for (_, row), findings in found.items():
        counts: Counter[str] = Counter()
        for one in findings:
            for name in {field.name for field in fields(one)} - ours:
                value = getattr(one, name)
                counts.update(value if isinstance(value, Counter) else {name: value})
        if counts:
            shown = (f"{name.replace('_', ' ')} {count:,}" for name, count in counts.most_common())
            table.rows.append([row, ", ".join(shown)])
    return table
