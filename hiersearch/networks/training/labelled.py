"""A folder of images with their label maps."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import FileFormatError
from hiersearch.partitions.files import FilePath, read_label_map, read_plain_image

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
LABEL_ENDINGS = (".png", ".tif", ".tiff", ".npy")
LABELS = "-labels"
"""What the name of a label map has after its image's, where both lie in one folder."""
TRAINED = "train"
"""The split of a manifest that is trained on."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images with label maps, in the order of their names."""

    names: tuple[str, ...]
    """Of the image files."""
    images: tuple[NDArray[Any], ...]
    """Each (H, W), (H, W, 1) or (H, W, 3), as stored."""
    label_maps: tuple[NDArray[np.integer[Any]], ...]
    """Each (H, W)."""
    untouched: dict[str, int]
    """How many images of each other split a manifest names; their files were not opened."""


def read_labelled_images(folder: FilePath) -> LabelledImages:
    """Read the images of a folder that have label maps, which all must have.

    Either both lie in the folder, ``NAME.png`` beside ``NAME-labels.png``, or in its folders
    ``images`` and ``labels``, both as ``NAME.png``. If the folder has a ``manifest.csv`` with the
    columns ``name`` and ``split``, only the images of the split "train" are read.

    Parameters
    ----------
    folder : path
        Images are .png, .jpg, .jpeg, .tif, .tiff or .npy; label maps .png, .tif, .tiff or .npy.

    Returns
    -------
    LabelledImages
        All of them in memory.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    FileFormatError
        If a file cannot be read as what it is named for.
    ValueError, TypeError
        If there are no images, or some lack their label map, or label maps their image, or two
        files have one name, or shapes differ, or an image is none for a 2-D network.

    Notes
    -----
    O(pixels).
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"{root} must be a folder of images and label maps: it is missing")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} must be a folder of images and label maps: it is a file")
    chosen, untouched = _manifest(root)
    pairs = _pairs(root, chosen)
    images, label_maps = [], []
    for image_file, label_file in pairs:
        image, labels = read_plain_image(image_file), read_label_map(label_file)
        if image.shape[:2] != labels.shape or image.ndim > 3:
            raise ValueError(
                f"image and label map must share one 2-D grid, got {image_file} with shape "
                f"{image.shape} and {label_file} with shape {labels.shape}"
            )
        if image.ndim == 3 and image.shape[2] not in (1, 3):
            raise ValueError(f"{image_file} must be grey or RGB, got shape {image.shape}")
        images.append(image)
        label_maps.append(labels)
    names = tuple(image_file.name for image_file, _ in pairs)
    return LabelledImages(names, tuple(images), tuple(label_maps), untouched)


def _pairs(root: Path, chosen: set[str] | None) -> list[tuple[Path, Path]]:
    """Return the files of images and of their label maps; none may be without the other."""
    if (root / "images").is_dir() and (root / "labels").is_dir():
        images = _by_name(root / "images", IMAGE_ENDINGS)
        labels = _by_name(root / "labels", LABEL_ENDINGS)
        where = "labels/NAME.png for images/NAME.png"
    else:
        every = _by_name(root, IMAGE_ENDINGS)
        labels = {
            name.removesuffix(LABELS): file for name, file in every.items() if name.endswith(LABELS)
        }
        images = {name: file for name, file in every.items() if not name.endswith(LABELS)}
        where = f"NAME{LABELS}.png for NAME.png"
    if chosen is not None:
        lost = sorted(chosen - set(images))
        if lost:
            raise ValueError(f"{root} must hold the images that its manifest names: {_few(lost)}")
        images = {name: images[name] for name in sorted(chosen)}
        labels = {name: file for name, file in labels.items() if name in chosen}
    bare = [images[name].name for name in images if name not in labels]
    if bare:
        raise ValueError(f"{root} must hold a label map ({where}) for each image: {_few(bare)}")
    lone = [labels[name].name for name in labels if name not in images]
    if lone:
        raise ValueError(f"{root} must hold an image for each label map: {_few(lone)}")
    if not images:
        raise ValueError(
            f"{root} must hold images with label maps (NAME.png and NAME{LABELS}.png, or folders "
            "images and labels), got none"
        )
    return [(images[name], labels[name]) for name in images]


def _by_name(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in endings or file.name.startswith("."):
            continue
        if file.stem in found:
            raise ValueError(
                f"{folder} must hold one file of each name, got {found[file.stem].name} "
                f"and {file.name}"
            )
        found[file.stem] = file
    return found


def _few(names: list[str]) -> str:
    """List names, of many only the first."""
    shown = ", ".join(names[:5])
    return (
        f"missing for {shown}"
        if len(names) <= 5
        else f"missing for {shown} and {len(names) - 5} more"
    )


def _manifest(root: Path) -> tuple[set[str] | None, dict[str, int]]:
    """Return the names to train on, or None for all, and how many each other split has."""
    file = root / "manifest.csv"
    if not file.exists():
        return None, {}
    try:
        with file.open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"cannot read {file} as a manifest: {error}.") from error
    if not rows or not {"name", "split"} <= set(rows[0]):
        raise FileFormatError(f"cannot read {file} as a manifest: it lacks name and split.")
    chosen = {str(row["name"]) for row in rows if row["split"] == TRAINED}
    if not chosen:
        raise ValueError(f"{file} must name images of the split {TRAINED!r}, got none")
    splits: Iterable[str] = sorted({str(row["split"]) for row in rows} - {TRAINED})
    return chosen, {split: sum(row["split"] == split for row in rows) for split in splits}
