"""Timing of functions in turn, peak memory, and what was measured where."""

from __future__ import annotations

import gc
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.question import version
from benchmarks.tables import shown

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Timing:
    """Wall times of one function over the repetitions of a run."""

    milliseconds: np.ndarray

    @property
    def median(self) -> float:
        """Median in milliseconds."""
        return float(np.median(self.milliseconds))

    def __str__(self) -> str:
        """Median with the range from the 10th to the 90th percentile."""
        low, high = np.percentile(self.milliseconds, [10, 90])
        return f"{shown(self.median)} ({shown(low)}–{shown(high)})"


SHORTEST = 0.005
"""Seconds that one timing lasts at least: quicker functions are called several times in it."""


def in_turn(functions: dict[str, Callable[[], Any]], repeats: int = 9) -> dict[str, Timing]:
    """Time functions A B C A B C ..., after calls of each that are not counted.

    Turns put a drift of the machine's speed on all of them alike. The garbage collector runs
    before each timing, not in it.
    """
    calls = {name: _calls_in_a_timing(function) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            gc.collect()
            gc.disable()
            begin = time.perf_counter()
            for _ in range(calls[name]):
                function()
            times[name].append(1e3 * (time.perf_counter() - begin) / calls[name])
            gc.enable()
    return {name: Timing(np.array(values)) for name, values in times.items()}


def _calls_in_a_timing(function: Callable[[], Any]) -> int:
    """Call once to compile and warm up, then find how many calls last long enough."""
    function()
    begin = time.perf_counter()
    function()
    return max(1, math.ceil(SHORTEST / (time.perf_counter() - begin)))


def restarted_peak() -> float:
    """Set Linux's record of peak memory back to what is in use now, and return that (MB)."""
    # Writing 5 does that, see proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _megabytes("VmRSS")


def peak() -> float:
    """Return the most memory in use since :func:`restarted_peak` (MB)."""
    return _megabytes("VmHWM")


def _megabytes(entry: str) -> float:
    """Return an entry of the process's status."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{entry}:"):
            return float(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status must have {entry}")


def machine(packages: Sequence[str], commit: str, took: str) -> str:
    """Return one line on when, at which commit, where and with which versions was measured."""
    named = dict.fromkeys(("hiersearch", "numpy", "numba", "scikit-image", *packages))
    versions = [f"{name} {version(name) or 'not installed'}" for name in named]
    return (
        f"{time.strftime('%Y-%m-%d')}, commit {commit}, {_processor()}, {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}, in {took}; "
        + ", ".join(versions)
    )


MEASURED = ("hiersearch", "benchmarks", "tests", ":!benchmarks/RESULTS.md")
"""Paths whose changes make another thing of a commit."""


def commit(repository: Path = ROOT) -> str:
    """Return the short name of the commit that is measured, and whether it was changed."""
    try:
        name = _git(repository, "rev-parse", "--short=7", "HEAD")
        changes = _git(repository, "status", "--porcelain", "--untracked-files=no", "--", *MEASURED)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changes else name


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
