"""Losses of power, simulated: what a writer did is replayed on a disk that forgets.

A writer process runs under a trace of its system calls, creating folders and committing to them.
The calls are done again on :class:`tests.index.faults.disk_model.Disk`; at some of them the power
goes, and what may remain is looked at: it must open, and hold what had been acknowledged, or that
and the one operation that was under way. Run as a program, this module is the writer process.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.index.faults import planted
from tests.index.faults.disk_model import Disk, File, Folder
from tests.index.faults.killing import (
    ROOT,
    Findings,
    Model,
    Workload,
    WrongContent,
    after,
    operation,
    resolved,
    shown,
)
from tests.index.faults.tracing import Call, Replay, traced

LINES = "lines"
"""File on the simulated disk that the writer writes a line into after each commit."""


@dataclass(frozen=True)
class Job:
    """What the writer does in one folder."""

    folder: str
    """Its path on the disk."""
    seed: int
    """What its operations follow from, see :func:`tests.index.faults.killing.operation`."""
    count: int
    """How many operations."""
    start: int = 0
    """Number of the first operation."""
    model: tuple[tuple[int | str, int], ...] | None = None
    """What the folder holds before; None where it is to be made, which counts as a commit."""

    def possible(self, lines: Sequence[str]) -> list[list[Model | None]]:
        """Return what the folder may hold after each number of the writer's lines.

        None stands for a folder that need not be there. After "done" it holds what was done, or
        that and what is under way. An operation that failed may have happened or not as long as no
        other one is done; "shown" if the writer still saw its change, "failed" if it did not.
        """
        model = None if self.model is None else dict(self.model)
        sure: list[Model | None] = [model]
        possible = []
        for index, line in zip(self._steps(), lines, strict=True):
            changed = {} if model is None else after(model, operation(self.seed, index, model))
            possible.append([*sure, changed])
            sure = [changed] if line == "done" else possible[-1]
            if line != "failed":
                model = changed
        return [*possible, sure]

    @property
    def n_lines(self) -> int:
        """How many lines the writer writes for it."""
        return self.count + (self.model is None)

    def _steps(self) -> list[int]:
        """Return the numbers of the operations; -1 is the creation."""
        creation = [-1] if self.model is None else []
        return creation + list(range(self.start, self.start + self.count))


# --- the writer process ---------------------------------------------------------------------


def write(workload_name: str, root: str, fault: str) -> None:
    """Do the jobs that standard input names, and write down what came of each commit."""
    workload = resolved(workload_name)
    jobs = [Job(**fields) for fields in json.load(sys.stdin)]
    planted.plant(fault)
    lines = os.open(Path(root, LINES), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for job in jobs:
        folder = Path(root, job.folder)
        if job.model is None:
            workload.create(folder)
            os.write(lines, b"done\n")
        model: Model = dict(job.model or ())
        with _opened(workload, folder) as handle:
            for index in range(job.start, job.start + job.count):
                changed = after(model, step := operation(job.seed, index, model))
                line = b"done\n"
                try:
                    workload.apply(handle, step)
                except OSError:
                    shown = workload.contents(handle) == changed != model
                    line = b"shown\n" if shown else b"failed\n"
                if line != b"failed\n":
                    model = changed
                os.write(lines, line)
    os.close(lines)


def _opened(workload: Workload, folder: Path) -> contextlib.AbstractContextManager[Any]:
    """Open a folder for writing, at the second try where a call was made to fail at the first."""
    try:
        return workload.opened(folder, True)
    except OSError:
        return workload.opened(folder, True)


@dataclass
class Recording:
    """What a writer did."""

    disk: Disk
    """The disk before it."""
    calls: list[Call]
    """Its calls."""
    jobs: Sequence[Job]
    """What it was asked for."""


def record(
    workload_name: str, root: Path, jobs: Sequence[Job], fault: str = "none", failing: int = 0
) -> Recording:
    """Let a writer do jobs in folders of ``root``, and watch it.

    ``fault`` is planted into it; where ``failing`` is not 0, every so-manieth of its calls that
    make something durable fails, once a folder was made.

    Raises
    ------
    AssertionError
        If it fails, or the model of the disk ends up other than the disk.
    """
    before, replay = Disk.of(root), Replay(Disk.of(root))
    data = json.dumps([asdict(job) for job in jobs]).encode()
    command = [
        sys.executable,
        "-m",
        "tests.index.faults.power_losses",
        workload_name,
        str(root),
        fault,
    ]
    inject = f"fsync,fdatasync:error=EIO:when={20 + failing}+{failing}" if failing else None
    calls = traced(command, root, data, ROOT, inject)
    replay.do_all(calls)
    differences = replay.disk.differences()
    if differences:
        raise AssertionError(f"the model of the disk differs from the disk at {differences}")
    return Recording(before, calls, jobs)


# --- losses ---------------------------------------------------------------------------------


@dataclass
class PowerLosses(Findings):
    """What losses of power brought."""

    after_commits: int = 0
    """Trials in which the power went right after a commit was acknowledged."""
    unmade: int = 0
    """Trials in which nothing was left of a folder whose creation was not acknowledged."""


@dataclass(frozen=True)
class Remains:
    """What one loss of power left."""

    folder: Path
    """A folder as it may be found afterwards."""
    job: Job
    states: tuple[Model | None, ...]
    """What it may hold."""
    place: str
    """When the power went, in words."""
    after_commit: bool


def remains(
    recording: Recording, scratch: Path, trials: int, rng: np.random.Generator
) -> Iterator[Remains]:
    """Yield what losses of power at random calls leave; each is deleted before the next.

    SQLite passes over a failure to sync the folder of its new journal. Nothing above it can help
    if the power goes in the middle of that very commit, so there it does not go.
    """
    calls, jobs = recording.calls, recording.jobs
    replay = Replay(recording.disk)
    cuts = _cuts(calls, trials, rng)
    replay = Replay(recording.disk)
    written = iter([_line(call) for call in calls if _is_line(call)])
    possible = [job.possible([next(written) for _ in range(job.n_lines)]) for job in jobs]
    # Job and number of its lines for each number of all lines; at the end of one job the next is
    # what goes on.
    moments = [(j, k) for j, job in enumerate(jobs) for k in range(job.n_lines)]
    moments.append((len(jobs) - 1, jobs[-1].n_lines))
    done = lines = 0
    unsafe = False
    for cut in sorted(cuts.tolist()):
        for call in calls[done:cut]:
            unsafe = _journal_is_unsafe(call, replay, unsafe)
            replay.do(call)
            lines += _is_line(call)
        done = cut
        if unsafe:
            continue
        last = calls[cut - 1]
        # Right after a commit it is the folder of that commit that counts.
        just = _is_line(last)
        job, line = moments[lines - just]
        line += just
        target = scratch / "remains"
        _leave(replay.disk, jobs[job].folder, target, rng)
        place = f"call {cut} of {len(calls)}, {last.name} {last.file}, line {line} of job {job}"
        yield Remains(target, jobs[job], tuple(possible[job][line]), place, just)
        shutil.rmtree(target, ignore_errors=True)


def _cuts(calls: Sequence[Call], trials: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose after how many calls the power goes; rare calls more often than their number asks."""
    kinds = [f"{call.name} {Path(call.file).suffix}" if call.changes else "" for call in calls]
    frequencies = Counter(kinds)
    weights = np.array([frequencies[kind] ** -0.5 if kind else 0.0 for kind in kinds])
    cuts: NDArray[np.int64] = 1 + rng.choice(len(calls), trials, p=weights / weights.sum())
    ends = [i + 1 for i, call in enumerate(calls) if _is_line(call)]
    at_ends = rng.random(trials) < 0.2
    cuts[at_ends] = rng.choice(ends, int(at_ends.sum()))
    return cuts


def _journal_is_unsafe(call: Call, replay: Replay, before: bool) -> bool:
    """Return whether SQLite takes a journal to be durable although syncing its folder failed."""
    if call.name in ("fsync", "fdatasync"):
        node = replay.node(call)
        if isinstance(node, Folder):
            return call.result < 0 and any(name.endswith("-journal") for name in node.names)
    return before and not (call.name == "unlink" and call.file.endswith("-journal"))


def _is_line(call: Call) -> bool:
    return call.name == "write" and call.file == LINES


def _line(call: Call) -> str:
    return call.data.decode().strip()


def _leave(disk: Disk, name: str, target: Path, rng: np.random.Generator) -> None:
    """Draw what remains of one folder of the disk, which may lie in others."""
    node: File | Folder | None = disk.root
    for part in name.split("/"):
        node = node.remains(rng).get(part) if isinstance(node, Folder) else None
    if isinstance(node, Folder):
        Disk(disk.path / name, node).lose_power(target, rng)


def lose_power(
    workload_name: str,
    scratch: Path,
    trials: int,
    seed: int,
    operations: int = 25,
    fault: str = "none",
    failing: int = 0,
    to_first: bool = False,
) -> PowerLosses:
    """Record a writer that makes a folder and commits to it, and let the power go at its calls.

    A tenth of the trials are second losses: writers that opened what a first one left, whose
    recovery and next commits were interrupted in turn. ``fault`` and ``failing`` are those of
    :func:`record`; ``to_first`` ends the trials at the first thing that goes wrong.
    """
    # Here, so that a benchmark that only says what it asks imports nothing.
    from hiersearch.index.store.catalogue import CATALOGUE as catalogue

    workload = resolved(workload_name)
    rng = np.random.default_rng([seed, 0])
    found = PowerLosses()
    first, second = scratch / "first", scratch / "second"
    first.mkdir()
    second.mkdir()
    again: list[Job] = []
    # Every other one is made together with the folders that it lies in.
    jobs = [Job("made" if seed % 2 == 0 else "new/deep/made", seed, operations)]
    n_second = trials // 10
    n_first = trials - n_second
    keep = set(rng.choice(n_first, min(n_first, 1 + n_second // 10), replace=False).tolist())
    recording = record(workload_name, first, jobs, fault, failing)
    due = 0
    for number, left in enumerate(remains(recording, scratch, n_first, rng)):
        copy = second / f"left {number}"
        # Where what was left is no store yet, the next that is one is kept.
        due += number in keep
        if due and (left.folder / catalogue).exists():
            shutil.copytree(left.folder, copy)
        model = look(workload, left, found, seed)
        if to_first and found.faults:
            return found
        if copy.exists():
            if model is None:
                shutil.rmtree(copy)
            else:
                again.append(Job(copy.name, seed, 2, 5000, tuple(model.items())))
                due -= 1
    if again:
        recording = record(workload_name, second, again, fault, failing)
        for left in remains(recording, scratch, n_second, rng):
            look(workload, left, found, seed)
    shutil.rmtree(first)
    shutil.rmtree(second)
    return found


def look(workload: Workload, left: Remains, found: PowerLosses, seed: int) -> Model | None:
    """Look at what a loss of power left; return what it holds, None where that is in doubt."""
    found.trials += 1
    found.after_commits += left.after_commit
    try:
        there = _held(workload, left, found)
        if there not in left.states:
            found.note("lost", f"{left.place}: {_change(left.states[0] or {}, there)}")
            return None
        damage = workload.verify(left.folder)
        if damage:
            found.note("unreadable", f"{left.place}: {'; '.join(map(str, damage))}")
        step = operation(seed, 9000, there)
        with workload.opened(left.folder, True) as handle:
            workload.apply(handle, step)
        with workload.opened(left.folder, False) as handle:
            if workload.contents(handle) != after(there, step):
                found.note("lost", f"{left.place}: what was committed afterwards")
    except WrongContent as error:
        found.note("wrong", f"{left.place}: {error}")
        return None
    except Exception as error:
        found.note("unreadable", f"{left.place}: {shown(error, left.folder)}")
        return None
    return there


def _held(workload: Workload, left: Remains, found: PowerLosses) -> Model:
    """Return what a folder holds, making it again where it had not been made."""
    if left.states[0] is None:
        try:
            workload.create(left.folder)
        except ValueError:
            pass  # it holds an index, so it was made
        else:
            found.unmade += 1
    with workload.opened(left.folder, False) as handle:
        return workload.contents(handle)


def _change(wanted: Model, there: Model) -> str:
    return f"{sorted(set(wanted.items()) ^ set(there.items()), key=str)} differ"


if __name__ == "__main__":
    write(*sys.argv[1:])
