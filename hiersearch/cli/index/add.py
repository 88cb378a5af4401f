"""``hiersearch index add``: label maps and hierarchies from files into an index."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hiersearch._json import parsed_json
from hiersearch.cli.console import (
    Report,
    print_aside,
    print_line,
    progress_bar,
    warn,
    write_json,
)
from hiersearch.cli.errors import SOME_FAILED, UsageError, print_failed, sentence, with_name
from hiersearch.cli.options import IgnoredLabels

if TYPE_CHECKING:
    from hiersearch.index.formats.collections import Collection, Loaded
    from hiersearch.index.formats.entries import Entry
    from hiersearch.index.index import PartitionIndex

_UNITS = {"": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def add(
    path: Annotated[Path, typer.Argument(help="Folder of the index.", metavar="PATH")],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Label maps (PNG, TIFF, NPY, NPZ, also as stacks), folders of them, MATLAB "
            "segmentations (groundTruth, segs, ucm2), COCO JSON (instances, panoptic).",
            metavar="FILES...",
        ),
    ],
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="What to call FILES, once for each; their names unless given."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before each id, like 'train/'.")] = "",
    pattern: Annotated[
        str,
        typer.Option(
            help="Which files of folders are added, like '*-labels.png'; '**/*.png' takes those of "
            "the folders within."
        ),
    ] = "*",
    metadata: Annotated[
        str | None,
        typer.Option(help='JSON object kept with each entry, like \'{"split": "train"}\'.'),
    ] = None,
    metadata_file: Annotated[
        Path | None, typer.Option(help="JSON file that maps ids to objects kept with them.")
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(help="Which cuts of a hierarchy are added, like '0.1,0.3'; all unless given."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="Which array of .npz files holds label maps, where there are several; may be "
            "given several times.",
            metavar="NAME",
        ),
    ] = None,
    ignore: IgnoredLabels = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse COCO annotations without a shape in their image, in place of leaving "
            "them out.",
        ),
    ] = False,
    resample: Annotated[
        bool,
        typer.Option(
            "--resample",
            help="Bring label maps of another size to the index's grid, in place of leaving them "
            "out.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out ids that the index has.")
    ] = False,
    memory: Annotated[
        str, typer.Option(help="How much is gathered before it is written.", metavar="SIZE")
    ] = "256MB",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write only JSON to standard output.")
    ] = False,
) -> None:
    """Add label maps to an index; those of another size with --resample only.

    Ids are the names of the files without endings, with their folders where there are several;
    name/0, name/1, ... where a file holds several maps; name@regions for the cuts of a hierarchy.
    Metadata hold the file, its size and the number of regions, and what COCO says about the
    objects.

    Files that cannot be read are left out and listed, and the exit code is 1. After Ctrl-C or an
    error the index holds what was written until then: --skip-existing goes on.
    """
    common = None if metadata is None else parsed_object(metadata, "--metadata")
    cuts = None if thresholds is None else parsed_thresholds(thresholds)
    room = parsed_size(memory)
    begin = time.perf_counter()
    with progress_bar("Adding", "entries", as_json) as report:
        from hiersearch.cli.index.entries import opened
        from hiersearch.index.formats.collections import Collection

        by_id = {} if metadata_file is None else metadata_by_id(metadata_file)
        with opened(path, "r+") as index:
            failed: list[dict[str, str]] = []

            def note(file: Path, error: Exception) -> None:
                failed.append({"file": str(file), "error": sentence(error) or str(error)})

            collection = Collection(
                files,
                axes=len(index.grid),
                pattern=pattern,
                prefix=prefix,
                names=ids,
                grid=index.grid,
                keys=key or (),
                ignore=ignore or (),
                strict=strict,
                on_failure=note,
            )
            job = Adding(
                index, collection, common or {}, by_id, skip_existing, resample, note, report
            )
            before = len(index)
            try:
                job.run(cuts, room)
            except KeyboardInterrupt:
                _say_what_is_there(path, len(index), before)
                raise
            except Exception as error:
                raise _with_count(error, len(index) - before) from error
            added, total, merging = len(index) - before, len(index), index.merging
    if failed and not (job.count or job.skipped):
        raise UsageError(with_name(failed[0]["file"], failed[0]["error"]))
    summary = {
        "index": str(path),
        "added": added,
        "entries": total,
        "files": len(collection.files),
        "resampled": job.resampled,
        "skipped": job.skipped,
        "annotations_skipped": dict(sorted(collection.skipped.items())),
        "ignored_pixels": collection.ignored_pixels,
        "metadata_unused": sorted(set(by_id) - job.described),
        "failed": failed,
        "merging": merging,
        "seconds": round(time.perf_counter() - begin, 6),
    }
    if ignore and not collection.ignored_pixels:
        warn(f"no pixel has a label of --ignore ({', '.join(map(str, ignore))}) in what was read")
    if merging is not None:
        warn(f"all is added, but {merging}")
    if as_json:
        write_json(summary)
    else:
        _print(summary, index.grid)
    if failed:
        print_failed(failed, "file", len(collection.files))
        raise typer.Exit(SOME_FAILED)


@dataclass
class Adding:
    """The entries on their way into an index, and what happened to them."""

    index: "PartitionIndex"
    """Where they go."""
    collection: "Collection"
    """Where they come from."""
    common: dict[str, Any]
    """Metadata of all."""
    by_id: dict[str, dict[str, Any]]
    """Metadata of some."""
    skip_existing: bool
    """Whether to leave out what the index has."""
    resample: bool
    """Whether to bring what has another size to the index's grid."""
    note: "Callable[[Path, Exception], None]"
    """Takes note of a file that is left out."""
    report: Report
    """Progress bar."""
    resampled: int = 0
    """How many had another size."""
    skipped: int = 0
    """How many were left out."""
    described: set[str] = field(default_factory=set)
    """Ids of ``by_id`` that came up."""
    count: int = 0
    """How many were read."""

    def run(self, thresholds: list[float] | None, memory: int) -> None:
        """Add all: label maps in segments of bounded memory, each hierarchy by itself."""
        from itertools import groupby

        from hiersearch.index.formats.entries import HierarchyEntry
        from hiersearch.index.resample import resampled_tree

        cuts = self.index.ids() if self.skip_existing else []
        added = {str(one).rpartition("@")[0] for one in cuts}
        for is_hierarchy, entries in groupby(
            self.collection, key=lambda entry: isinstance(entry, HierarchyEntry)
        ):
            if not is_hierarchy:
                self.index.add_many(self._prepared(entries), memory=memory)
                continue
            for entry in entries:
                assert isinstance(entry, HierarchyEntry)
                if entry.id in added:
                    self.skipped += 1
                    continue
                tree = entry.tree
                if tree.grid != self.index.grid:
                    if not self.resample:
                        self._note_size(entry, tree.grid)
                        continue
                    tree = resampled_tree(tree, self.index.grid)
                    self.resampled += 1
                self.index.add_hierarchy(
                    tree, entry.id, thresholds=thresholds, metadata=self._metadata(entry)
                )
                self._count_one()

    def _prepared(self, entries: "Iterator[Loaded]") -> "Iterator[Entry]":
        from hiersearch.index.formats.entries import Entry, HierarchyEntry
        from hiersearch.index.resample import resampled
        from hiersearch.partitions import Partition

        for entry in entries:
            assert not isinstance(entry, HierarchyEntry)
            if self.skip_existing and entry.id in self.index:
                self.skipped += 1
            else:
                labels = entry.labels
                grid = labels.grid if isinstance(labels, Partition) else labels.shape
                if grid != self.index.grid and not self.resample:
                    self._note_size(entry, grid)
                    continue
                partition = resampled(labels, self.index.grid, f"label map {entry.id}")
                self.resampled += partition is not labels
                yield Entry(partition, entry.id, self._metadata(entry))
            self._count_one()

    def _note_size(self, entry: "Loaded", shape: tuple[int, ...]) -> None:
        """Leave out what has another size."""
        file = str((entry.metadata or {}).get("file", entry.id))
        message = f"{entry.id} has shape {shape}, and the index the grid {self.index.grid}"
        self.note(Path(file), UsageError(f"{message}: --resample brings it there"))

    def _metadata(self, entry: "Loaded") -> dict[str, Any]:
        own = self.by_id.get(str(entry.id))
        if own is not None:
            self.described.add(str(entry.id))
        return {**(entry.metadata or {}), **self.common, **(own or {})}

    def _count_one(self) -> None:
        self.count += 1
        self.report(self.collection.done, self.count)


def _with_count(error: Exception, added: int) -> Exception:
    """Say, besides what is wrong, how much was added before."""
    said = sentence(error)
    if said is None or not added:
        return error
    entries = "1 entry was" if added == 1 else f"{added:,} entries were"
    return UsageError(
        f"{said.rstrip('.')}; {entries} added before: go on with --skip-existing once it is mended"
    )


def _say_what_is_there(path: Path, entries: int, before: int) -> None:
    print_aside(
        f"hiersearch: {path} is sound and holds {entries:,} entries, {entries - before:,} of them "
        "new: go on with --skip-existing"
    )


def _print(summary: dict[str, Any], grid: tuple[int, ...]) -> None:
    added, files = summary["added"], summary["files"]
    print_line(
        f"added {added:,} {'entry' if added == 1 else 'entries'} from {files:,} "
        f"{'file' if files == 1 else 'files'} in {summary['seconds']:.1f} s: "
        f"{summary['index']} holds {summary['entries']:,}"
    )
    if summary["resampled"]:
        size = "×".join(map(str, grid))
        print_line(f"{summary['resampled']:,} of another size were brought to {size}")
    if summary["ignored_pixels"]:
        print_line(f"{summary['ignored_pixels']:,} pixels of ignored labels went to the nearest")
    if summary["annotations_skipped"]:
        reasons = summary["annotations_skipped"]
        count = sum(reasons.values())
        listed = "; ".join(f"{reason} ({number:,})" for reason, number in reasons.items())
        print_line(f"{count:,} {'annotation' if count == 1 else 'annotations'} left out: {listed}")
    if summary["skipped"]:
        print_line(f"{summary['skipped']:,} left out: the index has their ids")
    if summary["metadata_unused"]:
        unused = summary["metadata_unused"]
        print_line(f"metadata of {len(unused):,} ids not used, {unused[0]!r} the first")


# --- options --------------------------------------------------------------------------------


def parsed_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object."""
    start = text[:80] if isinstance(text, str) else text[:80].decode(errors="replace")
    try:
        value = parsed_json(text)
    except ValueError as error:
        raise UsageError(f"{name} must be a JSON object, got {start!r} ({error})") from error
    if not isinstance(value, dict):
        raise UsageError(f"{name} must be a JSON object, got {start!r}")
    return value


def metadata_by_id(file: Path) -> dict[str, dict[str, Any]]:
    """Read a JSON file that maps ids to objects."""
    objects = parsed_object(file.read_bytes(), f"--metadata-file {file}")
    for name, value in objects.items():
        if not isinstance(value, dict):
            raise UsageError(
                f"--metadata-file {file} must map ids to objects, got {value!r} for {name!r}"
            )
    return objects


def parsed_thresholds(text: str) -> list[float]:
    """Parse altitudes such as ``0.1,0.3``."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--thresholds must be numbers like '0.1,0.3', got {text!r}") from error


def parsed_size(text: str) -> int:
    """Parse a number of bytes such as ``256MB``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]B)?", text.strip().upper())
    size = float(match[1]) * _UNITS[match[2] or ""] if match else 0.0
    if size < 1:
        raise UsageError(f"--memory must be a size like 256MB, got {text!r}")
    return int(size)
