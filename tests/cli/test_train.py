import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from hiersearch.networks import TrainingSettings, load_network  # noqa: E402
from tests.cli.running import parsed, refused, run, write_labels  # noqa: E402
from tests.networks.training.small_training import squares  # noqa: E402

TINY = ("--widths", "4,6", "--batch", 2, "--crop", 16, "--every", 4, "--validation", 0.25)
QUICK = (*TINY, "--steps", 4)
FILES = ("own.pt", "own-checkpoint.pt", "own-learning.png", "own.json")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with ``cells``, four images with their instances."""
    monkeypatch.chdir(tmp_path)
    cells = tmp_path / "cells"
    cells.mkdir()
    for number, (image, labels) in enumerate(zip(*squares(), strict=True)):
        Image.fromarray(image).save(cells / f"{number}.png")
        write_labels(cells / f"{number}-labels.png", labels)
    return tmp_path


def train(*arguments):
    return run("train", "cells", *arguments)


# --- what is written ----------------------------------------------------------------------------


def test_a_network_with_its_record_and_its_picture(folder):
    summary = parsed(train(*QUICK, "--out", "own.pt", "--json"))
    assert sorted(os.listdir(folder)) == sorted(("cells", *FILES))
    assert tuple(summary["files"].values()) == (
        "own.pt", "own-checkpoint.pt", "own-learning.png", "own.json",
    )  # fmt: skip
    assert json.loads((folder / "own.json").read_text()) == summary
    assert summary["settings"]["loss"] == "cross-entropy"
    assert (summary["trained_on"], len(summary["held_out"])) == (3, 1)
    assert [row["step"] for row in summary["curve"]] == [4]
    content = torch.load("own.pt", weights_only=True)
    assert content["training"]["settings"] == summary["settings"]
    with Image.open("own-learning.png") as picture:
        assert picture.size == (1200, 900)
    network = load_network("own.pt")
    assert network.channels == ("background", "interior", "boundary")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_ignored_labels_are_left_out_of_the_classes_of_pngs(folder, kind):
    for number, labels in enumerate(squares()[1]):
        marked = np.where(labels > 0, 2, 0).astype(kind)
        marked[:2] = 255
        Image.fromarray(marked).save(folder / "cells" / f"{number}-labels.png")
    arguments = (*QUICK, "--reading", "classes", "--json")
    summary = parsed(train(*arguments, "--ignore", 255, "--out", "own.pt"))
    assert summary["settings"]["classes"] == 3
    result = train(*arguments, "--out", "void.pt")
    assert parsed(result)["settings"]["classes"] == 256
    assert result.stderr.startswith("hiersearch: warning: label 255 is taken as a class")
    result = train(*arguments, "--ignore", 77, "--out", "none.pt")
    assert "warning: no label map holds the label 77" in result.stderr


def test_the_table_says_what_was_held_out_and_left_untouched(folder):
    splits = ("train", "train", "train", "test")
    rows = "".join(f"{name},{split}\n" for name, split in zip("0123", splits, strict=True))
    (folder / "cells" / "manifest.csv").write_text("name,split\n" + rows)
    result = train(*QUICK)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for part in (
        "Trained on 2 images: objects, cross-entropy",
        "AP at IoU 0.5",
        "1 image held out; the network has the weights of step 4, the best by AP at IoU 0.5",
        "1 image of the split 'test' left untouched",
        "cells-network.pt",
        "cells-network-learning.png",
    ):
        assert part in result.stdout
    result = train(*QUICK, "--validation", 0, "--fresh")
    assert "no images were held out: the network has the weights of the last step" in result.stdout


def test_the_table_of_a_long_training_is_short(folder):
    result = train(*TINY, "--every", 1, "--steps", 30, "--reading", "classes")
    rows = re.findall(r"^ ?(\d+) +\d\.\d{4} ", result.stdout, re.MULTILINE)
    assert 10 <= len(rows) <= 13
    assert rows[-1] == "30"
    best = re.search(r"weights of step (\d+), the best", result.stdout)[1]
    assert best in rows


def test_help_tells_the_defaults():
    text = " ".join(re.sub(r"[│|]", " ", run("train", "--help").stdout).split())
    defaults = TrainingSettings()
    for name in ("steps", "batch", "crop", "rate", "seed", "validation", "every"):
        told = re.search(rf"--{name} .*?; ([\d.]+) unless given", text)[1]
        assert float(told) == getattr(defaults, name), name
    assert f"{','.join(str(width) for width in defaults.widths)} unless given" in text
    assert f"{defaults.reading} unless given" in text


# --- use of what was trained --------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["objects", "classes", "affinities"])
def test_match_and_refine_need_no_reading(folder, reading):
    parsed(train(*QUICK, "--reading", reading, "--out", "own.pt", "--json"))
    source = ("cells/0.png", "--network", "own.pt")
    found = parsed(run("match", *source, "--superpixels", "pixels", "--json"))
    assert found["reading"] == reading
    refined = parsed(run("refine", *source, "--truth", "cells/0-labels.png", "--json"))
    assert refined["reading"] == reading
    methods = {"objects": "objects", "classes": "tree_voting", "affinities": "objects"}
    assert refined["trace"][-1]["method"] == methods[reading]
    # The same may be said; another thing may not.
    if reading == "affinities":
        offsets = load_network("own.pt").offsets
        text = ";".join(",".join(str(step) for step in offset) for offset in offsets)
        said = ("--reading", reading, "--offsets", text, "--activation", "sigmoid")
        parsed(run("match", *source, "--superpixels", "pixels", *said, "--json"))
        wrong = [("--reading", "affinities", "--offsets", "0,1"), ("--activation", "softmax")]
        named = ["--offsets", "--activation"]
    else:
        wrong, named = [("--reading", "regions"), ("--activation", "sigmoid")], ["--reading", "--a"]
    for options, name in zip(wrong, named, strict=True):
        for command in ("match", "refine"):
            refused(run(command, *source, *options), f"{name}", "fixed for --network own.pt, got")


def test_a_folder_is_refined_by_affinities_other_methods_too(folder):
    parsed(train(*QUICK, "--reading", "affinities", "--out", "own.pt", "--json"))
    (folder / "images").mkdir()
    for number in (0, 1):
        os.rename(f"cells/{number}.png", f"images/{number}.png")
    for method in ("objects", "metric_merging"):
        arguments = ("images", "--network", "own.pt", "--method", method, "--out", "out", "--json")
        summary = parsed(run("refine", *arguments))
        assert [one["trace"][-1]["method"] for one in summary["images"]] == [method] * 2


def test_checkpoints_are_no_networks(folder):
    parsed(train(*QUICK, "--out", "own.pt", "--json"))
    result = run("match", "cells/0.png", "--network", "own-checkpoint.pt")
    refused(result, "own-checkpoint.pt as a network: it is a checkpoint of a training")


# --- going on where a training stopped --------------------------------------------------------


def test_the_same_command_goes_on_and_fresh_starts_anew(folder):
    first = parsed(train(*QUICK, "--out", "own.pt", "--json"))
    again = parsed(train(*QUICK, "--out", "own.pt", "--resume", "--json"))
    # The network's bytes may differ where its weights don't.
    assert {**again, "sha256": None} == {**first, "sha256": None}
    fresh = parsed(train(*QUICK, "--out", "own.pt", "--fresh", "--json"))
    assert fresh["seconds"] != first["seconds"]
    assert fresh["curve"] == first["curve"]
    before = (folder / "own.pt").read_bytes()
    result = train(*QUICK, "--out", "own.pt", "--rate", 0.001)
    refused(result, "own-checkpoint.pt must be of this training, but was made with rate 0.004")
    assert (folder / "own.pt").read_bytes() == before


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_keeps_what_was_done(folder):
    arguments = (*TINY, "--reading", "classes", "--steps", 4000, "--out", "own.pt")
    command = [sys.executable, "-m", "hiersearch", "train", "cells", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    # It is on its way once the first checkpoint is there.
    deadline = time.monotonic() + 300
    while not os.path.exists("own-checkpoint.pt") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, message = process.communicate(timeout=300)
    assert process.returncode == 130
    assert output == ""
    told = re.fullmatch(
        r"\n?hiersearch: interrupted: (\d+) of 4000 steps are in own-checkpoint.pt, and the same "
        r"command goes on from there\n",
        message,
    )
    assert told, message
    assert sorted(os.listdir(folder)) == ["cells", "own-checkpoint.pt"]
    content = torch.load("own-checkpoint.pt", weights_only=True)
    assert len(content["standing"]["losses"]) == int(told[1]) >= 4


# --- what may be replaced -----------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_files_that_no_training_wrote_need_force(folder, name):
    (folder / name).write_bytes(b"mine")
    arguments = (*QUICK, "--out", "own.pt", "--fresh")
    refused(train(*arguments), f"{name} would be replaced", "give --force to replace it")
    assert sorted(os.listdir(folder)) == ["cells", name]
    assert (folder / name).read_bytes() == b"mine"
    parsed(train(*arguments, "--force", "--json"))
    parsed(train(*arguments, "--json"))


def test_data_are_never_replaced_nor_joined_by_the_picture(folder):
    os.rename("cells/0.png", "own-learning.png")
    os.symlink("../own-learning.png", "cells/0.png")
    for out in ("own.pt", "cells/own.pt", "cells/../cells/own.pt"):
        before = sorted(folder.rglob("*"))
        result = train(*QUICK, "--out", out, "--force")
        refused(result, "is the input cells/0.png" if out == "own.pt" else "must not lie in cells")
        assert sorted(folder.rglob("*")) == before


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--reading", "regions"), ("--reading must be one of", "'regions'")),
        (("--loss", "dice"), ("--loss must be one of", "'dice'")),
        (("--loss", "affinity-metric"), ("loss for reading 'objects'",)),
        (("--threads", 0), ("--threads must be at least 1, got 0",)),
        (("--widths", "4,x"), ("--widths must be whole numbers like", "'4,x'")),
        (("--widths", "0"), ("widths must be at least 1, got 0",)),
        (("--out", "own.onnx"), ("--out: the network's file must end in .pt or .pth",)),
        (("--out", "none/own.pt"), ("--out none/own.pt must lie in a folder that exists",)),
        (("--out", "folder.pt"), ("--out folder.pt is in the way: it is a folder",)),
        (("--resume",), ("--resume needs the checkpoint cells-network-checkpoint.pt",)),
        (("--steps", 0), ("steps must be at least 1, got 0",)),
        (("--steps", "x"), ("--steps", "valid integer")),
        (("--classes", 3), ("classes is for reading 'classes' only",)),
        (("--reading", "classes", "--classes", 2), ("labels of 0.png", "within 0..1, got 2")),
        (("--size", 5), ("size is for reading 'affinities' only",)),
        (("--reading", "affinities", "--size", 400), ("crop must be larger than the largest",)),
        (("--validation", 0.95), ("images must be at least 5 to hold out", "got 4")),
    ],
)
def test_options_that_are_refused(folder, arguments, parts):
    (folder / "folder.pt").mkdir()
    before = sorted(os.listdir(folder))
    refused(train(*QUICK, *arguments), *parts)
    assert sorted(os.listdir(folder)) == before


def test_data_that_are_refused(folder):
    cells = folder / "cells"
    refused(run("train", "none", *QUICK), "none must be a folder of images and label maps")
    refused(run("train", "cells/0.png", *QUICK), "it is a file")
    (folder / "empty").mkdir()
    refused(run("train", "empty", *QUICK), "empty must hold images with label maps")
    negative = np.zeros((24, 24), np.int32)
    negative[3, 3] = -4
    os.remove(cells / "0-labels.png")
    refused(train(*QUICK), "a label map (NAME-labels.png for NAME.png) for each image", "0.png")
    np.save(cells / "0-labels.npy", negative)
    refused(train(*QUICK, "--reading", "classes"), "0 or more where they count, got -4: ignore=-4")
    np.save(cells / "0-labels.npy", negative[:9])
    refused(train(*QUICK), "0.png with shape (24, 24) and", "0-labels.npy with shape (9, 24)")
    os.remove(cells / "0.png")
    refused(train(*QUICK), "an image for each label map: missing for 0-labels.npy")
    (cells / "0.png").write_bytes(b"no image")
    refused(train(*QUICK), "cannot read cells/0.png as an image")


def test_torch_is_named_where_it_is_missing(folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("hiersearch.networks.")]:
        if name.endswith((".loop", ".unet")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(train(*QUICK), "needs torch, which is not installed", "hiersearch[torch]")
