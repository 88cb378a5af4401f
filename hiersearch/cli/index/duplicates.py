"""``hiersearch index duplicates``: what is near to each other, and leaving one of each."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hiersearch.cli.console import Report, print_line, progress, progress_bar, write_json
from hiersearch.cli.errors import UsageError
from hiersearch.cli.options import Force, Quiet
from hiersearch.cli.outputs import Destination, checked_folder

if TYPE_CHECKING:
    from hiersearch.index.index import PartitionIndex


def duplicates(
    path: Annotated[Path, typer.Argument(help="Folder of the index.", metavar="PATH")],
    radius: Annotated[float, typer.Option(help="How near; 0 finds equal partitions only.")],
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Report pairs in place of groups: there may be many.")
    ] = False,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Remove all of each group but its first, after asking."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --remove: do not ask.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a picture (PNG) and the report (JSON).")
    ] = None,
    force: Force = False,
    as_json: Quiet = False,
) -> None:
    """Report groups of entries that are equal or within a distance of each other.

    Entries within --radius of each other are in one group, and so is what is within it of either.
    A group's representative is the first in the order of ids, integers before text.
    """
    _check(radius, pairs, remove, yes)
    destination = None
    if out is not None:
        folder = checked_folder(out)
        destination = Destination(folder, "index duplicates", "duplicates.json", force=force)
        destination.check(("duplicates.json", "duplicates.png"))
    with progress("Opening", as_json):
        from hiersearch.cli.index import duplicates_report
        from hiersearch.cli.index.entries import opened

    with opened(path, "r+" if remove else "r") as index:
        begin = time.perf_counter()
        with progress_bar("Looking for duplicates", "entries", as_json) as report:
            shown = _share(report, len(index))
            if pairs:
                # A table needs the nearest alone, however many there are.
                most = None if as_json or destination is not None else duplicates_report.MOST_LISTED
                found = duplicates_report.nearest(
                    index.duplicate_pairs(radius, progress=shown), most
                )
                summary = duplicates_report.pairs_summary(*found, radius, index, path)
            else:
                groups = index.duplicates(radius, progress=shown)
                summary = duplicates_report.groups_summary(groups, radius, index, path)
        summary["seconds"] = round(time.perf_counter() - begin, 6)
        if destination is not None:
            with progress("Drawing", as_json):
                duplicates_report.write(destination, summary, index)
        if not as_json:
            duplicates_report.show(summary)
        if remove:
            _remove_others(index, summary, yes, as_json)
    if as_json:
        write_json(summary)


def _check(radius: float, pairs: bool, remove: bool, yes: bool) -> None:
    if not 0 <= radius <= 1:
        raise UsageError(f"--radius must be within 0..1, got {radius}")
    if yes and not remove:
        raise UsageError("--yes is for --remove only, got --yes")
    if pairs and remove:
        raise UsageError("give at most one of --pairs and --remove, got both")
    if remove and not yes and not sys.stdin.isatty():
        raise UsageError("--remove asks before it removes: give --yes where no terminal answers")


def _share(report: Report, total: int) -> Callable[[int], None]:
    return lambda done: report(done / max(1, total), done)


def _remove_others(
    index: "PartitionIndex", summary: dict[str, Any], yes: bool, as_json: bool
) -> None:
    """Remove all but the representatives, in one commit; the summary says what went."""
    others = [one for group in summary["groups"] for one in group[1:]]
    question = f"Remove {len(others):,} of {summary['entries']:,} entries, keeping the first of "
    question += "each group?"
    # On standard error, as progress is: JSON is all that there is on standard output.
    sure = bool(others) and (yes or typer.confirm(question, err=True))
    if sure:
        with progress("Removing", as_json):
            index.remove_many(others)
    summary["removed"] = others if sure else []
    summary["left"] = len(index)
    if not as_json:
        print_line(f"removed {len(summary['removed']):,}, {summary['left']:,} entries left")
