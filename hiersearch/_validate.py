"""Checks of user input, made once at the edge: each failure is one sentence.

The sentence names the argument, what was expected and what came.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = tuple[int, ...]


def checked_grid(shape: Sequence[int], name: str) -> Grid:
    """Return ``shape`` as a tuple if it is the shape of a non-empty 2-D or 3-D grid."""
    grid = tuple(shape)
    if any(isinstance(side, bool) or not isinstance(side, (int, np.integer)) for side in grid):
        raise TypeError(f"{name} must be whole numbers, got {grid}")
    grid = tuple(int(side) for side in grid)
    if len(grid) not in (2, 3):
        raise ValueError(f"{name} must be 2-D (H, W) or 3-D (D, H, W), got shape {grid}")
    if min(grid) < 1:
        raise ValueError(f"{name} must have at least one pixel, got shape {grid}")
    return grid


def checked_labels(labels: Any, name: str) -> NDArray[np.integer[Any]]:
    """Return ``labels`` as an integer array on a 2-D or 3-D grid (booleans become 0 and 1)."""
    array = np.asarray(labels)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a label map of integer type, got dtype {array.dtype}")
    grid = checked_grid(array.shape, name)
    if math.prod(grid) >= 2**31:
        raise ValueError(f"{name} must have fewer than 2**31 pixels, got shape {grid}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def checked_finite(values: Any, name: str) -> NDArray[np.floating[Any]]:
    """Return ``values`` as a floating array in which every value is finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    if array.dtype.kind == "f":
        # A sum is one pass without a temporary; only if it is not finite do we look closer.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(array.sum(dtype=np.float64))
        if suspicious:
            bad = np.flatnonzero(~np.isfinite(array))
            if bad.size:
                where = tuple(int(i) for i in np.unravel_index(int(bad[0]), array.shape))
                raise ValueError(
                    f"{name} must be finite, got {array[where]} at index {where} "
                    f"({bad.size} such values)"
                )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64 if array.dtype.itemsize > 2 else np.float32)
    return array


def checked_measure(measure: Any, grid: Grid) -> NDArray[np.float64]:
    """Return ``measure`` as float64 on ``grid`` if finite, non-negative and not all zero."""
    array = checked_finite(measure, "measure")
    if array.shape != grid:
        raise ValueError(f"measure must have the grid's shape {grid}, got {array.shape}")
    if array.min() < 0:
        where = tuple(int(i) for i in np.unravel_index(int(array.argmin()), grid))
        raise ValueError(f"measure must not be negative, got {array[where]} at index {where}")
    if not array.any():
        raise ValueError("measure must be positive somewhere, got zero at every pixel")
    return np.ascontiguousarray(array, dtype=np.float64)


def checked_same_grid(grid: Grid, other: Grid, name: str, other_name: str) -> None:
    """Raise if two grids differ."""
    if grid != other:
        raise ValueError(f"{name} and {other_name} must share one grid, got {grid} and {other}")


def checked_choice(value: str, choices: Sequence[str], name: str) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def checked_count(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int if it is a whole number within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = int(value)
    if number < low or (high is not None and number > high):
        expected = f"at least {low}" if high is None else f"within {low}..{high}"
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number
