"""Run benchmarks and show, or write, their tables."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

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
    "index_faults",
)
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    arguments = parser.parse_args()
    unknown = set(arguments.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"questions must be among {', '.join(QUESTIONS)}, got {', '.join(unknown)}")
    if arguments.write and arguments.questions:
        parser.error("--write needs all questions, so that all tables come from one run")
    sections = [
        "# Results\n\nMedians; in brackets the 10th to 90th percentile, or the range where so "
        "named. Ratios are of medians measured in turn in one run. Made by "
        "`python -m benchmarks --write`.\n",
        machine() + "\n",
    ]
    for question in arguments.questions or QUESTIONS:
        module = importlib.import_module(f"benchmarks.{question}")
        sections.append(f"## {question}\n\n{module.__doc__}\n")
        for table in module.run():
            print(table.markdown(), flush=True)
            sections.append(table.markdown())
    if arguments.write:
        RESULTS.write_text("\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
