"""Label maps from COCO annotations."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hiersearch._errors import FileFormatError, MissingExtraError
from hiersearch.index.coco import _given_runs
from hiersearch.index.collections import Collection
from hiersearch.partitions import Partition
from tests.index.annotations import (
    HEIGHT,
    WIDTH,
    box,
    instances,
    panoptic,
    write_json,
    write_panoptic,
)


def drawn():
    """What the instances' first image must come out as."""
    labels = np.zeros((HEIGHT, WIDTH), int)
    labels[:, :5] = 1  # the crowd lies below
    labels[2:12, 2:14] = 2
    labels[6:10, 4:8] = 3
    labels[15:18, 20:23] = 4
    return labels


def test_instances_lie_over_each_other_the_smaller_on_top(tmp_path):
    pytest.importorskip("pycocotools")
    collection = Collection([write_json(tmp_path / "instances.json", instances())])
    first, second = collection
    assert collection.done == 1
    assert first.id == "000000000139"
    assert first.labels == Partition.from_labels(drawn())
    assert first.metadata == {
        "file": "000000000139.jpg", "regions": 5, "height": HEIGHT, "width": WIDTH,
        "image_id": 139, "objects": {"car": 2, "traffic light": 1, "category 9": 1},
    }  # fmt: skip
    assert second.labels == Partition.from_labels(np.zeros((8, 9), int))
    assert second.metadata["objects"] == {}


def test_run_lengths_are_read_compressed_too(tmp_path):
    masks = pytest.importorskip("pycocotools.mask")
    content = instances()
    for annotation in content["annotations"]:
        if isinstance(annotation["segmentation"], dict):
            runs = masks.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)
            annotation["segmentation"] = {**runs, "counts": runs["counts"].decode()}
    first, _ = Collection([write_json(tmp_path / "a.json", content)])
    assert first.labels == Partition.from_labels(drawn())


def test_run_lengths_alone_need_no_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    content = instances()
    content["annotations"] = [
        a for a in content["annotations"] if isinstance(a["segmentation"], dict)
    ]
    first, _ = Collection([write_json(tmp_path / "a.json", content)])
    labels = np.where(drawn() == 4, 4, 0)
    labels[:, :5] = 1
    assert first.labels == Partition.from_labels(labels)


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_compressed_run_lengths_are_read_as_pycocotools_reads_them(seed, size):
    masks = pytest.importorskip("pycocotools.mask")
    mask = (np.random.default_rng(seed).random(size) < 0.5).astype(np.uint8)
    # Long runs, too: numbers of more than one character.
    mask = mask.repeat(3, axis=0).repeat(2, axis=1)
    text = masks.encode(np.asfortranarray(mask))["counts"].decode()
    shape = {"size": list(mask.shape), "counts": text}
    runs = _given_runs(shape, *mask.shape, "annotation 1")
    inside = np.repeat(np.arange(runs.size) % 2, runs)
    assert np.array_equal(inside.reshape(mask.shape[::-1]).T, mask)


@pytest.mark.parametrize("place", ["annotations", "."])
def test_panoptic_segments_come_from_pictures_and_need_no_extra(tmp_path, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    file, labels = write_panoptic(tmp_path / "annotations.json", tmp_path / place)
    (entry,) = Collection([file])
    assert entry.id == "139"
    assert entry.labels == Partition.from_labels(labels)
    assert entry.metadata["objects"] == {"sky": 1, "bird": 1}
    assert entry.metadata["image_id"] == 139


def test_instances_without_pycocotools_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    file = write_json(tmp_path / "instances.json", instances())
    with pytest.raises(MissingExtraError, match=r"Reading polygons of .*hiersearch\[coco\]"):
        list(Collection([file]))


def spoiled(**changes):
    content = instances()
    content["annotations"][2] |= changes
    return content


SIZE = [HEIGHT, WIDTH]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object with a list 'images'"),
        ({"images": []}, "a list 'annotations' of objects"),
        ({"images": [{}], "annotations": []}, r"image \? must have 'id'"),
        (spoiled(image_id=4), "annotation 102 belongs to image 4, which is not listed"),
        (spoiled(segmentation=[]), "annotation 102 must have a polygon, got none"),
        (spoiled(segmentation=[[1, 2, 3, 4]]), "annotation 102 .* three points or more"),
        (spoiled(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "near its image"),
        (spoiled(segmentation=[[1, 2, 3, 4, 5, 1e9]]), "annotation 102 .* near its image"),
        (spoiled(segmentation="?"), "annotation 102 must be polygons or run lengths"),
        (spoiled(segmentation={"size": [3, 4], "counts": [12]}), r"size \[20, 30\], got \[3, 4\]"),
        (spoiled(segmentation={"size": SIZE, "counts": [7]}), "run lengths that fill 20 × 30"),
        (spoiled(segmentation={"size": SIZE, "counts": [-7, 607]}), "that fill 20 × 30"),
        (spoiled(segmentation={"size": SIZE, "counts": "~~~~"}), "compressed run len"),
        (spoiled(segmentation={"size": SIZE, "counts": "Pa"}), "a truncated text"),
        (spoiled(segmentation={"size": SIZE, "counts": "5"}), "that fill 20 × 30"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    pytest.importorskip("pycocotools")
    file = write_json(tmp_path / "a.json", content)
    with pytest.raises(FileFormatError, match=rf"cannot read .*a.json as COCO annot.*{message}"):
        list(Collection([file]))


def test_sizes_that_are_none(tmp_path):
    pytest.importorskip("pycocotools")
    content = instances()
    content["images"][0]["height"] = -3
    with pytest.raises(FileFormatError, match=r"\(image 139\): height of image 139 must be within"):
        list(Collection([write_json(tmp_path / "a.json", content)]))


@pytest.mark.parametrize("keep", [0, 1, 300])
def test_truncated_json(tmp_path, keep):
    file = write_json(tmp_path / "a.json", instances())
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"cannot read .*a.json as COCO annotations"):
        list(Collection([file]))


def test_pictures_that_are_missing_truncated_or_of_another_kind(tmp_path):
    file, _ = write_panoptic(tmp_path / "a.json", tmp_path / "a")
    picture = tmp_path / "a" / "139.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:60])
    with pytest.raises(FileFormatError, match=r"cannot read .*139.png as an image"):
        list(Collection([file]))
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(picture)
    with pytest.raises(FileFormatError, match=r"139.png must be an 8-bit RGB picture"):
        list(Collection([file]))
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(picture)
    with pytest.raises(FileFormatError, match=r"must have the size \(20, 30\), got \(3, 4\)"):
        list(Collection([file]))
    picture.unlink()
    with pytest.raises(FileFormatError, match=r"\(image 139\): 139.png is missing"):
        list(Collection([file]))


def test_panoptic_images_have_one_annotation(tmp_path):
    content, _ = panoptic()
    content["annotations"] *= 2
    with pytest.raises(FileFormatError, match=r"one panoptic annotation, got 2"):
        list(Collection([write_json(tmp_path / "a.json", content)]))


def test_a_box_is_not_taken_for_a_polygon(tmp_path):
    """Four numbers mean x, y, width, height to pycocotools, and nothing here."""
    pytest.importorskip("pycocotools")
    file = write_json(tmp_path / "a.json", spoiled(segmentation=[box(1, 1, 2, 2)[:4]]))
    with pytest.raises(FileFormatError, match=r"three points or more"):
        list(Collection([file]))
