"""TIFF files as arrays: all their pages or none, upright; by tifffile, else by Pillow."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from hiersearch.errors import MissingExtraError
from hiersearch.partitions.rasters import ORIENTATION, check_size, several_channels, upright

# Values of the tag PhotometricInterpretation.
_WHITE_IS_ZERO, _PALETTE, _INKS, _YCBCR = 0, 3, 5, 6
_OTHER_COLOURS = (_INKS, _YCBCR, 8, 9, 10)
"""Colours that are not red, green and blue, the last three CIE L*a*b*."""
_JPEG_COMPRESSIONS = (6, 7)
_KNOWN_TO_PILLOW = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
"""Compressions: none, fax, LZW, JPEG, Deflate and PackBits."""
_ALPHA = (1, 2)
"""Kinds of extra samples that say how opaque a pixel is."""


def read_tiff_image(file: Path) -> tuple[NDArray[Any], int]:
    """Read a TIFF as a picture or a volume: palettes and CMYK as RGB, 1 bit as 0 and 255.

    Parameters
    ----------
    file : path
        Of one page, or of several of one shape and type, which become a stack.

    Returns
    -------
    array, shape (H, W), (H, W, C), (D, H, W) or (D, H, W, C)
        As it is to be shown: upright, white bright.
    int
        Number of samples a pixel, which are the last axis; 0 where it has no such axis.

    Raises
    ------
    ValueError
        If it holds images that differ in shape or type, or is cut short.
    MissingExtraError
        If it is compressed in a way that needs imagecodecs.

    Notes
    -----
    O(pixels).
    """
    with _opened(file) as tiff:
        series = _one_kind(tiff)
        page, axes = series[0].keyframe, series[0].axes
        photometric = int(page.photometric)
        array = _values(file, series)
        if "S" in axes:
            # Planes of colour may be stored apart, in front.
            array = np.moveaxis(array, axes.index("S") - len(axes), -1)
        samples = array.shape[-1] if "S" in axes else 0
        array = _turned(array, page, samples)
        if photometric == _PALETTE and not samples:
            return _coloured(array, page), 3
        if photometric in _OTHER_COLOURS and (
            photometric != _YCBCR or int(page.compression) not in _JPEG_COMPRESSIONS
        ):
            return _from_inks(array, page), 3
        if photometric == _WHITE_IS_ZERO and array.dtype.kind in "bu":
            array = _inverted(array, page)
        if array.dtype == np.bool_:
            array = array.astype(np.uint8) * 255
        return array, samples


def has_alpha(file: Path) -> bool:
    """Say whether the last of a TIFF's samples says how opaque a pixel is. O(pages)."""
    with _opened(file) as tiff:
        extra = tiff.pages[0].extrasamples
        return bool(extra) and int(extra[-1]) in _ALPHA


def read_tiff_labels(file: Path) -> NDArray[Any]:
    """Read a TIFF as a label map or a stack of them: the stored numbers. O(pixels).

    Raises
    ------
    ValueError, MissingExtraError
        As :func:`read_tiff_image`, and if there are several samples a pixel.
    """
    with _opened(file) as tiff:
        series = _one_kind(tiff)
        page, axes = series[0].keyframe, series[0].axes
        shape = series[0].shape
        if "S" in axes and shape[axes.index("S")] > 1:
            kind = getattr(page.photometric, "name", str(page.photometric))
            raise ValueError(
                f"{several_channels(shape[axes.index('S')], kind)}, or, if it is a volume, save it "
                "with photometric='minisblack'"
            )
        if int(page.compression) in _JPEG_COMPRESSIONS:
            raise ValueError("it is compressed as JPEG, which changes labels")
        array = _values(file, series)
        if "S" in axes:
            array = array.squeeze(axes.index("S") - len(axes))
        array = _turned(array, page, 0)
        # Masks are drawn white on black, whichever of the two is stored as zero.
        if array.dtype == np.bool_ and int(page.photometric) == _WHITE_IS_ZERO:
            array = ~array
        return array


# --- pages ----------------------------------------------------------------------------------


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a TIFF whose list of pages is whole; what tifffile would log becomes an error here."""
    logger, silence = logging.getLogger("tifffile"), logging.NullHandler()
    logger.addHandler(silence)
    try:
        # Of a set of files that name each other, each stands for itself.
        with tifffile.TiffFile(file, _multifile=False) as tiff:
            _check_pages(tiff)
            yield tiff
    finally:
        logger.removeHandler(silence)


def _check_pages(tiff: Any) -> None:
    """Walk the list of pages, which tifffile takes to end where it breaks off."""
    stream, form = tiff.filehandle, tiff.tiff
    stream.seek(8 if tiff.is_bigtiff else 4)
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize))
        while offset:
            if offset in seen:
                raise ValueError(f"its list of pages runs in a circle after {len(seen)} pages")
            seen.add(offset)
            stream.seek(offset)
            (tags,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
            stream.seek(tags * form.tagsize, 1)
            (offset,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize))
    except struct.error as error:
        raise ValueError(f"its list of pages breaks off after {len(seen)} pages") from error


def _one_kind(tiff: Any) -> list[Any]:
    """Return the series of pages that hold the image, all of one shape and type.

    Smaller copies and masks of an image are passed over.
    """
    every = list(tiff.series)
    if not every:
        raise ValueError("it holds no image")
    whole = [s for s in every if not (s.keyframe.is_reduced or s.keyframe.is_mask)]
    series = whole or every
    kinds = Counter((tuple(one.shape), str(one.dtype), one.axes) for one in series)
    if len(kinds) > 1:
        listed = ", ".join(
            f"{count} of shape {shape} and type {dtype}" if count > 1 else f"{shape} {dtype}"
            for (shape, dtype, _), count in list(kinds.items())[:4]
        )
        raise ValueError(
            f"it holds {len(series)} images that do not form one stack ({listed}): "
            "save each to a file of its own"
        )
    if any(page is None for one in series for page in one.pages):
        raise ValueError("some of its pages are missing")
    sides = tuple(series[0].shape)
    if "S" in series[0].axes:
        place = series[0].axes.index("S")
        sides = sides[:place] + sides[place + 1 :]
    check_size((*((len(series),) if len(series) > 1 else ()), *sides))
    return series


def _values(file: Path, series: Sequence[Any]) -> NDArray[Any]:
    """Return the stored values of all series, several as a stack, with tifffile's axes."""
    page = series[0].keyframe
    try:
        arrays = [np.asarray(one.asarray()) for one in series]
    except (ValueError, NotImplementedError) as error:
        if not isinstance(error, NotImplementedError) and not _of_compression(error):
            raise
        arrays = [_by_pillow(file, one) for one in series]
    for one, array in zip(series, arrays, strict=True):
        if array.shape != tuple(one.shape):
            raise ValueError(f"its pages must have shape {tuple(one.shape)}, got {array.shape}")
    if int(page.bitspersample) == 1 and arrays[0].dtype != np.bool_:
        arrays = [array.astype(np.bool_) for array in arrays]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays)


# --- what tifffile cannot decode by itself --------------------------------------------------


def _of_compression(error: ValueError) -> bool:
    """Return whether tifffile says that it cannot decode; older versions name no package for it."""
    return "imagecodecs" in str(error) or "<COMPRESSION." in str(error)


def _by_pillow(file: Path, series: Any) -> NDArray[Any]:
    """Decode the pages of a series as they are stored.

    Raises
    ------
    OSError
        If the bytes are damaged.
    MissingExtraError
        If Pillow would lose bits or does not know the format.
    """
    page = series.keyframe
    kind = f"{page.samplesperpixel} × {page.bitspersample} bits a pixel"
    compression = getattr(page.compression, "name", page.compression)
    missing = MissingExtraError("imagecodecs", "tiff", f"Reading {file} ({compression}, {kind})")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and page.imagewidth * page.imagelength > limit:
        raise missing
    try:
        with file.open("rb") as stream, TiffImagePlugin.TiffImageFile(stream) as image:
            arrays = [_page_by_pillow(image, one.index, page) for one in series.pages]
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, RuntimeError) as error:
        if isinstance(error, OSError) and (
            error.errno is not None or int(page.compression) in _KNOWN_TO_PILLOW
        ):
            raise  # of the system, or of damaged bytes
        raise missing from error
    # In the axes of the page.
    if page.axes.startswith("S"):
        arrays = [np.moveaxis(array, -1, 0) for array in arrays]
    return np.stack(arrays).reshape(series.shape)


def _page_by_pillow(image: Any, index: Any, page: Any) -> NDArray[Any]:
    image.seek(index)
    if page.bitspersample != 8 and image.mode not in ("1", "L", "P", "I;16", "I;16B", "I", "F"):
        raise ValueError("Pillow cuts colours to 8 bits")
    image.load()
    return _as_stored(np.array(image), image.mode, page)


def _as_stored(array: NDArray[Any], mode: str, page: Any) -> NDArray[Any]:
    """Undo what Pillow does to show a page: turning, spreading and inverting."""
    turned = _orientation_of(page)
    sides = (page.imagelength, page.imagewidth)
    # Four turns undo themselves; the quarter turns undo each other.
    array = upright(array, {6: 8, 8: 6}.get(turned, turned))
    if array.shape[:2] != sides:
        raise ValueError(f"the page must have shape {sides}, got {array.shape[:2]}")
    if mode in ("1", "L") and int(page.photometric) == _WHITE_IS_ZERO:
        array = ~array
    if mode == "L" and page.bitspersample in (2, 4):
        array = array // (255 // (2**page.bitspersample - 1))
    kind = np.dtype(page.dtype)
    if array.dtype != kind and array.dtype.itemsize == kind.itemsize and kind.kind in "iu":
        # Pillow knows no unsigned numbers of 32 bits: their bytes are right.
        return array.view(kind)
    return array.astype(kind, copy=False)


# --- how it is to be shown ------------------------------------------------------------------


def _orientation_of(page: Any) -> int:
    value = page.tags.valueof(ORIENTATION, 1)
    return int(value) if isinstance(value, int) else 1


def _turned(array: NDArray[Any], page: Any, samples: int) -> NDArray[Any]:
    """Turn the rows and columns, which are the last axes but that of samples."""
    last = array.ndim - bool(samples)
    return upright(array, _orientation_of(page), (last - 2, last - 1))


def _coloured(array: NDArray[Any], page: Any) -> NDArray[Any]:
    """Look indices up in a palette of 16-bit colours, which are of 8 bits where that holds them."""
    table: NDArray[Any] = np.asarray(page.colormap).T
    if ((table % 257 == 0) | (table % 256 == 0)).all():
        table = (table // 256).astype(np.uint8)
    coloured: NDArray[Any] = table[array]
    return coloured


def _from_inks(array: NDArray[Any], page: Any) -> NDArray[Any]:
    """Turn cyan, magenta, yellow and black of 8 bits into red, green and blue."""
    if int(page.photometric) != _INKS or array.dtype != np.uint8 or array.shape[-1] != 4:
        kind = getattr(page.photometric, "name", page.photometric)
        raise ValueError(f"its colours are {kind} of {array.dtype}: convert it to RGB")
    # All pixels as one row: no pixel's colour depends on another's.
    row = Image.frombytes("CMYK", (array.size // 4, 1), array.tobytes())
    return np.array(row.convert("RGB")).reshape(*array.shape[:-1], 3)


def _inverted(array: NDArray[Any], page: Any) -> NDArray[Any]:
    if array.dtype == np.bool_:
        return ~array
    brightest = array.dtype.type(2 ** int(page.bitspersample) - 1)
    inverted: NDArray[Any] = brightest - array
    return inverted
