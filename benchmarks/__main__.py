"""Run benchmarks and show, or write, their tables."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from benchmarks import results
from benchmarks.measuring import commit, machine
from benchmarks.question import duration
from benchmarks.questions import NAMES, groups, load


def main(given: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    given = list(sys.argv[1:] if given is None else given)
    parser = parser_of_all()
    arguments, rest = parser.parse_known_args(given)
    shared = groups()
    unknown = [name for name in arguments.questions if name not in (*NAMES, *shared)]
    if unknown:
        known = ", ".join((*NAMES, *shared))
        parser.error(f"questions must be among {known}, got {', '.join(unknown)}")
    names = chosen(arguments.questions, shared)
    if arguments.help:
        # One question's own, where one is named.
        (parser_of(names[0]) if len(names) == 1 else parser).print_help()
    elif arguments.list:
        print("\n\n".join(told(names or NAMES, shared)))
    elif arguments.readme:
        results.refresh()
    else:
        options = {name: own_options(name, rest) for name in names or NAMES}
        if names:
            if reason := first_missing(names):
                parser.error(reason)
            for name in names:
                answered(name, options[name], arguments.write)
        else:
            all_answered(options, arguments.write)


def parser_of_all() -> argparse.ArgumentParser:
    """Return the parser of what all questions share."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="All questions where none is named; `python -m benchmarks QUESTION --help` shows "
        "how one measures and its own options.",
        add_help=False,
    )
    names = ", ".join((*NAMES, *groups()))
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=names)
    parser.add_argument("-h", "--help", action="store_true", help="show this, or one question's")
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--list", action="store_true", help="show what each asks, needs and takes")
    does.add_argument(
        "--write", action="store_true", help="write the tables, their summary and README's figures"
    )
    does.add_argument(
        "--readme", action="store_true", help="make the summary and README's figures anew"
    )
    return parser


def chosen(questions: Iterable[str], shared: dict[str, list[str]]) -> list[str]:
    """Return the questions that names stand for, each once."""
    return list(dict.fromkeys(one for name in questions for one in shared.get(name, [name])))


def told(names: Iterable[str], shared: dict[str, list[str]]) -> list[str]:
    """Return what ``--list`` shows of some questions, one paragraph each, and of groups."""
    names = list(names)
    paragraphs = ["\n    ".join([name, *load(name).QUESTION.lines()]) for name in names]
    for group, members in shared.items():
        if set(members) <= set(names):
            paragraphs.append(f"{group}\n    {', '.join(members)}, one after the other")
    return paragraphs


def first_missing(names: Iterable[str]) -> str | None:
    """Return what one of the questions that were named lacks, before any of them runs."""
    for name in names:
        if reason := load(name).QUESTION.missing():
            return f"{name}: {reason}"
    return None


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of the options that only one question has."""
    module = load(name)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        usage="%(prog)s [--write] [OPTIONS]",
        description=f"{module.__doc__}\n" + "\n".join(module.QUESTION.lines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if hasattr(module, "add_options"):
        module.add_options(parser)
    return parser


def own_options(name: str, rest: Sequence[str]) -> dict[str, Any]:
    """Read the options that only one question has."""
    return vars(parser_of(name).parse_args(rest))


def all_answered(options: dict[str, dict[str, Any]], is_written: bool) -> None:
    """Run every question but those that lack something here: the others can still be measured."""
    for name, own in options.items():
        reason: object = load(name).QUESTION.missing()
        if reason is None:
            try:
                answered(name, own, is_written)
            except SystemExit as stopped:
                reason = stopped
        if reason is not None:
            print(f"{name} skipped: {reason}", flush=True)


def answered(name: str, options: dict[str, Any], is_written: bool) -> None:
    """Run one question, show its tables and its answer, and write them."""
    module: ModuleType = load(name)
    at, begin = commit(), time.perf_counter()
    tables = []
    for table in module.run(**options):
        print(table.markdown(), flush=True)
        tables.append(table)
    took = duration((time.perf_counter() - begin) / 60)
    if not tables:
        if is_written:
            print(f"{name} has no tables of this run to write.", flush=True)
        return
    answer = module.answer(tables)
    shown = (module.QUESTION.asks, f"hiersearch: {answer.ours}", f"peers: {answer.peers}")
    print("\n".join(shown), f"measured in {took}\n", sep="\n", flush=True)
    if is_written:
        question = module.QUESTION
        where = machine((*question.packages, *question.optional), at, took)
        parts = [f"## {name}\n", f"{(module.__doc__ or '').strip()}\n", f"{where}\n"]
        results.write(name, "\n".join([*parts, *(table.markdown() for table in tables)]))


if __name__ == "__main__":
    main()
