"""Timing of functions in turn, and the tables that the results go into."""

from __future__ import annotations

import gc
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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


@dataclass
class Table:
    """One table of results, with what it answers and what was agreed on."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        lines += ["", *self.notes, ""]
        return "\n".join(lines)


def shown(value: float) -> str:
    """Return a number with three significant digits."""
    if value == 0 or not np.isfinite(value):
        return str(value)
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{digits}f}"


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


def machine() -> str:
    """Return one line on the machine and the versions that were measured."""
    packages = ("hiersearch", "numpy", "numba", "scikit-image", "scikit-learn", "higra")
    versions = []
    peers = ("bioimage-cpp", "torch", "pydensecrf2", "faiss-cpu", "usearch", "nmslib")
    peers += ("monai", "kornia", "triton")
    for package in (*packages, *peers):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    return (
        f"{time.strftime('%Y-%m-%d')}, {_processor()}, {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}; " + ", ".join(versions)
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
