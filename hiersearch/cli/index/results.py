"""What ``hiersearch index search`` reports and writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hiersearch.cli.console import print_line, print_table
from hiersearch.cli.index.query import Query
from hiersearch.cli.names import shown
from hiersearch.cli.outputs import Destination
from hiersearch.index.index import PartitionIndex
from hiersearch.index.resample import resampled
from hiersearch.index.search.results import SearchResult
from hiersearch.partitions import Partition

MOST_SHOWN = 59
"""Neighbours on a contact sheet."""


def search_summary(
    found: SearchResult,
    query: Query,
    index: PartitionIndex,
    path: Path,
    condition: dict[str, Any] | None,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return the JSON of a search; distances are normalised, ρ / M²."""
    return {
        "query": query.name,
        "index": str(path),
        "grid": list(index.grid),
        "entries": len(index),
        "exact": found.exact,
        "complete": found.complete,
        "where": condition,
        "resampled_from": None if found.resampled_from is None else list(found.resampled_from),
        "results": [
            {"id": one.id, "distance": one.distance, "rho": one.rho, "metadata": one.metadata}
            for one in found.neighbours
        ],
        "work": found.work.as_dict(),
        "seconds": {step: round(value, 6) for step, value in seconds.items()},
    }


def print_search(summary: dict[str, Any]) -> None:
    """Write the neighbours and what it took to find them to standard output."""
    rows = [
        [str(one["id"]), f"{one['distance']:.6g}", _plain(one["metadata"].get("regions"))]
        for one in summary["results"]
    ]
    if rows:
        print_table("Nearest entries", ["id", "distance", "regions"], rows)
    else:
        print_line(f"nothing in {summary['index']} is that near to {summary['query']}")
    print_line(_proof(summary))
    pruned = summary["work"].get("pruned")
    if pruned:
        counts = ", ".join(f"{name} {count:,}" for name, count in pruned.items())
        print_line(f"entries ruled out by {counts}")
    if not summary["complete"]:
        print_line(f"these are all {len(rows):,} entries that there are to search")
    if summary["resampled_from"] is not None:
        sizes = ("×".join(map(str, summary[key])) for key in ("resampled_from", "grid"))
        print_line("the query was brought from {} to {}".format(*sizes))
    print_files(summary)


def _proof(summary: dict[str, Any]) -> str:
    work = summary["work"]
    kind = "exact" if summary["exact"] else "approximate"
    return (
        f"{kind}: {work['exact_distances']:,} exact distances among {work['entries']:,} entries "
        f"in {1000 * summary['seconds']['search']:.1f} ms"
    )


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def print_files(summary: dict[str, Any]) -> None:
    """Write the names of the files that a summary names."""
    if "files" in summary:
        print_line("wrote:")
        for file in summary["files"].values():
            print_line(f"  {os.path.relpath(file)}")


def write_search(
    destination: Destination,
    summary: dict[str, Any],
    found: SearchResult,
    query: Query,
    index: PartitionIndex,
) -> None:
    """Write the contact sheet and the JSON; the summary names them from now on."""
    from hiersearch.plots import Panel, contact_sheet, save_figure, soft_picture
    from hiersearch.plots.sheets import region_picture

    # As it was compared: on the index's grid.
    compared = resampled(query.partition, index.grid)
    if isinstance(compared, Partition):
        picture = region_picture(compared.labels)
    else:
        picture = soft_picture(compared).pixels
    first = Panel(picture, f"query: {shown(query.name)}", query.detail, highlighted=True)
    panels = [first]
    for one in found.neighbours[:MOST_SHOWN]:
        detail = f"distance {one.distance:.4g}"
        panels.append(Panel.of_labels(index.get(one.id), shown(str(one.id)), detail))
    drawn, total = len(panels) - 1, len(found.neighbours)
    listed = f"{total:,}" if drawn == total else f"{drawn:,} of {total:,}"
    title = f"{listed} nearest in {shown(summary['index'])}"
    figure = contact_sheet(panels, title=title, note=_proof(summary))
    write_files(destination, summary, "search", figure, save_figure)


def write_files(
    destination: Destination, summary: dict[str, Any], stem: str, figure: Any, save: Any
) -> None:
    """Write a picture, if there is one, and the summary, which names them from now on."""
    files = {"summary": f"{stem}.json"}
    if figure is not None:
        files["picture"] = f"{stem}.png"
    summary["files"] = {key: str(destination.folder / name) for key, name in files.items()}
    with destination.staged() as stage:
        if figure is not None:
            save(figure, stage / files["picture"])
        destination.write_record(stage, summary)
