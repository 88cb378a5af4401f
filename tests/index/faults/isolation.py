"""Trials in a process of their own, so that one that kills its process is counted, not fatal."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 600.0
"""Seconds after which a trial is taken to hang."""


@dataclass(frozen=True)
class Crash:
    """What a trial that killed its process came to."""

    reason: str
    """How the process ended."""


def outcomes(
    function: str, trials: Sequence[tuple[Any, ...]], patience: float = PATIENCE
) -> Iterator[Any]:
    """Yield what a function returns for each tuple of arguments, or a :class:`Crash`.

    Parameters
    ----------
    function : str
        ``module:name`` of the function.
    trials : sequence of tuples
        Arguments, one tuple a trial. All run in one process, as long as it lives.
    patience : float
        Seconds after which a trial is taken to hang.

    Raises
    ------
    AssertionError
        If the function raises.
    """
    done = 0
    while done < len(trials):
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=_work, args=(function, trials[done:], there), daemon=True)
        process.start()
        there.close()
        try:
            while done < len(trials):
                outcome = _received(here, process, patience)
                done += 1
                yield outcome
                if isinstance(outcome, Crash):
                    break
        finally:
            here.close()
            process.kill()
            process.join()


def _received(pipe: Connection, process: Any, patience: float) -> Any:
    if not pipe.poll(patience):
        return Crash(f"it hung for {patience:g} seconds")
    try:
        failed, outcome = pipe.recv()
    except EOFError:
        process.join()
        code = process.exitcode
        return Crash(signal.Signals(-code).name if code < 0 else f"it ended with {code}")
    if failed:
        raise AssertionError(outcome)
    return outcome


def _work(function: str, trials: Sequence[tuple[Any, ...]], pipe: Connection) -> None:
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    for arguments in trials:
        try:
            message = False, call(*arguments)
        except Exception:
            message = True, traceback.format_exc()
        pipe.send(message)
