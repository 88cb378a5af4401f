"""Tables and the picture of a comparison, made from its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.losses.runner import Run
from benchmarks.tables import Table, shown

SCORES = {
    "class_iou": "class IoU",
    "foreground_iou": "foreground IoU",
    "foreground_ari": "foreground ARI",
    "ap_50": "AP@0.5",
    "mean_ap": "mean AP",
    "boundary_f": "boundary F",
    "calibration_error": "calibration error",
}
"""Names in tables of the fields of `Scores`; of the last one, less is better."""
PAIRED = ("class_iou", "foreground_ari", "ap_50", "mean_ap", "boundary_f")
"""Scores whose paired differences are shown."""
PICTURED = ("class_iou", "foreground_ari", "ap_50")


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Scores of one loss less those of another, seed by seed."""

    mean: float
    deviation: float
    """Standard deviation over seeds (n − 1); NaN for one seed."""
    low: float
    high: float
    """95 % interval of the mean by Student's t, not corrected for the number of losses."""
    wins: int
    """Seeds with a difference above 0."""
    pairs: int

    def __str__(self) -> str:
        """Mean ± deviation [interval] wins/pairs, in hundredths."""
        mean, deviation, low, high = (
            100 * v for v in (self.mean, self.deviation, self.low, self.high)
        )
        return f"{mean:+.1f} ± {deviation:.1f} [{low:+.1f}, {high:+.1f}] {self.wins}/{self.pairs}"


def paired_difference(runs: Sequence[Run], reference: Sequence[Run], score: str) -> Difference:
    """Compare test scores over the seeds that both have.

    Raises
    ------
    ValueError
        If they share no seed.
    """
    of_reference = {run.seed: run for run in reference}
    both = [(run, of_reference[run.seed]) for run in runs if run.seed in of_reference]
    if not both:
        raise ValueError("runs must share a seed with the reference, got none that is shared")
    values = np.array([_test(a)[score] - _test(b)[score] for a, b in both])
    mean, n = float(values.mean()), values.size
    deviation = float(values.std(ddof=1)) if n > 1 else float("nan")
    reach = _t_quantile(n - 1) * deviation / np.sqrt(n) if n > 1 else float("nan")
    return Difference(mean, deviation, mean - reach, mean + reach, int((values > 0).sum()), n)


def score_table(title: str, runs: Mapping[str, Sequence[Run]], names: Mapping[str, str]) -> Table:
    """Test scores by loss: mean ± standard deviation over seeds, best class IoU first."""
    columns = ("loss", "rate", *SCORES.values(), "ms loss", "ms step", "diverged")
    table = Table(title, columns)
    for loss in ranked(runs):
        of_loss = runs[loss]
        cells = [_spread(values(of_loss, score)) for score in SCORES]
        times = [
            shown(float(np.median([getattr(run, field) for run in of_loss])))
            for field in ("loss_ms", "step_ms")
        ]
        diverged = sum(run.diverged_at is not None for run in of_loss)
        table.rows.append(
            (names[loss], f"{of_loss[0].rate:g}", *cells, *times, str(diverged) if diverged else "")
        )
    return table


def difference_table(
    title: str, runs: Mapping[str, Sequence[Run]], reference: str, names: Mapping[str, str]
) -> Table:
    """Paired differences of every loss to one of them, in hundredths, best class IoU first."""
    table = Table(title, ("loss", *(f"Δ {SCORES[score]}" for score in PAIRED)))
    for loss in ranked(runs):
        if loss != reference:
            cells = [str(paired_difference(runs[loss], runs[reference], score)) for score in PAIRED]
            table.rows.append((names[loss], *cells))
    return table


def ranked(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Losses by mean test class IoU, best first."""
    return sorted(runs, key=lambda loss: -float(values(runs[loss], "class_iou").mean()))


def values(runs: Sequence[Run], score: str) -> NDArray[np.float64]:
    """Test scores of runs, one a seed."""
    return np.array([_test(run)[score] for run in runs])


def picture(
    path: Path,
    title: str,
    runs: Mapping[str, Sequence[Run]],
    names: Mapping[str, str],
    ours: Callable[[str], bool],
) -> None:
    """Save a dot for every seed and a bar for the mean, a row for every loss, ours in colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = ranked(runs)[::-1]
    figure = Figure(figsize=(11, 1.4 + 0.26 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(PICTURED), sharey=True)
    for panel, score in zip(panels, PICTURED, strict=True):
        for row, loss in enumerate(order):
            seeds = values(runs[loss], score)
            colour = "#d1495b" if ours(loss) else "#30638e"
            panel.plot(
                seeds, np.full(seeds.size, row), "o", ms=4, mec="none", mfc=colour, alpha=0.45
            )
            panel.plot([seeds.mean()] * 2, [row - 0.36, row + 0.36], color=colour, lw=2.2)
        panel.set_xlabel(SCORES[score])
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(left=False)
    panels[0].set_yticks(range(len(order)), [names[loss] for loss in order])
    for label, loss in zip(panels[0].get_yticklabels(), order, strict=True):
        label.set_color("#d1495b" if ours(loss) else "black")
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _test(run: Run) -> dict[str, float]:
    if run.test is None:
        raise ValueError(f"runs must be scored on the test split, got a tuning run of {run.loss}")
    return run.test


def _spread(scores: NDArray[np.float64]) -> str:
    deviation = scores.std(ddof=1) if scores.size > 1 else float("nan")
    return f"{scores.mean():.3f} ± {deviation:.3f}"


def _t_quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))
