"""Indexing label maps of nuclei: what is nearest to a query, and which maps are near-duplicates.

Run ``python examples/index_nuclei.py [FOLDER] --out index-nuclei``. The default is a collection of
crops and mirror images of the tests' label maps, in which a second annotator has drawn some anew;
a folder of your own is read with ``--pattern "*-labels.png"``.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hiersearch.index.formats.collections import Collection
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.plots import DuplicatePair, Panel, contact_sheet, duplicates_sheet, save_figure

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
GRID = (128, 128)
STEP = 32
FEWEST = 5
ANEW = 12
WAYS = ("copied", "missed", "moved", "grown")
SHOWN = 12


def crops() -> Iterator[Entry]:
    """Cut the tests' label maps into crops, each in four turns and their mirror images."""
    for entry in Collection([DATA], pattern="*-labels.png"):
        labels = entry.labels.labels
        name = str(entry.id).removeprefix("nuclei-").removesuffix("-labels")
        for y in range(0, labels.shape[0] - GRID[0] + 1, STEP):
            for x in range(0, labels.shape[1] - GRID[1] + 1, STEP):
                crop = labels[y : y + GRID[0], x : x + GRID[1]]
                if np.unique(crop).size <= FEWEST:
                    continue
                for turns in range(4):
                    for side, turned in (("", crop), ("'", crop.T)):
                        which = f"{name} {y},{x} {'news'[turns]}{side}"
                        yield Entry(np.rot90(turned, turns), which, {"image": name})


def drawn_anew(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Draw some maps as a second annotator might: hardly otherwise, and numbered anew."""
    rng = np.random.default_rng(0)
    for place, choice in enumerate(rng.choice(len(entries), ANEW, replace=False)):
        labels, what = np.array(entries[choice].labels), WAYS[place % len(WAYS)]
        numbers, sizes = np.unique(labels[labels > 0], return_counts=True)
        # The nucleus of median size.
        nucleus = labels == numbers[np.argsort(sizes)[sizes.size // 2]]
        if what == "missed":
            labels[nucleus] = 0
        elif what == "moved":
            number = labels[nucleus][0]
            labels[nucleus] = 0
            labels[ndimage.shift(nucleus, (0, 2), order=0) & (labels == 0)] = number
        elif what == "grown":
            labels[ndimage.binary_dilation(nucleus, iterations=2)] = labels[nucleus][0]
        renumbered = rng.permutation(int(labels.max()) + 1)[labels]
        yield Entry(renumbered, f"{entries[choice].id} {what}", entries[choice].metadata)


def main(arguments: Sequence[str] | None = None) -> None:
    """Index label maps, search for one, report near-duplicates, and save pictures of both."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="label maps of your own")
    parser.add_argument("--pattern", default="*-labels.png", help="which files of the folder")
    parser.add_argument("--radius", type=float, default=0.03, help="how near duplicates are")
    parser.add_argument("--out", type=Path, default=Path("index-nuclei"), help="for the pictures")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)

    entries: Any
    if chosen.folder is None:
        entries = list(crops())
        entries += drawn_anew(entries)
    else:
        # One file at a time, however many there are; other sizes are brought to the grid.
        entries = Collection([chosen.folder], pattern=chosen.pattern)
    with (
        tempfile.TemporaryDirectory() as folder,
        PartitionIndex.create(Path(folder) / "nuclei", GRID) as index,
    ):
        index.add_many(entries, resample=True)
        print(f"{len(index):,} label maps of {GRID[0]} × {GRID[1]}")
        search(index, chosen.out / "nearest.png")
        report_duplicates(index, chosen.radius, chosen.out / "duplicates.png")


def search(index: PartitionIndex, target: Path) -> None:
    """Search for the first map, moved by three pixels, and draw what is nearest."""
    name = next(iter(index.ids()))
    query: NDArray[Any] = np.roll(index.get(name), 3, axis=1)
    found = index.search(query, k=11)
    print(f"\nnearest to {name!r}, moved by three pixels:")
    for one in found.neighbours[:3]:
        print(f"  distance {one.distance:.5f}  {one.id}")
    work = found.work.as_dict()
    print(
        f"{'exact' if found.exact else 'approximate'}: "
        f"{work['exact_distances']:,} exact distances among {work['entries']:,} label maps"
    )
    panels = [Panel.of_labels(query, "query", f"{name}, moved", highlighted=True)]
    panels += [
        Panel.of_labels(index.get(one.id), str(one.id), f"distance {one.distance:.4g}")
        for one in found.neighbours
    ]
    save_figure(contact_sheet(panels, title=f"Nearest of {len(index):,} label maps"), target)
    print(f"picture: {target}")


def report_duplicates(index: PartitionIndex, radius: float, target: Path) -> None:
    """Report what is within a radius of each other, group by group, and draw the first."""
    groups = index.duplicates(radius)
    print(f"\ngroups of near-duplicates within {radius:g}: {len(groups):,}")
    pairs = [
        (group.representative, other, float(distance))
        for group in groups
        for other, distance in zip(group.others, group.distances[1:], strict=True)
    ]
    for one, other, distance in pairs:
        print(f"  distance {distance:.5f}  {one} | {other}")
    if pairs:
        shown = [
            DuplicatePair(index.get(one), index.get(other), str(one), str(other), distance)
            for one, other, distance in pairs[:SHOWN]
        ]
        save_figure(duplicates_sheet(shown, title=f"Near-duplicates within {radius:g}"), target)
        print(f"picture: {target}")


if __name__ == "__main__":
    main()
