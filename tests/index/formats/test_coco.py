"""Label maps from COCO annotations."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hiersearch.errors import FileFormatError, MissingExtraError
from hiersearch.index.formats import coco_shapes
from hiersearch.index.formats.coco_shapes import _given_runs
from hiersearch.index.formats.collections import Collection
from hiersearch.partitions import Partition
from tests.index.formats.annotations import (
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
        (spoiled(image_id="139"), "image '139', .* image 139 has an id of type int, not str"),
        (spoiled(image_id=[1]), "'image_id' of annotation 102 must be a whole number or text"),
        (spoiled(category_id=None), "'category_id' of annotation 102 must be a whole number or"),
        (spoiled(segmentation=box(4, 6, 4, 4)), "annotation 102 must have a list of polygons"),
        (spoiled(segmentation=[[1, 2, 3, 4, 5, "6"]]), "102 .* polygons, each a list of numbers"),
        (spoiled(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "NaN, which is no number of JSON"),
        (spoiled(segmentation="?"), "annotation 102 must be polygons or run lengths"),
        (spoiled(segmentation={"size": SIZE, "counts": [-7, 607]}), "102 .* whole numbers from 0"),
        (spoiled(segmentation={"size": SIZE, "counts": "~~~~"}), "compressed run len"),
        (spoiled(segmentation={"size": SIZE, "counts": "Pa"}), "a truncated text"),
        ({**instances(), "categories": {"3": "car"}}, "'categories' must be a list of objects"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    pytest.importorskip("pycocotools")
    file = write_json(tmp_path / "a.json", content)
    with pytest.raises(FileFormatError, match=rf"cannot read .*a.json as COCO annot.*{message}"):
        list(Collection([file]))


def without_segmentation():
    content = instances()
    del content["annotations"][2]["segmentation"]
    return content


FAR = [[-160, -220, 2e8, 3.5e8, 225, 236, 272, 384]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (without_segmentation(), coco_shapes.NO_SHAPE),
        (spoiled(segmentation=None), coco_shapes.NO_SHAPE),
        (spoiled(segmentation=[]), coco_shapes.NO_SHAPE),
        (spoiled(segmentation=[[5, 5]]), coco_shapes.NO_POLYGON),
        # Four numbers mean x, y, width, height to pycocotools, and nothing here.
        (spoiled(segmentation=[[2, 2, 12, 10]]), coco_shapes.NO_POLYGON),
        (spoiled(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), coco_shapes.NO_POLYGON),
        (spoiled(segmentation=FAR), coco_shapes.FAR_AWAY),
        (spoiled(segmentation=[[1, 2, 3, 4, 5, 10**400]]), coco_shapes.FAR_AWAY),
        (spoiled(segmentation=[box(31, 2, 5, 5)]), coco_shapes.OUTSIDE),
        (spoiled(segmentation=[box(4, -9, 5, 5)]), coco_shapes.OUTSIDE),
        (spoiled(segmentation=[box(4, 4, 0, 0)]), coco_shapes.NO_AREA),
        (spoiled(segmentation={"size": SIZE, "counts": [600]}), coco_shapes.NO_AREA),
        (spoiled(segmentation={"size": [30, 20], "counts": [0, 600]}), coco_shapes.ANOTHER_SIZE),
        (spoiled(segmentation={"size": SIZE, "counts": [7]}), coco_shapes.ANOTHER_SIZE),
        (spoiled(segmentation={"size": SIZE, "counts": "5"}), coco_shapes.ANOTHER_SIZE),
    ],
)
def test_objects_without_a_shape_are_left_out_and_counted_or_refused(tmp_path, content, reason):
    pytest.importorskip("pycocotools")
    file = write_json(tmp_path / "a.json", content)
    collection = Collection([file])
    for _ in range(2):
        first, _ = collection
        assert collection.skipped == {reason: 1}
    below = np.arange(WIDTH) < 5  # the crowd
    without = np.where(drawn() == 2, below, drawn())
    assert first.labels == Partition.from_labels(without)
    assert first.metadata["objects"] == {"car": 1, "traffic light": 1, "category 9": 1}
    with pytest.raises(FileFormatError, match=r"102 must have a shape in its image, got"):
        list(Collection([file], strict=True))


def test_of_an_object_only_the_polygon_of_two_points_is_left_out(tmp_path):
    pytest.importorskip("pycocotools")
    content = spoiled(segmentation=[box(2, 2, 12, 10), [5, 5, 6, 6]])
    file = write_json(tmp_path / "a.json", content)
    collection = Collection([file])
    assert next(iter(collection)).labels == Partition.from_labels(drawn())
    assert collection.skipped == {coco_shapes.IN_PART: 1}
    with pytest.raises(FileFormatError, match=r"polygons of \[8, 4\] coordinates"):
        list(Collection([file], strict=True))


def test_whole_numbers_may_be_written_as_floats(tmp_path):
    pytest.importorskip("pycocotools")
    content = instances()
    content["images"][0] |= {"height": 20.0, "width": 30.0}
    first, _ = Collection([write_json(tmp_path / "a.json", content)])
    assert first.labels == Partition.from_labels(drawn())


# --- names ----------------------------------------------------------------------------------


def named(*names):
    """Return two images or more without objects, under other names."""
    images = [{"id": i, "file_name": name, "height": 4, "width": 5} for i, name in enumerate(names)]
    return {"images": images, "annotations": []}


def test_ids_keep_the_folders_of_images(tmp_path):
    content = named("v1/frame0025.png", "v2/frame0025.png", "w\\x.y.jpg", "./top.png")
    entries = list(Collection([write_json(tmp_path / "a.json", content)], prefix="p/"))
    assert [e.id for e in entries] == ["p/v1/frame0025", "p/v2/frame0025", "p/w/x.y", "p/top"]
    assert entries[0].metadata["file"] == "v1/frame0025.png"


def test_images_that_differ_in_the_ending_alone_keep_it(tmp_path):
    content = named("a.jpg", "a.png", "b.png")
    entries = Collection([write_json(tmp_path / "a.json", content)])
    assert [e.id for e in entries] == ["a.jpg", "a.png", "b"]


def test_images_without_a_file_are_called_by_their_ids(tmp_path):
    content = named("a.jpg", "")
    del content["images"][0]["file_name"]
    assert [e.id for e in Collection([write_json(tmp_path / "a.json", content)])] == ["0", "1"]


def test_images_that_cannot_be_told_apart(tmp_path):
    file = write_json(tmp_path / "a.json", named("a.jpg", "a.jpg"))
    with pytest.raises(FileFormatError, match=r"files that differ, got 'a.jpg' 2 times"):
        list(Collection([file]))
    content = named("a.jpg", "b.jpg")
    content["images"][1]["id"] = 0
    with pytest.raises(FileFormatError, match=r"ids that differ, got 0 2 times"):
        list(Collection([write_json(tmp_path / "a.json", content)]))


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/a.png", "C:\\a.png", "..\\a"])
def test_files_do_not_leave_their_folder(tmp_path, name):
    wanted = r"'file_name' of image 0 must not leave its folder, got"
    with pytest.raises(FileFormatError, match=wanted):
        list(Collection([write_json(tmp_path / "a.json", named(name))]))
    (tmp_path / "sub").mkdir()
    file, _ = write_panoptic(tmp_path / "sub" / "a.json", tmp_path / "sub" / "a")
    content, _ = panoptic()
    content["annotations"][0]["file_name"] = name
    with pytest.raises(FileFormatError, match=r"'file_name' of annotation 139 must not leave"):
        list(Collection([write_json(file, content)]))


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"images": [], "annotations": [], "n": ' + "9" * 5000 + "}", "thousands of digits"),
        ('{"images": [], "images": [], "annotations": []}', "the key 'images' twice"),
    ],
)
def test_json_that_cannot_be_taken_as_it_stands(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FileFormatError, match=rf"cannot read .*a.json as COCO annot.*{message}"):
        list(Collection([tmp_path / "a.json"]))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda segments: segments.pop(), r"lacks segment 255, which .*139.png shows"),
        (
            lambda segments: segments.append({"id": 77, "category_id": 1}),
            r"lists segment 77, wh",
        ),
        (lambda segments: segments.append(segments[0]), r"lists a segment of .* twice"),
        (lambda segments: segments.append(3), r"'segments_info' must be a list of objects"),
    ],
)
def test_segments_that_only_one_side_has_are_named(tmp_path, change, message):
    file, _ = write_panoptic(tmp_path / "a.json", tmp_path / "a")
    content, _ = panoptic()
    change(content["annotations"][0]["segments_info"])
    with pytest.raises(FileFormatError, match=message):
        list(Collection([write_json(file, content)]))
