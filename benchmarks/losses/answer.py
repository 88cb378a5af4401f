"""The answer of a comparison of losses in one line."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.question import Answer
from benchmarks.tables import Table, figure

CHOSEN = "Of the partition metric's forms, "
"""Begin of the note that names the form with the best validation score."""
ALWAYS = ("Dice", "Cross-entropy")
"""Peers that are named, beside the best of all."""


def sum_up(table: Table, scores: Sequence[str]) -> Answer:
    """Return some scores of our form that validation chose, of the best peer and of common ones.

    Parameters
    ----------
    table : Table
        Scores on the test split, the best loss first.
    scores : sequence of str
        Columns to name.
    """

    def of(row: Sequence[str]) -> str:
        values = ", ".join(figure(row[table.column(score)]) for score in scores)
        return f"{row[0].removeprefix('Ours, ')}: {values}"

    note = next(note for note in table.notes if note.startswith(CHOSEN))
    chosen = note.removeprefix(CHOSEN).split(" has the best")[0]
    peers = [row for row in table.rows if not row[0].startswith("Ours")]
    named = dict.fromkeys([peers[0][0], *ALWAYS])
    by_name = {row[0]: row for row in table.rows}
    return Answer(
        of(by_name[chosen]) + " (the form with the best validation score)",
        "; ".join(of(by_name[name]) for name in named if name in by_name),
    )
