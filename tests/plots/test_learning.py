from types import SimpleNamespace

import numpy as np
import pytest

from hiersearch.networks import TrainingSettings
from hiersearch.plots import save_figure
from hiersearch.plots.learning import learning_picture, running_mean
from tests.plots.test_figures import drawn_boxes


def training(steps=60, reading="objects", scored=True, best=30):
    """What the picture needs of a finished training."""
    settings = TrainingSettings(reading=reading, steps=steps, every=15)
    names = ("average_precision_50", "average_precision", "foreground_ari")
    if reading == "classes":
        names = ("class_iou", "accuracy")
    scores = [{"step": s, **dict.fromkeys(names, s / steps)} for s in range(15, steps + 1, 15)]
    return SimpleNamespace(
        settings=settings,
        losses=tuple(1 / (1 + i) for i in range(steps)),
        scores=tuple(scores) if scored else (),
        best_step=best,
        held_out=("a", "b") if scored else (),
    )


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_every_loss_and_every_score_is_drawn():
    done = training()
    figure = learning_picture(done, title="own.pt")
    above, below = figure.axes
    assert np.array_equal(lines(above)["each step"], np.c_[1:61, done.losses])
    drawn = lines(below)
    assert set(drawn) == {
        "AP at IoU 0.5", "AP, mean over IoU 0.5 to 0.95", "foreground ARI", "kept: step 30",
    }  # fmt: skip
    expected = [(row["step"], row["foreground_ari"]) for row in done.scores]
    assert np.array_equal(drawn["foreground ARI"], expected)
    assert (drawn["kept: step 30"][:, 0] == 30).all()
    assert below.get_ylabel() == "scores of 2 held-out images"
    assert above.get_ylabel() == "loss (cross-entropy)"
    assert figure.get_suptitle() == "own.pt"


def test_classes_have_their_own_scores():
    below = learning_picture(training(reading="classes", best=60)).axes[1]
    assert set(lines(below)) == {"class IoU, mean", "accuracy", "kept: step 60"}


def test_without_validation_there_are_losses_alone():
    figure = learning_picture(training(scored=False))
    assert len(figure.axes) == 1
    assert figure.axes[0].get_xlabel() == "step"


@pytest.mark.parametrize("steps", [1, 15, 4000])
def test_the_picture_is_written_and_nothing_overlaps(tmp_path, steps):
    figure = learning_picture(training(steps, best=15), title="x" * 40)
    save_figure(figure, tmp_path / "a.png")
    boxes = drawn_boxes(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_the_running_mean_is_that_of_the_last_values():
    values = tuple(np.random.default_rng(0).random(50))
    means = running_mean(values, 7)
    for i in range(50):
        assert means[i] == pytest.approx(np.mean(values[max(0, i - 6) : i + 1]))
