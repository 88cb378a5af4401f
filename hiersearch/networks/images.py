"""Images as networks take them: a batch of one within 0..1, with sides that suit them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate

Float32 = NDArray[np.float32]

MOST_PADDING = 4096
"""The largest number whose multiples sides are extended to: what is added costs memory."""


def image_batch(image: ArrayLike) -> Float32:
    """Return an image as the batch of one that networks take.

    Parameters
    ----------
    image : array, shape (H, W), (H, W, 1) or (H, W, 3)
        bool, uint8, uint16, or floating point within 0..1.

    Returns
    -------
    float32 array, shape (1, 1, H, W) or (1, 3, H, W)
        Within 0..1.

    Raises
    ------
    ValueError
        If the shape is another one, or a floating-point value is not finite or outside 0..1.
    TypeError
        If the type is another one.

    Notes
    -----
    O(pixels).
    """
    array = np.asarray(image)
    planes = array[..., None] if array.ndim == 2 else array
    if planes.ndim != 3 or planes.shape[2] not in (1, 3) or planes.size == 0:
        hint = ""
        if array.ndim == 3 and array.shape[2] in (2, 4):
            hint = " (drop an alpha channel first)"
        raise ValueError(
            f"image must have shape (H, W), (H, W, 1) or (H, W, 3), got {array.shape}{hint}"
        )
    if array.dtype in (np.uint8, np.uint16):
        scaled = planes.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    elif array.dtype == np.bool_:
        scaled = planes.astype(np.float32)
    elif array.dtype.kind == "f":
        scaled = _validate.checked_finite(planes, "image").astype(np.float32, copy=False)
        low, high = float(scaled.min()), float(scaled.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"image of floating point must lie within 0..1, got {low:.4g}..{high:.4g}"
            )
    else:
        raise TypeError(
            f"image must be bool, uint8, uint16 or floating point, got dtype {array.dtype}"
        )
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 0))[None]


def extended(batch: Float32, multiple: int) -> Float32:
    """Extend images below and on the right, by reflection, to sides that are multiples.

    Parameters
    ----------
    batch : float32 array, shape (N, C, H, W)
        Images.
    multiple : int
        1 to ``MOST_PADDING``.

    Returns
    -------
    float32 array, shape (N, C, H', W')
        H' and W' are the next multiples of ``multiple``. What is added is the image reflected at
        its edge, as often as needed; one pixel is repeated.

    Notes
    -----
    O(pixels of the result).

    Examples
    --------
    >>> extended(np.array([[[[1, 2, 3]]]], np.float32), 2)[0, 0].tolist()
    [[1.0, 2.0, 3.0, 2.0], [1.0, 2.0, 3.0, 2.0]]
    """
    rows, columns = (_reflected(side, side + -side % multiple) for side in batch.shape[2:])
    return np.ascontiguousarray(batch[:, :, rows[:, None], columns])


def _reflected(side: int, length: int) -> NDArray[np.intp]:
    """Return which pixel of a side each of a longer one shows: to the end, back, and on again."""
    if side == 1:
        return np.zeros(length, np.intp)
    step = np.arange(length) % (2 * side - 2)
    return np.minimum(step, 2 * side - 2 - step)
