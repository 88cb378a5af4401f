"""Checks of user input, made once at the edge: each failure is one sentence.

The sentence names the argument, what was expected and what came.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = tuple[int, ...]


LARGEST_INT32 = 2**31 - 1
"""Pixels, regions and nodes are numbered in 32 bits: no object has more of them."""


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Return ``values`` as a plain array; masked ones are refused, since their mask would be lost.

    Examples
    --------
    >>> as_array(np.ma.masked_equal([0, 1], 0), "labels")
    Traceback (most recent call last):
        ...
    TypeError: labels must be a plain array, got a masked one: fill it, or give a measure that is \
    0 where it is masked
    """
    if type(values) is np.ndarray:
        return values
    parts = values if isinstance(values, (list, tuple)) else (values,)
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        raise TypeError(
            f"{name} must be a plain array, got a masked one: fill it, or give a measure that is 0 "
            "where it is masked"
        )
    return np.asarray(values)


def checked_column(
    values: Any, name: str, dtype: type[np.integer[Any]], low: int, high: int, size: int | None
) -> NDArray[Any]:
    """Return ``values`` as ``dtype`` if they are 1-D whole numbers within [low, high].

    ``size`` is how many there must be; None for at least one.
    """
    array = as_array(values, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of whole numbers, got dtype {array.dtype}")
    if array.ndim != 1 or array.size == 0 or size not in (None, array.size):
        expected = "1-D and not empty" if size is None else f"of shape ({size},)"
        raise ValueError(f"{name} must be {expected}, got shape {array.shape}")
    if int(array.min()) < low or int(array.max()) > high:
        bad = int(np.flatnonzero((array < low) | (array > high))[0])
        raise ValueError(f"{name} must be within {low}..{high}, got {array[bad]} at index {bad}")
    return array.astype(dtype, copy=False)


def checked_grid(shape: Sequence[int], name: str) -> Grid:
    """Return ``shape`` as a tuple if it is a 2-D or 3-D grid of 1..2**31 - 1 pixels."""
    grid = tuple(shape)
    if any(isinstance(side, bool) or not isinstance(side, (int, np.integer)) for side in grid):
        raise TypeError(f"{name} must be whole numbers, got {grid}")
    grid = tuple(int(side) for side in grid)
    if len(grid) not in (2, 3):
        raise ValueError(f"{name} must be 2-D (H, W) or 3-D (D, H, W), got shape {grid}")
    if min(grid) < 1:
        raise ValueError(f"{name} must have at least one pixel, got shape {grid}")
    if math.prod(grid) > LARGEST_INT32:
        raise ValueError(f"{name} must have fewer than 2**31 pixels, got shape {grid}")
    return grid


def checked_labels(labels: Any, name: str) -> NDArray[np.integer[Any]]:
    """Return ``labels`` as an integer array on a 2-D or 3-D grid (booleans become 0 and 1)."""
    array = as_array(labels, name)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        way = ": labels.astype(int) makes integers of whole numbers" * (array.dtype.kind == "f")
        raise TypeError(f"{name} must be a label map of integer type, got dtype {array.dtype}{way}")
    checked_grid(array.shape, name)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def whole_numbers(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels of floating-point type as int32 or int64; others as they are. O(pixels).

    Many programs save whole numbers as floating-point ones, MATLAB for a start.

    Raises
    ------
    TypeError
        If a value is no whole number, or so large that the type skips whole numbers there, so
        that two labels may have become one.

    Examples
    --------
    >>> whole_numbers(np.array([[1.0, 2.0]]), "labels")
    array([[1, 2]])
    """
    if labels.dtype.kind != "f":
        return labels
    limit = 2.0 ** min(np.finfo(labels.dtype).nmant + 1, 53)
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(labels) & (labels == np.trunc(labels))
        bad = ~(whole & (np.abs(labels) < limit))
    if bad.any():
        where = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), labels.shape))
        rule = f" below 2**{int(np.log2(limit))} in {labels.dtype}" * bool(whole[where])
        raise TypeError(
            f"{name} must be whole numbers{rule}, got {labels[where]:g} at index {where}"
        )
    return labels.astype(np.int32 if labels.dtype.itemsize <= 4 else np.int64)


def plain(value: Any) -> Any:
    """Return a scalar of NumPy, or an array without axes, as the same Python value; others as is.

    Numbers beyond double precision stay what they are, so that nothing is rounded.

    Examples
    --------
    >>> plain(np.int64(3)), plain(np.array("a")), plain(np.float32(0.5)), plain([1])
    (3, 'a', 0.5, [1])
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        item = value.item()
        return value if isinstance(item, np.generic) else item
    return value


def checked_finite(values: Any, name: str) -> NDArray[np.floating[Any]]:
    """Return ``values`` as a floating array in which every value is finite."""
    array = as_array(values, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):  # what leaves float64 is infinite and refused as such
            array = array.astype(np.float64)
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
    given = as_array(measure, "measure")
    if given.shape != grid:
        raise ValueError(f"measure must have the grid's shape {grid}, got {given.shape}")
    array = checked_finite(given, "measure")
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
