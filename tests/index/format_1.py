"""The two small indices under tests/data/index-format-1: what is in them, and how they were made.

They were written once, by the first writer of format 1, and stay as they are: every later version
has to read them. ``python -m tests.index.format_1 FOLDER`` makes new ones of the same content, to
which the bytes need not be equal. All label maps are made up here.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex

KEPT = Path(__file__).parents[1] / "data" / "index-format-1"
"""Where the indices are checked in."""


class Content(NamedTuple):
    """What a reader must find in an index."""

    grid: tuple[int, ...]
    measure: Any
    """(*grid,) or None."""
    labels: dict
    """Label map of each entry by its id."""
    metadata: dict
    """Metadata of each entry by its id."""
    n_segments: int
    """Segments that the entries are in."""
    n_removed: int
    """Entries that were removed and are still in their segments."""


# --- "plain": two axes, no measure, two segments, a hierarchy and a removal ---------------------

_GRID = (64, 96)
_Y, _X = np.mgrid[: _GRID[0], : _GRID[1]]
# Edges that move by none, one, two and more pixels from row to row, to both sides.
_STAIRS = np.array([30, 30, 31, 29, 31, 28, 60, 3, 95, 0, 40, 40, 38, 45, 44, 50])
# Three hundred regions of one pixel in no order: sixteen of them in one of the smallest tiles.
_SPECKS = np.where((_Y < 10) & (_X < 30), (_Y * 30 + _X) * 89 % 300, 300)
_MAPS: dict[int | str, Any] = {
    # One region, and a label that needs all of its 63 bits.
    7: np.full(_GRID, 2**62 + 1),
    "halves": np.where(_X < 48, -3, 4),
    "disc": np.where(np.hypot(_Y - 30, _X - 50) < 20, 200, 0),
    "stairs": (_STAIRS[_Y // 4] < _X).astype(np.uint8),
    "façade/fenêtre": (_Y // 13) * 10 + _X // 17,
    -(2**40): _SPECKS,
    "removed": (_X // 9 + _Y // 7) % 2,
}
_PLAIN_METADATA: dict[int | str, dict] = {
    7: {},
    "halves": {"split": "train", "scores": [0.5, 1, None]},
    "disc": {"split": "train", "scores": [0.5, 1, None]},
    "stairs": {"camera": {"name": "Käfer", "tilt": -1.25}, "sharp": True},
    "façade/fenêtre": {},
    -(2**40): {"split": "test"},
    "removed": {"split": "test"},
}
_CUT_METADATA = {"source": "stripes"}


def _hierarchy() -> MergeTree:
    """Return a tree over three stripes and a square: 4 leaves, a merge of three, and the root."""
    leaf_map = np.where((_Y > 40) & (_X > 70), 1, np.array([3, 0, 2])[_X // 32])
    return MergeTree.from_parents(
        [4, 5, 4, 4, 5, 5], [0.0, 0.0, 0.0, 0.0, 0.25, 2.0], leaf_map.astype(np.int32)
    )


def plain() -> Content:
    """Return what is in the index of this name."""
    leaves = _hierarchy().leaf_map
    labels = {id: one for id, one in _MAPS.items() if id != "removed"}
    # A cut's nodes in ascending order are its labels: below the first merge all leaves, then the
    # square (leaf 1) and what was merged around it, then all.
    labels["stripes@4"] = leaves
    labels["stripes@2"] = np.where(leaves == 1, 0, 1)
    labels["stripes@1"] = np.zeros(_GRID, int)
    metadata = {id: one for id, one in _PLAIN_METADATA.items() if id != "removed"}
    below = float(np.nextafter(0.25, -np.inf))
    for id, altitude, regions in (
        ("stripes@4", below, 4),
        ("stripes@2", 0.25, 2),
        ("stripes@1", 2.0, 1),
    ):
        metadata[id] = {"altitude": altitude, "regions": regions, **_CUT_METADATA}
    return Content(_GRID, None, labels, metadata, n_segments=2, n_removed=1)


def _write_plain(folder: Path) -> None:
    with PartitionIndex.create(folder, _GRID) as index:
        index.add_many(Entry(one, id, _PLAIN_METADATA[id]) for id, one in _MAPS.items())
        index.add_hierarchy(_hierarchy(), "stripes", metadata=_CUT_METADATA)
        index.remove("removed")


# --- "measured": three axes, a measure of floating-point type, many segments --------------------


def measured() -> Content:
    """Return what is in the index of this name."""
    grid = (3, 6, 7)
    z, y, x = np.mgrid[:3, :6, :7]
    # Eighths, so that all sums are exact; some pixels do not count.
    measure = (z + 2 * y + 3 * x) % 9 / 8
    labels = {
        0: (x > 2) + 2 * (z > 0),
        1: y // 2 * 100_000,
        "ball": (np.abs(z - 1) + np.abs(y - 3) + np.abs(x - 3) < 4).astype(bool) * 1,
    }
    metadata = {0: {}, 1: {}, "ball": {"radius": 4}}
    return Content(grid, measure, labels, metadata, n_segments=2, n_removed=0)


def _write_measured(folder: Path) -> None:
    content = measured()
    with PartitionIndex.create(folder, content.grid, measure=content.measure) as index:
        index.add_many([Entry(content.labels[0]), Entry(content.labels[1])])
        index.add(content.labels["ball"], "ball", content.metadata["ball"])


CONTENTS = {"plain": plain, "measured": measured}
"""What is in each index."""
_WRITERS = {"plain": _write_plain, "measured": _write_measured}


def write(folder: Path) -> None:
    """Write both indices into a folder."""
    for name, writer in _WRITERS.items():
        writer(folder / name)
        # It says which process wrote last, and nothing else.
        (folder / name / "writer.lock").unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
