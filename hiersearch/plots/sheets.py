"""Contact sheets: many small label maps side by side, a query first; near-duplicates in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.plots.panels import Pixels, fitted, shortened
from hiersearch.plots.pixels import boundary_mask, enlarged, enlargement, overlay, shown_slice

DPI = 150
WIDTH = 12.0
"""Inches: 1,800 pixels."""

_COLUMNS = 6
_MARGIN, _GAP, _HEAD, _TITLE, _NOTE = 0.25, 0.22, 0.5, 0.35, 0.22
_BETWEEN_GROUPS = 0.45
_LEAST_ASPECT, _MOST_ASPECT = 0.5, 1.5
_TITLE_SIZE, _NAME_SIZE, _DETAIL_SIZE = 13.0, 9.5, 8.5

# Twice the pixels of a panel, which are then averaged: thin boundaries stay smooth.
_SIDE = 640
_GROUND, _LINE, _FRAME = (232, 232, 232), (70, 70, 70), "#111111"

# Boundaries in both of two maps, only in the first, only in the second: Okabe and Ito's
# vermillion and blue, which differ in lightness, too.
_BOTH, ONLY_FIRST, ONLY_SECOND = (190, 190, 190), (213, 94, 0), (0, 90, 200)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One picture of a contact sheet with the two lines above it."""

    picture: NDArray[np.uint8]
    """(h, w, 3) RGB pixels, enlarged or reduced to fit."""
    name: str
    """First line, bold; its middle is left out where it is too long."""
    detail: str = ""
    """Second line."""
    highlighted: bool = False
    """Whether it stands out by a frame, as a query does."""

    @classmethod
    def of_labels(
        cls, labels: ArrayLike, name: str, detail: str = "", *, highlighted: bool = False
    ) -> Panel:
        """Show a label map by the colours of its regions: see :func:`region_picture`."""
        return cls(region_picture(labels), name, detail, highlighted)


@dataclass(frozen=True, slots=True, eq=False)
class DuplicatePair:
    """Two label maps of one grid that are nearly, or fully, the same partition."""

    first: NDArray[np.integer]
    """(*grid) label map."""
    second: NDArray[np.integer]
    """(*grid) label map."""
    first_name: str
    """Whose map the first is."""
    second_name: str
    """Whose map the second is."""
    distance: float
    """ρ / M² between them."""


def region_picture(labels: ArrayLike) -> NDArray[np.uint8]:
    """Draw a label map as coloured regions with thin boundaries.

    Parameters
    ----------
    labels : integer array, shape (H, W) or (D, H, W)
        Label map; of volumes the middle slice is drawn.

    Returns
    -------
    uint8 array, shape (f·H, f·W, 3)
        A region that covers a quarter of the picture is grey; a region that two maps share has
        one colour in both, mostly (:func:`hiersearch.plots.region_colours`).

    Raises
    ------
    TypeError, ValueError
        If labels are no label map.

    Notes
    -----
    O(pixels of the picture).
    """
    shown = _shown(labels, "labels")
    ground = np.full((*shown.shape, 3), _GROUND, np.uint8)
    factor = enlargement(shown.shape, _SIDE)
    thickness = max(1.0, min(2.0, factor / 2))
    return overlay(
        ground, shown, fill="colours", strength=1.0, side=_SIDE, thickness=thickness, line=_LINE
    )


def difference_picture(first: ArrayLike, second: ArrayLike) -> NDArray[np.uint8]:
    """Draw the boundaries of two label maps: shared ones grey, others in the colour of their map.

    Parameters
    ----------
    first, second : integer array, shape (H, W) or (D, H, W)
        Label maps of one grid; of volumes the middle slice is drawn.

    Returns
    -------
    uint8 array, shape (f·H, f·W, 3)
        White, with boundaries of the first map alone vermillion and of the second alone blue.

    Raises
    ------
    TypeError, ValueError
        If they are no label maps, or of different grids.

    Notes
    -----
    O(pixels of the picture).

    Examples
    --------
    >>> picture = difference_picture([[1, 1, 2]], [[1, 2, 2]])
    >>> sorted({tuple(pixel.tolist()) for pixel in picture[0]})
    [(0, 90, 200), (213, 94, 0), (255, 255, 255)]
    """
    maps = [_shown(first, "first"), _shown(second, "second")]
    _validate.checked_same_grid(maps[0].shape, maps[1].shape, "first", "second")
    factor = enlargement(maps[0].shape, _SIDE)
    width = min(5, 2 * factor)
    a, b = (boundary_mask(enlarged(labels, factor), width) for labels in maps)
    picture = np.full((*a.shape, 3), 255, np.uint8)
    for mask, colour in ((a & b, _BOTH), (a & ~b, ONLY_FIRST), (b & ~a, ONLY_SECOND)):
        picture[mask] = colour
    return picture


def _shown(labels: ArrayLike, name: str) -> NDArray[np.integer]:
    array = _validate.checked_labels(labels, name)
    z = shown_slice(array.shape)
    return array if z is None else array[z]


def contact_sheet(
    panels: Sequence[Panel],
    *,
    title: str | None = None,
    note: str | None = None,
    columns: int | None = None,
) -> Figure:
    """Lay pictures out in rows, in the order in which they come.

    Parameters
    ----------
    panels : sequence of Panel
        At least one; a search's query first, highlighted, and its neighbours, nearest first.
    title, note : str, optional
        Two lines shown above, the first one large.
    columns : int, optional
        Pictures in a row; as many as there are, from 3 to 6, where omitted.

    Returns
    -------
    matplotlib.figure.Figure
        1,800 pixels wide; write it with :func:`hiersearch.plots.save_figure`.

    Raises
    ------
    ValueError
        If there is no panel, or ``columns`` is below 1.

    Notes
    -----
    O(pixels of the figure).

    Examples
    --------
    >>> panels = [Panel.of_labels([[0, 1]], "query", highlighted=True), Panel.of_labels([[0]], "a")]
    >>> figure = contact_sheet(panels, title="one neighbour")
    >>> [text.get_text() for text in figure.texts]
    ['one neighbour', 'query', '', 'a', '']
    """
    if columns is None:
        columns = min(max(len(panels), 3), _COLUMNS)
    _validate.checked_count(columns, "columns", 1)
    return _sheet(panels, title, note, columns, group=None)


def duplicates_sheet(pairs: Sequence[DuplicatePair], *, title: str | None = None) -> Figure:
    """Show pairs of near-duplicates, two pairs in a row, each with the boundaries that differ.

    Parameters
    ----------
    pairs : sequence of DuplicatePair
        At least one.
    title : str, optional
        Shown above.

    Returns
    -------
    matplotlib.figure.Figure
        1,800 pixels wide.

    Raises
    ------
    ValueError
        If there is no pair, or the maps of one differ in grid.

    Notes
    -----
    O(pixels of the figure).
    """
    panels = []
    for pair in pairs:
        difference = difference_picture(pair.first, pair.second)
        panels += [
            Panel.of_labels(pair.first, pair.first_name, _regions(pair.first)),
            Panel.of_labels(pair.second, pair.second_name, _regions(pair.second)),
            Panel(
                difference,
                f"distance {pair.distance:.3g}",
                "the same partition" if pair.distance == 0 else "boundaries",
            ),
        ]
    note = "Boundaries: orange only left, blue only right, grey in both."
    return _sheet(panels, title, note, _COLUMNS, group=3)


def _regions(labels: NDArray[np.integer]) -> str:
    count = np.unique(labels).size
    return "1 region" if count == 1 else f"{count:,} regions"


def _sheet(
    panels: Sequence[Panel],
    title: str | None,
    note: str | None,
    columns: int,
    group: int | None,
) -> Figure:
    """Place panels by inches from the figure's edges, with a wider gap after each ``group``."""
    if not panels:
        raise ValueError("a sheet needs at least one picture, got none")
    wide = 0 if group is None else (columns - 1) // group
    between = (columns - 1 - wide) * _GAP + wide * _BETWEEN_GROUPS
    width = (WIDTH - 2 * _MARGIN - between) / columns
    aspects = [panel.picture.shape[0] / panel.picture.shape[1] for panel in panels]
    height = width * min(max(*aspects, _LEAST_ASPECT), _MOST_ASPECT)
    rows = -(-len(panels) // columns)
    above = _MARGIN / 2 + (_TITLE if title else 0.0) + (_NOTE if note else 0.0)
    total = above + rows * (_HEAD + height + _GAP / 2) + _MARGIN
    figure = Figure(figsize=(WIDTH, total), dpi=DPI)
    room = WIDTH - 2 * _MARGIN
    if title:
        _write(figure, _MARGIN, total - _TITLE, title, _TITLE_SIZE, "bold", room)
    if note:
        below = total - above + _MARGIN / 2
        _write(figure, _MARGIN, below, note, _NAME_SIZE, "normal", room)
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        extra = 0.0 if group is None else column // group * (_BETWEEN_GROUPS - _GAP)
        left = _MARGIN + column * (width + _GAP) + extra
        top = total - above - row * (_HEAD + height + _GAP / 2) - _HEAD
        _write(figure, left, top + 0.23, panel.name, _NAME_SIZE, "bold", width)
        _write(figure, left, top + 0.07, panel.detail, _DETAIL_SIZE, "normal", width)
        _show(figure, panel, left, top, width, height)
    return figure


def _write(
    figure: Figure, x: float, y: float, text: str, size: float, weight: str, room: float
) -> None:
    """Write one line, from ``x`` and ``y`` inches, into ``room`` inches."""
    figure.text(
        x / figure.get_figwidth(),
        y / figure.get_figheight(),
        _fitting(text, size, weight, 72 * room),
        size=size,
        weight=weight,
        va="bottom",
        ha="left",
        parse_math=False,
    )


def _fitting(text: str, size: float, weight: str, room: float) -> str:
    """Leave out the middle of a text until it is at most ``room`` points wide."""
    font = FontProperties(size=size, weight=weight)
    # No letter in use is narrower than a fifth of the font's size.
    most = min(len(text), int(5 * room / size))
    while True:
        fitting = shortened(text, most)
        width = text_to_path.get_text_width_height_descent(fitting, font, ismath=False)[0]
        if width <= room or most <= 3:
            return fitting
        most = max(3, min(most - 1, int(most * room / width)))


def _show(
    figure: Figure, panel: Panel, left: float, top: float, width: float, height: float
) -> None:
    """Put a picture into its place, as large as fits, with a frame on whole pixels."""
    picture = panel.picture
    scale = min(width / picture.shape[1], height / picture.shape[0]) * DPI
    size = tuple(max(1, round(side * scale)) for side in picture.shape[:2])
    edge, ceiling = round(left * DPI), round(top * DPI)
    bottom = ceiling - size[0]
    figure.add_artist(Pixels(fitted(picture, size), edge, bottom))
    pixels = np.array([figure.get_figwidth(), figure.get_figheight()]) * DPI
    thickness = 4.0 if panel.highlighted else 0.5
    # A thick frame lies outside of the picture.
    margin = thickness / 2 * DPI / 72 if panel.highlighted else 0.0
    figure.add_artist(
        Rectangle(
            ((edge - margin) / pixels[0], (bottom - margin) / pixels[1]),
            (size[1] + 2 * margin) / pixels[0],
            (size[0] + 2 * margin) / pixels[1],
            fill=False,
            linewidth=thickness,
            edgecolor=_FRAME if panel.highlighted else "#888888",
            transform=figure.transFigure,
        )
    )
