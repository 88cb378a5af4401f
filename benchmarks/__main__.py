"""Run benchmarks and show, or write, their tables."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.measuring import machine

QUESTIONS = (
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
    "gpu",
)
RESULTS = Path(__file__).with_name("RESULTS.md")


HEAD = """# Results

Medians; in brackets the 10th to 90th percentile, or the range where so named. Ratios are of medians
measured in turn in one run. Each section is one run of `python -m benchmarks QUESTION --write`, on
the machine and with the versions that it names.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="index_faults takes options of its own: --quick, --seed, --processes and the number "
        "of trials of each kind (--races, --kills, --power-losses, --full-disks, --unlocked, "
        "--damages, --crafted).",
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--write", action="store_true", help=f"write them to {RESULTS.name}")
    arguments, rest = parser.parse_known_args()
    unknown = set(arguments.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"questions must be among {', '.join(QUESTIONS)}, got {', '.join(unknown)}")
    for question in arguments.questions or QUESTIONS:
        module = importlib.import_module(f"benchmarks.{question}")
        options = own_options(module, question, rest)
        parts = [f"## {question}\n\n{module.__doc__}\n", machine() + "\n"]
        try:
            tables = module.run(**options)
        except SystemExit as reason:
            # Data that is not at hand: the others can still be measured.
            if arguments.questions:
                raise
            print(f"{question} skipped: {reason}", flush=True)
            continue
        for table in tables:
            print(table.markdown(), flush=True)
            parts.append(table.markdown())
        if arguments.write:
            write("\n".join(parts))


def own_options(module: ModuleType, question: str, rest: list[str]) -> dict[str, Any]:
    """Read the options that only one question has."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {question}")
    if hasattr(module, "add_options"):
        module.add_options(parser)
    return vars(parser.parse_args(rest))


def write(section: str) -> None:
    """Put one section in its place among those that were written before."""
    sections = {}
    if RESULTS.exists():
        found = re.split(r"^(?=## )", RESULTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
        sections = {text.split("\n", 1)[0][3:]: text for text in found[1:]}
    sections[section.split("\n", 1)[0][3:]] = section
    ordered = [sections[name].rstrip() for name in QUESTIONS if name in sections]
    RESULTS.write_text("\n\n".join([HEAD.rstrip(), *ordered]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
