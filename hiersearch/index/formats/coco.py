"""COCO annotations: a JSON file of instances, or of panoptic segments with one PNG an image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch._json import parsed_json
from hiersearch.index.formats.coco_shapes import Degenerate, masks_module, object_runs
from hiersearch.index.formats.entries import Entry, labelled_entry
from hiersearch.partitions.files import FilePath, decoding, read_image

_WHAT = "COCO annotations"

Record = dict[str, Any]


def read_coco(
    path: FilePath, *, strict: bool = False, skipped: Counter[str] | None = None
) -> Iterator[tuple[float, Entry]]:
    """Read the annotations of a COCO JSON file as one label map for each image.

    Parameters
    ----------
    path : path
        A .json file of instances (run lengths, or polygons, which need pycocotools) or of panoptic
        segments. The PNGs of the latter lie in the folder called like the file (without .json), as
        COCO distributes them, or in the file's own folder.
    strict : bool
        Whether instances without a shape are refused. Data sets have them: without a segmentation,
        with polygons of two points, outside their image, of no area, of another image's size.
    skipped : Counter of str, optional
        Where instances that are left out are counted, by reason.

    Yields
    ------
    float
        Share of the file that is done.
    Entry
        Called like the image's file with its folders, without its ending (with it, where two
        images differ in the ending alone). Its metadata hold ``file`` and ``image_id`` of the
        image, its size, the number of ``regions``, and the number of ``objects`` of each category.

    Raises
    ------
    FileFormatError
        If the file, or a PNG, is damaged or is not what it should be, or names a file outside its
        folder: the message names the annotation.
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
    counted: Counter[str] = Counter() if skipped is None else skipped
    with decoding(file, _WHAT):
        content = parsed_json(file.read_bytes())
        images, annotations, categories = _tables(content)
        panoptic = any("segments_info" in annotation for annotation in annotations)
        of_image = _by_image(images, annotations)
        names = _names(images)
    if any(isinstance(annotation.get("segmentation"), list) for annotation in annotations):
        # Before the first image, so that nothing is added and then given up.
        masks_module(file)
    for place, (image, name) in enumerate(zip(images, names, strict=True)):
        with decoding(file, f"{_WHAT} (image {image['id']})"):
            found = of_image[image["id"]]
            if panoptic:
                labels, objects = _segments(file, image, found)
            else:
                labels, objects = _instances(file, image, found, strict, counted)
            counts = Counter(categories.get(number, f"category {number}") for number in objects)
            shown = str(image.get("file_name") or image["id"])
            entry = labelled_entry(labels, name, shown, image_id=image["id"], objects=dict(counts))
        yield (place + 1) / len(images), entry


def _tables(content: Any) -> tuple[list[Record], list[Record], dict[Any, str]]:
    """Return images, annotations and the names of categories."""
    tables = []
    for name in ("images", "annotations"):
        table = content.get(name) if isinstance(content, dict) else None
        if not isinstance(table, list) or not all(isinstance(record, dict) for record in table):
            raise ValueError(f"it must be an object with a list {name!r} of objects")
        tables.append(table)
    named = content.get("categories") or []
    if not isinstance(named, list) or not all(isinstance(record, dict) for record in named):
        raise ValueError("its 'categories' must be a list of objects")
    categories = {_id(record, "id", "category"): record.get("name") for record in named}
    return tables[0], tables[1], {key: str(name) for key, name in categories.items() if name}


def _field(record: Record, name: str, what: str) -> Any:
    if name not in record:
        raise ValueError(f"{what} {record.get('id', '?')} must have {name!r}")
    return record[name]


def _id(record: Record, name: str, what: str) -> int | str:
    """Return a number or text that names a record."""
    value = _field(record, name, what)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(
            f"{name!r} of {what} {record.get('id', '?')} must be a whole number or text, "
            f"got {value!r}"
        )
    return value


def _by_image(images: list[Record], annotations: list[Record]) -> dict[Any, list[Record]]:
    of_image: dict[Any, list[Record]] = defaultdict(list)
    counts = Counter(_id(image, "id", "image") for image in images)
    for image, count in counts.items():
        if count > 1:
            raise ValueError(f"images must have ids that differ, got {image!r} {count} times")
    for annotation in annotations:
        image = _id(annotation, "image_id", "annotation")
        if image not in counts:
            number = annotation.get("id", "?")
            raise ValueError(
                f"annotation {number} belongs to image {image!r}, which is not listed"
                f"{_of_another_type(image, counts)}"
            )
        of_image[image].append(annotation)
    return of_image


def _of_another_type(image: int | str, known: Counter[int | str]) -> str:
    """Say so where an image would be there if text and numbers were the same."""
    for other in known:
        if str(other) == str(image):
            return f": image {other!r} has an id of type {type(other).__name__}, not " + (
                type(image).__name__
            )
    return ""


def _names(images: list[Record]) -> list[str]:
    """Return what the entries are called: files with their folders, without their endings."""
    whole = [_inner_path(image, "image") or str(image["id"]) for image in images]
    stems = [str(PurePosixPath(name).with_suffix("")) for name in whole]
    often = Counter(stems)
    names = [name if often[stem] > 1 else stem for name, stem in zip(whole, stems, strict=True)]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"images must have files that differ, got {name!r} {count} times")
    return names


def _inner_path(record: Record, what: str) -> str:
    """Return the path of a record's file with / between its folders; it must not leave them."""
    given = str(record.get("file_name") or "")
    path = PurePosixPath(given.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise ValueError(
            f"'file_name' of {what} {record.get('id', record.get('image_id', '?'))} must not leave "
            f"its folder, got {given!r}"
        )
    return "" if not path.name else str(path)


def _size(image: Record) -> tuple[int, int]:
    height, width = (_whole(_field(image, side, "image")) for side in ("height", "width"))
    return (
        _validate.checked_count(height, f"height of image {image['id']}", 1, 2**15),
        _validate.checked_count(width, f"width of image {image['id']}", 1, 2**15),
    )


def _whole(number: Any) -> Any:
    """Return a float such as 20.0, as some programs write whole numbers, as an int."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


# --- instances ------------------------------------------------------------------------------


def _instances(
    file: Path, image: Record, annotations: list[Record], strict: bool, skipped: Counter[str]
) -> tuple[NDArray[np.int32], list[Any]]:
    """Draw the objects of an image over each other; return the categories of all of them."""
    height, width = _size(image)
    drawn, categories = [], []
    for place, annotation in enumerate(annotations):
        category = _id(annotation, "category_id", "annotation")
        try:
            runs = object_runs(file, annotation, (height, width), strict, skipped)
        except Degenerate as error:
            if strict:
                raise
            skipped[error.reason] += 1
            continue
        crowd = bool(annotation.get("iscrowd", 0))
        drawn.append((not crowd, -int(runs[1::2].sum()), place, runs))
        categories.append(category)
    # Down the columns, as run lengths go.
    labels = np.zeros(height * width, np.int32)
    for number, (*_, runs) in enumerate(sorted(drawn, key=lambda one: one[:3]), start=1):
        inside = np.arange(runs.size) % 2 == 1
        labels[np.repeat(inside, runs)] = number
    return np.ascontiguousarray(labels.reshape(width, height).T), categories


# --- panoptic segments ----------------------------------------------------------------------


def _segments(
    file: Path, image: Record, annotations: list[Record]
) -> tuple[NDArray[np.int32], list[Any]]:
    """Read the PNG of an image: a segment's number is R + 256 G + 65536 B."""
    if len(annotations) != 1:
        raise ValueError(f"it must have one panoptic annotation, got {len(annotations)}")
    name = _inner_path(annotations[0], "annotation")
    if not name:
        raise ValueError("its panoptic annotation must have 'file_name'")
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
    _check_segments(segments, labels, picture)
    return labels, [_id(segment, "category_id", "segment") for segment in segments]


def _check_segments(segments: Any, labels: NDArray[np.int32], picture: Path) -> None:
    """Check that a picture and the list of its segments name the same ones; 0 is no segment."""
    if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
        raise ValueError("'segments_info' must be a list of objects")
    listed = [_id(segment, "id", "segment") for segment in segments]
    drawn = set(np.unique(labels).tolist()) - {0}
    for lacking, fault in (
        (set(listed) - drawn - {0}, "segments_info lists segment {}, which {} does not show"),
        (drawn - set(listed), "segments_info lacks segment {}, which {} shows"),
    ):
        if lacking:
            raise ValueError(fault.format(repr(min(lacking, key=str)), picture))
    if len(listed) > len(set(listed)):
        raise ValueError(f"segments_info lists a segment of {picture} twice")
