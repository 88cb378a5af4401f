"""COCO annotations: a JSON file of instances, or of panoptic segments with one PNG an image."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch._errors import MissingExtraError
from hiersearch.index.entries import Entry, labelled_entry
from hiersearch.partitions.files import FilePath, decoding, read_image

_WHAT = "COCO annotations"

Record = dict[str, Any]


def read_coco(path: FilePath) -> Iterator[tuple[float, Entry]]:
    """Read the annotations of a COCO JSON file as one label map for each image.

    Parameters
    ----------
    path : path
        A .json file of instances (run lengths, or polygons, which need pycocotools) or of panoptic
        segments. The PNGs of the latter lie in the folder called like the file (without .json), as
        COCO distributes them, or in the file's own folder.

    Yields
    ------
    float
        Share of the file that is done.
    Entry
        Called like the image's file, without its ending. Its metadata hold ``file`` and
        ``image_id`` of the image, its size, the number of ``regions``, and the number of
        ``objects`` of each category.

    Raises
    ------
    FileFormatError
        If the file, or a PNG, is damaged or is not what it should be: the message names the
        annotation.
    MissingExtraError
        If there are polygons and pycocotools is not installed.
    OSError
        If a file cannot be opened.

    Notes
    -----
    The JSON text is read as a whole, label maps one at a time. Instances may overlap, regions of
    a partition may not: smaller objects lie over larger ones, and all over crowds. What is not
    annotated is one region. O(objects · pixels). The format is that of
    Lin et al., "Microsoft COCO: common objects in context", ECCV 2014, and of Kirillov et al.,
    "Panoptic segmentation", CVPR 2019.
    """
    file = Path(path)
    with decoding(file, _WHAT):
        content = json.loads(file.read_bytes())
        images, annotations, categories = _tables(content)
        panoptic = any("segments_info" in annotation for annotation in annotations)
        of_image = _by_image(images, annotations)
    if any(isinstance(annotation.get("segmentation"), list) for annotation in annotations):
        # Before the first image, so that nothing is added and then given up.
        _masks(file)
    for place, image in enumerate(images):
        with decoding(file, f"{_WHAT} (image {image['id']})"):
            found = of_image[image["id"]]
            name = str(image.get("file_name", image["id"]))
            labels, objects = (
                _segments(file, image, found) if panoptic else _instances(file, image, found)
            )
            counts = Counter(categories.get(number, f"category {number}") for number in objects)
            entry = labelled_entry(
                labels, Path(name).stem, name, image_id=image["id"], objects=dict(counts)
            )
        yield (place + 1) / len(images), entry


def _tables(content: Any) -> tuple[list[Record], list[Record], dict[Any, str]]:
    """Return images, annotations and the names of categories."""
    tables = []
    for name in ("images", "annotations"):
        table = content.get(name) if isinstance(content, dict) else None
        if not isinstance(table, list) or not all(isinstance(record, dict) for record in table):
            raise ValueError(f"it must be an object with a list {name!r} of objects")
        tables.append(table)
    named = content.get("categories", [])
    categories = {_field(record, "id", "category"): record.get("name") for record in named}
    return tables[0], tables[1], {key: str(name) for key, name in categories.items() if name}


def _field(record: Record, name: str, what: str) -> Any:
    if name not in record:
        raise ValueError(f"{what} {record.get('id', '?')} must have {name!r}")
    return record[name]


def _by_image(images: list[Record], annotations: list[Record]) -> dict[Any, list[Record]]:
    of_image: dict[Any, list[Record]] = defaultdict(list)
    known = {_field(image, "id", "image") for image in images}
    for annotation in annotations:
        image = _field(annotation, "image_id", "annotation")
        if image not in known:
            number = annotation.get("id", "?")
            raise ValueError(f"annotation {number} belongs to image {image}, which is not listed")
        of_image[image].append(annotation)
    return of_image


def _size(image: Record) -> tuple[int, int]:
    height, width = (_field(image, side, "image") for side in ("height", "width"))
    return (
        _validate.checked_count(height, f"height of image {image['id']}", 1, 2**15),
        _validate.checked_count(width, f"width of image {image['id']}", 1, 2**15),
    )


# --- instances ------------------------------------------------------------------------------


def _instances(
    file: Path, image: Record, annotations: list[Record]
) -> tuple[NDArray[np.int32], list[Any]]:
    """Draw the objects of an image over each other; return the categories of all of them."""
    height, width = _size(image)
    drawn = []
    for place, annotation in enumerate(annotations):
        what = f"annotation {annotation.get('id', '?')}"
        shape = _field(annotation, "segmentation", "annotation")
        if isinstance(shape, list):
            runs = _polygon_runs(file, shape, height, width, what)
        else:
            runs = _given_runs(shape, height, width, what)
        crowd = bool(annotation.get("iscrowd", 0))
        drawn.append((not crowd, -int(runs[1::2].sum()), place, runs))
    # Down the columns, as run lengths go.
    labels = np.zeros(height * width, np.int32)
    for number, (*_, runs) in enumerate(sorted(drawn, key=lambda one: one[:3]), start=1):
        inside = np.arange(runs.size) % 2 == 1
        labels[np.repeat(inside, runs)] = number
    categories = [_field(annotation, "category_id", "annotation") for annotation in annotations]
    return np.ascontiguousarray(labels.reshape(width, height).T), categories


def _given_runs(shape: Any, height: int, width: int, what: str) -> NDArray[np.int64]:
    """Check run lengths, of background and object in turn, and return them."""
    if not isinstance(shape, dict) or not {"size", "counts"} <= set(shape):
        raise ValueError(f"{what} must be polygons or run lengths with 'size' and 'counts'")
    if list(shape["size"]) != [height, width]:
        raise ValueError(
            f"{what} must have the image's size {[height, width]}, got {shape['size']}"
        )
    counts = shape["counts"]
    if isinstance(counts, str):
        counts = _decompressed(counts.encode(), what)
    whole = isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts)
    if not whole or sum(counts) != height * width:
        raise ValueError(f"{what} must have run lengths that fill {height} × {width} pixels")
    return np.array(counts, np.int64)


def _decompressed(text: bytes, what: str) -> list[int]:
    """Decode COCO's compressed run lengths.

    Five bits a character from "0" on, the lowest first; the sixth says that more follow, and the
    fifth of the last is the sign. From the fourth on, numbers are differences from the last but
    one before them.
    """
    counts: list[int] = []
    number, shift = 0, 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"{what} must have compressed run lengths, got {text[:40]!r}")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number, shift = 0, 0
    if shift:
        raise ValueError(f"{what} must have compressed run lengths, got a truncated text")
    return counts


def _polygon_runs(
    file: Path, shape: list[Any], height: int, width: int, what: str
) -> NDArray[np.int64]:
    """Return the run lengths of the union of polygons, by COCO's own rules of rounding."""
    if not shape:
        raise ValueError(f"{what} must have a polygon, got none")
    polygons = [_polygon(points, what, max(height, width)) for points in shape]
    masks = _masks(file)
    merged = masks.merge(masks.frPyObjects(polygons, height, width))
    return np.array(_decompressed(merged["counts"], what), np.int64)


def _polygon(points: Any, what: str, side: int) -> list[float]:
    """Check the points before compiled code sees them."""
    numbers = np.asarray(points, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size < 6 or numbers.size % 2:
        raise ValueError(f"{what} must have polygons of three points or more, x and y in turn")
    if not (np.abs(numbers - side / 2) <= 1.5 * side).all():
        raise ValueError(f"{what} must have polygons near its image, got {numbers.tolist()}")
    flat: list[float] = numbers.tolist()
    return flat


def _masks(file: Path) -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError("pycocotools", "coco", f"Reading polygons of {file}") from error
    return mask


# --- panoptic segments ----------------------------------------------------------------------


def _segments(
    file: Path, image: Record, annotations: list[Record]
) -> tuple[NDArray[np.int32], list[Any]]:
    """Read the PNG of an image: a segment's number is R + 256 G + 65536 B."""
    if len(annotations) != 1:
        raise ValueError(f"it must have one panoptic annotation, got {len(annotations)}")
    name = str(_field(annotations[0], "file_name", "annotation"))
    folders = (file.with_suffix(""), file.parent)
    picture = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if picture is None:
        raise ValueError(f"{name} is missing: it is neither in {folders[0]} nor in {folders[1]}")
    colours = read_image(picture)
    if colours.dtype != np.uint8 or colours.ndim != 3 or colours.shape[2] != 3:
        raise ValueError(f"{picture} must be an 8-bit RGB picture, got shape {colours.shape}")
    if colours.shape[:2] != _size(image):
        raise ValueError(f"{picture} must have the size {_size(image)}, got {colours.shape[:2]}")
    labels = colours.astype(np.int32) @ np.array([1, 2**8, 2**16], np.int32)
    segments = _field(annotations[0], "segments_info", "annotation")
    return labels, [_field(segment, "category_id", "segment") for segment in segments]
