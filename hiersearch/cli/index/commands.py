"""``hiersearch index``: create an index of label maps, fill it, and look after it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hiersearch.cli.console import print_line, print_table, progress, progress_bar, write_json
from hiersearch.cli.errors import UsageError
from hiersearch.cli.index.add import add
from hiersearch.cli.index.duplicates import duplicates
from hiersearch.cli.index.search import search
from hiersearch.cli.options import Force, Quiet
from hiersearch.cli.outputs import Destination, checked_folder

DAMAGED = 1
"""Exit code of ``verify`` where there is damage."""
MOST_NAMED = 20
"""Lost entries that ``repair`` names."""

index = typer.Typer(
    name="index",
    help="Search collections of label maps: exact nearest neighbours under the partition metric.",
)

IndexPath = Annotated[Path, typer.Argument(help="Folder of the index.", metavar="PATH")]


@index.command()
def create(
    path: IndexPath,
    grid: Annotated[
        str,
        typer.Option(help="Size that all label maps have or are brought to: 128x192; 3-D: DxHxW."),
    ],
    measure: Annotated[
        Path | None,
        typer.Option(help="Weight of each pixel: NPY, TIFF or PNG on the grid."),
    ] = None,
    as_json: Quiet = False,
) -> None:
    """Create an empty index."""
    sides = parsed_grid(grid)
    with progress("Creating", as_json):
        from hiersearch.index.index import PartitionIndex
        from hiersearch.partitions.files import read_image

        weights = None if measure is None else read_image(measure)
        with PartitionIndex.create(path, sides, measure=weights):
            pass
    if as_json:
        write_json({"index": str(path), "grid": list(sides)})
    else:
        print_line(f"created {path} for label maps of {'×'.join(map(str, sides))}")


def parsed_grid(text: str) -> tuple[int, ...]:
    """Parse a grid such as ``128x192`` or ``12x128x192``."""
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) not in (2, 3) or not all(s.isascii() and s.isdigit() and int(s) for s in sides):
        raise UsageError(f"--grid must be HxW, or DxHxW for volumes, like 128x192, got {text!r}")
    return tuple(int(side) for side in sides)


index.command()(add)
index.command()(search)
index.command()(duplicates)


@index.command()
def remove(
    path: IndexPath,
    ids: Annotated[list[str], typer.Argument(help="Entries to remove.", metavar="ID...")],
    as_json: Quiet = False,
) -> None:
    """Remove entries."""
    with progress("Removing", as_json):
        from hiersearch.cli.index.entries import opened, stored_id

        with opened(path, "r+") as found:
            stored = list(dict.fromkeys(stored_id(found, text) for text in ids))
            found.remove_many(stored)
            left = len(found)
    if as_json:
        write_json({"index": str(path), "removed": stored, "entries": left})
    else:
        print_line(f"removed {counted(len(stored))} from {path}, {left:,} left")


@index.command()
def info(path: IndexPath, as_json: Quiet = False) -> None:
    """Say what an index holds."""
    with progress("Opening", as_json):
        from hiersearch.cli.index.entries import opened

        with opened(path) as found:
            summary = found.info()
    if as_json:
        write_json(summary)
    else:
        rows = [[key, _shown(value)] for key, value in _flat(summary)]
        print_table("Index", ["", "value"], rows)


def _flat(summary: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in summary.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}, ")
        elif value is not None:
            rows.append((f"{prefix}{key}".replace("_", " "), value))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        nested = any(isinstance(item, list) for item in value)
        return (", " if nested else "×").join(_shown(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@index.command()
def verify(
    path: IndexPath,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also recompute from every entry all that searches go by."),
    ] = False,
    as_json: Quiet = False,
) -> None:
    """Read all of an index and report damage; the exit code is 1 if there is any."""
    with progress_bar("Verifying", "MB", as_json) as report:
        from hiersearch.index.index import PartitionIndex

        damages = PartitionIndex.inspect(
            path, lambda done, total: report(done / max(total, 1), done >> 20), deep=deep
        )
    if as_json:
        write_json({"index": str(path), "sound": not damages, "damage": list(map(str, damages))})
    elif damages:
        for damage in damages:
            print_line(str(damage))
        options = " --deep" if deep else ""
        print_line(
            f"{path} is damaged: hiersearch index repair {path}{options} salvages what is sound"
        )
    else:
        print_line(f"{path} is sound")
    if damages:
        raise typer.Exit(DAMAGED)


@index.command()
def repair(
    path: IndexPath,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also mend what only verify --deep finds.")
    ] = False,
    as_json: Quiet = False,
) -> None:
    """Make a damaged index usable again: what is sound is kept."""
    with progress("Repairing", as_json):
        from hiersearch.index.index import PartitionIndex

        report = PartitionIndex.repair(path, deep=deep)
    if as_json:
        write_json(
            {
                "index": str(path),
                "kept": report.kept,
                "lost": list(report.lost),
                "damage": list(map(str, report.damages)),
                "removals_known": report.removals_known,
            }
        )
        return
    for damage in report.damages:
        print_line(str(damage))
    print_line(f"kept {counted(report.kept)}, lost {counted(len(report.lost))}")
    for lost in report.lost[:MOST_NAMED]:
        print_line("  an entry whose id is lost, too" if lost is None else f"  {lost}")
    if len(report.lost) > MOST_NAMED:
        print_line(f"  … and {len(report.lost) - MOST_NAMED:,} more: see --json")
    if not report.removals_known:
        print_line("the catalogue was lost: entries that had been removed may be back")


@index.command()
def compact(path: IndexPath, as_json: Quiet = False) -> None:
    """Give back the room of removed entries and make searches faster again."""
    with progress_bar("Compacting", "entries", as_json) as report:
        from hiersearch.cli.index.entries import opened
        from hiersearch.index.index import folder_bytes

        before = folder_bytes(path)
        with opened(path, "r+") as found:
            entries = len(found)
            found.compact(lambda done: report(done / max(entries, 1), done))
        after = folder_bytes(path)
    if as_json:
        write_json({"index": str(path), "entries": entries, "bytes": after, "bytes_before": before})
    else:
        print_line(f"{counted(entries)} in {after / 1e6:,.1f} MB, before {before / 1e6:,.1f} MB")


@index.command()
def export(
    path: IndexPath,
    folder: Annotated[Path, typer.Argument(help="Folder to write to.", metavar="DIR")],
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", "--ids", help="Write this entry; may be given several times."),
    ] = None,
    force: Force = False,
    as_json: Quiet = False,
) -> None:
    """Write entries as label maps, PNG or what holds them, and entries.json about them."""
    # Entries that were exported earlier stay.
    destination = Destination(
        checked_folder(folder), "index export", "entries.json", force=force, tidy=False
    )
    destination.check([destination.record])
    with progress_bar("Writing", "entries", as_json) as report:
        from hiersearch.cli.index.entries import export_entries, opened, stored_id

        with opened(path) as found:
            wanted = [stored_id(found, text) for text in ids] if ids else list(found.ids())
            written = export_entries(found, wanted, destination, report)
    if as_json:
        write_json({"index": str(path), "folder": str(destination.folder), "files": written})
    else:
        print_line(f"wrote {counted(len(written))} to {folder}")


def counted(count: int) -> str:
    """Say how many entries."""
    return "1 entry" if count == 1 else f"{count:,} entries"
