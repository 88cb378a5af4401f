"""PNG and JPEG files as arrays: upright, of any size that a grid may have, each value as stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin

LARGEST = 2**31
"""First number of pixels that no grid has."""

ORIENTATION = 0x0112
"""The EXIF tag that says how the stored rows and columns are to be turned."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def read_raster(file: Path) -> NDArray[Any]:
    """Read a PNG or JPEG as a picture: palettes as colours, 1 bit as 0 and 255. O(pixels).

    Raises
    ------
    ValueError
        If it is neither, an animation, too large, or a PNG of 16-bit colours.
    """
    with _opened(file) as image:
        if image.format == "PNG" and _is_16_bit_colour(file):
            raise ValueError("16-bit colour PNGs would be cut to 8 bits here: convert it to TIFF")
        image.load()
        mode = image.mode
        if mode == "P":
            mode = "RGBA" if "transparency" in image.info else "RGB"
        turned = _orientation(image)
        values = np.array(image.convert({"1": "L", "CMYK": "RGB"}.get(mode, mode)))
        return upright(_of_16_bits(values), turned)


def read_png_labels(file: Path) -> NDArray[Any]:
    """Read a PNG as a label map: the stored numbers, of a palette its indices. O(pixels).

    Raises
    ------
    ValueError
        If it is none, an animation, too large, or has several numbers for each pixel.
    """
    with _opened(file, jpeg=False) as image:
        if image.mode not in ("1", "L", "P", "I;16", "I"):
            raise ValueError(several_channels(len(image.getbands()), image.mode))
        image.load()
        depth, colour = _depth_and_colour(file)
        turned = _orientation(image)
        # Pillow's booleans are stored as 255, which breaks whoever looks at their bytes.
        values = np.array(image.convert("L")) > 0 if image.mode == "1" else np.array(image)
        values = _of_16_bits(values)
        if colour == 0 and depth in (2, 4):
            # Pillow spreads them over 0..255, as fits pictures.
            values //= 255 // (2**depth - 1)
        return upright(values, turned)


def _of_16_bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return grey values of 16 bits as uint16, which older versions of Pillow widen to int32."""
    return values.astype(np.uint16) if values.dtype == np.int32 else values


def several_channels(count: int, kind: str) -> str:
    """Say why a picture of several channels is no label map, and what to do."""
    return (
        f"it has {count} channels ({kind}), and a label map has one integer for each pixel: "
        "number its colours and save the numbers as PNG, TIFF or NPY"
    )


def upright(array: NDArray[Any], orientation: int, axes: tuple[int, int] = (0, 1)) -> NDArray[Any]:
    """Turn stored rows and columns as the EXIF orientation says that they are to be shown.

    Parameters
    ----------
    array : array
        Any shape.
    orientation : int
        1 to 8; whatever else a file says counts as 1, as viewers take it.
    axes : pair of int
        Which axes are rows and columns.

    Returns
    -------
    array
        A view of the same, or of exchanged, shape.

    Examples
    --------
    >>> upright(np.array([[1, 2, 3]]), 6)
    array([[1],
           [2],
           [3]])
    """
    rows, columns = axes
    if 5 <= orientation <= 8:
        array = array.swapaxes(rows, columns)
    if orientation in (3, 4, 7, 8):
        array = np.flip(array, rows)
    if orientation in (2, 3, 6, 7):
        array = np.flip(array, columns)
    return array


@contextmanager
def _opened(file: Path, *, jpeg: bool = True) -> Iterator[Image.Image]:
    """Open a picture without Pillow's limit of size, which belongs to the whole process."""
    with file.open("rb") as stream:
        start = stream.read(8)
        stream.seek(0)
        image: Image.Image
        if start == _PNG:
            image = PngImagePlugin.PngImageFile(stream)
        elif start.startswith(_JPEG) and jpeg:
            image = JpegImagePlugin.JpegImageFile(stream)
        else:
            raise ValueError(f"it is no PNG{' or JPEG' if jpeg else ''} file")
        with image:
            check_size(image.size[::-1])
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise ValueError(
                    f"it is an animation of {frames} frames: save them as files of their own"
                )
            yield image


def check_size(shape: tuple[int, ...]) -> None:
    """Check what a header says before memory is taken for it."""
    pixels = 1
    for side in shape:
        pixels *= side
    if pixels >= LARGEST:
        raise ValueError(f"it must have fewer than 2**31 pixels, got shape {shape}")


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:
        # Notes that cannot be read do not bar the picture: viewers pass over them, too.
        return 1
    return orientation if isinstance(orientation, int) else 1


def _depth_and_colour(file: Path) -> tuple[int, int]:
    """Return the bits of a PNG's samples and the number of its colour type (0 is grey)."""
    with file.open("rb") as stream:
        header = stream.read(26)
    return header[24], header[25]


def _is_16_bit_colour(file: Path) -> bool:
    depth, colour = _depth_and_colour(file)
    return depth == 16 and colour != 0
