"""Reading images, label maps and probabilities from files; writing label maps.

A file that is not what it is given for raises :class:`~hiersearch.errors.FileFormatError` in
one sentence that names it. Nothing is ever unpickled. What is written appears whole or not at
all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from hiersearch import _validate
from hiersearch.errors import FileFormatError, MissingExtraError
from hiersearch.partitions import rasters
from hiersearch.partitions.saved_arrays import KEYED, read_npy, read_npz, read_tensor
from hiersearch.partitions.tiff import has_alpha, read_tiff_image, read_tiff_labels

FilePath = str | os.PathLike[str]

TIFF_TYPES = (np.uint16, np.uint32, np.int32)
"""The types a label map in a TIFF may have, the first that holds every label is taken."""


def read_image(path: FilePath) -> NDArray[Any]:
    """Read an image or a volume as it is to be shown, without rescaling.

    Parameters
    ----------
    path : path
        A .png, .jpg, .jpeg, .tif, .tiff or .npy file. Pages of a TIFF that are of one shape and
        type become a stack.

    Returns
    -------
    array, shape (H, W), (H, W, C), (D, H, W) or (D, H, W, C)
        Of the file's own type, and upright: turned as the file's EXIF orientation says. Palettes
        and CMYK become RGB, 1-bit images uint8 of 0 and 255. Whether the last axis of a 3-D array
        means channels or width is for the caller to say.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is empty, truncated, damaged, of another format, holds no image or several
        that are no stack, has 2**31 pixels or more, or is a 16-bit colour PNG (which would lose
        half of its bits here).
    MissingExtraError
        If a TIFF is compressed in a way that needs imagecodecs.

    Notes
    -----
    O(pixels).
    """
    file = Path(path)
    array = _read(file, "an image", {**_RASTER_IMAGES, **_TIFF_IMAGES, ".npy": read_npy})
    if array.dtype.kind not in "buif":
        raise FileFormatError(f"{file} does not hold an image: its values have type {array.dtype}")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise FileFormatError(f"{file} does not hold an image: its shape is {array.shape}")
    return array


def read_plain_image(path: FilePath) -> NDArray[Any]:
    """Read an image without what says nothing: an opaque alpha channel, an axis of one channel.

    Parameters
    ----------
    path : path
        As for `read_image`, which see for what is raised.

    Returns
    -------
    array, shape (H, W), (H, W, C), (D, H, W) or (D, H, W, C)

    Notes
    -----
    O(pixels).
    """
    file = Path(path)
    image = read_image(file)
    if image.ndim in (3, 4) and image.shape[-1] in (2, 4) and _has_alpha(file):
        alpha = image[..., -1]
        opaque = 1.0 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
        if (alpha == opaque).all():
            image = image[..., :-1]
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    return np.ascontiguousarray(image)


def _has_alpha(file: Path) -> bool:
    ending = file.suffix.lower()
    return ending == ".png" or (ending in _TIFF_IMAGES and has_alpha(file))


def read_label_map(path: FilePath, *, key: str | None = None) -> NDArray[np.integer[Any]]:
    """Read a label map: one integer for each pixel.

    Parameters
    ----------
    path : path
        A .png (up to 16 bit), .tif, .tiff, .npy or .npz file. The stored numbers are the labels,
        in a palette the indices. Pages of a TIFF that are of one shape and type become a stack.
    key : str, optional
        Which array of an .npz file. Where omitted, the one named ``labels``, or the only one.

    Returns
    -------
    integer array, shape (H, W) or (D, H, W)
        Of the file's own type; booleans become 0 and 1, and whole numbers of floating-point type
        int32 or int64. Upright, as images are read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is unreadable, in colour, holds several images that are no stack, or is not of
        a label map's format (JPEG changes labels).
    TypeError
        If the values are no numbers, or not whole ones: the message says which and where.
    ValueError
        If the shape is not that of a grid, or ``key`` is given for another kind of file.
    MissingExtraError
        If a TIFF is compressed in a way that needs imagecodecs.

    Notes
    -----
    O(pixels).
    """
    file = Path(path)
    _check_key(file, key)
    readers: _Readers = {
        ".png": rasters.read_png_labels,
        **_TIFF_LABELS,
        ".npy": read_npy,
        ".npz": lambda f: read_npz(f, key, "labels"),
    }
    values = _validate.whole_numbers(_read(file, "a label map", readers), str(file))
    return np.ascontiguousarray(_validate.checked_labels(values, str(file)))


def _check_key(file: Path, key: str | None) -> None:
    if key is not None and file.suffix.lower() not in KEYED:
        raise ValueError(f"key is for {', '.join(KEYED)} files only, got {key!r} for {file}")


def write_label_map(path: FilePath, labels: Any) -> None:
    """Write a label map without loss; the file appears whole or not at all.

    Parameters
    ----------
    path : path
        The format follows the name: .png (16 bit, 2-D, labels within 0..65535), .tif or .tiff
        (uint16, uint32 or int32, the first that holds every label), or .npy (any integer type).
    labels : integer array, shape (H, W) or (D, H, W)
        The label map.

    Raises
    ------
    ValueError
        If the name has another ending, or the format cannot hold the labels.
    TypeError
        If labels are not integers.
    FileNotFoundError
        If the folder does not exist.

    Notes
    -----
    O(pixels).

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_label_map(f"{folder}/map.png", np.array([[0, 300]]))
    ...     read_label_map(f"{folder}/map.png")
    array([[  0, 300]], dtype=uint16)
    """
    file = Path(path)
    array = _validate.checked_labels(labels, "labels")
    low, high = int(array.min()), int(array.max())
    match file.suffix.lower():
        case ".png":
            _check_png(file, array, low, high)
            picture = Image.fromarray(np.ascontiguousarray(array, dtype=np.uint16))
            with write_atomically(file) as stream:
                picture.save(stream, format="PNG")
        case ".tif" | ".tiff":
            stored = np.ascontiguousarray(array, dtype=_tiff_type(low, high))
            with write_atomically(file) as stream:
                # Said outright, or three columns or slices would be taken for red, green, blue.
                tifffile.imwrite(stream, stored, photometric="minisblack")
        case ".npy":
            with write_atomically(file) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
        case ending:
            raise ValueError(f"path must end in .png, .tif, .tiff or .npy, got {ending!r}")


def _check_png(file: Path, array: NDArray[Any], low: int, high: int) -> None:
    if array.ndim != 2:
        raise ValueError(
            f"a PNG holds 2-D label maps, got shape {array.shape}: "
            f"write {file.stem} as .tif or .npy"
        )
    if low < 0 or high > 65535:
        raise ValueError(
            f"a PNG holds labels within 0..65535, got {low}..{high}: "
            f"write {file.stem} as .tif or .npy"
        )


def _tiff_type(low: int, high: int) -> type[np.integer[Any]]:
    for kind in TIFF_TYPES:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    raise ValueError(
        f"a TIFF holds labels within 0..{2**32 - 1} or {-(2**31)}..{2**31 - 1}, "
        f"got {low}..{high}: write them as .npy"
    )


def read_probabilities(
    path: FilePath,
    *,
    channel_axis: int | None,
    grid: Sequence[int] | None = None,
    key: str | None = None,
) -> NDArray[np.float32]:
    """Read a network's output and bring its channels to the front.

    Parameters
    ----------
    path : path
        An .npy or .npz file, or a .pt or .pth file that holds a tensor or a dictionary of
        tensors (needs torch).
    channel_axis : int or None
        Which axis of the array holds the channels; negative numbers count from the end. None
        only where ``grid`` is given and fits exactly one axis.
    grid : sequence of int, optional
        The grid that must remain once the channel axis is taken away.
    key : str, optional
        Which array of an .npz file or a dictionary. Where omitted, the one named
        ``probabilities``, or the only one.

    Returns
    -------
    float32 array, shape (k, H, W) or (k, D, H, W)
        Half and double precision are converted. The values are not looked at: building a
        :class:`~hiersearch.partitions.SoftPartition` checks them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file cannot be read as such an array, or would have to be unpickled.
    TypeError
        If the values are not floating point.
    ValueError
        If the channel axis is missing, out of range, ambiguous or does not leave ``grid``: the
        message says the shape and what each axis would leave. If ``key`` is given for an .npy file.
    MissingExtraError
        If a .pt file is given and torch is not installed.

    Notes
    -----
    O(k · pixels).
    """
    file = Path(path)
    _check_key(file, key)
    name = "probabilities"
    readers: _Readers = {
        ".npy": read_npy,
        ".npz": lambda f: read_npz(f, key, name),
        ".pt": lambda f: read_tensor(f, key, name),
        ".pth": lambda f: read_tensor(f, key, name),
    }
    array = _read(file, "probabilities", readers)
    if array.dtype.kind != "f":
        raise TypeError(f"{file} must hold floating-point numbers, got dtype {array.dtype}")
    if array.ndim not in (3, 4) or array.size == 0:
        raise ValueError(
            f"{file} must hold channels on a 2-D or 3-D grid, thus 3 or 4 axes, "
            f"got shape {array.shape}"
        )
    wanted = None if grid is None else _validate.checked_grid(grid, "grid")
    axis = _channel_axis(array.shape, channel_axis, wanted, file)
    with np.errstate(over="ignore"):  # an overflow becomes infinite and is refused as such later
        return np.ascontiguousarray(np.moveaxis(array, axis, 0), dtype=np.float32)


def _channel_axis(
    shape: tuple[int, ...], axis: int | None, grid: tuple[int, ...] | None, file: Path
) -> int:
    """Return the channel axis, non-negative, if the request fits the shape in just one way."""
    grids = [shape[:i] + shape[i + 1 :] for i in range(len(shape))]
    options = "; ".join(f"{i} leaves the grid {left}" for i, left in enumerate(grids))
    if axis is not None:
        position = _validate.checked_count(axis, "channel_axis", -len(shape), len(shape) - 1)
        position %= len(shape)
        if grid is not None and grids[position] != grid:
            raise ValueError(
                f"channel_axis {axis} of {file} with shape {shape} leaves the grid "
                f"{grids[position]}, expected {grid} (channel_axis {options})"
            )
        return position
    if grid is None:
        raise ValueError(
            f"channel_axis must be given for {file} with shape {shape} (channel_axis {options})"
        )
    fitting = [i for i, left in enumerate(grids) if left == grid]
    if len(fitting) != 1:
        found = "no axis fits" if not fitting else f"axes {fitting} all fit"
        raise ValueError(
            f"channel_axis must be given for {file} with shape {shape}: {found} the grid {grid} "
            f"(channel_axis {options})"
        )
    return fitting[0]


@contextmanager
def write_atomically(path: FilePath) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces ``path`` only once it is complete.

    Bytes go to a temporary file in the same folder, which takes the name when the block ends;
    if the block raises, ``path`` stays as it was and the temporary file is removed.

    Parameters
    ----------
    path : path
        The file to create or replace. A symbolic link stays one: its target is replaced.

    Yields
    ------
    binary stream
        Seekable, open for reading and writing.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If ``path`` is a folder.
    OSError
        If the disk is full or fails; it names ``path``, whatever the library that writes made of
        it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_atomically(f"{folder}/a.bin") as stream:
    ...         _ = stream.write(b"whole")
    ...     Path(f"{folder}/a.bin").read_bytes()
    b'whole'
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    # Not the tempfile module: its files are private to the user, whatever the umask says.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except Exception as error:
        # Not every library passes on what the system said: torch makes a RuntimeError of it.
        failure = error if isinstance(error, OSError) else error.__context__
        if isinstance(failure, OSError) and failure.errno and failure.filename is None:
            raise OSError(failure.errno, failure.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


# --- one reader for each kind of file -------------------------------------------------------

_Readers = dict[str, Callable[[Path], NDArray[Any]]]


def _read(file: Path, what: str, readers: _Readers) -> NDArray[Any]:
    """Read a file by the ending of its name; every failure to decode becomes one sentence."""
    reader = readers.get(file.suffix.lower())
    if reader is None:
        _refuse(file, what, f"its name must end in {', '.join(readers)}")
    with decoding(file, what):
        array = reader(file)
    return array


@contextmanager
def decoding(file: Path, what: str) -> Iterator[None]:
    """Turn every failure to decode a file within the block into one sentence that names it.

    Raises
    ------
    FileFormatError
        "cannot read FILE as WHAT: REASON", for an empty file, too.
    OSError, MissingExtraError
        As they are: no fault of the file's content.
    """
    if file.stat().st_size == 0:
        _refuse(file, what, "the file is empty")
    try:
        yield
    except (FileFormatError, MissingExtraError, OSError) as error:
        # Decoders raise plain OSErrors for bad data; those of the system carry a number.
        if not isinstance(error, OSError) or error.errno is not None:
            raise
        _refuse(file, what, str(error), error)
    except Exception as error:
        # Damaged bytes make decoders fail in any way at all (struct, zlib, syntax, memory...).
        _refuse(file, what, str(error) or type(error).__name__, error)


def _refuse(file: Path, what: str, reason: str, cause: BaseException | None = None) -> NoReturn:
    first_line = reason.strip().splitlines()[0].rstrip(".") if reason.strip() else "unknown error"
    raise FileFormatError(f"cannot read {file} as {what}: {first_line}.") from cause


_RASTER_IMAGES: _Readers = dict.fromkeys((".png", ".jpg", ".jpeg"), rasters.read_raster)
_TIFF_IMAGES: _Readers = dict.fromkeys((".tif", ".tiff"), lambda file: read_tiff_image(file)[0])
_TIFF_LABELS: _Readers = dict.fromkeys((".tif", ".tiff"), read_tiff_labels)
