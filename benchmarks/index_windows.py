"""Real partitions for the index: nuclei label maps and cuts of their images' hierarchies.

Crops and flips bring them to any number. Needs the folder of nuclei images (``NNN.png``,
``NNN-labels.png``, ``manifest.csv``) named by the environment variable
``HIERSEARCH_NUCLEI``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.network_outputs import data_path
from benchmarks.question import NUCLEI

GRID = (128, 192)
CACHE = Path(__file__).parent.parent / "out" / "index"
HIERARCHIES = (("slic", "average"), ("slic", "ward"), ("watershed", "mean-colour"))
REGIONS = (4, 8, 16, 32, 64, 128, 256)


def nuclei_folder() -> Path:
    """Return the folder of nuclei images, or stop with one sentence."""
    return data_path(NUCLEI)


def names(split: str) -> list[str]:
    """Return the names of a split's images that the grid fits into."""
    with open(nuclei_folder() / "manifest.csv", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == split]
    return [r["name"] for r in rows if int(r["height"]) >= GRID[0] and int(r["width"]) >= GRID[1]]


def base_maps(split: str) -> tuple[list[NDArray[np.uint16]], NDArray[np.int64]]:
    """Label maps of a split: the truth and cuts of three hierarchies of every image; their image.

    Large images are cut into tiles of at most 512 × 512 first. Made once, kept in ``out/index``.
    """
    folder = CACHE / split
    if not (folder / "sources.npy").exists():
        _make(split, folder)
    flat = np.load(folder / "flat.npy", mmap_mode="r")
    shapes, sources = np.load(folder / "shapes.npy"), np.load(folder / "sources.npy")
    ends = np.cumsum(shapes.prod(axis=1))
    maps = [flat[end - h * w : end].reshape(h, w) for end, (h, w) in zip(ends, shapes, strict=True)]
    return maps, sources


def _make(split: str, folder: Path) -> None:
    from skimage.io import imread

    from hiersearch.hierarchy.build import build_hierarchy
    from hiersearch.hierarchy.tree import MergeTree

    found: list[NDArray[np.uint16]] = []
    sources: list[int] = []
    for name in names(split):
        image = imread(nuclei_folder() / f"{name}.png")[:512, :512]
        truth = imread(nuclei_folder() / f"{name}-labels.png")[:512, :512]
        maps = [truth]
        for superpixels, linkage in HIERARCHIES:
            tree: MergeTree = build_hierarchy(
                image, superpixels=superpixels, linkage=linkage, grid=truth.shape
            )
            most = tree.leaf_map.max() + 1
            maps += [tree.labels_of(tree.cut_with_regions(r)) for r in REGIONS if r < most]
        found += [m.astype(np.uint16) for m in maps]
        sources += [int(name)] * len(maps)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "flat.npy", np.concatenate([m.reshape(-1) for m in found]))
    np.save(folder / "shapes.npy", np.array([m.shape for m in found]))
    np.save(folder / "sources.npy", np.array(sources))


def windows(
    maps: list[NDArray[np.uint16]], sources: NDArray[np.int64], count: int, seed: int
) -> Iterator[tuple[list[NDArray[np.uint16]], list[NDArray[np.uint16]]]]:
    """Yield for random windows, flipped at random, the stored partitions and the held-out ones.

    Stored are the nuclei and the cuts of the first two hierarchies, held out those of the third;
    crops of a single region are left out.
    """
    rng = np.random.default_rng(seed)
    begins = np.flatnonzero(np.diff(sources, prepend=-1))
    ends = np.append(begins[1:], len(maps))
    for _ in range(count):
        image = int(rng.integers(len(begins)))
        begin, end = int(begins[image]), int(ends[image])
        held_out = begin + 1 + 2 * ((end - begin - 1) // 3)
        height, width = maps[begin].shape
        top = int(rng.integers(height - GRID[0] + 1))
        left = int(rng.integers(width - GRID[1] + 1))
        down, right = (1 - 2 * rng.integers(2, size=2)).tolist()
        window = (slice(top, top + GRID[0]), slice(left, left + GRID[1]))
        crops = [np.ascontiguousarray(m[window][::down, ::right]) for m in maps[begin:end]]
        sound = [(crop != crop[0, 0]).any() for crop in crops]
        middle = held_out - begin
        yield (
            [c for c, s in zip(crops[:middle], sound[:middle], strict=True) if s],
            [c for c, s in zip(crops[middle:], sound[middle:], strict=True) if s],
        )


def collection(count: int, seed: int = 0):
    """Yield ``count`` partitions of windows of training images."""
    from hiersearch.partitions import Partition

    maps, sources = base_maps("train")
    made = 0
    for stored, _ in windows(maps, sources, count, seed):
        for labels in stored:
            if made == count:
                return
            made += 1
            yield Partition.from_labels(labels)
