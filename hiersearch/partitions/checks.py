"""Checks of what readings are given: probabilities, maps within [0, 1], offsets of affinities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch._sealed import private, sealed

SUM_TOLERANCE = 2e-3
"""How far probabilities may be from summing to 1: half precision stays within it."""


def checked_probabilities(
    probabilities: ArrayLike, name: str = "probabilities"
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Validate probabilities (k, *grid) and return them flat, (k, n), with their grid."""
    array = _validate.as_array(probabilities, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    if array.ndim not in (3, 4) or array.shape[0] == 0:
        raise ValueError(
            f"{name} must have shape (k, H, W) or (k, D, H, W) with the channels first, "
            f"got {array.shape}"
        )
    grid = _validate.checked_grid(array.shape[1:], f"{name}' grid")
    kind = np.float64 if array.dtype.itemsize > 4 else np.float32
    flat = np.ascontiguousarray(array.reshape(array.shape[0], -1), dtype=kind)
    with np.errstate(over="ignore", invalid="ignore"):
        # NaN fails both comparisons; infinities make a sum that is infinite or NaN.
        sound = np.abs(flat.sum(axis=0) - 1) <= SUM_TOLERANCE
        if float(flat.min()) >= 0 and sound.all():
            return flat, grid
        faulty = ~(sound & np.greater_equal(flat, 0).all(axis=0))
    pixel = int(faulty.argmax())
    where = tuple(int(i) for i in np.unravel_index(pixel, grid))
    column: NDArray[Any] = flat[:, pixel]
    for expected, bad in (("be finite", ~np.isfinite(column)), ("not be negative", column < 0)):
        if bad.any():
            j = int(bad.argmax())
            raise ValueError(
                f"{name} must {expected}, got {column[j]:g} in channel {j} at pixel {where}"
            )
    raise ValueError(
        f"{name} must sum to 1 over the channels (axis 0) at every pixel, "
        f"got {column.sum(dtype=np.float64):g} at pixel {where}{_axis_hint(flat, array, name)}"
    )


def _axis_hint(flat: NDArray[Any], array: NDArray[Any], name: str) -> str:
    """Say what was probably meant: a single channel, a batch, or channels on another axis."""
    if not np.isfinite(flat).all():
        return ""
    if name == "probabilities" and array.shape[0] == 1 and flat.max() <= 1:
        return ": of the single channel p of two classes give np.stack([1 - p, p])"
    for axis in range(1, array.ndim):
        if np.allclose(array.sum(axis=axis, dtype=np.float64), 1.0, atol=SUM_TOLERANCE):
            batch = (
                ", or give the images of a batch one by one" if (axis, array.ndim) == (1, 4) else ""
            )
            return f" (they do over axis {axis}: move it to the front{batch})"
    return ""


def checked_offsets(
    offsets: Sequence[Sequence[int]] | NDArray[Any], n_channels: int, grid: tuple[int, ...]
) -> NDArray[np.int64]:
    """Validate offsets against the number of channels and the grid."""
    array = _validate.as_array(offsets, "offsets")
    if array.ndim != 2 or array.shape != (n_channels, len(grid)) or array.dtype.kind not in "iu":
        hint = ""
        if len(grid) == 3 and array.shape == (grid[0], 2):
            hint = ": give the images of a batch one by one"
        raise ValueError(
            f"offsets must be whole numbers, one offset of length {len(grid)} for each of the "
            f"{n_channels} channels, got shape {array.shape} and dtype {array.dtype}{hint}"
        )
    seen: set[tuple[int, ...]] = set()
    for row in array.tolist():
        step = tuple(row)
        if not any(step):
            raise ValueError(f"offsets must not be zero, got {step}")
        if step in seen or tuple(-s for s in step) in seen:
            raise ValueError(f"offsets must name each pair once, got {step} twice (up to sign)")
        seen.add(step)
    return sealed(array.astype(np.int64))


def checked_pair_weights(weights: ArrayLike | None, n_channels: int) -> NDArray[np.float64]:
    """Return the weight of each offset's pairs, 1 where none are given."""
    if weights is None:
        return sealed(np.ones(n_channels))
    array = _validate.checked_finite(weights, "weights").astype(np.float64)
    if array.shape != (n_channels,):
        raise ValueError(
            f"weights must be {n_channels} numbers, one for each offset, got shape {array.shape}"
        )
    if array.min() < 0:
        raise ValueError(f"weights must be non-negative numbers, got {array.min():g}")
    return sealed(array)


def checked_affinities(affinities: ArrayLike) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Validate affinities (d, *grid) and return them flat, (d, n), with their grid."""
    shape = _validate.as_array(affinities, "affinities").shape
    if len(shape) not in (3, 4):
        raise ValueError(f"affinities must have shape (d, H, W) or (d, D, H, W), got {shape}")
    grid = _validate.checked_grid(shape[1:], "affinities' grid")
    values = _validate.checked_finite(affinities, "affinities")
    if values.size and (values.min() < 0 or values.max() > 1):
        worst = int(values.argmin() if values.min() < 0 else values.argmax())
        where = tuple(int(i) for i in np.unravel_index(worst, values.shape))
        raise ValueError(
            f"affinities must be within [0, 1], got {values[where]:g} at index {where}"
        )
    flat = np.ascontiguousarray(values.reshape(values.shape[0], -1), dtype=np.float32)
    return flat.view(), grid


def checked_table(values: ArrayLike, grid: tuple[int, ...]) -> NDArray[Any]:
    """Return a private table (m, n) of single or double precision, its values not looked at."""
    array = _validate.as_array(values, "values")
    n_pixels = math.prod(grid)
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != n_pixels:
        raise ValueError(
            f"values must have a row for each channel and a column for each of the {n_pixels} "
            f"pixels, got shape {array.shape}"
        )
    kept = private(array)
    if kept.dtype not in (np.float32, np.float64):
        raise TypeError(f"values must be float32 or float64, got dtype {array.dtype}")
    return kept


def checked_channels(
    channels: NDArray[Any], n_channels: int | None
) -> tuple[NDArray[np.int32], int]:
    """Return channel numbers (m, n) as int32, a private copy, and how many channels there are."""
    if channels.dtype.kind not in "iu":
        raise TypeError(f"channels must be of integer type, got dtype {channels.dtype}")
    low, high = int(channels.min()), int(channels.max())
    count = high + 1
    if n_channels is not None:
        count = _validate.checked_count(n_channels, "n_channels", 1)
    if count > _validate.LARGEST_INT32:
        raise ValueError(f"channels must be fewer than 2**31, got {count}: renumber them")
    if low < 0 or high >= count:
        raise ValueError(f"channels must be within 0..{count - 1}, got {low}..{high}")
    return private(channels, np.int32), count


def checked_unit_map(
    values: ArrayLike, name: str, grid: tuple[int, ...] | None = None
) -> NDArray[np.float64]:
    """Return a map, of boundaries or a foreground, if it is on a grid and within [0, 1].

    Parameters
    ----------
    values : array, shape (H, W) or (D, H, W)
        The map.
    name : str
        What messages call it.
    grid : tuple of int, optional
        The shape it must have.

    Raises
    ------
    TypeError, ValueError
        If it is not finite, on another grid, or leaves [0, 1].
    """
    field = _validate.checked_finite(values, name)
    if grid is not None and field.shape != grid:
        raise ValueError(f"{name} must have the grid's shape {grid}, got {field.shape}")
    _validate.checked_grid(field.shape, name)
    if field.min() < 0 or field.max() > 1:
        worst = int(field.argmin() if field.min() < 0 else field.argmax())
        where = tuple(int(i) for i in np.unravel_index(worst, field.shape))
        raise ValueError(f"{name} must be within [0, 1], got {field[where]:g} at index {where}")
    return field.astype(np.float64, copy=False)


def pair_slices(
    offset: NDArray[np.int64], grid: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of a grid that line up each pixel with its partner at ``offset``."""
    source, target = [], []
    for step, side in zip(offset.tolist(), grid, strict=True):
        source.append(slice(max(0, -step), max(0, min(side, side - step))))
        target.append(slice(max(0, step), max(0, min(side, side + step))))
    return tuple(source), tuple(target)


def leaf_count(parents: NDArray[Any]) -> int:
    """Return the number of leaves: the nodes before the first that is a parent."""
    return int(parents[:-1].min()) if parents.size > 1 else 1


def checked_parents(parents: ArrayLike) -> NDArray[np.int64]:
    """Return a private copy of a tree's parents: leaves first, every node above its children."""
    array = _validate.as_array(parents, "parents")
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ValueError(f"parents must be whole numbers, one a node, got shape {array.shape}")
    kept = private(array, np.int64)
    nodes = np.arange(kept.size)
    sound = (kept[:-1] > nodes[:-1]) & (kept[:-1] < kept.size)
    if not sound.all() or kept[-1] != kept.size - 1:
        raise ValueError("parents must lie above their children, the last node being the root")
    children = np.bincount(kept[:-1], minlength=kept.size)
    first = leaf_count(kept)
    if kept.size > 1 and (children[first:] < 2).any():
        raise ValueError("parents must give every node but the leaves, which come first, children")
    return kept


def checked_leaves(leaves: NDArray[Any], n_leaves: int) -> NDArray[np.int32]:
    """Return a private copy of the leaf of each pixel."""
    if leaves.dtype.kind not in "iu":
        raise TypeError(f"leaf_map must be of integer type, got dtype {leaves.dtype}")
    if int(leaves.min()) < 0 or int(leaves.max()) >= n_leaves:
        raise ValueError(f"leaf_map must be within 0..{n_leaves - 1}")
    return private(leaves, np.int32)


def check_within_unit(values: NDArray[Any], name: str, first: int) -> None:
    """Raise ValueError unless probabilities of nodes, numbered from ``first``, are some."""
    if values.size and (values.min() < 0 or values.max() > 1):
        worst = int(values.argmin() if values.min() < 0 else values.argmax())
        raise ValueError(
            f"{name} must be within [0, 1], got {values[worst]:g} for node {first + worst}"
        )
