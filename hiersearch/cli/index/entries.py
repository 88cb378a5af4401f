"""What the commands of ``hiersearch index`` share: opening it, finding and writing entries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from hiersearch.cli.console import Report
from hiersearch.cli.errors import UsageError
from hiersearch.cli.names import FreeNames
from hiersearch.cli.outputs import Destination
from hiersearch.index.index import PartitionIndex
from hiersearch.partitions.files import write_label_map


def opened(path: Path, mode: Literal["r", "r+"] = "r") -> PartitionIndex:
    """Open an index; "r" to search it, "r+" to change it."""
    if not path.exists():
        raise UsageError(f"{path}: no such folder: hiersearch index create makes an index")
    return PartitionIndex.open(path, mode)


def stored_id(index: PartitionIndex, text: str) -> int | str:
    """Return the id that a text of the command line means: the string, else the integer."""
    if text and text in index:
        return text
    if re.fullmatch(r"0|-?[1-9]\d{0,17}", text) and int(text) in index:
        return int(text)
    raise UsageError(f"the index has no entry with the id {text!r}")


def export_entries(
    index: PartitionIndex, ids: list[Any], destination: Destination, report: Report
) -> list[str]:
    """Write label maps and ``entries.json``, which says whose they are; return the names."""
    usual = FreeNames(destination.record)
    ending = ".png" if len(index.grid) == 2 else ".tif"
    destination.check([destination.record, *(usual.of(str(one), ending) for one in ids)])
    names = FreeNames(destination.record)
    records = []
    with destination.staged() as stage:
        for place, one in enumerate(ids):
            labels = index.get(one)
            name = names.of(str(one), _ending(labels))
            write_label_map(stage / name, labels)
            records.append({"file": name, "id": one, "metadata": index.metadata(one)})
            report((place + 1) / len(ids), place + 1)
        destination.write_record(stage, {"entries": records})
    return [str(record["file"]) for record in records]


def _ending(labels: NDArray[Any]) -> str:
    """Return the ending of the first format that holds a label map as it is."""
    low, high = int(labels.min()), int(labels.max())
    if labels.ndim == 2 and low >= 0 and high < 2**16:
        return ".png"
    return ".tif" if low >= -(2**31) and high < (2**31 if low < 0 else 2**32) else ".npy"
