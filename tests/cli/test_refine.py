import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hiersearch.evaluation import boundary_iou, class_iou
from hiersearch.partitions.files import read_label_map
from hiersearch.refinement.pipeline import refine
from tests.cli.running import HEIGHT, WIDTH, parsed, refused, run, scene, write_labels, write_scene

CLASSES = ("--soft", "soft.npy", "--reading", "classes")
ROOT = Path(__file__).resolve().parents[2]
FILES = {"labels.npy", "labels.png", "probabilities.npy", "before-after.png", "summary.json"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, soft = write_scene(tmp_path)
    # Two pixels that the network has wrong.
    soft[:, 5, 5], soft[:, 1, 20] = soft[::-1, 5, 5], soft[::-1, 1, 20]
    np.save("soft.npy", soft)
    write_labels(tmp_path / "truth.png", (image > 0).astype(int))
    return tmp_path


def test_what_is_written_is_what_refine_returns(folder):
    summary = parsed(run("refine", "image.png", *CLASSES, "--json"))
    out = folder / "image-refined"
    assert {path.name for path in out.iterdir()} == FILES
    assert {str(out / name) for name in FILES} == set(summary["files"].values())
    assert json.loads((out / "summary.json").read_text()) == summary
    image, soft = scene()[0], np.load("soft.npy")
    wanted = refine(image, soft, reading="classes")
    assert np.array_equal(np.load(out / "labels.npy"), wanted.labels)
    assert np.array_equal(read_label_map(out / "labels.png"), wanted.labels)
    assert np.array_equal(np.load(out / "probabilities.npy"), wanted.output.channels)
    assert summary["regions"] == wanted.partition.n_regions == 3
    assert summary["changed_pixels"] == 2
    methods = [step["method"] for step in summary["trace"]]
    assert methods == [step.method for step in wanted.trace]
    with Image.open(out / "before-after.png") as picture:
        assert picture.size[0] > 3 * WIDTH


def test_scores_before_and_after_are_those_of_the_label_maps(folder):
    summary = parsed(run("refine", "image.png", *CLASSES, "--truth", "truth.png", "--json"))
    truth, soft = (scene()[0] > 0).astype(int), np.load("soft.npy")
    for when, labels in (
        ("before", soft.argmax(axis=0)),
        ("after", np.load("image-refined/labels.npy")),
    ):
        found = summary["scores"][when]
        assert found["class_iou"] == pytest.approx(class_iou(labels, truth).mean)
        assert found["boundary_iou"] == pytest.approx(boundary_iou(labels, truth).mean)
    assert summary["scores"]["after"]["class_iou"] == 1
    table = run("refine", "image.png", *CLASSES, "--truth", "truth.png")
    assert table.exit_code == 0
    for part in ("image.png", "class IoU, mean", "1.0000", "before-after.png"):
        assert part in table.stdout


def test_a_label_to_ignore_that_is_not_there_is_said(folder):
    arguments = ("refine", "image.png", *CLASSES, "--truth", "truth.png", "--json", "--ignore")
    there = run(*arguments, 1)
    assert there.stderr == ""
    truth = read_label_map("truth.png")
    assert parsed(there)["ignored_pixels"] == np.count_nonzero(truth == 1) > 0
    absent = run(*arguments, 77)
    assert absent.stderr == (
        "hiersearch: warning: no pixel has the label 77 of --ignore in truth.png\n"
    )
    assert parsed(absent)["ignored_pixels"] == 0


def test_instances_are_scored_as_instances(folder):
    image, _ = scene()
    truth = np.where(image == 200, 3, np.where(image == 220, 8, 0))
    write_labels(folder / "instances.png", truth)
    edges = np.zeros(image.shape, np.uint8)
    for axis in (0, 1):
        edges |= np.where(image != np.roll(image, 1, axis), np.uint8(230), np.uint8(0))
    Image.fromarray(edges).save("edges.png")
    options = ("--soft", "edges.png", "--reading", "boundaries", "--truth", "instances.png")
    for method in ("metric_merging", "objects", "tree_voting,best_cut"):
        summary = parsed(run("refine", "image.png", *options, "--method", method, "--json"))
        for when in ("before", "after"):
            scores = summary["scores"][when]
            assert set(scores) >= {"foreground_ari", "average_precision_50", "average_precision"}
            assert 0 <= scores["adapted_rand_error"] <= 1
            total = scores["splits"] + scores["merges"]
            assert scores["variation_of_information"] == pytest.approx(total)
    assert summary["scores"]["before"]["average_precision_50"] == 1


def test_affinities_with_offsets(folder):
    image, _ = scene()
    affinities = np.stack([image == np.roll(image, -1, axis) for axis in (0, 1)]).astype("f4")
    np.save("affinities.npy", affinities)
    options = ("--soft", "affinities.npy", "--reading", "affinities", "--offsets", "1,0;0,1")
    summary = parsed(run("refine", "image.png", *options, "--method", "best_cut", "--json"))
    assert summary["regions"] == len(np.unique(np.load("image-refined/labels.npy")))
    assert np.load("image-refined/probabilities.npy").shape == affinities.shape
    refined = read_label_map(summary["files"]["label_map"])
    assert np.array_equal(refined, np.load("image-refined/labels.npy"))


def test_a_volume_is_written_as_tiff(folder):
    image, soft = scene()
    np.save("volume.npy", np.stack([image] * 4))
    np.save("channels.npy", np.stack([soft] * 4, axis=1))
    options = ("--soft", "channels.npy", "--reading", "classes", "--json")
    summary = parsed(run("refine", "volume.npy", *options))
    assert summary["files"]["label_map"].endswith("labels.tif")
    assert read_label_map(summary["files"]["label_map"]).shape == (4, HEIGHT, WIDTH)


def test_the_shipped_network_gives_objects(folder):
    pytest.importorskip("torch")
    image = np.asarray(Image.open(f"{ROOT}/tests/data/nuclei-plain.png"))[:96, :96]
    truth = np.asarray(Image.open(f"{ROOT}/tests/data/nuclei-plain-labels.png"))[:96, :96]
    Image.fromarray(image).save("cells.png")
    write_labels(folder / "cells-truth.png", truth)
    options = ("--network", "nuclei", "--truth", "cells-truth.png", "--json")
    summary = parsed(run("refine", "cells.png", *options))
    assert summary["reading"] == "objects"
    assert summary["scores"]["after"]["average_precision_50"] > 0.4


def folders(folder):
    """Make three folders of two images with soft outputs and truth; return the options."""
    for name in ("images", "soft", "truth"):
        (folder / name).mkdir()
    for name in ("a", "b"):
        (folder / "images" / f"{name}.png").write_bytes((folder / "image.png").read_bytes())
        (folder / "soft" / f"{name}.npy").write_bytes((folder / "soft.npy").read_bytes())
        (folder / "truth" / f"{name}.png").write_bytes((folder / "truth.png").read_bytes())
    return ("images", "--soft", "soft", "--reading", "classes")


def test_a_folder_of_images(folder):
    options = (*folders(folder), "--truth", "truth", "--out", "result")
    summary = parsed(run("refine", *options, "--json"))
    assert [one["image"] for one in summary["images"]] == ["images/a.png", "images/b.png"]
    for name in ("a", "b"):
        assert {path.name for path in (folder / "result" / name).iterdir()} == FILES
    one = summary["images"][0]["scores"]
    assert summary["scores"]["after"]["class_iou"] == one["after"]["class_iou"]
    assert summary["scores"]["before"]["boundary_iou"] < 1
    assert json.loads((folder / "result" / "summary.json").read_text()) == summary
    assert "b.png" in run("refine", *options).stdout


def test_a_device_gives_the_same_labels(folder):
    pytest.importorskip("torch")
    found = []
    for device in ("cpu", "cpu:torch"):
        parsed(run("refine", "image.png", *CLASSES, "--device", device, "--json"))
        found.append(np.load("image-refined/labels.npy"))
    assert np.array_equal(*found)


def test_all_pixels_of_one_class(folder):
    np.save("one.npy", np.ones((1, HEIGHT, WIDTH), np.float32))
    options = ("--soft", "one.npy", "--reading", "classes", "--truth", "truth.png", "--json")
    for method in ("tree_voting", "best_cut", "metric_merging"):
        summary = parsed(run("refine", "image.png", *options, "--method", method))
        assert summary["changed_pixels"] == 0


# --- bad input ------------------------------------------------------------------------------


@pytest.fixture
def refuses(folder):
    """Run ``refine`` and check the refusal and that no file is left."""

    def check(arguments, *parts):
        before = sorted(path.name for path in folder.rglob("*"))
        for quiet in (("--json",), ()):
            refused(run("refine", *arguments, *quiet), *parts)
        assert sorted(path.name for path in folder.rglob("*")) == before

    return check


@pytest.mark.parametrize(
    ("index", "value", "parts"),
    [
        ((1, 4, 6), np.nan, ("must be finite", "pixel (4, 6)")),
        ((0, 5, 7), 0.9, ("sum to 1", "pixel (5, 7)")),
        ((slice(None), 5, 7), [-0.2, 1.2], ("must not be negative", "pixel (5, 7)")),
    ],
)
@pytest.mark.parametrize("reading", ["classes", "regions"])
def test_values_that_are_no_probabilities(refuses, index, value, parts, reading):
    soft = np.load("soft.npy")
    soft[index] = value
    np.save("soft.npy", soft)
    refuses(("image.png", "--soft", "soft.npy", "--reading", reading), "soft.npy", *parts)


def test_shapes_that_do_not_fit(refuses, folder):
    np.save("small.npy", np.load("soft.npy")[:, :, :-1])
    arguments = ("image.png", "--soft", "small.npy", "--reading", "classes")
    refuses(arguments, "must share one grid", "small.npy has shape (2, 18, 23)")
    np.save("edges.npy", np.zeros((HEIGHT, WIDTH - 1), np.float32))
    arguments = ("image.png", "--soft", "edges.npy", "--reading", "boundaries")
    refuses(arguments, "edges.npy", "(18, 23)")
    arguments = ("image.png", "--soft", "soft.npy", "--reading", "boundaries")
    refuses(arguments, "boundaries reading needs one channel, got 2")
    write_labels(folder / "other.png", np.zeros((HEIGHT, WIDTH + 1), int))
    arguments = ("image.png", *CLASSES, "--truth", "other.png")
    refuses(arguments, "truth must lie on the grid (18, 24)", "other.png has shape (18, 25)")


def test_boundaries_outside_the_range(refuses):
    np.save("edges.npy", np.full((HEIGHT, WIDTH), 1.5))
    arguments = ("image.png", "--soft", "edges.npy", "--reading", "boundaries")
    refuses(arguments, "boundary must be within [0, 1], got 1.5")


def test_files_that_cannot_be_read(refuses, folder):
    refuses(("absent.png", *CLASSES), "absent.png: no such file")
    refuses(("image.png", "--soft", "absent.npy", *CLASSES[2:]), "absent.npy: no such file")
    refuses(("image.png", *CLASSES, "--truth", "absent.png"), "absent.png: no such file")
    (folder / "broken.png").write_bytes((folder / "image.png").read_bytes()[:40])
    refuses(("broken.png", *CLASSES), "cannot read broken.png as an image")
    image = scene()[0].astype(np.float32)
    image[3, 4] = np.nan
    np.save("nan.npy", image)
    refuses(("nan.npy", *CLASSES), "image must be finite", "(3, 4)")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("exactly one of --soft and --network, got neither",)),
        ((*CLASSES, "--network", "nuclei"), ("exactly one of --soft and --network, got both",)),
        (("--soft", "soft.npy"), ("--reading must say what the channels mean",)),
        (("--soft", "soft.npy", "--reading", "classy"), ("--reading must be one of", "'classy'")),
        ((*CLASSES, "--offsets", "0,1"), ("--offsets is for --reading affinities only",)),
        (("--soft", "soft.npy", "--reading", "affinities"), ("--offsets must be given",)),
        ((*CLASSES, "--method", "magic"), ("--method must be among tree_voting", "'magic'")),
        ((*CLASSES, "--method", "objects"), ("method 'objects' needs reading",)),
        ((*CLASSES, "--device", "gpu"), ("--device must be cpu, cuda, cuda:N or auto, got 'gpu'",)),
        ((*CLASSES, "--ignore", "0"), ("--ignore is for --truth only, got 0",)),
        ((*CLASSES, "--out", "image.png"), ("cannot be a folder", "is a file")),
        (
            ("--network", "nuclei", "--reading", "classes"),
            ("--reading is fixed for --network nuclei",),
        ),
    ],
)
def test_options_that_do_not_go_together(refuses, arguments, parts):
    refuses(("image.png", *arguments), *parts)


def test_voting_refuses_affinities(refuses):
    np.save("affinities.npy", np.full((2, HEIGHT, WIDTH), 0.5, np.float32))
    options = ("--soft", "affinities.npy", "--reading", "affinities", "--offsets", "1,0;0,1")
    arguments = ("image.png", *options, "--method", "tree_voting")
    refuses(arguments, "tree_voting", "got 'affinities', which goes with metric_merging")


def test_true_classes_below_zero(refuses):
    np.save("truth.npy", np.full((HEIGHT, WIDTH), -1))
    arguments = ("image.png", *CLASSES, "--truth", "truth.npy")
    refuses(arguments, "truth must hold classes within 0..", "got -1")


def test_folders_that_do_not_fit(refuses, folder):
    options = folders(folder)
    refuses(("images", *CLASSES), "--soft must be a folder where IMAGE is one, got soft.npy")
    (folder / "soft" / "b.npz").write_bytes(b"")
    refuses(options, "must hold one file for b.png, got b.npy and b.npz")
    (folder / "soft" / "b.npz").unlink()
    (folder / "soft" / "b.npy").unlink()
    refuses(options, "must hold one file for b.png, got none")
    (folder / "images" / "b.tif").write_bytes(b"")
    refuses(options, "one image of each name, got several of 'b'")
    refuses(("truth/..", *options[1:]), "image.png")
    (folder / "empty").mkdir()
    refuses(("empty", *options[1:]), "empty must hold images", "got none")
