"""A harness that kills writers, for anything that keeps entries in a folder.

A :class:`Workload` says how entries are written and read. A writer process applies operations
that depend on nothing but a seed, acknowledges each, and is killed; what is on disk must then be
what was acknowledged, or that and the one operation that was under way. Run as a program, this
module is that writer process. Other modules beside this one do other harm to the same workloads:
``power_losses``, ``full_disks``, ``unlocked`` and ``damages``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Id = int | str
Model = dict[Id, int]
"""What a folder should hold: the version of each entry, which its content follows from."""

ROOT = Path(__file__).parents[3]
MOST_ENTRIES = 150


@dataclass(frozen=True)
class Operation:
    """One commit."""

    kind: str
    """"add", "update", "remove" or "compact"."""
    entries: tuple[tuple[Id, int], ...] = ()
    """Ids with the versions that they get; those of entries to remove with version 0."""
    choice: int = 0
    """A number to choose with, for instance which segments to compact."""


class Workload(Protocol):
    """How to keep entries in a folder."""

    def create(self, folder: Path) -> None:
        """Make an empty one."""

    def opened(self, folder: Path, writable: bool) -> contextlib.AbstractContextManager[Any]:
        """Open a folder and close it again."""

    def apply(self, handle: Any, operation: Operation) -> None:
        """Do an operation in one commit."""

    def contents(self, handle: Any) -> Model:
        """Read everything; raise WrongContent where it is not what id and version stand for."""

    def verify(self, folder: Path) -> list[Any]:
        """Return all damage; each str() names the file."""

    def is_report(self, error: Exception) -> bool:
        """Return whether an exception is how damage is reported."""


class WrongContent(AssertionError):
    """Something was returned that nobody wrote."""


@dataclass
class Findings:
    """What trials of one kind brought; all but ``trials`` and what subclasses add should be 0."""

    trials: int = 0
    lost: int = 0
    """Times that an acknowledged commit was not there, or more than the one under way was."""
    wrong: int = 0
    """Times that something was returned that nobody wrote, or something untrue was said."""
    unreadable: int = 0
    """Times that what should open, read, verify or be written on did not."""
    unnoticed: int = 0
    """Times that damage was not reported."""
    crashed: int = 0
    """Times that the process died or hung."""
    examples: list[str] = field(default_factory=list)
    """What went wrong, for the first few."""

    def note(self, kind: str, example: str) -> None:
        """Count something that went wrong."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{kind}: {example}")

    def add(self, other: Findings) -> None:
        """Count what other trials brought, too."""
        for one in fields(other):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        del self.examples[MOST_EXAMPLES:]

    @property
    def faults(self) -> int:
        """All that went wrong."""
        return self.lost + self.wrong + self.unreadable + self.unnoticed + self.crashed


MOST_EXAMPLES = 20


def shown(error: BaseException, folder: Path) -> str:
    """Return an error in one line, without the place of a folder of this run."""
    return f"{type(error).__name__}: {error}".replace(str(folder), "FOLDER")


# --- operations -----------------------------------------------------------------------------


def operation(seed: int, index: int, model: Model) -> Operation:
    """Return the operation number ``index`` on what a model holds."""
    rng = np.random.default_rng([seed, index])
    ids = list(model)
    kinds, weights = ["add", "update", "remove", "compact"], [0.5, 0.2, 0.15, 0.15]
    kind = str(rng.choice(kinds, p=weights)) if ids else "add"
    if len(ids) > MOST_ENTRIES:
        kind = "remove"
    choice = int(rng.integers(2**31))
    if kind == "compact":
        return Operation(kind, (), choice)
    if kind == "add":
        new = [
            index * 1000 + i if i % 2 else f"entry {index}/{i}" for i in range(rng.integers(1, 12))
        ]
        return Operation(kind, tuple((name, 1) for name in new), choice)
    most = len(ids) // 2 + 1 if kind == "remove" else 3
    picked = rng.choice(len(ids), min(len(ids), int(rng.integers(1, most + 1))), replace=False)
    chosen = [ids[i] for i in sorted(picked.tolist())]
    version = {name: model[name] + 1 if kind == "update" else 0 for name in chosen}
    return Operation(kind, tuple(version.items()), choice)


def after(model: Model, done: Operation) -> Model:
    """Return what a model holds after an operation, in an order that depends on nothing else."""
    changed = dict(model)
    for name, version in done.entries:
        if done.kind == "remove":
            del changed[name]
        else:
            changed[name] = version
    return dict(sorted(changed.items(), key=lambda item: str(item[0])))


# --- the writer process ---------------------------------------------------------------------


def command(
    workload: str, folder: Path, seed: int, start: int, count: int, death: str
) -> list[str]:
    """Return the command of a writer process; it reads the model from standard input."""
    arguments = [workload, str(folder), str(seed), str(start), str(count), death]
    return [sys.executable, "-m", "tests.index.faults.killing", *arguments]


def write_until_killed(arguments: list[str]) -> None:
    """Apply operations and acknowledge each on standard output."""
    name, folder, seed, start, count, death = arguments
    workload = resolved(name)
    model: Model = dict(json.load(sys.stdin))
    os.write(1, b"ready\n")
    arm(death)
    with workload.opened(Path(folder), True) as handle:
        for index in range(int(start), int(start) + int(count)):
            step = operation(int(seed), index, model)
            workload.apply(handle, step)
            model = after(model, step)
            os.write(1, b"done\n")


def resolved(name: str) -> Workload:
    """Return the workload that ``module:class`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)()


def arm(death: str) -> None:
    """Arrange the death of this process.

    ``step:N`` dies at the N-th of all calls that change files, before, in or after it;
    ``commit:N:S`` dies S seconds after the N-th transaction began to be committed, inside of
    SQLite where S is short; anything else waits for a signal from outside.
    """
    kind, *numbers = death.split(":")
    if kind == "step":
        steps = Countdown(int(numbers[0]), lambda: os.kill(os.getpid(), signal.SIGKILL))
        watch_steps(steps, setattr)
    elif kind == "commit":

        def die_soon() -> None:
            # The signal's default action ends the process at once, C code or not.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, float(numbers[1]))

        commits = Countdown(int(numbers[0]), die_soon)
        watch_sqlite(lambda statement: statement == "COMMIT" and commits.step(), setattr)


class Countdown:
    """Counts steps and does something at one of them."""

    def __init__(self, steps: int, act: Callable[[], None]) -> None:
        self.left, self._act = steps, act

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            self._act()


Patch = Callable[[Any, str, Any], None]
"""How an attribute is replaced: setattr, or what puts it back after a test."""


def watch_steps(steps: Countdown, patch: Patch) -> None:
    """Count a step before, in the middle of and after all that changes files."""
    for name in (*("write", "fsync", "replace", "unlink", "open"), *("link", "rename", "mkdir")):
        patch(os, name, _stepping(getattr(os, name), steps, cut=name == "write"))
    watch_sqlite(lambda _: steps.step(), patch)


def _stepping(call: Callable[..., Any], steps: Countdown, cut: bool) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        steps.step()
        if cut and steps.left == 1 and arguments[0] > 2:
            descriptor, data = arguments
            call(descriptor, data[: len(data) // 2])
            steps.step()
        result = call(*arguments, **options)
        steps.step()
        return result

    return wrapped


def watch_sqlite(observe: Callable[[str], Any], patch: Patch) -> None:
    """Tell of each statement that SQLite is about to execute, and when a commit is through."""

    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *arguments: Any) -> Any:
            observe(statement)
            result = super().execute(statement, *arguments)
            if statement == "COMMIT":
                observe("COMMITTED")
            return result

    connect = sqlite3.connect
    patch(sqlite3, "connect", lambda *a, **o: connect(*a, **{**o, "factory": Watched}))


# --- kills ----------------------------------------------------------------------------------


@dataclass
class Kills(Findings):
    """What killing writers brought."""

    acknowledged: int = 0
    """Operations that were acknowledged."""
    entries: int = 0
    """Entries that were there in the end."""
    unacknowledged: int = 0
    """Operations that were committed when the process died before it could say so."""


def kill_writers(workload_name: str, folder: Path, kills: int, seed: int) -> Kills:
    """Kill writers of one folder again and again, looking at it after each; a fault ends it."""
    workload = resolved(workload_name)
    workload.create(folder)
    rng = np.random.default_rng(seed)
    found = Kills()
    model: Model = {}
    index = 0
    while found.trials < kills and not found.faults:
        death = _death(rng)
        try:
            acknowledged, was_killed = _one_life(
                workload_name, folder, seed, index, model, death, rng
            )
            found.trials += was_killed
            found.acknowledged += acknowledged
            for _ in range(acknowledged):
                model = after(model, operation(seed, index, model))
                index += 1
            one_more = after(model, operation(seed, index, model))
            there = _look(workload, folder, found)
        except WrongContent as error:
            found.note("wrong", f"after {death}, operation {index}: {error}")
            break
        except Exception as error:
            found.note("unreadable", f"after {death}, operation {index}: {shown(error, folder)}")
            break
        if there not in (model, one_more):
            wrong = sorted(set(there.items()) ^ set(model.items()), key=str)
            found.note("lost", f"after {death}, operation {index}: {wrong}")
        # An operation that changes no entry, a compaction, may or may not have happened.
        found.unacknowledged += there != model
        index += 1
        model = there
    found.entries = len(model)
    return found


def _death(rng: np.random.Generator) -> str:
    kind = rng.choice(["step", "commit", "outside"], p=[0.5, 0.25, 0.25])
    if kind == "step":
        return f"step:{rng.integers(1, 400)}"
    if kind == "commit":
        return f"commit:{rng.integers(1, 6)}:{rng.uniform(1e-5, 8e-3):.6f}"
    return "outside"


def _one_life(
    workload: str,
    folder: Path,
    seed: int,
    index: int,
    model: Model,
    death: str,
    rng: np.random.Generator,
) -> tuple[int, bool]:
    """Let one writer live; return how many operations it acknowledged and whether it was killed."""
    writer = subprocess.Popen(
        command(workload, folder, seed, index, 40, death),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdin.write(json.dumps(list(model.items())).encode())
    writer.stdin.close()
    lines = [writer.stdout.readline()]
    if death == "outside":
        time.sleep(rng.uniform(0, 0.3))
        writer.kill()
    lines += writer.stdout.read().splitlines(keepends=True)
    errors = writer.stderr.read().decode()
    writer.stdout.close()
    writer.stderr.close()
    code = writer.wait()
    if code not in (0, -signal.SIGKILL, -signal.SIGALRM):
        raise AssertionError(f"the writer failed after {death}:\n{errors}")
    return lines.count(b"done\n"), code != 0


def _look(workload: Workload, folder: Path, found: Kills) -> Model:
    with workload.opened(folder, False) as handle:
        there = workload.contents(handle)
    damage = workload.verify(folder)
    if damage:
        found.note("unreadable", "; ".join(map(str, damage)))
    return dict(sorted(there.items(), key=lambda item: str(item[0])))


if __name__ == "__main__":
    write_until_killed(sys.argv[1:])
