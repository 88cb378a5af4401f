"""The curve of distance against number of regions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from hiersearch.hierarchy.curve import trade_off
from hiersearch.hierarchy.cut_result import CutResult
from hiersearch.hierarchy.cuts import horizontal_curve
from hiersearch.hierarchy.matching import Match

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

DPI = 150
NAME_SIZE, DETAIL_SIZE, _TICK_SIZE = 12.0, 9.5, 9.0

# Okabe and Ito's blue, vermillion, green and a grey: apart in lightness, too.
_BEST, _HORIZONTAL, _HULL, _LEAVES = "#0072B2", "#D55E00", "#009E73", "#555555"

# With more leaves than this, tables for every number of regions would outgrow the picture's use.
_FULL_CURVE, _PARTIAL_CURVE = 6000, 1000


def curve_picture(match: Match, *, title: str | None = None) -> Figure:
    """Draw distance against number of regions, with the cuts that were found.

    Parameters
    ----------
    match : Match
        A finished search.
    title : str, optional
        Shown above.

    Returns
    -------
    matplotlib.figure.Figure
        1,200 × 825 pixels.

    Notes
    -----
    Shows the best cut for every number of regions (of large trees up to 1,000), the lower hull of
    all cuts, every horizontal cut, and the superpixels. Unlike the constraints on region sizes
    and on what stays apart, a fixed number of regions does not bend the curves.
    """
    figure = Figure(figsize=(8.0, 5.5), dpi=DPI)
    top = 0.83 if title else 0.89
    draw_curve(figure.add_axes((0.09, 0.11, 0.88, top - 0.11)), match, columns=3)
    if title:
        figure.text(0.09, 0.935, title, size=NAME_SIZE, weight="bold", parse_math=False)
    return figure


def draw_curve(axes: Axes, match: Match, columns: int, shift: float = 0.0) -> None:
    """Draw the curves and marks; the legend goes above, ``shift`` of the width to the left."""
    n_leaves = match.tree.n_leaves
    most = n_leaves if n_leaves <= _FULL_CURVE else _PARTIAL_CURVE
    best = match.curve(most).distances
    regions = np.flatnonzero(np.isfinite(best)) + 1
    horizontal = horizontal_curve(match.tree, match.costs)
    allowed = np.isfinite(horizontal.distances)
    lines = [
        axes.plot(regions, best[regions - 1], color=_BEST, linewidth=2.2),
        axes.plot(*_hull(match), color=_HULL, linewidth=1.3, linestyle=(0, (4, 1.5)), zorder=3),
        # Dots: between two thresholds there is no horizontal cut.
        axes.plot(
            horizontal.regions[allowed],
            horizontal.distances[allowed],
            color=_HORIZONTAL,
            linestyle="none",
            marker=".",
            markersize=3.5,
        ),
        _mark(axes, match.best, "*", 14, _BEST, above=1),
        _mark(axes, match.horizontal, "D", 7.5, _HORIZONTAL),
        axes.plot(
            n_leaves,
            horizontal.distances[0],
            linestyle="none",
            marker="s",
            markersize=7,
            color=_LEAVES,
            markeredgecolor="white",
            zorder=4,
        ),
    ]
    names = [
        "best for each number",
        "lower hull",
        "horizontal cuts",
        "best of all cuts",
        "best horizontal cut",
        "superpixels",
    ]
    _style_curve(axes, max(n_leaves, 2))
    axes.legend(
        [line[0] for line in lines],
        names,
        loc="lower left",
        bbox_to_anchor=(-shift, 1.0),
        ncols=columns,
        fontsize=_TICK_SIZE,
        frameon=False,
        handlelength=1.7,
        columnspacing=1.6,
        borderpad=0.0,
        borderaxespad=0.5,
        labelspacing=0.25,
        handletextpad=0.5,
    )


def _mark(
    axes: Axes, cut: CutResult | None, marker: str, size: float, colour: str, above: int = 0
) -> list[Line2D]:
    x, y = ([], []) if cut is None else ([cut.n_regions], [cut.distance])
    return axes.plot(
        x,
        y,
        linestyle="none",
        marker=marker,
        markersize=size,
        color=colour,
        markeredgecolor="white",
        zorder=6 + above,
    )


def _hull(match: Match) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sample the lower hull, whose straight sides bend on a logarithmic axis."""
    hull = trade_off(match.tree, match.costs)
    low, high = math.log10(hull.regions[0]), math.log10(hull.regions[-1])
    places = np.union1d(np.logspace(low, high, 400), hull.regions.astype(np.float64))
    return places, np.interp(places, hull.regions, hull.distances)


def _count(value: float, _: object) -> str:
    """Write a tick's number of regions, short enough for its neighbours: 1,000 but 10k."""
    return f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,.0f}k"


def _style_curve(axes: Axes, most: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(0.85, most * 1.3)
    subs = (1.0,) if most >= 100 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs))
    # Minor ticks are a third of the time that the whole figure takes to draw.
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_count))
    low, high = axes.dataLim.intervaly
    # From zero, unless that would flatten the curve.
    bottom = 0.0 if high - low >= 0.3 * high else low - 0.1 * (high - low)
    axes.set_ylim(bottom, high + 0.07 * (high - bottom) if high > bottom else bottom + 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("number of regions", size=DETAIL_SIZE, labelpad=2)
    axes.set_ylabel("distance", size=DETAIL_SIZE, labelpad=3)
    axes.tick_params(labelsize=_TICK_SIZE)
    axes.grid(True, linewidth=0.5, color="#dddddd")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
