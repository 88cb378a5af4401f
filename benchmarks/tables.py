"""Tables of results, to and from Markdown, and figures with three digits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Table:
    """One table of results, with what it answers and what was agreed on."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", "", *grid(self.columns, self.rows)]
        lines += ["", *self.notes, ""]
        return "\n".join(lines)

    @staticmethod
    def from_markdown(text: str) -> Table:
        """Return the table of a text that :meth:`markdown` made."""
        title, _, rest = text.partition("\n")
        lines = rest.strip().split("\n")
        n_rows = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
        columns, _, *rows = (_cells(line) for line in lines[:n_rows])
        notes = [line for line in lines[n_rows:] if line]
        return Table(title.removeprefix("### "), columns, list(rows), notes)

    def row(self, name: str) -> list[str]:
        """Return the first row whose first cell begins with a name, bold or not.

        Raises
        ------
        KeyError
            If there is none.
        """
        for row in self.rows:
            if row[0].strip("*").startswith(name):
                return list(row)
        raise KeyError(f"no row of the table {self.title!r} begins with {name!r}")

    def column(self, name: str) -> int:
        """Return the number of the first column of a name.

        Raises
        ------
        KeyError
            If there is none.
        """
        names = [column.strip() for column in self.columns]
        if name not in names:
            raise KeyError(f"the table {self.title!r} has no column {name!r}")
        return names.index(name)

    def figure(self, row: str, column: str) -> str:
        """Return a figure by its row and column: see :func:`figure`."""
        return figure(self.row(row)[self.column(column)])

    def figures(self, column: str) -> list[str]:
        """Return the figures of a column, row by row."""
        number = self.column(column)
        return [figure(row[number]) for row in self.rows]


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    for line in (columns, None, *rows):
        yield "|" + "---|" * len(columns) if line is None else "| " + " | ".join(line) + " |"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def figure(cell: str) -> str:
    """Return the figure of a cell without the range or deviation that follows it.

    Examples
    --------
    >>> figure("12.8 (12.5–16.2)"), figure("0.686 ± 0.013"), figure("1,317")
    ('12.8', '0.686', '1,317')
    """
    return re.split(r" [(±]", cell)[0]


def span(figures: Sequence[str]) -> str:
    """Return the range of some figures, or the one that all of them are.

    Examples
    --------
    >>> span(["85.1", "47.9", "39.1"]), span(["1,000"])
    ('39.1–85.1', '1,000')
    """
    low, high = min(figures, key=number), max(figures, key=number)
    return low if low == high else f"{low}–{high}"


def number(figure: str) -> float:
    """Return the number that :func:`shown`, or a count with commas, shows."""
    return float(figure.replace(",", ""))


def shown(value: float) -> str:
    """Return a number with three significant digits."""
    if value == 0 or not np.isfinite(value):
        return str(value)
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{digits}f}"
