"""Runs over several files: one that is bad is left out, said at the end, and the rest is there."""

import json
import os
import shutil

import numpy as np
import pytest

from tests.cli.running import parsed, refused, run, write_labels, write_scene

CLASSES = ("--soft", "soft", "--reading", "classes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images with soft outputs and truth."""
    monkeypatch.chdir(tmp_path)
    image, soft = write_scene(tmp_path)
    for name in ("images", "soft", "truth"):
        (tmp_path / name).mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "images" / f"{name}.png").write_bytes((tmp_path / "image.png").read_bytes())
        np.save(tmp_path / "soft" / f"{name}.npy", soft)
        write_labels(tmp_path / "truth" / f"{name}.png", (image > 0).astype(int))
    return tmp_path


def some_failed(result, *parts):
    """Check that a run did what it could: code 1, the reasons on standard error."""
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr
    return True


def spoil_image(folder):
    (folder / "images" / "b.png").write_bytes(b"no image")
    return "cannot read images/b.png as an image"


def spoil_size(folder):
    np.save(folder / "soft" / "b.npy", np.full((2, 5, 5), 0.5, np.float32))
    return "must share one grid"


def spoil_values(folder):
    np.save(folder / "soft" / "b.npy", np.full((2, 18, 24), np.nan, np.float32))
    return "must be finite"


def spoil_truth(folder):
    write_labels(folder / "truth" / "b.png", np.zeros((3, 3), int))
    return "truth must lie on the grid"


@pytest.mark.parametrize("spoil", [spoil_image, spoil_size, spoil_values, spoil_truth])
def test_one_bad_image_does_not_stop_the_others(folder, spoil):
    reason = spoil(folder)
    command = ("refine", "images", *CLASSES, "--truth", "truth", "--out", "out")
    result = run(*command, "--json")
    some_failed(result, "hiersearch: failed: ", reason, "error: 1 of 3 images failed")
    summary = json.loads(result.stdout)
    assert [one["image"] for one in summary["images"]] == ["images/a.png", "images/c.png"]
    assert [one["image"] for one in summary["failed"]] == ["images/b.png"]
    assert reason in summary["failed"][0]["error"]
    assert summary["scores"]["after"]["class_iou"] == 1
    assert sorted(os.listdir("out")) == ["a", "c", "summary.json"]
    assert json.loads((folder / "out" / "summary.json").read_text()) == summary
    table = run(*command)
    some_failed(table, "error: 1 of 3 images failed")
    assert "a.png" in table.stdout


def test_where_all_fail_there_is_one_sentence(folder):
    for name in ("a", "b", "c"):
        (folder / "images" / f"{name}.png").write_bytes(b"no image")
    result = run("refine", "images", *CLASSES, "--out", "out")
    refused(result, "none of 3 images could be refined, the first: cannot read images/a.png")
    assert not (folder / "out").exists()


def test_no_name_leads_out_of_the_folder(folder):
    for name in ("..", ".", "summary.json"):
        (folder / "images" / "a.png").rename(folder / "images" / f"{name}.png")
        (folder / "soft" / "a.npy").rename(folder / "soft" / f"{name}.npy")
        before = set(os.listdir(folder))
        summary = parsed(run("refine", "images", *CLASSES, "--out", "result/out", "--json"))
        assert set(os.listdir(folder)) - before == {"result"}
        assert os.listdir("result") == ["out"]
        assert len(os.listdir("result/out")) == 4
        for one in summary["images"]:
            place = os.path.relpath(one["files"]["labels"], folder / "result" / "out")
            assert not place.startswith("..")
            assert os.path.dirname(place) not in ("", ".")
            assert os.path.exists(one["files"]["labels"])
        (folder / "images" / f"{name}.png").rename(folder / "images" / "a.png")
        (folder / "soft" / f"{name}.npy").rename(folder / "soft" / "a.npy")
        shutil.rmtree("result")


def test_a_link_in_the_way_is_not_followed(folder):
    (folder / "out").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "out" / "b").symlink_to(folder / "elsewhere")
    result = run("refine", "images", *CLASSES, "--out", "out", "--force")
    refused(result, "b is in the way: it is a link")
    assert os.listdir("elsewhere") == []


def test_folders_called_like_images_are_none(folder):
    (folder / "images" / "d.png").mkdir()
    summary = parsed(run("refine", "images", *CLASSES, "--json"))
    assert len(summary["images"]) == 3


def test_the_same_command_runs_again(folder):
    command = ("refine", "images", *CLASSES, "--out", "out", "--json")
    first = parsed(run(*command))
    again = parsed(run(*command))
    assert [one["files"] for one in again["images"]] == [one["files"] for one in first["images"]]
    (folder / "out" / "b" / "labels.png").write_bytes(b"mine")
    refused(run(*command), "labels.png would be replaced")


# --- index add ------------------------------------------------------------------------------


def test_a_bad_file_does_not_stop_adding(folder):
    assert run("index", "create", "idx", "--grid", "18x24").exit_code == 0
    (folder / "truth" / "b.png").write_bytes(b"no image")
    np.savez(folder / "truth" / "d.npz", labels=np.full((18, 24), 0.5))
    result = run("index", "add", "idx", "truth", "--json")
    some_failed(result, "truth/b.png", "truth/d.npz", "error: 2 of 4 files failed")
    summary = json.loads(result.stdout)
    assert (summary["added"], summary["entries"]) == (2, 2)
    assert [one["file"] for one in summary["failed"]] == ["truth/b.png", "truth/d.npz"]
    again = run("index", "add", "idx", "truth", "--skip-existing")
    some_failed(again, "error: 2 of 4 files failed")
    assert "2 left out: the index has their ids" in again.stdout


def test_where_no_file_can_be_added_there_is_one_sentence(folder):
    assert run("index", "create", "idx", "--grid", "18x24").exit_code == 0
    (folder / "bad.png").write_bytes(b"no image")
    refused(run("index", "add", "idx", "bad.png"), "cannot read bad.png as a label map")


def test_a_name_that_is_no_text_is_said_with_what_to_do(folder):
    assert run("index", "create", "idx", "--grid", "18x24").exit_code == 0
    name = os.fsdecode(b"\xe9.png")
    write_labels(folder / "truth" / name, np.zeros((18, 24), int))
    result = run("index", "add", "idx", "truth")
    some_failed(result, r"truth/\xe9.png", "--id", "error: 1 of 4 files failed")
    summary = parsed(run("index", "add", "idx", f"truth/{name}", "--id", "e", "--json"))
    assert summary["entries"] == 4
