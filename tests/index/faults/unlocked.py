"""Two writers on a file system whose locks do nothing, as some network file systems' do.

While one writer's commit is stopped at a step, another process commits to the same folder. Each
says of its commits whether they were done; what was done must be there afterwards, what was
refused must not. Run as a program, this module is the other process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tests.index.faults.killing import (
    ROOT,
    Countdown,
    Findings,
    Model,
    Operation,
    Workload,
    WrongContent,
    after,
    operation,
    resolved,
    shown,
    watch_steps,
)


@dataclass
class Unlocked(Findings):
    """What two writers at once brought."""

    both: int = 0
    """Rounds in which both commits were done."""
    refused: int = 0
    """Commits that were refused, as they should be where the other writer was first."""


@contextlib.contextmanager
def without_locks() -> Iterator[None]:
    """Let the locks of files do nothing in this process; those inside of SQLite stay."""
    with Patches() as patches:
        for name in ("flock", "lockf"):
            patches.set(fcntl, name, lambda *_: None)
        connect = sqlite3.connect
        # One that waits for a commit which itself is stopped would wait in vain.
        patches.set(sqlite3, "connect", lambda *a, **o: connect(*a, **{**o, "timeout": 0.02}))
        yield


class Patches:
    """Replaces attributes until it is left."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def set(self, thing: Any, name: str, value: Any) -> None:
        """Replace an attribute."""
        self._before.append((thing, name, getattr(thing, name)))
        setattr(thing, name, value)

    def __enter__(self) -> Patches:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for thing, name, value in reversed(self._before):
            setattr(thing, name, value)


class Other:
    """The other writer, a process that commits when it is told to."""

    def __init__(self, workload: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.index.faults.unlocked", workload],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **what: Any) -> str:
        """Let it do something; return "done" or what it was refused with."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError("the other writer failed")
        return str(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def serve(workload_name: str) -> None:
    """Do what standard input asks for, one line each."""
    workload = resolved(workload_name)
    stack = contextlib.ExitStack()
    handle = None
    with without_locks():
        for line in sys.stdin:
            what = json.loads(line)
            answer = "done"
            try:
                if what["do"] == "open":
                    stack.close()
                    handle = stack.enter_context(workload.opened(Path(what["folder"]), True))
                else:
                    workload.apply(handle, _operation(what))
            except OSError as error:
                answer = f"{type(error).__name__}: {error}"
            print(json.dumps(answer), flush=True)
    stack.close()


def _operation(what: dict[str, Any]) -> Operation:
    return Operation(what["kind"], tuple((name, n) for name, n in what["entries"]), what["choice"])


def write_at_once(workload_name: str, scratch: Path, rounds: int, seed: int) -> Unlocked:
    """Stop a commit at a step while another process commits; again and again."""
    workload, other = resolved(workload_name), Other(workload_name)
    rng = np.random.default_rng(seed)
    found = Unlocked()
    start = scratch / "start"
    workload.create(start)
    model: Model = {}
    with workload.opened(start, True) as handle:
        for index in range(4):
            step = operation(seed, index, model)
            workload.apply(handle, step)
            model = after(model, step)
    try:
        with without_locks():
            for number in range(rounds):
                folder = scratch / "folder"
                shutil.copytree(start, folder)
                steps = int(rng.integers(1, 120))
                found.trials += 1
                _round(workload, other, folder, model, (seed, number, steps), found)
                other.ask(do="open", folder=str(start))
                shutil.rmtree(folder)
    finally:
        other.close()
    return found


def _round(
    workload: Workload,
    other: Other,
    folder: Path,
    model: Model,
    choice: tuple[int, int, int],
    found: Unlocked,
) -> None:
    seed, number, steps = choice
    mine, its = _operations(seed, number, model)
    place = f"round {number}, {its.kind} at step {steps} of {mine.kind}"
    answers: list[str] = []

    def meanwhile() -> None:
        fields = {"kind": its.kind, "entries": its.entries, "choice": its.choice}
        answers.append(other.ask(do="apply", **fields))

    try:
        with workload.opened(folder, True) as handle:
            if other.ask(do="open", folder=str(folder)) != "done":
                raise AssertionError("locks that do nothing kept a writer out")
            answer = "done"
            with Patches() as patches:
                watch_steps(Countdown(steps, meanwhile), patches.set)
                try:
                    workload.apply(handle, mine)
                except OSError as error:
                    answer = shown(error, folder)
            if not answers:
                meanwhile()
        done = [one for one, said in ((its, answers[0]), (mine, answer)) if said == "done"]
        found.both += len(done) == 2
        found.refused += 2 - len(done)
        with workload.opened(folder, False) as reader:
            there = workload.contents(reader)
        if there not in _outcomes(model, done):
            found.note("lost", f"{place}: mine {answer}, its {answers[0]}")
        damage = workload.verify(folder)
        if damage:
            found.note("unreadable", f"{place}: {damage[0]}; mine {answer}, its {answers[0]}")
    except WrongContent as error:
        found.note("wrong", f"{place}: {error}")
    except Exception as error:
        found.note("unreadable", f"{place}: {shown(error, folder)}; its {answers}")


def _operations(seed: int, number: int, model: Model) -> tuple[Operation, Operation]:
    """Return two operations on one model that add different entries."""
    mine = operation(seed, 100 + 2 * number, model)
    its = operation(seed, 101 + 2 * number, model)
    return mine, its


def _outcomes(model: Model, done: list[Operation]) -> list[Model]:
    """Return what operations may come to, in whatever order they were done."""
    outcomes = []
    for ordered in (done, done[::-1]):
        with contextlib.suppress(KeyError):
            found = model
            for step in ordered:
                found = after(found, step)
            outcomes.append(found)
    return outcomes


if __name__ == "__main__":
    serve(sys.argv[1])
