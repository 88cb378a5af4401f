"""RESULTS.md, its summary, and the figures of README.md: what is measured is written once.

RESULTS.md has a section for each question that was measured. Its summary has a row a question, with
the answer that the question's module reads from the tables of the section; README.md shows the rows
that are marked for it. Nothing of these two is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.questions import NAMES, load
from benchmarks.tables import Table, grid

RESULTS = Path(__file__).with_name("RESULTS.md")
README = RESULTS.parent.parent / "README.md"
MARKERS = ("<!-- figures -->\n", "<!-- end of figures -->\n")
"""What README.md has before and after the figures."""
COLUMNS = ("question", "hiersearch", "peers; after a time, ours ÷ theirs", "measured", "README")

HEAD = """# Results

Medians; in brackets the 10th to 90th percentile, or the range where so named. Ratios are of medians
measured in turn in one run. Each section is one run of `python -m benchmarks QUESTION --write`, on
the machine, at the commit and with the versions that it names. Sections of 2026-11-22, when that
was not noted yet, name the commit that they came with.

## Summary

One row a question, made from the sections by `python -m benchmarks --readme` (and by each
`--write`), which also copies the rows that are marked into README.md.
"""


@dataclass(frozen=True)
class Section:
    """What was measured for one question."""

    name: str
    date: str
    """As year-month-day."""
    commit: str
    """Short name of the commit that was measured, or of the first and the last one."""
    tables: list[Table]

    @staticmethod
    def of(text: str) -> Section:
        """Read a section of RESULTS.md.

        Raises
        ------
        ValueError
            If it does not say when, or at which commit, it was measured.
        """
        name = text.split("\n", 1)[0].removeprefix("## ")
        told = re.search(r"^(\d{4}-\d\d-\d\d), commits? ([^,\n]+),", text, flags=re.MULTILINE)
        if told is None:
            raise ValueError(
                f"section {name} must have a line that begins with 'YEAR-MONTH-DAY, commit NAME,'"
            )
        parts = re.split(r"^(?=### )", text, flags=re.MULTILINE)[1:]
        tables = [Table.from_markdown(part) for part in parts]
        return Section(name, told.group(1), told.group(2), tables)

    @property
    def measured(self) -> str:
        """When, and at which commit."""
        return f"{self.date}, {self.commit}"


def sections(results: str) -> dict[str, str]:
    """Return the sections of RESULTS.md by the question's name."""
    found = re.split(r"^(?=## )", results, flags=re.MULTILINE)[1:]
    named = {text.split("\n", 1)[0].removeprefix("## "): text.rstrip() for text in found}
    return {name: named[name] for name in NAMES if name in named}


def written(parts: Mapping[str, str]) -> str:
    """Return RESULTS.md of some sections, the summary made anew."""
    body = "\n\n".join(parts[name] for name in NAMES if name in parts)
    return f"{HEAD}\n{summary(parts)}\n{body}\n"


def summary(parts: Mapping[str, str]) -> str:
    """Return the table with one row a question."""
    rows = []
    for name in NAMES:
        module = load(name)
        if name in parts:
            section = Section.of(parts[name])
            answer = module.answer(section.tables)
            link, measured = f"[{module.QUESTION.asks}](#{name})", section.measured
            marked = "yes" if module.QUESTION.in_readme else ""
            rows.append((link, answer.ours, answer.peers, measured, marked))
        else:
            rows.append((f"{module.QUESTION.asks} `{name}`", "not measured yet", "", "", ""))
    return "\n".join([*grid(COLUMNS, rows), ""])


def figures(results: str) -> str:
    """Return what README.md shows: the rows of the summary that are marked."""
    part = results.split("## Summary\n", 1)[1].split("\n## ", 1)[0]
    table = Table.from_markdown("summary\n" + part[part.index("\n|") :])
    mark = table.column("README")
    shown = [row[:3] for row in table.rows if row[mark] == "yes"]
    rows = [[row[0].replace("](#", "](benchmarks/RESULTS.md#"), *row[1:]] for row in shown]
    return "\n".join([*grid(table.columns[:3], rows), ""])


def with_figures(readme: str, results: str) -> str:
    """Return README.md with its figures made anew.

    Raises
    ------
    ValueError
        If the markers of the figures are not there, each once and in order.
    """
    begin, end = MARKERS
    before, _, rest = readme.partition(begin)
    _, found, after = rest.partition(end)
    if not found or begin in rest or end in before + after:
        raise ValueError(f"README.md must have {begin.strip()} and, after it, {end.strip()}, once")
    return f"{before}{begin}\n{figures(results)}\n{end}{after}"


def write(name: str, section: str, results: Path = RESULTS, readme: Path = README) -> None:
    """Put a section in its place, and bring the summary and README.md up to date."""
    parts = sections(results.read_text(encoding="utf-8"))
    _write({**parts, name: section.rstrip()}, results, readme)


def refresh(results: Path = RESULTS, readme: Path = README) -> None:
    """Make the summary anew from the sections, and README.md's figures from the summary."""
    _write(sections(results.read_text(encoding="utf-8")), results, readme)


def _write(parts: Mapping[str, str], results: Path, readme: Path) -> None:
    """Write both, or neither where one can't be made."""
    text = written(parts)
    shown = with_figures(readme.read_text(encoding="utf-8"), text)
    results.write_text(text, encoding="utf-8")
    readme.write_text(shown, encoding="utf-8")
