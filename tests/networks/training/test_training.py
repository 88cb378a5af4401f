import os
import signal
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hiersearch.errors import DoubtfulInputWarning, FileFormatError  # noqa: E402
from hiersearch.evaluation import class_iou  # noqa: E402
from hiersearch.networks import TrainingSettings, load_network, train  # noqa: E402
from hiersearch.networks.training.data import TrainingData  # noqa: E402
from hiersearch.networks.training.objectives import objective  # noqa: E402
from hiersearch.networks.training.settings import LOSSES  # noqa: E402
from tests.networks.training.small_training import TINY, squares  # noqa: E402

IMAGES, INSTANCES = squares()
CLASSES = [np.minimum(labels, 1) for labels in INSTANCES]
KINDS = {
    "objects": INSTANCES,
    "classes": CLASSES,
    "affinities": INSTANCES,
}


def tiny(steps=4, **options):
    return TrainingSettings(**{**TINY, "steps": steps, "validation": 0.25, **options})


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- what training does -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "loss"), [(kind, loss) for kind, losses in LOSSES.items() for loss in losses]
)
def test_every_loss_trains_its_channels(reading, loss):
    settings = tiny(8, reading=reading, loss=loss, rate=0.02)
    done = train(IMAGES, KINDS[reading], settings)
    assert len(done.losses) == 8
    assert np.isfinite(done.losses).all()
    assert [row["step"] for row in done.scores] == [4, 8]
    assert len(done.held_out) == 1
    assert done.trained_on == 3
    probabilities = done.network(IMAGES[0])
    assert probabilities.shape == (len(done.network.channels), 24, 24)
    if reading != "affinities":
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_training_teaches():
    done = train(IMAGES, CLASSES, tiny(80, reading="classes", batch=4, rate=0.03, every=80))
    assert np.mean(done.losses[-10:]) < 0.8 * np.mean(done.losses[:5])
    assert done.scores[-1]["class_iou"] > 0.7
    assert (done.network(IMAGES[0]).argmax(axis=0) == CLASSES[0]).mean() > 0.85


def test_one_seed_gives_one_network_and_another_seed_another():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, again = (train(IMAGES, CLASSES, tiny(reading="classes")) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert equal(one.final_weights, again.final_weights)
    assert one.losses == again.losses
    other = train(IMAGES, CLASSES, tiny(reading="classes", seed=1))
    assert not equal(one.final_weights, other.final_weights)


def test_the_weights_are_those_of_the_best_validation():
    settings = tiny(12, reading="classes", every=1, rate=0.1)
    done = train(IMAGES, CLASSES, settings)
    scores = {row["step"]: row["class_iou"] for row in done.scores}
    assert scores[done.best_step] == max(scores.values())
    assert equal(done.weights, done.final_weights) == (done.best_step == 12)
    held_out = [int(name.removeprefix("image ")) for name in done.held_out]
    found = [done.network(IMAGES[i]).argmax(axis=0) for i in held_out]
    overlap = class_iou(np.array(found), np.array([CLASSES[i] for i in held_out])).mean
    assert overlap == pytest.approx(max(scores.values()))


def test_without_validation_the_last_weights_are_taken():
    done = train(IMAGES[:1], CLASSES[:1], tiny(reading="classes", validation=0))
    assert done.scores == done.held_out == ()
    assert done.best_step == 4
    assert equal(done.weights, done.final_weights)
    assert done.curve()[-1]["loss"] == pytest.approx(np.mean(done.losses))


def test_what_the_labels_say_is_measured():
    done = train(IMAGES, INSTANCES, tiny(reading="affinities"))
    assert done.settings.size == round(2 * np.sqrt(54 / np.pi), 1)
    assert len(done.network.channels) == len(done.network.offsets) + 1
    three = [labels % 3 for labels in INSTANCES]
    assert train(IMAGES, three, tiny(reading="classes")).settings.classes == 3
    assert train(IMAGES, three, tiny(reading="classes", classes=5)).settings.classes == 5


@pytest.mark.parametrize("reading", KINDS)
def test_ignored_pixels_change_nothing(reading):
    label_maps = [labels.copy() for labels in KINDS[reading]]
    for labels in label_maps:
        labels[:, 18:] = 200
    settings = tiny(reading=reading, ignore=200, turns=False)
    done = train(IMAGES, label_maps, settings)
    for labels in label_maps:
        labels[labels == 200] = 77
    again = train(IMAGES, label_maps, replace(settings, ignore=77))
    assert equal(done.final_weights, again.final_weights)
    assert done.scores == again.scores
    # Without naming them, they would be classes or objects.
    other = train(IMAGES, label_maps, replace(settings, ignore=None))
    assert not np.array_equal(other.losses, done.losses)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int16, np.int32, np.int64]
)
@pytest.mark.parametrize("reading", KINDS)
def test_label_maps_of_every_type_are_alike(dtype, reading):
    settings = tiny(reading=reading, ignore=255)
    marked = [labels.astype(np.int64) for labels in KINDS[reading]]
    for labels in marked:
        labels[:3] = 255
    expected = TrainingData.of(IMAGES, marked, None, settings)
    found = TrainingData.of(IMAGES, [labels.astype(dtype) for labels in marked], None, settings)
    for one, other in zip(found.labels, expected.labels, strict=True):
        assert one.dtype == np.int32
        assert (one[:3] == -1).all()
        np.testing.assert_array_equal(one, other)
    assert found.identity.settings == expected.identity.settings


def test_a_label_to_be_ignored_that_is_nowhere_is_warned_of():
    with pytest.warns(DoubtfulInputWarning, match="no label map holds the label 254"):
        TrainingData.of(IMAGES, CLASSES, None, tiny(reading="classes", ignore=254))


def test_void_that_is_taken_as_a_class_is_warned_of():
    marked = [np.where(labels > 0, 255, 0).astype(np.uint8) for labels in CLASSES]
    with pytest.warns(DoubtfulInputWarning, match=r"label 255 is taken as a class.*--ignore 255"):
        data = TrainingData.of(IMAGES, marked, None, tiny(reading="classes"))
    assert data.identity.settings.classes == 256
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TrainingData.of(IMAGES, marked, None, tiny(reading="classes", classes=256))
        TrainingData.of(IMAGES, CLASSES, None, tiny(reading="classes"))


@pytest.mark.parametrize("loss", LOSSES["classes"])
@pytest.mark.filterwarnings("ignore")
def test_a_crop_without_a_pixel_that_counts_costs_nothing(loss):
    output = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = torch.full((2, 8, 8), -1)
    cost = objective(tiny(reading="classes", loss=loss))(output, target)
    cost.backward()
    assert float(cost) == 0
    assert (output.grad == 0).all()


def test_cross_entropy_is_torchs_where_all_counts():
    output = torch.randn(2, 3, 8, 8)
    target = torch.randint(0, 3, (2, 8, 8))
    functional = torch.nn.functional
    plain = objective(tiny(reading="classes", loss="cross-entropy"))(output, target)
    assert float(plain) == pytest.approx(float(functional.cross_entropy(output, target)))
    weighted = functional.cross_entropy(output, target, weight=torch.tensor([1.0, 1.0, 2.0]))
    assert float(objective(tiny())(output, target)) == pytest.approx(float(weighted))


def test_progress_is_reported_after_every_step():
    seen = []
    train(IMAGES, CLASSES, tiny(6, reading="classes"), report=seen.append)
    assert [now.step for now in seen] == [1, 2, 3, 4, 5, 6]
    assert all(now.steps == 6 and now.loss > 0 for now in seen)
    assert [now.score is None for now in seen] == [True] * 4 + [False] * 2
    assert seen[-1].score[0] == "class IoU, mean"


def test_the_summary_is_json_with_a_row_for_each_validation():
    import json

    done = train(IMAGES, CLASSES, tiny(10, reading="classes"))
    summary = json.loads(json.dumps(done.summary(), allow_nan=False))
    assert [row["step"] for row in summary["curve"]] == [4, 8, 10]
    assert summary["curve"][1]["loss"] == pytest.approx(np.mean(done.losses[4:8]))
    assert summary["curve"][2]["loss"] == pytest.approx(np.mean(done.losses[8:]))
    assert summary["best_scores"]["step"] == summary["best_step"] == done.best_step


# --- going on where a training stopped --------------------------------------------------------


def interrupted(step, *arguments, **options):
    """Train until a step, as if Ctrl-C had come then."""

    def stop(now):
        if now.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train(*arguments, report=stop, **options)
    return str(caught.value)


@pytest.mark.parametrize("reading", KINDS)
@pytest.mark.parametrize("step", [4, 6])
def test_a_resumed_training_is_equal_to_the_bit(tmp_path, reading, step):
    settings = tiny(12, reading=reading)
    data = (IMAGES, KINDS[reading], settings)
    whole = train(*data)
    checkpoint = tmp_path / "checkpoint.pt"
    message = interrupted(step, *data, checkpoint=checkpoint)
    assert message == f"{step} of 12 steps are in {checkpoint}"
    interrupted(9, *data, checkpoint=checkpoint, resume=True)
    resumed = train(*data, checkpoint=checkpoint, resume=True)
    assert equal(resumed.final_weights, whole.final_weights)
    assert equal(resumed.weights, whole.weights)
    assert resumed.losses == whole.losses
    assert resumed.scores == whole.scores
    assert resumed.best_step == whole.best_step
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path):
    data = (IMAGES, CLASSES, tiny(12, reading="classes"))
    checkpoint = tmp_path / "checkpoint.pt"

    def die(now):
        if now.step == 7:
            raise RuntimeError("as if killed")

    with pytest.raises(RuntimeError):
        train(*data, checkpoint=checkpoint, report=die)
    seen = []
    resumed = train(*data, checkpoint=checkpoint, report=seen.append)
    assert [now.step for now in seen] == [5, 6, 7, 8, 9, 10, 11, 12]
    assert equal(resumed.final_weights, train(*data).final_weights)


def test_a_finished_training_is_not_repeated_unless_asked(tmp_path):
    data = (IMAGES, CLASSES, tiny(reading="classes"))
    checkpoint = tmp_path / "checkpoint.pt"
    first = train(*data, checkpoint=checkpoint)
    seen = []
    again = train(*data, checkpoint=checkpoint, report=seen.append)
    assert seen == []
    assert equal(again.weights, first.weights)
    assert again.seconds == first.seconds
    train(*data, checkpoint=checkpoint, resume=False, report=seen.append)
    assert len(seen) == 4


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_waits_for_the_end_of_a_step_and_the_handler_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    data = (IMAGES, CLASSES, tiny(12, reading="classes"))

    def ask(now):
        if now.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="5 of 12 steps"):
        train(*data, checkpoint=tmp_path / "checkpoint.pt", report=ask)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = train(*data, checkpoint=tmp_path / "checkpoint.pt")
    assert equal(resumed.final_weights, train(*data).final_weights)


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_during_validation_loses_nothing(tmp_path, monkeypatch):
    import hiersearch.networks.training.loop as training

    data = (IMAGES, CLASSES, tiny(8, reading="classes"))
    whole = train(*data)
    scores = training.validation_scores

    def interrupting(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return scores(*arguments, **options)

    monkeypatch.setattr(training, "validation_scores", interrupting)
    with pytest.raises(KeyboardInterrupt, match="4 of 8 steps"):
        train(*data, checkpoint=tmp_path / "checkpoint.pt")
    monkeypatch.undo()
    resumed = train(*data, checkpoint=tmp_path / "checkpoint.pt")
    assert resumed.scores == whole.scores
    assert equal(resumed.final_weights, whole.final_weights)


def test_training_works_in_a_thread_of_its_own():
    found = []
    worker = threading.Thread(
        target=lambda: found.append(train(IMAGES, CLASSES, tiny(reading="classes")))
    )
    worker.start()
    worker.join()
    assert len(found[0].losses) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0.002}, "rate 0.004, and not 0.002"),
        ({"widths": (4, 8)}, r"widths \[4, 6\], and not \[4, 8\]"),
        ({"seed": 3}, "seed 0, and not 3"),
        ({"steps": 9}, "steps 4, and not 9"),
        ({"reading": "objects"}, "reading 'classes', and not 'objects'"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, changes, message):
    settings = tiny(reading="classes")
    checkpoint = tmp_path / "checkpoint.pt"
    train(IMAGES, CLASSES, settings, checkpoint=checkpoint)
    content = checkpoint.read_bytes()
    with pytest.raises(ValueError, match=f"{checkpoint} must be of this training.*{message}"):
        train(IMAGES, CLASSES, replace(settings, **changes, loss=""), checkpoint=checkpoint)
    assert checkpoint.read_bytes() == content


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    settings = tiny(reading="classes", classes=2)
    checkpoint = tmp_path / "checkpoint.pt"
    train(IMAGES, CLASSES, settings, checkpoint=checkpoint)
    other = [labels.copy() for labels in CLASSES]
    other[2][0, 0] = 1
    with pytest.raises(ValueError, match="was made with other images or label maps"):
        train(IMAGES, other, settings, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="was made with images 4, and not 3"):
        train(IMAGES[:3], CLASSES[:3], settings, checkpoint=checkpoint)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    data = (IMAGES, CLASSES, tiny(reading="classes"))
    checkpoint, model = tmp_path / "checkpoint.pt", tmp_path / "model.pt"
    train(*data, checkpoint=checkpoint).save(model)
    with pytest.raises(FileFormatError, match=r"model\.pt as a checkpoint: it is something else"):
        train(*data, checkpoint=model)
    with pytest.raises(FileFormatError, match=r"checkpoint\.pt as a network: it is a checkpoint"):
        load_network(checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "version": 99}, checkpoint)
    with pytest.raises(FileFormatError, match="version 99, and this package reads 2"):
        train(*data, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:999])
    with pytest.raises(FileFormatError, match=r"checkpoint\.pt as a checkpoint: it is damaged"):
        train(*data, checkpoint=checkpoint)
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        train(*data, checkpoint=tmp_path / "none.pt", resume=True)
    with pytest.raises(ValueError, match="checkpoint must be given to resume, got None"):
        train(*data, resume=True)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "regions"}, "reading must be one of objects, classes"),
        ({"loss": "dice"}, "loss for reading 'objects' must be one of"),
        ({"reading": "affinities", "loss": "cross-entropy"}, "must be one of affinity-metric"),
        ({"classes": 3}, "classes is for reading 'classes' only, got 3"),
        ({"size": 3}, "size is for reading 'affinities' only, got 3"),
        ({"reading": "classes", "classes": 1}, "classes must be at least 2, got 1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"crop": 4}, "crop must be at least 8, got 4"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"every": 0}, "every must be at least 1"),
        ({"widths": ()}, "widths must hold one to 8 widths, got none"),
        ({"widths": (4,) * 9}, "widths must hold one to 8 widths, got 9"),
        ({"widths": (4, 0)}, "widths must be at least 1, got 0"),
        ({"rate": 0}, "rate must be a positive number, got 0"),
        ({"rate": float("nan")}, "rate must be a positive number, got nan"),
        ({"reading": "affinities", "size": -1}, "size must be a positive number, got -1"),
        ({"weight_decay": -1}, "weight_decay must be at least 0, got -1"),
        ({"validation": 1}, r"validation must be a share within \[0, 1\), got 1"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**options)


def test_settings_of_another_type():
    with pytest.raises(TypeError, match=r"steps must be a whole number, got 1\.5"):
        TrainingSettings(steps=1.5)


def changed(position, value, labels=CLASSES):
    maps = [one.astype(np.int64) for one in labels]
    maps[position][3, 3] = value
    return maps


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], []), {}, "images must be at least 2 to hold out a share of 0.25.*got 0"),
        ((IMAGES[:1], CLASSES[:1]), {}, "at least 2 .*got 1: give validation=0"),
        ((IMAGES[:3], CLASSES[:3]), {"validation": 0.9}, "at least 4 .*got 3: give validation=0"),
        (([], []), {"validation": 0}, "images must hold one image to train on, got none"),
        ((IMAGES, CLASSES[:3]), {}, "must be as many, got 4, 3 and 4"),
        ((IMAGES, changed(2, -7)), {}, "labels of image 2 must be 0 or more .*got -7: ignore=-7"),
        ((IMAGES, changed(2, 2)), {"classes": 2}, r"image 2 must be classes within 0\.\.1, got 2"),
        ((IMAGES, changed(1, 900)), {}, "2 to 256 classes, got labels up to 900: give classes"),
        ((IMAGES, changed(1, 2**31)), {}, "image 1 must be below 2.*got 2147483648"),
        ((IMAGES, [0 * labels for labels in CLASSES]), {}, "2 to 256 classes, got labels up to 0"),
        ((IMAGES, [labels[:9] for labels in CLASSES]), {}, "image 0: image and labels must share"),
        (([image[..., None, None] for image in IMAGES], CLASSES), {}, "image 0: image must have"),
    ],
)
def test_data_that_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        train(*arguments, tiny(**{"reading": "classes", **options}))


def test_label_maps_without_objects_and_offsets_that_no_crop_holds():
    nothing = [0 * labels for labels in INSTANCES]
    for reading in ("objects", "affinities"):
        with pytest.raises(ValueError, match="must hold an object, got only background"):
            train(IMAGES, nothing, tiny(reading=reading))
    with pytest.raises(ValueError, match=r"crop must be larger than the largest offset, .* got 16"):
        train(IMAGES, INSTANCES, tiny(reading="affinities", size=300))


def test_names_are_those_of_the_caller():
    with pytest.raises(ValueError, match=r"labels of cells\.png must be 0 or more"):
        train(IMAGES, changed(0, -1), tiny(reading="classes"), names=["cells.png", "b", "c", "d"])


def test_a_loss_that_runs_away_is_named():
    with pytest.raises(ValueError, match=r"finite.* step \d+|loss must stay finite, got nan"):
        train(IMAGES, CLASSES, tiny(30, reading="classes", rate=1e30, validation=0))
