"""The learning curve of a training: losses above, scores of held-out images below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from hiersearch.networks.training.validation import SCORES
from hiersearch.plots.curve import DETAIL_SIZE, DPI, NAME_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiersearch.networks.training.result import Training

_TICK_SIZE = 9.0
# Okabe and Ito's blue, vermillion and green: apart in lightness, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_MARKERS = ("o", "s", "^")
_SINGLE = "#bbbbbb"


def learning_picture(training: Training, *, title: str | None = None) -> Figure:
    """Draw the losses of a training over its steps, and the scores of each validation.

    Parameters
    ----------
    training : Training
        What :func:`hiersearch.networks.train` returned.
    title : str, optional
        Shown above.

    Returns
    -------
    matplotlib.figure.Figure
        1,200 × 900 pixels; 1,200 × 525 without validation.

    Notes
    -----
    Grey is the loss of each step, blue its running mean over a twentieth of the steps. A line
    marks the step whose weights were kept.
    """
    scored = bool(training.scores)
    figure = Figure(figsize=(8.0, 6.0 if scored else 3.5), dpi=DPI, layout="constrained")
    rows = figure.subplots(2 if scored else 1, 1, sharex=True, squeeze=False)[:, 0]
    if title:
        figure.suptitle(title, size=NAME_SIZE, weight="bold", parse_math=False)
    _draw_losses(rows[0], training)
    if scored:
        _draw_scores(rows[1], training)
    rows[-1].set_xlabel("step", size=DETAIL_SIZE)
    rows[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    rows[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    rows[-1].set_xlim(0, 1.01 * len(training.losses) + 0.5)
    return figure


def running_mean(values: tuple[float, ...], length: int) -> NDArray[np.float64]:
    """Return the mean of the last ``length`` values at each place, of fewer at the start.

    Examples
    --------
    >>> running_mean((4.0, 2.0, 3.0, 7.0), 2).tolist()
    [4.0, 3.0, 2.5, 5.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(sums))
    first = np.maximum(last - length, 0)
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def _draw_losses(axes: Axes, training: Training) -> None:
    steps = np.arange(1, len(training.losses) + 1)
    length = max(1, len(steps) // 20)
    mean = running_mean(training.losses, length)
    axes.plot(steps, training.losses, color=_SINGLE, linewidth=0.7, label="each step")
    named = f"mean of {length} steps" if length > 1 else "loss"
    axes.plot(steps, mean, color=_COLOURS[0], linewidth=1.8, label=named)
    # The first steps are often far above all others: they may leave the picture.
    settled = training.losses[len(steps) // 50 :]
    low, high = min(settled), max(settled)
    room = 0.05 * (high - low) or 0.5
    axes.set_ylim(max(0.0, low - room) if low >= 0 else low - room, high + room)
    _style(axes, f"loss ({training.settings.loss})")


def _draw_scores(axes: Axes, training: Training) -> None:
    steps = [row["step"] for row in training.scores]
    names = SCORES[training.settings.reading]
    for (name, title), colour, marker in zip(names.items(), _COLOURS, _MARKERS, strict=False):
        values = [row[name] for row in training.scores]
        axes.plot(
            steps, values, color=colour, marker=marker, markersize=4, linewidth=1.5, label=title
        )
    best = training.best_step
    axes.axvline(
        best,
        color="#555555",
        linewidth=1.0,
        linestyle=(0, (4, 2)),
        zorder=0,
        label=f"kept: step {best:,}",
    )
    axes.set_ylim(min(0.0, axes.dataLim.y0), 1.0)
    count = len(training.held_out)
    _style(axes, f"scores of {count} held-out " + ("image" if count == 1 else "images"))


def _style(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, size=DETAIL_SIZE)
    axes.tick_params(labelsize=_TICK_SIZE)
    axes.grid(True, linewidth=0.5, color="#dddddd")
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=4,
        fontsize=_TICK_SIZE,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.7,
    )
