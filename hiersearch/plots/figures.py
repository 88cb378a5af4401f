"""The figure of one match, in six panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from hiersearch.hierarchy.cut_result import CutResult
from hiersearch.hierarchy.cuts import horizontal_curve
from hiersearch.hierarchy.matching import Match
from hiersearch.plots.curve import DETAIL_SIZE, DPI, NAME_SIZE, draw_curve
from hiersearch.plots.panels import Pixels, fitted, shortened
from hiersearch.plots.pixels import PICTURE_SIDE, image_picture, overlay, shown_slice
from hiersearch.plots.soft import SoftPicture, soft_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 12.0
"""Inches: 1,800 pixels."""

_MARGIN, _GAP, _HEAD, _TITLE = 0.2, 0.28, 0.62, 0.5
_BESIDE = 0.52
_LEAST_ASPECT, _MOST_ASPECT = 0.6, 1.35

# Dimmer than boundaries of cuts: superpixels have many.
_LEAF_LINE = (170, 140, 0)

# Sides of regions, in pixels of the figure: below the first they would drown in their boundaries,
# above the second boundaries have their full width.
_LEAST_OUTLINED, _FULLY_OUTLINED = 6.0, 40.0


def match_figure(
    image: ArrayLike | None,
    match: Match,
    *,
    probabilities: ArrayLike | None = None,
    channel_names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a match in six panels.

    Image, soft output, superpixels, best horizontal cut, best of all cuts, and the curve of
    distance against number of regions. Of volumes the middle slice is shown and named.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels, or None
        What the hierarchy was made of; None leaves its panel to the target's regions.
    match : Match
        A finished search.
    probabilities : float array, shape (k, *grid), optional
        The network's own output, shown in place of the target that was made of it.
    channel_names : sequence of str, optional
        What the channels mean; shown where there are at most three.
    title : str, optional
        Name of the image, shown in the first panel's title.

    Returns
    -------
    matplotlib.figure.Figure
        1,800 pixels wide.

    Raises
    ------
    ValueError, TypeError
        If image or probabilities do not fit the match's grid.
    """
    grid = match.tree.grid
    height, width = grid[-2:]
    aspect = min(max(height / width, _LEAST_ASPECT), _MOST_ASPECT)
    panel_width = (WIDTH - 2 * _MARGIN - 2 * _GAP) / 3
    panel_height = panel_width * aspect
    total = 2 * (panel_height + _HEAD) + _MARGIN + _GAP / 2
    figure = Figure(figsize=(WIDTH, total), dpi=DPI)
    layout = _Layout(figure, panel_width, panel_height, total)
    z = shown_slice(grid)
    where = "" if z is None else f", slice {z + 1} of {grid[0]}"
    size = " × ".join(str(side) for side in grid)

    layout.heading(0, title or "Image", f"{size} {'pixels' if z is None else 'voxels'}{where}")
    layout.picture(0, _plain(image, match))
    soft = soft_picture(match.target if probabilities is None else probabilities)
    layout.heading(1, "Soft output", "" if soft.colours else _soft_detail(match, soft))
    _channel_legend(layout.picture(1, soft.pixels), soft, channel_names)
    layout.heading(2, "Superpixels", _leaf_detail(match))
    layout.picture(2, _leaf_picture(image, match))
    layout.heading(3, "Best horizontal cut", _cut_detail(match.horizontal))
    layout.picture(3, _cut_picture(image, match.horizontal, match))
    layout.heading(4, "Best of all cuts", _cut_detail(match.best))
    layout.picture(4, _cut_picture(image, match.best, match))
    layout.heading(5, "Distance against regions")
    draw_curve(layout.plot(5), match, columns=2, shift=_BESIDE / layout.plot_width)
    return figure


class _Layout:
    """Places panels, two rows of three, by inches from the figure's edges."""

    def __init__(self, figure: Figure, width: float, height: float, total: float) -> None:
        self.figure = figure
        self.width, self.height, self.total = width, height, total

    def corner(self, place: int) -> tuple[float, float]:
        """Return the left edge and the top edge (from the bottom) of a panel's picture."""
        row, column = divmod(place, 3)
        left = _MARGIN + column * (self.width + _GAP)
        top = self.total - row * (self.height + _HEAD + _GAP / 2) - _HEAD
        return left, top

    def heading(self, place: int, name: str, detail: str = "") -> None:
        """Write the two lines of a panel's title."""
        left, top = self.corner(place)
        self._text(left, top + 0.30, shortened(name, 36), NAME_SIZE, "bold")
        self._text(left, top + 0.09, detail, DETAIL_SIZE, "normal")

    def picture(self, place: int, pixels: NDArray[np.uint8]) -> Axes:
        """Show pixels in a panel, as large as fits, resampled to whole pixels of the figure."""
        left, top = self.corner(place)
        scale = min(self.width / pixels.shape[1], self.height / pixels.shape[0]) * DPI
        size = tuple(max(1, round(side * scale)) for side in pixels.shape[:2])
        edge, ceiling = round(left * DPI), round(top * DPI)
        axes = self._axes(edge / DPI, (ceiling - size[0]) / DPI, size[1] / DPI, size[0] / DPI)
        axes.set_xlim(0, pixels.shape[1])
        axes.set_ylim(pixels.shape[0], 0)
        axes.patch.set_visible(False)
        axes.add_artist(Pixels(fitted(pixels, size), edge, ceiling - size[0]))
        axes.xaxis.set_major_locator(NullLocator())
        axes.yaxis.set_major_locator(NullLocator())
        for spine in axes.spines.values():
            spine.set_linewidth(0.5)
            spine.set_color("#888888")
        return axes

    @property
    def plot_width(self) -> float:
        """Width of a plot's axes; the last tick's label needs room on the right."""
        return self.width - _BESIDE - 0.1

    def plot(self, place: int) -> Axes:
        """Add the axes of a plot, with room for their labels and for a legend above."""
        left, top = self.corner(place)
        below, above = 0.47, 0.33
        return self._axes(
            left + _BESIDE,
            top - self.height + below,
            self.plot_width,
            self.height - below - above,
        )

    def _axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.figure.add_axes(
            (left / WIDTH, bottom / self.total, width / WIDTH, height / self.total)
        )

    def _text(self, x: float, y: float, text: str, size: float, weight: str) -> None:
        self.figure.text(
            x / WIDTH,
            y / self.total,
            text,
            size=size,
            weight=weight,
            va="bottom",
            ha="left",
            parse_math=False,
        )


# --- what panels show -----------------------------------------------------------------------


def _plain(image: ArrayLike | None, match: Match) -> NDArray[np.uint8]:
    if image is None:
        return soft_picture(match.target).pixels
    return image_picture(image, match.tree.grid)


def _soft_detail(match: Match, soft: SoftPicture) -> str:
    reading = getattr(match.target, "reading", None)
    return soft.kind if reading is None else f"{soft.kind} · read as {reading}"


def _channel_legend(axes: Axes, soft: SoftPicture, channel_names: Sequence[str] | None) -> None:
    """Name the colours of a composite where other panels have the second line of their title."""
    if not soft.colours:
        return
    names = channel_names
    if names is None or len(names) != len(soft.colours):
        word = "class" if soft.kind.endswith("classes") else "channel"
        names = [f"{word} {j}" for j in range(len(soft.colours))]
    handles = [
        Patch(
            facecolor=(colour[0] / 255, colour[1] / 255, colour[2] / 255),
            edgecolor="black",
            linewidth=0.5,
            label=name,
        )
        for colour, name in zip(soft.colours, names, strict=True)
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(handles),
        frameon=False,
        fontsize=DETAIL_SIZE,
        borderaxespad=0.25,
        borderpad=0.0,
        handlelength=1.1,
        handletextpad=0.45,
        columnspacing=1.3,
    )


def _leaf_detail(match: Match) -> str:
    finest = horizontal_curve(match.tree, match.costs).distances[0]
    name = "pixels" if match.tree.n_leaves == match.tree.leaf_map.size else "regions"
    detail = f"{match.tree.n_leaves:,} {name}"
    return f"{detail} · distance {finest:.4g}" if math.isfinite(finest) else detail


def _leaf_picture(image: ArrayLike | None, match: Match) -> NDArray[np.uint8]:
    leaves = match.tree.leaf_map
    if image is None:
        return overlay(None, leaves, thickness=_line_width(leaves))
    width = 0.6 * _line_width(leaves)
    return overlay(image, leaves, fill="mean", thickness=width, line=_LEAF_LINE)


def _cut_picture(image: ArrayLike | None, cut: CutResult | None, match: Match) -> NDArray[np.uint8]:
    if cut is None:
        return np.full((*match.tree.grid[-2:], 3), 235, np.uint8)
    labels = cut.labels
    return overlay(image, labels, fill="colours", thickness=_line_width(labels))


def _line_width(labels: NDArray[Any]) -> float:
    """Width of boundaries in pixels of an overlay: thin among small regions, 0 if they'd drown."""
    z = shown_slice(labels.shape)
    shown = labels if z is None else labels[z]
    height, width = shown.shape
    # What the picture's pixels are in a panel of the figure.
    panel = (WIDTH / 3 * DPI) ** 2 * min(height, width) / max(height, width)
    side = math.sqrt(panel / np.unique(shown).size)
    if side < _LEAST_OUTLINED:
        return 0.0
    full = float(max(PICTURE_SIDE, height, width)) / 300
    return full * float(min(1.0, max(0.4, side / _FULLY_OUTLINED)))


def _cut_detail(cut: CutResult | None) -> str:
    if cut is None:
        return "none meets the constraints"
    return (
        f"{_regions(cut.n_regions)} · distance {cut.distance:.4g} · "
        f"best of {_plain_number(cut.candidates)}"
    )


def _regions(count: int) -> str:
    return "1 region" if count == 1 else f"{count:,} regions"


def _plain_number(candidates: str) -> str:
    """Write "3.2e+41" as 3.2·10⁴¹, and smaller numbers with commas."""
    if "e+" not in candidates:
        return f"{int(candidates):,}"
    digits, exponent = candidates.split("e+")
    return f"{digits} · 10{exponent.translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
