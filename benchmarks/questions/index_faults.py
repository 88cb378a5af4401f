"""Races, kills, lost power, full disks, damage, crafted folders: what an index loses or gets wrong.

Every count of a fault should be 0. Trials run in processes of their own, so that one that kills its
process is counted as a crash.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.question import Answer, Question
from benchmarks.tables import Table, number
from tests.index.faults import tracing
from tests.index.faults.damages import damage_files
from tests.index.faults.full_disks import FAILING, fail_calls, limit_sizes
from tests.index.faults.isolation import Crash, outcomes
from tests.index.faults.killing import Findings, Model, after, kill_writers, operation, resolved
from tests.index.faults.power_losses import lose_power
from tests.index.faults.unlocked import write_at_once

QUESTION = Question(
    "What does an index lose or get wrong under races, kills, lost power, full disks and damage?",
    minutes=240,
    programs=("strace",),
)
RACES = ("create", "add", "compact", "fork", "threads", "lockless")


@dataclass(frozen=True)
class Counts:
    """How many trials of each kind, at least."""

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
    """Some trials, done in a process of their own."""

    kind: str
    """A field of :class:`Counts`."""
    row: str
    """Which row of the table they count for."""
    function: str
    """What does them, as ``module:name``."""
    arguments: tuple[Any, ...]
    """Arguments of the function; the last two are the number of trials and their seed."""


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
    found: dict[str, list[Findings]] = {}
    with ThreadPoolExecutor(processes or os.cpu_count()) as pool:
        for part, findings in zip(parts, pool.map(done, parts), strict=True):
            found.setdefault(part.row, []).append(findings)
    return [_summary(found), _details(found)]


def planned(counts: Counts, seed: int) -> list[Part]:
    """Return the parts of a run."""
    parts: list[Part] = []

    def plan(kind: str, row: str, does: str, *arguments: Any, most: int, share: float) -> None:
        total = math.ceil(getattr(counts, kind) * share - 1e-9)
        for i, count in enumerate(_shares(total, most)):
            function = f"{__name__}:{does}"
            parts.append(Part(kind, row, function, (*arguments, count, 1000 * seed + i)))

    for kind in RACES:
        plan("races", f"races: {kind}", "race", kind, most=50, share=1 / len(RACES))
    for name, share in SHARES.items():
        workload = f"tests.index.faults.{name}_workload:{name.title()}Workload"
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
    plan("crafted", "crafted folders, checksums right", "craft", most=250, share=1)
    return parts


SHARES = {"store": 0.75, "index": 0.25}
"""How the trials are shared between a store of arrays and an index of label maps."""


def _shares(total: int, most: int) -> list[int]:
    """Split a number of trials into parts of about the same size."""
    n_parts = -(-total // most)
    return [total // n_parts + (i < total % n_parts) for i in range(n_parts)] if total else []


def done(part: Part) -> Findings:
    """Do a part; where it ended its process, that is what it found."""
    [outcome] = outcomes(part.function, [part.arguments])
    if not isinstance(outcome, Crash):
        return outcome
    found = Findings(trials=1)
    found.note("crashed", f"{part.row} {part.arguments}: {outcome.reason}")
    return found


# --- parts: each has a folder of its own, and imports only what it needs ----------------------


@dataclass
class Raced(Findings):
    """What processes and threads brought that meddled with one store at the same moment."""

    acknowledged: int = 0
    """Entries that were acknowledged."""
    refused: int = 0
    """Times that somebody was refused, as is right."""


def race(kind: str, rounds: int, seed: int) -> Findings:
    from tests.index.faults.races import race_rounds

    with tempfile.TemporaryDirectory() as folder:
        races = race_rounds(kind, rounds, seed, Path(folder))
    counts = {one.name: getattr(races, one.name) for one in fields(races) if one.name != "rounds"}
    return Raced(trials=races.rounds, **counts)


@dataclass
class Crafted(Findings):
    """What folders brought that somebody made on purpose."""

    answered: int = 0
    """Folders that every use of gave an answer."""
    refused: int = 0
    """Folders that some use refused."""


def craft(trials: int, seed: int) -> Findings:
    from tests.index.faults.crafted import crafted, exercised, sound_folder

    found = Crafted()
    with tempfile.TemporaryDirectory() as scratch:
        base, folder = Path(scratch, "base"), Path(scratch, "folder")
        sound_folder(base, weighted=bool(seed % 2))
        for number in range(trials):
            what = crafted(base, folder, seed, number)
            count_use(found, exercised(folder).kind, f"folder {number} of {seed}, {what}")
            shutil.rmtree(folder)
    return found


def count_use(found: Crafted, kind: str, place: str) -> None:
    """Count what came of using one folder: an answer, a refusal, or what should not be."""
    found.trials += 1
    if kind in ("answered", "refused"):
        setattr(found, kind, getattr(found, kind) + 1)
    else:
        is_end = any(word in kind for word in ("crashed", "took too long", "ended without"))
        found.note("crashed" if is_end else "wrong", f"{place}: {kind}")


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
            # At the larger sizes not every operation fails.
            step = max(1, 16_000 // (3 * failures))
            return limit_sizes(workload, Path(folder), range(100, 16_000, step), seed)
        error = ("ENOSPC", "EIO", "EDQUOT")[seed % 3]
        every = {"data": 23, "syncing": 5, "names": 5}[failing] + 2 * (seed % 7)
        return fail_calls(workload, Path(folder), 5 + 2 * failures, failing, every, error)


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


def _summary(found: dict[str, list[Findings]]) -> Table:
    table = Table("What was tried, and what went wrong", ("what", "trials", *FAULTS))
    examples: list[str] = []
    for row, findings in found.items():
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


def _details(found: dict[str, list[Findings]]) -> Table:
    table = Table("What else was counted", ("what", "counts"))
    ours = {one.name for one in fields(Findings)}
    for row, findings in found.items():
        counts: Counter[str] = Counter()
        for one in findings:
            for name in {field.name for field in fields(one)} - ours:
                value = getattr(one, name)
                counts.update(value if isinstance(value, Counter) else {name: value})
        if counts:
            shown = (f"{name.replace('_', ' ')} {count:,}" for name, count in counts.most_common())
            table.rows.append([row, ", ".join(shown)])
    return table


def answer(tables: list[Table]) -> Answer:
    summary = tables[0]
    rows = [row for row in summary.rows if row[0] != "**all**"]
    trials = sum(int(number(row[1])) for row in rows)
    faults = sum(int(number(cell)) for row in rows for cell in row[2:])
    return Answer(f"{faults:,} faults in {trials:,} trials")
