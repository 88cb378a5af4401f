"""What goes into an index: a partition or a hierarchy with its id and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions.partition import Partition


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A partition to be added to an index."""

    labels: Partition | NDArray[Any]
    """The partition, or its label map (*grid)."""
    id: int | str | None = None
    """What to call it; None for the next automatic number."""
    metadata: Mapping[str, Any] | None = None
    """JSON object to be kept with it."""


@dataclass(frozen=True, slots=True, eq=False)
class HierarchyEntry:
    """A hierarchy to be added to an index, whose cuts become entries."""

    tree: MergeTree
    """The merge tree."""
    id: int | str
    """What its cuts are called: ``id@number of regions``."""
    metadata: Mapping[str, Any] | None = None
    """JSON object to be kept with each cut."""


def labelled_entry(labels: ArrayLike, name: str, file: str, **more: Any) -> Entry:
    """Encode a label map and say where it comes from.

    Parameters
    ----------
    labels : integer array, shape (H, W) or (D, H, W)
        Label map.
    name : str
        The entry's id.
    file : str
        Name of the file that it was read from.
    **more
        More of its metadata.

    Returns
    -------
    Entry
        Its metadata hold ``file``, ``regions``, ``height``, ``width`` (and ``depth``), and
        ``more``.

    Notes
    -----
    O(pixels).

    Examples
    --------
    >>> entry = labelled_entry([[0, 0, 3]], "a", "a.png", split="train")
    >>> entry.id, dict(entry.metadata)
    ('a', {'file': 'a.png', 'regions': 2, 'height': 1, 'width': 3, 'split': 'train'})
    """
    partition = Partition.from_labels(labels)
    # Bytes of a name that are no UTF-8 are kept escaped: metadata are text.
    known = file.encode("utf-8", "backslashreplace").decode()
    metadata = {"file": known, "regions": partition.n_regions, **sides_of(partition.grid), **more}
    return Entry(partition, name, metadata)


def sides_of(grid: tuple[int, ...]) -> dict[str, int]:
    """Return ``height`` and ``width``, for a volume after ``depth``.

    Examples
    --------
    >>> sides_of((4, 5))
    {'height': 4, 'width': 5}
    """
    names = ("depth", "height", "width")[-len(grid) :]
    return dict(zip(names, grid, strict=True))
