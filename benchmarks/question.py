"""What a benchmark declares about itself, and what is missing to run it."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NUCLEI = "HIERSEARCH_NUCLEI"
EM = "HIERSEARCH_EM"
PHOTO = "the astronaut of scikit-image"
PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
EXTRAS = ("torch", "faiss", "benchmark")
"""Where packages are looked for, in this order."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one module of :mod:`benchmarks.questions` asks, and what it takes to answer it."""

    asks: str
    """One sentence with a question mark."""
    minutes: float
    """About how long it takes on two cores, once its data are prepared and kernels compiled."""
    data: tuple[str, ...] = ()
    """Environment variables that must name a file or a folder."""
    bundled: str = ""
    """Data that are there with the package, its tests or a dependency."""
    packages: tuple[str, ...] = ()
    """What must be installed beside the package's dependencies, peers included."""
    optional: tuple[str, ...] = ()
    """Peers that are left out where they are not installed."""
    programs: tuple[str, ...] = ()
    """What must be installed that is not a Python package."""
    settings: tuple[str, ...] = ()
    """Environment variables that may set sizes or folders."""
    group: str = ""
    """A name on the command line that several questions share."""
    in_readme: bool = False
    """Whether README.md shows the answer."""

    def __post_init__(self) -> None:
        if not self.asks.endswith("?"):
            raise ValueError(f"asks must be a question, got {self.asks!r}")
        if self.minutes <= 0:
            raise ValueError(f"minutes must be positive, got {self.minutes}")

    def missing(self) -> str | None:
        """Return what is missing to run it in one sentence, or None."""
        absent = [name for name in self.packages if version(name) is None]
        if absent:
            extras = ",".join(extras_of(absent))
            return f'it needs {" and ".join(absent)}: pip install ".[{extras}]"'
        for variable in self.data:
            if variable not in os.environ:
                return f"it needs data: set {variable} to where they are"
            if not Path(os.environ[variable]).exists():
                return f"{variable} must name what exists, got {os.environ[variable]!r}"
        return None

    def lines(self) -> list[str]:
        """Return what ``--list`` tells of it, without its name."""
        bundled = [f"bundled ({self.bundled})"] if self.bundled else []
        data = [*self.data, *bundled] or ["none (synthetic)"]
        needs = [", ".join((*self.programs, *self.packages)) or "nothing else"]
        if self.optional:
            needs.append(f"peers where installed: {', '.join(self.optional)}")
        extras = extras_of((*self.packages, *self.optional))
        extra = f" (extras: {', '.join(extras)})" if extras else ""
        told = [self.asks, f"data: {', '.join(data)}"]
        if self.settings:
            told.append(f"may be set: {', '.join(self.settings)}")
        told += [f"needs: {'; '.join(needs)}{extra}"]
        return [*told, f"takes: about {duration(self.minutes)}"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer in one line, as the summary of RESULTS.md shows it."""

    ours: str
    """What hiersearch takes or reaches, with units."""
    peers: str = "–"
    """The same of the peers; after a time, ours ÷ theirs in brackets."""


def version(package: str) -> str | None:
    """Return the version of an installed package, else None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def extras_of(packages: Iterable[str]) -> Sequence[str]:
    """Return the extras of pyproject.toml that install some packages."""
    return sorted({extra for name in packages if (extra := _extras().get(name)) is not None})


@functools.cache
def _extras() -> dict[str, str]:
    """Return for each package of the extras the first that has it."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    found: dict[str, str] = {}
    for extra in EXTRAS:
        for requirement in project["optional-dependencies"][extra]:
            name = re.match(r"[\w.-]+", requirement)
            found.setdefault(name.group() if name else requirement, extra)
    return found


def duration(minutes: float) -> str:
    """Return a time to plan by.

    Examples
    --------
    >>> duration(0.4), duration(5), duration(150)
    ('30 s', '5 min', '2.5 h')
    """
    if minutes < 1:
        return f"{10 * max(1, -(-int(60 * minutes) // 10))} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.2g} h"
