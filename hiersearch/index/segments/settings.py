"""What an index is created with, grid and measure, as JSON, and how it is read again."""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._validate import LARGEST_INT32
from hiersearch.errors import FormatError
from hiersearch.index.bounds.packing import Frame
from hiersearch.partitions.partition import Measure, as_measure

MOST_PIXELS = LARGEST_INT32
"""Pixels that a grid may have: their numbers are 32-bit integers."""
LONGEST_ROW = 2**27 - 1
"""Pixels that a row of a grid may have: the run code has no larger steps."""
PIXEL_BYTES = 16
"""Bytes that a search needs for each pixel at least: of the measure's sums, and of its query."""
_MEASURES = ("<i8", "<f8")


def settings_of(grid: tuple[int, ...], measure: Measure | None) -> dict[str, Any]:
    """Return grid and measure as JSON. O(pixels) for a measure.

    Raises
    ------
    ValueError
        If the rows of the grid are too long for the run code.
    """
    if grid[-1] > LONGEST_ROW:
        raise ValueError(f"grid must have rows of at most {LONGEST_ROW} pixels, got {grid}")
    if measure is None:
        return {"grid": list(grid), "measure": None}
    packed = zlib.compress(np.ascontiguousarray(measure).astype(measure.dtype.str).tobytes(), 9)
    text = {"dtype": measure.dtype.str, "zlib": base64.b64encode(packed).decode("ascii")}
    return {"grid": list(grid), "measure": text}


def frame_of(settings: Mapping[str, Any], folder: Path) -> Frame:
    """Return grid and measure that the settings of an index say.

    Raises
    ------
    FormatError
        If they are none, or a grid that memory has no room for. Sizes are looked at before memory
        is taken.
    """
    try:
        grid = _grid(settings["grid"])
        needed = PIXEL_BYTES * math.prod(grid)
        if needed > memory_bytes():
            raise ValueError(
                f"a search on its grid {grid} takes {needed / 1e9:.1f} GB at least, more than the "
                f"{memory_bytes() / 1e9:.1f} GB of this machine"
            )
        stored = settings["measure"]
        return Frame(grid, None if stored is None else _measure(stored, grid))
    except (KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"{folder} must be an index of partitions, got another: {what}") from None


def _grid(value: Any) -> tuple[int, ...]:
    is_shape = isinstance(value, list) and len(value) in (2, 3)
    if not is_shape or not all(type(side) is int and side > 0 for side in value):
        raise ValueError(f"its grid must be 2 or 3 sides of at least 1, got {str(value)[:60]}")
    if math.prod(value) > MOST_PIXELS:
        raise ValueError(f"its grid must have at most {MOST_PIXELS} pixels, got {value}")
    if value[-1] > LONGEST_ROW:
        raise ValueError(f"its grid must have rows of at most {LONGEST_ROW} pixels, got {value}")
    return tuple(value)


def _measure(stored: Any, grid: tuple[int, ...]) -> NDArray[Any]:
    if not isinstance(stored, dict) or not isinstance(stored.get("zlib"), str):
        raise ValueError("its measure must be compressed text")
    if stored.get("dtype") not in _MEASURES:
        raise ValueError(f"its measure must be of type {_MEASURES}, got {stored.get('dtype')!r}")
    n_bytes = 8 * math.prod(grid)
    decoder = zlib.decompressobj()
    try:
        packed = base64.b64decode(stored["zlib"], validate=True)
        # No more is unpacked than there may be, whatever the text would come to.
        values = decoder.decompress(packed, n_bytes + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"its measure can't be unpacked: {error}") from None
    if len(values) != n_bytes or not decoder.eof:
        raise ValueError(f"its measure must have {n_bytes} bytes")
    array = np.frombuffer(values, stored["dtype"]).reshape(grid)
    return as_measure(array, grid)


def memory_bytes() -> int:
    """Return how much memory this process can have: what the machine has, or its limit."""
    known = [2**63]
    if hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        import resource
    except ImportError:  # Windows
        return min(known)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(known if limit == resource.RLIM_INFINITY else [*known, limit])
