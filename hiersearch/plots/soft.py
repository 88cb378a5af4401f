"""Pictures of soft partitions: what a network says, before anything is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch.hierarchy.matching import contours_of
from hiersearch.partitions.checks import checked_probabilities, pair_slices
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, Memberships, Merges, SoftPartition
from hiersearch.plots.colours import CHANNEL_PALETTE, region_colours
from hiersearch.plots.pixels import shown_slice

# Ends and middle of a scale whose lightness rises evenly (Nuñez et al., cividis).
_SCALE = np.array(
    [(0, 34, 78), (52, 66, 109), (109, 110, 114), (167, 157, 117), (254, 232, 56)], np.float64
)

_SCALE_WORDS = "0 dark to 1 yellow"

# What a pixel without any confidence fades to.
_UNSURE = np.array([24.0, 24.0, 24.0])


@dataclass(frozen=True, slots=True, eq=False)
class SoftPicture:
    """A picture of a soft partition and how to read it."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) the picture."""
    kind: str
    """What is shown, in words."""
    colours: tuple[tuple[int, int, int], ...]
    """One colour for each channel of a composite; empty where colours stand for regions."""


def soft_picture(soft: Partition | SoftPartition | ArrayLike) -> SoftPicture:
    """Show a soft partition in one picture.

    Parameters
    ----------
    soft : SoftPartition, Partition or float array
        A float array is a network's raw output: probabilities (k, H, W) or (k, D, H, W), or one
        map (1, H, W) within 0..1. Of volumes the middle slice is shown.

    Returns
    -------
    SoftPicture
        - two or three channels (or classes): the colours of :data:`CHANNEL_PALETTE`, mixed by
          the probabilities;
        - one channel: a scale from dark blue (0) to yellow (1);
        - more channels: the colour of the most probable one, the darker the less probable;
        - affinities: the mean over each pixel's pairs, dark where it is cut off;
        - a hard partition: its regions' colours.

    Raises
    ------
    ValueError, TypeError
        If an array is not finite probabilities with the channels first.

    Notes
    -----
    O(k · pixels).

    Examples
    --------
    >>> import numpy as np
    >>> shown = soft_picture(np.stack([np.ones((2, 3)), np.zeros((2, 3))]))
    >>> shown.kind, shown.pixels[0, 0].tolist()
    ('2 channels', [16, 28, 64])
    """
    if isinstance(soft, Partition):
        labels = _slice_of(soft.labels, soft.grid)
        return SoftPicture(region_colours(labels), f"{soft.n_regions} regions", ())
    if isinstance(soft, Affinities):
        field = _slice_of(_mean_affinity(soft), soft.grid)
        return SoftPicture(
            _scaled(field), f"mean of {len(soft.values)} affinities, {_SCALE_WORDS}", ()
        )
    if isinstance(soft, Merges):
        field = _slice_of(contours_of(soft), soft.grid)
        return SoftPicture(_scaled(field), f"apart from a neighbour, {_SCALE_WORDS}", ())
    if isinstance(soft, Memberships):
        return _memberships_picture(soft)
    array = np.asarray(soft)
    if array.ndim in (3, 4) and array.shape[0] == 1:
        return SoftPicture(
            _scaled(_slice_of(array[0], array.shape[1:])), f"probability, {_SCALE_WORDS}", ()
        )
    values, grid = checked_probabilities(array)
    return _channels_picture(values.reshape(-1, *grid), grid, "channels")


def _memberships_picture(soft: Memberships) -> SoftPicture:
    rows = soft.values.reshape(-1, *soft.grid)
    if soft.channels is None or soft.rows_are_classes:
        # The class reading keeps one class a row, split into components by its channels.
        word = "classes" if soft.rows_are_classes else "channels"
        return _channels_picture(rows, soft.grid, word)
    winner = _slice_of(soft.hard().labels, soft.grid)
    confidence = _slice_of(_winning_probability(soft).reshape(soft.grid), soft.grid)
    pixels = _faded(region_colours(winner), confidence)
    return SoftPicture(pixels, f"most probable of {soft.n_channels:,} channels", ())


def _channels_picture(values: NDArray[Any], grid: tuple[int, ...], word: str) -> SoftPicture:
    k = values.shape[0]
    shown = np.stack([_slice_of(channel, grid) for channel in values])
    if k == 1:
        return SoftPicture(_scaled(shown[0]), f"probability, {_SCALE_WORDS}", ())
    if k <= len(CHANNEL_PALETTE):
        colours = CHANNEL_PALETTE[:k]
        mixed = np.einsum("khw,kc->hwc", shown, np.array(colours, np.float64))
        return SoftPicture(_as_bytes(mixed), f"{k} {word}", colours)
    pixels = _faded(region_colours(shown.argmax(axis=0)), shown.max(axis=0))
    return SoftPicture(pixels, f"most probable of {k} {word}", ())


def _winning_probability(soft: Memberships) -> NDArray[np.float64]:
    """Probability of each pixel's most probable channel, equal channels added up; flat."""
    assert soft.channels is not None
    totals = np.zeros(soft.values.shape)
    for row in range(len(totals)):
        same = soft.channels == soft.channels[row]
        totals[row] = np.where(same, soft.values, 0).sum(axis=0)
    best: NDArray[np.float64] = totals.max(axis=0)
    return best


def _mean_affinity(soft: Affinities) -> NDArray[np.float64]:
    """Mean affinity of all known pairs that a pixel is in; 1 where it is in none."""
    total, count = np.zeros(soft.grid), np.zeros(soft.grid)
    for d, offset in enumerate(soft.offsets):
        source, target = pair_slices(offset, soft.grid)
        affinity = soft.values[d].reshape(soft.grid)[source]
        for end in (source, target):
            total[end] += affinity
            count[end] += 1
    mean: NDArray[np.float64] = np.divide(total, count, out=np.ones(soft.grid), where=count > 0)
    return mean


def _slice_of(field: NDArray[Any], grid: tuple[int, ...]) -> NDArray[Any]:
    z = shown_slice(grid)
    return field if z is None else field[z]


def _scaled(field: NDArray[Any]) -> NDArray[np.uint8]:
    """Colour values within 0..1 by the scale."""
    if not np.isfinite(field).all() or field.min() < 0 or field.max() > 1:
        raise ValueError(f"soft must lie within 0..1, got {field.min():g}..{field.max():g}")
    places = np.linspace(0, 1, len(_SCALE))
    channels = [np.interp(field, places, _SCALE[:, c]) for c in range(3)]
    return _as_bytes(np.stack(channels, axis=-1))


def _faded(colours: NDArray[np.uint8], confidence: NDArray[Any]) -> NDArray[np.uint8]:
    weight = np.clip(confidence.astype(np.float64), 0, 1)[..., None]
    return _as_bytes(colours * weight + _UNSURE * (1 - weight))


def _as_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
