"""The shapes of COCO's objects: polygons and run lengths, plain and compressed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import MissingExtraError

NO_SHAPE = "no segmentation"
NO_POLYGON = "no polygon of three points or more"
FAR_AWAY = "points far outside the image"
OUTSIDE = "points outside the image"
NO_AREA = "no area"
ANOTHER_SIZE = "run lengths of another size"
IN_PART = "a polygon of fewer than three points, beside good ones"
"""Why annotations are left out; for the last one, that polygon alone."""


class Degenerate(ValueError):
    """An annotation that has no shape in its image."""

    def __init__(self, what: str, reason: str, detail: str) -> None:
        super().__init__(f"{what} must have a shape in its image, got {detail}")
        self.reason = reason


def object_runs(
    file: Path,
    annotation: dict[str, Any],
    size: tuple[int, int],
    strict: bool,
    skipped: Counter[str],
) -> NDArray[np.int64]:
    """Return the run lengths of an object, of background and object in turn, down the columns.

    Parameters
    ----------
    file : path
        The file, for messages.
    annotation : dict
        Its ``segmentation`` is a list of polygons or a dict of run lengths.
    size : tuple of int
        Height and width of the image.
    strict : bool
        Whether a polygon of fewer than three points is refused even beside good ones.
    skipped : Counter of str
        Where such polygons are counted.

    Returns
    -------
    int64 array
        The lengths; they add up to height × width.

    Raises
    ------
    Degenerate
        If the object has no shape in its image.
    ValueError
        If the annotation is none at all.
    MissingExtraError
        If there are polygons and pycocotools is not installed.

    Notes
    -----
    O(run lengths), for polygons O(pixels of their edges).
    """
    what = f"annotation {annotation.get('id', '?')}"
    shape = annotation.get("segmentation")
    if shape is None or shape in ([], {}):
        raise Degenerate(what, NO_SHAPE, "no segmentation")
    if isinstance(shape, list):
        runs = _polygon_runs(file, shape, size, what, strict, skipped)
    else:
        runs = _given_runs(shape, *size, what)
    if not runs[1::2].any():
        raise Degenerate(what, NO_AREA, "one that covers no pixel")
    return runs


def _given_runs(shape: Any, height: int, width: int, what: str) -> NDArray[np.int64]:
    """Check run lengths, of background and object in turn, and return them."""
    if not isinstance(shape, dict) or not {"size", "counts"} <= set(shape):
        raise ValueError(f"{what} must be polygons or run lengths with 'size' and 'counts'")
    counts = shape["counts"]
    if isinstance(counts, str):
        counts = _decompressed(counts.encode(), what)
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError(f"{what} must have run lengths that are whole numbers from 0 on")
    if shape["size"] != [height, width]:
        raise Degenerate(
            what, ANOTHER_SIZE, f"run lengths of size {shape['size']} in one of {[height, width]}"
        )
    if sum(counts) != height * width:
        raise Degenerate(
            what, ANOTHER_SIZE, f"run lengths of {sum(counts)} pixels in {height} × {width}"
        )
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
    file: Path,
    shape: list[Any],
    size: tuple[int, int],
    what: str,
    strict: bool,
    skipped: Counter[str],
) -> NDArray[np.int64]:
    """Return the run lengths of the union of polygons, by COCO's own rules of rounding."""
    height, width = size
    polygons = [_coordinates(points, what) for points in shape]
    whole = [points for points in polygons if points.size >= 6 and points.size % 2 == 0]
    if not whole or (strict and len(whole) < len(polygons)):
        raise Degenerate(what, NO_POLYGON, f"polygons of {[p.size for p in polygons]} coordinates")
    side = max(height, width)
    if not all((np.abs(points - side / 2) <= 1.5 * side).all() for points in whole):
        # Before compiled code walks along their edges.
        raise Degenerate(what, FAR_AWAY, f"points far outside it, in {height} × {width}")
    if all(_is_outside(points, height, width) for points in whole):
        raise Degenerate(what, OUTSIDE, f"points outside it alone, in {height} × {width}")
    if len(whole) < len(polygons):
        skipped[IN_PART] += len(polygons) - len(whole)
    masks = masks_module(file)
    merged = masks.merge(masks.frPyObjects([points.tolist() for points in whole], height, width))
    return np.array(_decompressed(merged["counts"], what), np.int64)


def _coordinates(points: Any, what: str) -> NDArray[np.float64]:
    """Return the numbers of a polygon: x and y of its points in turn."""
    plain = isinstance(points, list) and all(type(n) in (int, float) for n in points)
    if not plain:
        raise ValueError(f"{what} must have a list of polygons, each a list of numbers")
    return np.array([min(max(n, -1e300), 1e300) for n in points], dtype=np.float64)


def _is_outside(points: NDArray[np.float64], height: int, width: int) -> bool:
    x, y = points[::2], points[1::2]
    return bool(x.max() < 0 or y.max() < 0 or x.min() > width or y.min() > height)


def masks_module(file: Path) -> Any:
    """Return what rasterises polygons; MissingExtraError names the file that has them."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError("pycocotools", "coco", f"Reading polygons of {file}") from error
    return mask
