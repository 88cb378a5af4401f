"""The nuclei images with their truth and the shipped network's output, kept on disk once made.

The nuclei folder (``manifest.csv``, ``NAME.png``, ``NAME-labels.png``) is named by the environment
variable ``HIERSEARCH_NUCLEI``, the EM volume's file by ``HIERSEARCH_EM``.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.question import EM, NUCLEI

CACHE = Path(__file__).resolve().parent.parent / "out" / "network-outputs"


@dataclass(frozen=True, slots=True, eq=False)
class NucleiCase:
    """One image of the nuclei data."""

    name: str
    """As in the manifest."""
    image: NDArray[np.uint8]
    """(H, W) or (H, W, 3)."""
    truth: NDArray[np.int32]
    """(H, W), 0 background, 1.. one label a nucleus."""
    probabilities: NDArray[np.float32]
    """(3, H, W) background, interior, boundary, from the shipped network."""
    stained: bool
    """Whether this is a stained histology image (in colour)."""


def data_path(variable: str) -> Path:
    """Return the file or folder that an environment variable names, or say which is missing."""
    if variable not in os.environ:
        raise SystemExit(f"this benchmark needs data: set {variable} to where they are")
    path = Path(os.environ[variable])
    if not path.exists():
        raise SystemExit(f"{variable} must name what exists, got {path}")
    return path


def nuclei_names(split: str, every: int = 1, largest: int | None = None) -> list[str]:
    """Names of a split ("train" or "test") in the manifest's order, or each ``every``-th of them.

    Images with a side of more than ``largest`` pixels are left out.
    """
    with (data_path(NUCLEI) / "manifest.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == split]
    if largest is not None:
        rows = [row for row in rows if max(int(row["height"]), int(row["width"])) <= largest]
    return [row["name"] for row in rows][::every]


def network_outputs(split: str, every: int = 1, largest: int | None = None) -> Iterator[NucleiCase]:
    """Images of a split with the shipped network's output, from the cache where it has them."""
    from skimage.io import imread

    from hiersearch.networks import nuclei_network

    folder = data_path(NUCLEI)
    CACHE.mkdir(parents=True, exist_ok=True)
    network = None
    for name in nuclei_names(split, every, largest):
        image = imread(folder / f"{name}.png")
        truth = imread(folder / f"{name}-labels.png").astype(np.int32)
        kept = CACHE / f"{name}.npy"
        if not kept.exists():
            network = network or nuclei_network()
            half = network(image).astype(np.float16)
            partial = CACHE / f"{name}-{os.getpid()}.npy"
            np.save(partial, half)
            partial.replace(kept)
        probabilities = np.load(kept).astype(np.float32)
        # Half precision sums to 1 within 0.001; after this it does to rounding.
        probabilities /= probabilities.sum(axis=0)
        yield NucleiCase(name, image, truth, probabilities, image.ndim == 3)


def em_volume() -> dict[str, NDArray[np.generic]]:
    """Arrays of the EM volume: image, boundary_probability, fragments, ground_truth."""
    with np.load(data_path(EM)) as arrays:
        return {name: arrays[name] for name in arrays.files}
