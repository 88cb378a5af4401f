"""Pictures as pixels: an image made fit for the eye, and regions drawn over it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.plots.colours import LINE, raster_numbers, region_colours

Fill = Literal["none", "mean", "colours"]
FILLS: tuple[Fill, ...] = ("none", "mean", "colours")

PICTURE_SIDE = 1200
"""Longer side, in pixels, that small pictures are enlarged towards (by a whole factor)."""

# Share of the contrast range that may be cut off at either end of 16-bit and floating images.
_CLIPPED_PERCENT = 0.2


def shown_slice(grid: tuple[int, ...]) -> int | None:
    """Return which slice of a volume pictures show, the middle one; None for 2-D grids."""
    return grid[0] // 2 if len(grid) == 3 else None


def image_picture(image: ArrayLike, grid: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """Turn an image of any type into RGB for the eye.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels
        Grey or with channels, of which the first three are shown; of volumes, the middle slice.
    grid : tuple of int, optional
        Tells a volume (D, H, W) from an image (H, W, channels), which a 3-D array is taken for
        where omitted.

    Returns
    -------
    uint8 array, shape (H, W, 3)
        Colour images of uint8 as they are; all others, and grey ones, stretched so that the
        darkest and brightest 0.2 % of the values become black and white.

    Raises
    ------
    ValueError, TypeError
        If the shape does not fit, or values are not finite numbers.

    Examples
    --------
    >>> import numpy as np
    >>> image_picture(np.array([[0, 400, 1000]], np.uint16))[0, :, 0].tolist()
    [0, 102, 255]
    """
    array = np.asarray(image)
    if grid is None:
        grid = array.shape[: max(2, array.ndim - 1)]
    shape = _validate.checked_grid(grid, "grid")
    if array.shape[: len(shape)] != shape or array.ndim not in (len(shape), len(shape) + 1):
        raise ValueError(
            f"image must have the grid {shape}, with or without a last axis of channels, "
            f"got shape {array.shape}"
        )
    values = array.reshape(*shape, -1)
    z = shown_slice(shape)
    if z is not None:
        values = values[z]
    values = values[..., :3]
    if values.shape[-1] == 2:
        # Two channels as red and cyan-ish would need a legend; their mean does not.
        values = values.mean(axis=-1, keepdims=True)
    if values.dtype == np.bool_:
        values = values.view(np.uint8) * np.uint8(255)
    if values.dtype != np.uint8 or values.shape[-1] == 1:
        values = _stretched(values)
    picture: NDArray[np.uint8] = np.empty((*values.shape[:2], 3), np.uint8)
    picture[...] = values
    return picture


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    finite = _validate.checked_finite(values, "image").astype(np.float64)
    low, high = np.percentile(finite, [_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT])
    if not high > low:
        # Nearly all values are equal: percentiles say nothing, the range might.
        low, high = float(finite.min()), float(finite.max())
    if not high > low:
        return np.full(values.shape, 128, np.uint8)
    scaled = np.clip((finite - low) / (high - low), 0, 1)
    bright: NDArray[np.uint8] = np.round(255 * scaled).astype(np.uint8)
    return bright


def overlay(
    image: ArrayLike | None,
    labels: ArrayLike,
    *,
    fill: Fill = "none",
    side: int = PICTURE_SIDE,
    strength: float = 0.45,
    thickness: float | None = None,
    line: tuple[int, int, int] = LINE,
) -> NDArray[np.uint8]:
    """Draw a partition's region boundaries over an image.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels, or None
        What lies under the boundaries; None draws the regions' colours alone.
    labels : integer array, shape (H, W) or (D, H, W)
        Label map; of volumes the middle slice is drawn (see :func:`shown_slice`).
    fill : {"none", "mean", "colours"}
        Leave the image visible inside regions, replace it by each region's mean colour, or tint
        each region with a colour of its own (:func:`region_colours`); the largest region is left
        untinted where it covers a quarter of the picture or more.
    side : int
        Small pictures are enlarged by the whole factor that brings the longer side nearest to
        this many pixels; large ones keep their size.
    strength : float
        Opacity of the tint, within 0..1.
    thickness : float, optional
        Width of boundaries in pixels of the picture; 1/500 of the longer side where omitted, at
        least 1. Zero draws none.
    line : tuple of int
        Colour of boundaries, RGB 0..255.

    Returns
    -------
    uint8 array, shape (f·H, f·W, 3)

    Raises
    ------
    ValueError, TypeError
        If image and labels do not share a grid, or an option is out of range.

    Notes
    -----
    O(pixels of the picture).

    Examples
    --------
    >>> import numpy as np
    >>> picture = overlay(np.zeros((2, 4)), np.array([[0, 0, 1, 1]] * 2), side=40)
    >>> picture.shape, picture[0, 20].tolist(), picture[0, 0].tolist()
    ((20, 40, 3), [255, 214, 0], [128, 128, 128])
    """
    array = _validate.checked_labels(labels, "labels")
    _validate.checked_choice(fill, FILLS, "fill")
    _validate.checked_count(side, "side", 1)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be within 0..1, got {strength}")
    z = shown_slice(array.shape)
    shown = array if z is None else array[z]
    if image is None:
        base, strength, fill = region_colours(shown), 0.0, "none"
    else:
        base = image_picture(image, array.shape)
    if fill == "mean":
        base = _mean_colours(base, shown)
    elif fill == "colours":
        base = _tinted(base, shown, strength)
    factor = enlargement(shown.shape, side)
    picture = enlarged(base, factor)
    width = max(1.0, max(picture.shape[:2]) / 500) if thickness is None else thickness
    if width > 0:
        picture[boundary_mask(enlarged(shown, factor), max(1, round(width)))] = line
    return picture


def enlargement(shape: tuple[int, ...], side: int) -> int:
    """Return the whole factor, at least 1, that brings the longer side nearest to ``side``."""
    return max(1, round(side / max(shape[:2])))


def enlarged(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """Repeat each pixel ``factor`` times along both axes (a copy)."""
    if factor == 1:
        return array.copy()
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def boundary_mask(labels: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Pixels within ``width``, straddling the edges between pixels of different labels."""
    from scipy import ndimage

    mask = np.zeros(labels.shape, np.bool_)
    mask[1:] |= labels[1:] != labels[:-1]
    mask[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    # A diagonal step leaves a gap at the corner that both edges end in.
    mask[1:, 1:] |= labels[1:, 1:] != labels[:-1, :-1]
    if width == 1:
        return mask
    # The pixel after the edge is marked: an even width straddles the edge exactly.
    grown: NDArray[np.bool_] = ndimage.maximum_filter(
        mask, size=width, mode="constant", cval=0, origin=width % 2 - 1
    )
    return grown


def _mean_colours(picture: NDArray[np.uint8], labels: NDArray[Any]) -> NDArray[np.uint8]:
    numbers, first = raster_numbers(labels)
    flat = numbers.reshape(-1)
    counts = np.bincount(flat, minlength=first.size)
    channels = [
        np.bincount(flat, weights=picture[..., c].reshape(-1), minlength=first.size) / counts
        for c in range(3)
    ]
    means = np.round(np.stack(channels, axis=-1)).astype(np.uint8)
    coloured: NDArray[np.uint8] = means[numbers]
    return coloured


def _tinted(picture: NDArray[np.uint8], labels: NDArray[Any], strength: float) -> NDArray[np.uint8]:
    numbers, _ = raster_numbers(labels)
    sizes = np.bincount(numbers.reshape(-1))
    colours = region_colours(labels)
    tint = np.full(labels.shape, strength)
    if 4 * sizes.max() >= labels.size:
        tint[numbers == sizes.argmax()] = 0.0
    mixed = picture * (1 - tint[..., None]) + colours * tint[..., None]
    rounded: NDArray[np.uint8] = np.round(mixed).astype(np.uint8)
    return rounded
