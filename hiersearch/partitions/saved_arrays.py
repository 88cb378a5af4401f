"""Arrays saved by NumPy and torch: .npy, .npz and .pt files. Nothing is ever unpickled."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import MissingExtraError
from hiersearch.partitions.torch_files import check_records, check_tensors, is_torchscript

KEYED = (".npz", ".pt", ".pth")
"""Endings of the files that may hold several arrays, each with a name."""

LISTED = 12
"""How many names a message lists."""

_WOULD_RUN = (
    "it holds Python objects, which would have to be unpickled and can run code: save plain arrays"
)
_NO_PLAIN_TENSORS = (
    "it holds no plain tensors, and anything else would have to be unpickled and can run code: "
    "save a tensor, or a dictionary of tensors"
)


def read_npy(file: Path) -> NDArray[Any]:
    """Read an .npy file. O(values).

    Raises
    ------
    ValueError
        If it is none, cut short, or of Python objects.
    """
    with file.open("rb") as stream:
        read_header(stream)
        stream.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether columns run fastest, and type of the array that follows.

    Raises
    ------
    ValueError
        If it is no array in NumPy's format, or one of Python objects.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"its version {version[0]}.{version[1]} of NumPy's format is not known")
    shape, in_columns, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError(_WOULD_RUN)
    return shape, in_columns, dtype


def read_values(stream: Any, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return the next values of a stream, flat. O(values)."""
    values = np.empty(math.prod(shape), dtype)
    room = values.view(np.uint8)
    filled = 0
    while filled < room.size:
        count = stream.readinto(room[filled:])
        if not count:
            raise ValueError("an array is truncated")
        filled += count
    return values


# --- archives -------------------------------------------------------------------------------


def opened_archive(file: Path) -> zipfile.ZipFile:
    """Open an .npz file.

    Raises
    ------
    ValueError
        If it is no archive.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("it is not an .npz archive")
    return zipfile.ZipFile(file)


def names_in(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the arrays of an archive."""
    return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]


def chosen(names: Sequence[str], key: str | None, default: str) -> str:
    """Return the name of the array to take: ``key``, or the only one, or the default one.

    Raises
    ------
    ValueError
        If there is none of that name, or there are several and none was named.

    Examples
    --------
    >>> chosen(["image", "labels"], None, "labels"), chosen(["a"], None, "labels")
    ('labels', 'a')
    """
    if not names:
        raise ValueError("it holds no array")
    listed = ", ".join(names[:LISTED])
    if len(names) > LISTED:
        listed += f" and {len(names) - LISTED} more"
    if key is not None:
        if key not in names:
            raise ValueError(f"it has no array named {key!r} (its arrays: {listed})")
        return key
    if default in names:
        return default
    if len(names) != 1:
        raise ValueError(
            f"it holds several arrays, none of them called {default!r} ({listed}): name one with "
            "--key (key=... in Python)"
        )
    return names[0]


def read_npz(file: Path, key: str | None, default: str) -> NDArray[Any]:
    """Read one array of an .npz file, by name. O(values)."""
    with opened_archive(file) as archive:
        name = chosen(names_in(archive), key, default)
        with archive.open(f"{name}.npy") as stream:
            shape, in_columns, dtype = read_header(stream)
            values = read_values(stream, dtype, shape)
            return values.reshape(shape, order="F" if in_columns else "C")


# --- torch ----------------------------------------------------------------------------------


def read_tensor(file: Path, key: str | None, default: str) -> NDArray[Any]:
    """Read a tensor, or one of a dictionary, as an array; single precision for bfloat16.

    Raises
    ------
    ValueError
        If the file holds something else, or would have to be unpickled.
    MissingExtraError
        If torch is not installed.

    Notes
    -----
    O(values).
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", f"Reading {file}") from error
    content = _loaded(file)
    if isinstance(content, Mapping):
        tensors = {str(name): t for name, t in content.items() if isinstance(t, torch.Tensor)}
        if not tensors:
            raise ValueError("it holds a dictionary without a tensor")
        content = tensors[chosen(list(tensors), key, default)]
    elif key is not None and isinstance(content, torch.Tensor):
        raise ValueError(f"it has no array named {key!r}: it holds one tensor without a name")
    if not isinstance(content, torch.Tensor):
        raise ValueError(f"it holds a {type(content).__name__}, not a tensor")
    tensor = content.detach()
    # NumPy has no bfloat16.
    array: NDArray[Any] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array


def _loaded(file: Path) -> Any:
    """Load a file of torch without running what it may hold; torch's own words advise to run it."""
    import torch

    if is_torchscript(file):
        raise ValueError("it is a network (TorchScript), not its output: give it as --network")
    check_records(file)
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if "weights only" in str(error).lower() or "weights_only" in str(error):
            raise ValueError(_NO_PLAIN_TENSORS) from error
        raise ValueError("it is no file of tensors, or it is damaged") from error
    check_tensors(content, file.stat().st_size)
    return content
