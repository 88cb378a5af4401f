"""Synthetic shapes: noisy, shaded images of disks, squares, triangles and rings, some touching.

Grey levels tell the classes apart only in part, the form has to tell the rest. Shapes don't
overlap. Shapes that touch are of different classes, so that the connected components of the true
class map are the true instances: what a loss loses on instances, its network lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CLASSES = ("background", "disk", "square", "triangle", "ring")
SIDE = 64
"""Height and width of an image."""
SMALLEST, LARGEST = 3.0, 10.0
"""Range of the radius, log-uniform: most shapes are small."""
LARGER = (1.0, 0.9, 1.15, 1.4, 1.05)
"""Factor of the radius for each class: shapes of one radius then have about the same area."""
GREY_LEVELS = (0.30, 0.42, 0.54, 0.66, 0.78)
"""Mean grey level of each class, background first, within [0, 1]."""
GREY_SPREAD = 0.04
"""Standard deviation of a shape's grey level about its class's mean."""
NOISE = 0.05
"""Standard deviation of the noise of each pixel."""
SHADING = 0.1
"""Largest change of the light over half an image."""
TOUCHING = 0.5
"""Share of the shapes that are put beside another one."""
ATTEMPTS = 12
"""How often a place is tried for one shape before it is left out."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One image with its truth."""

    image: NDArray[np.uint8]
    """(SIDE, SIDE) grey."""
    classes: NDArray[np.int64]
    """(SIDE, SIDE), indices of CLASSES."""
    instances: NDArray[np.int32]
    """(SIDE, SIDE), 0 background, 1.. one label a shape."""


def scenes(count: int, seed: int) -> list[Scene]:
    """Return scenes; the first ones are the same whatever the count. O(count)."""
    return [_scene(np.random.default_rng([seed, index])) for index in range(count)]


def _scene(rng: np.random.Generator) -> Scene:
    classes = np.zeros((SIDE, SIDE), np.int64)
    instances = np.zeros((SIDE, SIDE), np.int32)
    grey = np.full((SIDE, SIDE), rng.normal(GREY_LEVELS[0], GREY_SPREAD / 2))
    centres: list[tuple[float, float]] = []
    for _ in range(int(rng.integers(5, 11))):
        kind = int(rng.integers(1, len(CLASSES)))
        radius = LARGER[kind] * float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        draw = _form(kind, max(radius, 4.5) if CLASSES[kind] == "ring" else radius, rng)
        found = _placed(draw, kind, classes, centres, rng)
        if found is None:
            continue
        mask, centre = found
        centres.append(centre)
        classes[mask] = kind
        instances[mask] = len(centres)
        grey[mask] = rng.normal(GREY_LEVELS[kind], GREY_SPREAD)
    return Scene(_photographed(grey, rng), classes, instances)


def _form(kind: int, radius: float, rng: np.random.Generator) -> Callable[[float, float], Mask]:
    """Return a function of the centre (row, column) that draws one shape."""
    turn = rng.uniform(0, 2 * np.pi)
    rows, columns = np.ogrid[:SIDE, :SIDE]

    def draw(row: float, column: float) -> Mask:
        y, x = rows - row, columns - column
        if CLASSES[kind] == "disk":
            return np.hypot(y, x) <= radius
        if CLASSES[kind] == "ring":
            distance = np.hypot(y, x)
            return (distance <= radius) & (distance >= 0.5 * radius)
        sides = 4 if CLASSES[kind] == "square" else 3
        angles = turn + 2 * np.pi * np.arange(sides) / sides
        # The polygon with this many sides and its corners at the radius.
        within = radius * np.cos(np.pi / sides)
        return np.logical_and.reduce([y * np.sin(a) + x * np.cos(a) <= within for a in angles])

    return draw


def _placed(
    draw: Callable[[float, float], Mask],
    kind: int,
    classes: NDArray[np.int64],
    centres: list[tuple[float, float]],
    rng: np.random.Generator,
) -> tuple[Mask, tuple[float, float]] | None:
    """Find a free place, alone or pushed against an earlier shape; None where there is none."""
    for _ in range(ATTEMPTS):
        row, column = (float(v) for v in rng.uniform(2, SIDE - 3, 2))
        step_row, step_column = 0.0, 0.0
        if centres and rng.random() < TOUCHING:
            row, column = centres[int(rng.integers(len(centres)))]
            direction = rng.uniform(0, 2 * np.pi)
            step_row, step_column = float(np.sin(direction)), float(np.cos(direction))
            row, column = row + SMALLEST * step_row, column + SMALLEST * step_column
        for _ in range(1 if step_row == step_column == 0 else 2 * SIDE):
            mask = draw(row, column)
            if not (classes[mask] > 0).any():
                break
            row, column = row + step_row, column + step_column
        if _fits(mask, kind, classes):
            return mask, (row, column)
    return None


def _fits(mask: Mask, kind: int, classes: NDArray[np.int64]) -> bool:
    """Whether a shape covers nothing, touches none of its class and is one piece of some size."""
    if mask.sum() < 12 or (classes[mask] > 0).any():
        return False
    if (classes[ndimage.binary_dilation(mask)] == kind).any():
        return False
    return bool(ndimage.label(mask)[1] == 1)


def _photographed(grey: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur a little, shade along a random direction, add noise, round to 8 bits."""
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, SHADING)
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE / 2) - 1
    light = 1 + strength * (rows * np.sin(direction) + columns * np.cos(direction))
    seen = ndimage.gaussian_filter(grey, 0.6) * light + rng.normal(0, NOISE, grey.shape)
    return (255 * np.clip(seen, 0, 1)).round().astype(np.uint8)
