"""One module a question.

Each declares in ``QUESTION`` (a :class:`benchmarks.question.Question`) what it asks and needs,
measures in ``run() -> tables``, and sums those tables up in ``answer(tables) -> Answer``. Its
docstring says how it measures. A module may take options of its own: ``add_options(parser)``
declares them, ``run`` gets them. Whatever is heavy is imported within functions, so that all
questions can be listed at once.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = (
    "graph_and_tree",
    "best_cut",
    "cuts_by_regions",
    "distances",
    "match_process",
    "class_maps",
    "refine_times",
    "nuclei_objects",
    "em_objects",
    "index_search",
    "index_duplicates",
    "index_faults",
    "losses_time",
    "losses_shapes",
    "losses_nuclei",
    "losses_affinities",
    "gpu_distances",
    "gpu_search",
    "gpu_trees",
)
"""All questions, in the order of RESULTS.md."""


def load(name: str) -> ModuleType:
    """Return the module of a question."""
    return importlib.import_module(f"{__name__}.{name}")


def groups() -> dict[str, list[str]]:
    """Return the names that several questions share, with these."""
    found: dict[str, list[str]] = {}
    for name in NAMES:
        if group := load(name).QUESTION.group:
            found.setdefault(group, []).append(name)
    return found
