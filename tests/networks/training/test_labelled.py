import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hiersearch.errors import FileFormatError
from hiersearch.networks import read_labelled_images

DATA = Path(__file__).resolve().parents[2] / "data"


def write(path, array):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def pair(folder, name, ending=".png", shape=(6, 8)):
    write(folder / f"{name}{ending}", np.full(shape, 9, np.uint8))
    write(folder / f"{name}-labels.png", np.ones((6, 8), np.uint8))


def test_pairs_in_one_folder_grey_and_colour_mixed():
    found = read_labelled_images(DATA)
    assert found.names == tuple(
        f"nuclei-{name}.png" for name in ("crowded", "dim", "plain", "stained")
    )
    assert [image.shape for image in found.images] == [(256, 256)] * 3 + [(128, 128, 3)]
    assert [len(np.unique(labels)) - 1 for labels in found.label_maps] == [92, 44, 60, 12]
    assert found.untouched == {}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".npy"])
def test_two_folders_and_all_formats(tmp_path, ending):
    if ending == ".tif":
        import tifffile

        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images/a.tif", np.zeros((6, 8), np.uint16))
    else:
        write(tmp_path / f"images/a{ending}", np.zeros((6, 8, 3), np.uint8))
    write(tmp_path / "labels/a.npy", np.ones((6, 8), np.int64))
    write(tmp_path / "notes-labels.png", np.ones((2, 2), np.uint8))
    found = read_labelled_images(tmp_path)
    assert found.names == (f"a{ending}",)
    assert found.images[0].shape[:2] == found.label_maps[0].shape == (6, 8)


def test_an_opaque_alpha_channel_is_dropped(tmp_path):
    pair(tmp_path, "a")
    write(tmp_path / "a.png", np.full((6, 8, 4), 255, np.uint8))
    assert read_labelled_images(tmp_path).images[0].shape == (6, 8, 3)


def test_of_a_manifest_only_the_train_split_is_opened(tmp_path):
    for name in ("a", "b"):
        pair(tmp_path, name)
    (tmp_path / "c.png").write_bytes(b"never looked at")
    (tmp_path / "manifest.csv").write_text("name,split\nb,train\na,validation\nc,test\nd,test\n")
    found = read_labelled_images(tmp_path)
    assert found.names == ("b.png",)
    assert found.untouched == {"test": 2, "validation": 1}


def refused(folder, message, error=ValueError):
    with pytest.raises(error) as caught:
        read_labelled_images(folder)
    text = str(caught.value)
    assert "\n" not in text
    for part in message if isinstance(message, tuple) else (message,):
        assert part in text, text
    assert str(folder) in text


def test_no_folder(tmp_path):
    refused(tmp_path / "none", "must be a folder of images and label maps", FileNotFoundError)
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "it is a file", NotADirectoryError)


def test_an_empty_folder(tmp_path):
    refused(tmp_path, "must hold images with label maps (NAME.png and NAME-labels.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    refused(tmp_path, "got none")


def test_images_without_label_maps_are_named(tmp_path):
    pair(tmp_path, "a")
    for name in "bcdefgh":
        write(tmp_path / f"{name}.png", np.ones((6, 8), np.uint8))
    refused(tmp_path, ("a label map", "b.png, c.png, d.png, e.png, f.png and 2 more"))


def test_label_maps_without_images_are_named(tmp_path):
    pair(tmp_path, "a")
    (tmp_path / "a.png").unlink()
    refused(tmp_path, ("an image for each label map", "a-labels.png"))


def test_shapes_that_differ_are_named(tmp_path):
    pair(tmp_path, "a", shape=(8, 6))
    refused(tmp_path, ("a.png with shape (8, 6)", "a-labels.png with shape (6, 8)"))


def test_volumes_and_other_channels(tmp_path):
    pair(tmp_path, "a", ".npy", shape=(6, 8, 5))
    refused(tmp_path, ("a.npy must be grey or RGB", "(6, 8, 5)"))
    write(tmp_path / "a.npy", np.zeros((6, 8, 5, 3), np.uint8))
    refused(tmp_path, "must share one 2-D grid")


def test_unreadable_files_are_named(tmp_path):
    pair(tmp_path, "a")
    (tmp_path / "a.png").write_bytes(b"no image")
    refused(tmp_path, "cannot read", FileFormatError)
    shutil.copy(tmp_path / "a-labels.png", tmp_path / "a.png")
    write(tmp_path / "a-labels.png", np.zeros((6, 8, 3), np.uint8))
    refused(tmp_path, "a-labels.png", FileFormatError)


def test_two_files_of_one_name(tmp_path):
    pair(tmp_path, "a")
    write(tmp_path / "a.npy", np.ones((6, 8)))
    refused(tmp_path, ("one file of each name", "a.npy and a.png"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name\na\n", "it lacks name and split"),
        (b"", "it lacks name and split"),
        (b"\xff\xfe\x00", "as a manifest"),
        (b"name,split\na,test\n", "images of the split 'train', got none"),
        (b"name,split\na,train\nlost,train\n", "the images that its manifest names: missing for l"),
    ],
)
def test_manifests(tmp_path, content, message):
    pair(tmp_path, "a")
    (tmp_path / "manifest.csv").write_bytes(content)
    refused(tmp_path, message)
