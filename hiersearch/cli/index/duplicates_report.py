"""What ``hiersearch index duplicates`` reports and writes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hiersearch.cli.console import print_line, print_table
from hiersearch.cli.index.results import print_files, write_files
from hiersearch.cli.names import shown
from hiersearch.cli.outputs import Destination
from hiersearch.index.index import PartitionIndex
from hiersearch.index.search.results import DuplicateGroup, Pair, id_key

MOST_LISTED = 20
"""Groups or pairs in a table."""
MOST_DRAWN = 24
"""Groups or pairs on a picture."""


def groups_summary(
    groups: Sequence[DuplicateGroup], radius: float, index: PartitionIndex, path: Path
) -> dict[str, Any]:
    """Return the JSON of groups: their ids, the representative first, and distances to it."""
    return {
        "index": str(path),
        "entries": len(index),
        "radius": radius,
        "groups": [list(group.ids) for group in groups],
        "distances": [group.distances.tolist() for group in groups],
        "redundant": sum(len(group.others) for group in groups),
    }


def nearest(pairs: Iterator[Pair], most: int | None) -> tuple[list[Pair], int]:
    """Return the nearest pairs, at most so many, ties by ids; and how many there are."""
    count = 0

    def counted() -> Iterable[Pair]:
        nonlocal count
        for count, pair in enumerate(pairs, 1):  # noqa: B007
            yield pair

    def key(pair: Pair) -> Any:
        return pair.rho, id_key(pair.a), id_key(pair.b)

    if most is None:
        found = sorted(counted(), key=key)
    else:
        found = heapq.nsmallest(most, counted(), key=key)
    return found, count


def pairs_summary(
    pairs: Sequence[Pair], count: int, radius: float, index: PartitionIndex, path: Path
) -> dict[str, Any]:
    """Return the JSON of pairs, nearest first."""
    return {
        "index": str(path),
        "entries": len(index),
        "radius": radius,
        "pairs": [{"a": pair.a, "b": pair.b, "distance": pair.distance} for pair in pairs],
        "count": count,
    }


def show(summary: dict[str, Any]) -> None:
    """Write the largest groups, or the nearest pairs, to standard output."""
    rows = _group_rows(summary) if "groups" in summary else _pair_rows(summary)
    if not rows:
        print_line(
            f"no two of {summary['entries']:,} entries are within {summary['radius']:g} "
            "of each other"
        )
    else:
        title = f"Within {summary['radius']:g}"
        if "groups" in summary:
            columns = ["representative", "entries", "farthest from it"]
            total, what = len(summary["groups"]), "groups"
        else:
            columns, total, what = ["one", "other", "distance"], summary["count"], "pairs"
        print_table(title, columns, rows)
        if total > len(rows):
            print_line(f"… and {total - len(rows):,} more {what}: see --json or --out")
        print_line(_groups_line(summary) if what == "groups" else f"pairs: {total:,}")
    print_files(summary)


def _group_rows(summary: dict[str, Any]) -> list[list[str]]:
    return [
        [str(ids[0]), f"{len(ids):,}", f"{max(distances):.6g}"]
        for ids, distances in list(zip(summary["groups"], summary["distances"], strict=True))[
            :MOST_LISTED
        ]
    ]


def _pair_rows(summary: dict[str, Any]) -> list[list[str]]:
    return [
        [str(pair["a"]), str(pair["b"]), f"{pair['distance']:.6g}"]
        for pair in summary["pairs"][:MOST_LISTED]
    ]


def _groups_line(summary: dict[str, Any]) -> str:
    groups, radius = summary["groups"], summary["radius"]
    text = (
        f"groups: {len(groups):,}, of {summary['redundant'] + len(groups):,} of "
        f"{summary['entries']:,} entries; redundant: {summary['redundant']:,}"
    )
    far = sum(distance > radius for distances in summary["distances"] for distance in distances)
    if far:
        text += f"; farther than {radius:g} from their representative, connected by others: {far:,}"
    return text


def write(destination: Destination, summary: dict[str, Any], index: PartitionIndex) -> None:
    """Write the picture, if there is a pair, and the JSON; the summary names them from now on."""
    from hiersearch.plots import DuplicatePair, duplicates_sheet, save_figure

    if "groups" in summary:
        # Of each group the two that tell most: sorted by distance, the last is farthest.
        chosen = [
            (ids[0], ids[-1], f"{ids[-1]} (1 of {len(ids) - 1:,})", distances[-1])
            for ids, distances in zip(summary["groups"], summary["distances"], strict=True)
        ]
        what, total = "groups of near-duplicates", len(summary["groups"])
    else:
        chosen = [(p["a"], p["b"], str(p["b"]), p["distance"]) for p in summary["pairs"]]
        what, total = "pairs of near-duplicates", summary["count"]
    drawn = [
        DuplicatePair(index.get(a), index.get(b), shown(str(a)), shown(name), distance)
        for a, b, name, distance in chosen[:MOST_DRAWN]
    ]
    figure = None
    if drawn:
        listed = f"{total:,}" if len(drawn) == total else f"{len(drawn)} of {total:,}"
        title = f"{listed} {what} within {summary['radius']:g} in {shown(summary['index'])}"
        if "groups" in summary:
            title += ": the representative and what is farthest from it"
        figure = duplicates_sheet(drawn, title=title)
    write_files(destination, summary, "duplicates", figure, save_figure)
