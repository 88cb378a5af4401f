"""The comparison of losses: its shapes, scores, runs on disk and tables."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from benchmarks.losses import runner  # noqa: E402
from benchmarks.losses.__main__ import main  # noqa: E402
from benchmarks.losses.compare import chosen_form, report  # noqa: E402
from benchmarks.losses.data import (  # noqa: E402
    class_components,
    separated_interiors,
    shapes_problem,
)
from benchmarks.losses.registry import LOSSES  # noqa: E402
from benchmarks.losses.runner import Comparison, Run, complete  # noqa: E402
from benchmarks.losses.scores import (  # noqa: E402
    all_scores,
    boundary_f,
    calibration_error,
    class_scores,
    confidence_counts,
)
from benchmarks.losses.shapes import CLASSES, scenes  # noqa: E402
from benchmarks.losses.tables import (  # noqa: E402
    difference_table,
    paired_difference,
    picture,
    score_table,
)
from benchmarks.losses.training import Budget, train  # noqa: E402

TINY = Budget(steps=2, rates=(0.001, 0.01))
PAIR = ["cross-entropy", "ours-anchored"]


@pytest.fixture(scope="module")
def problem():
    return dataclasses.replace(shapes_problem(6, 2, 2), widths=(4, 8), batch=2)


@pytest.fixture
def comparison(problem, tmp_path):
    return Comparison.of(problem, TINY, tmp_path)


# --- shapes -------------------------------------------------------------------------------


def test_scenes_depend_on_seed_and_index_alone():
    few, more, other = scenes(2, 5), scenes(3, 5), scenes(2, 6)
    for a, b in zip(few, more, strict=False):
        for field in ("image", "classes", "instances"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert not np.array_equal(few[0].image, other[0].image)


def test_instances_are_the_components_of_the_true_classes():
    for scene in scenes(20, 0):
        probabilities = np.eye(len(CLASSES), dtype=np.float32)[scene.classes].transpose(2, 0, 1)
        found = class_components(probabilities)
        pairs = np.unique(np.stack([found.ravel(), scene.instances.ravel()]), axis=1)
        assert pairs.shape[1] == scene.instances.max() + 1 == found.max() + 1
        assert np.array_equal(scene.classes == 0, scene.instances == 0)


def test_classes_have_about_the_same_area_and_shapes_touch():
    many = scenes(60, 1)
    shares = np.bincount(np.concatenate([s.classes.ravel() for s in many])) / (60 * 64 * 64)
    assert shares[0] > 0.7
    assert shares[1:].max() < 1.5 * shares[1:].min()
    touching = 0
    for scene in many:
        labels = scene.instances
        touching += ((labels[1:] != labels[:-1]) & (labels[1:] > 0) & (labels[:-1] > 0)).any()
    assert touching > 30


# --- scores -------------------------------------------------------------------------------


def test_boundary_f_counts_boundary_pixels_within_reach():
    # Boundaries of a: columns 1, 2; of b: columns 5, 6. Column 2 is 3 from 5, 1 is 4 from 5.
    a, b = np.zeros((2, 10), int), np.zeros((2, 10), int)
    a[:, 2:], b[:, 6:] = 1, 1
    assert boundary_f(a, b, 2) == 0
    assert boundary_f(a, b, 3) == 0.5
    assert boundary_f(a, b, 4) == 1


def test_boundary_f_weighs_precision_and_recall():
    # Truth has one boundary (columns 1, 2), the other map a second one far away (columns 8, 9):
    # precision 1/2, recall 1, F = 2 · 0.5 / 1.5.
    truth, found = np.zeros((3, 12), int), np.zeros((3, 12), int)
    truth[:, 2:], found[:, 2:], found[:, 9:] = 1, 1, 2
    assert boundary_f(found, truth) == pytest.approx(2 / 3)


def test_boundary_f_without_boundaries():
    flat, halves = np.zeros((4, 4), int), np.repeat([0, 0, 1, 1], 4).reshape(4, 4)
    assert boundary_f(flat, flat) == 1
    assert boundary_f(flat, halves) == boundary_f(halves, flat) == 0


def test_calibration_error_is_the_weighted_gap_of_bins():
    # Three pixels of confidence 0.8 (bin 12 of 15), two right; one of 0.55 (bin 8), right:
    # (|2 − 2.4| + |1 − 0.55|) / 4.
    first = np.array([[0.8, 0.8, 0.2, 0.55]], np.float32)
    counts = confidence_counts(np.stack([first, 1 - first]), np.array([[0, 0, 0, 0]]))
    np.testing.assert_array_equal(np.flatnonzero(counts[:, 0]), [8, 12])
    assert calibration_error(counts) == pytest.approx((0.4 + 0.45) / 4, abs=1e-6)


def test_certain_pixels_are_in_the_last_bin():
    counts = confidence_counts(np.array([[[1.0]], [[0.0]]], np.float32), np.array([[0]]))
    assert counts[-1].tolist() == [1, 1, 1]
    assert calibration_error(counts) == 0


class Oracle(torch.nn.Module):
    """A network that knows the truth of the samples that it is asked for in turn."""

    def __init__(self, samples, classes):
        super().__init__()
        self.logits = [
            20 * torch.nn.functional.one_hot(torch.from_numpy(s.classes), classes).movedim(-1, 0)
            for s in samples
        ]

    def forward_standardised(self, images):
        taken, self.logits = self.logits[: len(images)], self.logits[len(images) :]
        return torch.stack(taken).float()


def test_the_truth_scores_best(problem):
    perfect = all_scores(Oracle(problem.test, 5), problem, problem.test)
    assert dataclasses.astuple(perfect)[:-1] == pytest.approx((1,) * 6)
    assert perfect.calibration_error == pytest.approx(0, abs=1e-6)
    assert class_scores(Oracle(problem.test, 5), problem, problem.test) == 1


def test_specks_are_no_instances():
    classes = np.zeros((6, 12), int)
    classes[1:4, 1:4], classes[2, 8:11] = 1, 1
    soft = np.eye(3, dtype=np.float32)[classes].transpose(2, 0, 1)
    assert class_components(soft).max() == 1


def test_interiors_are_flooded_whatever_the_confidence():
    # Two interiors of 6 pixels in one foreground, and a boundary column between them.
    classes = np.full((2, 9), 2)
    classes[:, 1:4], classes[:, 5:8] = 1, 1
    for certainty in (0.4, 0.9):
        soft = np.full((3, 2, 9), (1 - certainty) / 2, np.float32)
        np.put_along_axis(soft, classes[None], certainty, axis=0)
        found = separated_interiors(soft)
        assert (found > 0).all()
        assert len(np.unique(found)) == 2
        assert ndimage.label(found == found[0, 0])[1] == 1


# --- training and runs --------------------------------------------------------------------


def test_losses_with_one_seed_are_a_pair(problem):
    seen = {}

    def recorder(name, scale):
        def loss(logits, target, share):
            seen.setdefault(name, []).append((logits.detach().clone(), target.clone(), share))
            return scale * torch.nn.functional.cross_entropy(logits, target)

        return loss

    for name, scale in (("a", 1.0), ("b", -1.0)):
        train(problem, recorder(name, scale), 0.01, 3, TINY)
    torch.testing.assert_close(seen["a"][0][0], seen["b"][0][0], rtol=0, atol=0)
    for a, b in zip(seen["a"], seen["b"], strict=True):
        torch.testing.assert_close(a[1], b[1], rtol=0, atol=0)
    assert [share for _, _, share in seen["a"]] == [0, 0.5]
    assert not torch.equal(seen["a"][1][0], seen["b"][1][0])


def test_training_breaks_off_before_a_step_that_is_not_finite(problem):
    trained = train(problem, lambda logits, y, share: logits.sum() * np.nan, 0.01, 0, TINY)
    assert trained.diverged_at == 0
    assert all(p.isfinite().all() for p in trained.network.parameters())


def test_a_loss_without_gradient_is_refused(problem):
    with pytest.raises(ValueError, match="must depend on the logits"):
        train(problem, lambda logits, y, s: torch.zeros((), requires_grad=True), 0.01, 0, TINY)


def test_runs_are_done_once_and_resumed(comparison):
    assert complete(comparison, PAIR, seeds=1) == {}
    written = sorted(comparison.folder.glob("*--rate-*.json"))
    assert len(written) == 2 * (2 + 1)
    assert not list(comparison.folder.glob("*.partial"))
    before = {path: path.read_bytes() for path in written}
    lost = comparison.path("ours-anchored", 0.001, 0)
    expected = json.loads(before.pop(lost))
    lost.unlink()
    assert complete(comparison, PAIR, seeds=1) == {}
    assert {path: path.read_bytes() for path in before} == before
    again = comparison.run("ours-anchored", 0.001, 0)
    assert again is not None
    assert again.validation == expected["validation"]
    (run,) = comparison.chosen_runs("ours-anchored", 1)
    assert run.test is not None
    assert run.test.keys() == run.validation.keys()


def test_tuning_does_not_look_at_the_test_split(comparison):
    complete(comparison, PAIR[:1], seeds=1)
    tuning = [comparison.run("cross-entropy", rate, 0) for rate in TINY.rates]
    assert all(run.test is None and run.validation.keys() == {"class_iou"} for run in tuning)


def test_a_loss_claimed_elsewhere_is_left_to_it(comparison):
    with runner._claim(comparison.folder / "cross-entropy.lock", blocking=False) as claimed:
        assert claimed
        complete(comparison, PAIR, seeds=1)
    assert comparison.chosen_runs("cross-entropy") == []
    assert len(comparison.chosen_runs("ours-anchored")) == 1


def test_a_loss_that_raises_is_named_and_passed_over(comparison, monkeypatch, capsys):
    def broken(classes, frequencies):
        raise RuntimeError("no such loss")

    monkeypatch.setitem(LOSSES, "dice", dataclasses.replace(LOSSES["dice"], make=broken))
    assert complete(comparison, ["dice", *PAIR], 1) == {"dice": "RuntimeError: no such loss"}
    assert len(comparison.chosen_runs("ours-anchored")) == 1
    assert "dice failed: RuntimeError: no such loss" in capsys.readouterr().err


def test_other_budgets_and_data_have_other_folders(problem, tmp_path):
    longer = dataclasses.replace(TINY, steps=3)
    other = dataclasses.replace(problem, train=problem.train[:-1])
    folders = {
        Comparison.of(p, b, tmp_path).folder
        for p, b in ((problem, TINY), (problem, longer), (other, TINY), (problem, TINY))
    }
    assert len(folders) == 3
    more_rates = dataclasses.replace(TINY, rates=(0.01, 0.1))
    assert Comparison.of(problem, more_rates, tmp_path).folder in folders
    for folder in folders:
        assert json.loads((folder / "settings.json").read_text())["steps"] in (2, 3)


# --- tables -------------------------------------------------------------------------------


def fake(loss, seed, iou, rate=0.01, validation=0.5, ms=(2.0, 20.0), diverged=None):
    test = {
        "class_iou": iou, "foreground_iou": iou - 0.1, "foreground_ari": 1 - iou, "ap_50": 0.5,
        "mean_ap": 0.25, "boundary_f": 0.75, "calibration_error": 0.03,
    }  # fmt: skip
    return Run(loss, rate, seed, {"class_iou": validation}, test, diverged, *ms)


A = [fake("ours-anchored", seed, iou) for seed, iou in enumerate((0.60, 0.70, 0.80), 1)]
B = [fake("dice", seed, iou) for seed, iou in enumerate((0.58, 0.71, 0.74, 0.9), 1)]
NAMES = {"ours-anchored": "Ours", "dice": "Dice"}


def test_paired_difference_by_hand():
    # Differences +0.02, −0.01, +0.06 (the fourth seed has no partner): mean 0.07/3, squared
    # deviations sum to 0.0041 − 0.0049/3, half of which is the variance; t(0.975, 2) = 4.302653.
    found = paired_difference(A, B, "class_iou")
    deviation = np.sqrt((0.0041 - 0.0049 / 3) / 2)
    assert found.mean == pytest.approx(0.07 / 3)
    assert found.deviation == pytest.approx(deviation)
    assert found.high - found.mean == pytest.approx(4.302653 * deviation / np.sqrt(3))
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert (found.wins, found.pairs) == (2, 3)
    assert str(found) == "+2.3 ± 3.5 [-6.4, +11.1] 2/3"


def test_one_pair_has_no_spread():
    found = paired_difference(A[:1], B, "class_iou")
    assert found.mean == pytest.approx(0.02)
    assert np.isnan([found.deviation, found.low, found.high]).all()


def test_paired_difference_needs_a_shared_seed():
    with pytest.raises(ValueError, match="must share a seed"):
        paired_difference(A[:1], B[1:], "class_iou")


def test_score_table_ranks_by_class_iou():
    slow = [dataclasses.replace(run, loss_ms=3.0, diverged_at=1) for run in B]
    table = score_table("scores", {"ours-anchored": A, "dice": slow}, NAMES)
    # Dice: mean (0.58 + 0.71 + 0.74 + 0.9) / 4 = 0.7325, sum of squares 0.0519 over 3.
    assert [row[0] for row in table.rows] == ["Dice", "Ours"]
    assert table.rows[0][1:3] == ("0.01", "0.733 ± 0.131")
    assert table.rows[1][2:5] == ("0.700 ± 0.100", "0.600 ± 0.100", "0.300 ± 0.100")
    assert table.rows[0][-3:] == ("3.00", "20.0", "4")
    assert table.rows[1][-3:] == ("2.00", "20.0", "")
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_tuning_runs_are_no_scores():
    with pytest.raises(ValueError, match="got a tuning run of dice"):
        score_table("scores", {"dice": [dataclasses.replace(B[0], test=None)]}, NAMES)


def test_difference_table_leaves_the_reference_out():
    table = difference_table("differences", {"ours-anchored": A, "dice": B}, "dice", NAMES)
    assert [row[:2] for row in table.rows] == [("Ours", "+2.3 ± 3.5 [-6.4, +11.1] 2/3")]


def test_the_rate_is_chosen_on_validation_the_lower_of_equals(comparison):
    for rate, iou in ((0.001, 0.4), (0.01, 0.6)):
        _keep(comparison, fake("dice", 0, 0.0, rate, iou))
        _keep(comparison, fake("tversky", 0, 0.0, rate, 0.5))
        _keep(comparison, fake("dice", 1, rate, rate))
    assert comparison.best_rate("dice") == 0.01
    assert comparison.best_rate("tversky") == 0.001
    assert comparison.best_rate("iou") is None
    assert [run.test["class_iou"] for run in comparison.chosen_runs("dice")] == [0.01]


def _keep(comparison, run):
    text = json.dumps(dataclasses.asdict(run))
    comparison.path(run.loss, run.rate, run.seed).write_text(text, encoding="utf-8")


def test_our_form_is_chosen_on_validation():
    better = [fake("ours-root", seed, 0.1, validation=0.6) for seed in (1, 2)]
    runs = {"dice": [fake("dice", 1, 0.9, validation=0.9)], "ours-anchored": A, "ours-root": better}
    assert chosen_form(runs) == "ours-root"
    assert chosen_form({"dice": B}) is None


def test_report_has_scores_differences_and_failures(comparison):
    first, second = report(comparison, {"ours-anchored": A, "dice": B}, {"lovasz": "no kornia"})
    assert "2 test images; 2 steps of 2 crops of 64²" in first.notes[0]
    assert any("failed: no kornia" in note for note in first.notes)
    assert second.title.endswith(f"paired differences to {LOSSES['dice'].title}")


def test_the_picture_has_a_row_for_every_loss(tmp_path):
    path = tmp_path / "docs" / "losses.png"
    runs = {"ours-anchored": A, "dice": B}
    picture(path, "Shapes", runs, NAMES, lambda name: name.startswith("ours"))
    from skimage.io import imread

    pixels = imread(path)[..., :3].reshape(-1, 3).astype(int)
    for colour in ((0xD1, 0x49, 0x5B), (0x30, 0x63, 0x8E)):
        assert (np.abs(pixels - colour).max(axis=1) < 8).sum() > 50


# --- command ------------------------------------------------------------------------------


def test_the_command_names_losses_that_are_none(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["losses", "shapes", "--losses", "dice,dise"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.strip().endswith("got dise")


@pytest.mark.parametrize("option", ["--seeds", "--steps"])
def test_the_command_refuses_counts_below_one(option, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["losses", "shapes", option, "0"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--seeds and --steps must be at least 1" in capsys.readouterr().err


def test_the_command_in_two_steps(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["losses", "shapes", "--smoke", "--losses", "cross-entropy"])
    main()
    assert capsys.readouterr().out.startswith("cross-entropy: class IoU 0.")
