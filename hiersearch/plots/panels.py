"""What figures of several pictures share: pixels put into a figure as they are, short names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.backend_bases import RendererBase


class Pixels(Artist):
    """Pixels put into the figure as they are: Matplotlib's own images resample once more."""

    def __init__(self, pixels: NDArray[np.uint8], left: int, bottom: int) -> None:
        super().__init__()
        self.pixels, self.left, self.bottom = pixels, left, bottom

    def draw(self, renderer: RendererBase) -> None:
        """Copy the pixels; rows run upwards in a renderer."""
        opaque = np.full((*self.pixels.shape[:2], 1), 255, np.uint8)
        flipped = np.concatenate([self.pixels, opaque], axis=-1)[::-1]
        state = renderer.new_gc()
        renderer.draw_image(state, self.left, self.bottom, np.ascontiguousarray(flipped))
        state.restore()


def fitted(pixels: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring a picture to a height and width in pixels of the figure."""
    from PIL import Image

    height, width = size
    smaller = height < pixels.shape[0]
    method = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def shortened(text: str, most: int) -> str:
    """Leave out the middle of a text that has more than ``most`` characters."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
