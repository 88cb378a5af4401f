import json

import numpy as np
import pytest
from PIL import Image

from hiersearch.metric import distance
from hiersearch.partitions import SoftPartition
from hiersearch.partitions.files import read_label_map
from tests.cli.running import (
    HEIGHT,
    WIDTH,
    parsed,
    refused,
    run,
    scene,
    write_labels,
    write_scene,
)

QUICK = ("--superpixels", "pixels", "--linkage", "average", "--json")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path)
    return tmp_path


def test_the_written_label_map_has_the_distance_that_is_reported(folder):
    summary = parsed(
        run("match", "image.png", "--soft", "soft.npy", "--reading", "classes", *QUICK)
    )
    image, soft = scene()
    labels = np.load(summary["partition"])
    assert labels.shape == image.shape
    assert summary["regions"] == len(np.unique(labels)) == 3
    target = SoftPartition.from_classes(soft)
    assert summary["distance"] == pytest.approx(distance(target, labels), rel=1e-9)
    assert summary["horizontal"]["distance"] >= summary["distance"]
    assert summary["reading"] == "classes"
    assert summary["superpixels"]["regions"] == HEIGHT * WIDTH
    assert summary["candidates_log10"] > 5
    assert all(value >= 0 for value in summary["seconds"].values())


@pytest.mark.parametrize("overview", [(), ("--overview",)])
def test_all_files_are_written_and_agree(folder, overview):
    source = ("image.png", "--soft", "soft.npy", "--reading", "classes")
    summary = parsed(run("match", *source, *overview, *QUICK))
    out = folder / "image-match"
    names = {"labels.npy", "labels.png", "overlay.png", "summary.json"}
    names |= {"overview.png"} if overview else set()
    assert {path.name for path in out.iterdir()} == names
    assert {str(out / name) for name in names} == set(summary["files"].values())
    assert np.array_equal(read_label_map(out / "labels.png"), np.load(out / "labels.npy"))
    assert json.loads((out / "summary.json").read_text()) == summary
    if overview:
        with Image.open(out / "overview.png") as picture:
            assert picture.size[0] == 1800


def test_without_json_there_is_a_table(folder):
    result = run("match", "image.png", "--soft", "soft.npy", "--reading", "classes", *QUICK[:-1])
    assert result.exit_code == 0
    for part in ("superpixels", "best horizontal cut", "best of all cuts", "image-match"):
        assert part in result.stdout
    assert result.stderr == ""


def test_channels_may_be_on_any_axis_that_fits(folder):
    _, soft = scene()
    np.save(folder / "last.npy", np.moveaxis(soft, 0, -1))
    first = parsed(run("match", "image.png", "--soft", "soft.npy", "--reading", "classes", *QUICK))
    for axis in ((), ("--channel-axis", "-1")):
        last = parsed(
            run("match", "image.png", "--soft", "last.npy", "--reading", "classes", *axis, *QUICK)
        )
        assert last["distance"] == first["distance"]


def test_boundary_maps_come_as_arrays_or_pictures(folder):
    image, _ = scene()
    edges = np.zeros(image.shape, np.uint8)
    for axis in (0, 1):
        edges |= np.where(image != np.roll(image, 1, axis), np.uint8(255), np.uint8(0))
    Image.fromarray(edges).save("edges.png")
    np.save("edges.npy", edges / np.float32(255))
    np.save("edges-first.npy", edges[None] / np.float32(255))
    found = [
        parsed(run("match", "image.png", "--soft", name, "--reading", "boundaries", *QUICK))
        for name in ("edges.png", "edges.npy", "edges-first.npy")
    ]
    assert found[0]["regions"] > 1
    assert len({summary["distance"] for summary in found}) == 1


def test_affinities_separate_what_they_cut(folder):
    image, _ = scene()
    affinities = np.stack([image == np.roll(image, -1, axis) for axis in (0, 1)]).astype("f4")
    np.save("affinities.npy", affinities)
    summary = parsed(
        run(
            "match", "image.png", "--soft", "affinities.npy", "--reading", "affinities",
            "--offsets", "1,0; 0,1", *QUICK,
        )
    )  # fmt: skip
    assert summary["regions"] == 3
    assert summary["distance"] == 0


def test_region_channels_with_region_count_and_minimum_size(folder):
    arguments = ("match", "image.png", "--soft", "soft.npy", "--reading", "regions", *QUICK)
    assert parsed(run(*arguments, "--n-regions", 5))["regions"] == 5
    sizes = np.bincount(np.load(parsed(run(*arguments, "--minimum-size", 60))["partition"]).flat)
    assert sizes.min() >= 60


def test_top_writes_distinct_partitions_in_order(folder):
    arguments = ("match", "image.png", "--soft", "soft.npy", "--reading", "classes", *QUICK)
    summary = parsed(run(*arguments, "-k", 4))
    nearest = summary["nearest"]
    assert len(nearest) == 4
    assert nearest[0]["partition"] == summary["partition"]
    distances = [cut["distance"] for cut in nearest]
    assert distances == sorted(distances)
    maps = [np.load(cut["partition"]) for cut in nearest]
    assert all(distance(a, b) > 0 for i, a in enumerate(maps) for b in maps[i + 1 :])


@pytest.mark.parametrize("method", ["guided", "slic", "felzenszwalb", "watershed"])
def test_superpixels_by_every_method(folder, method):
    count = () if method == "felzenszwalb" else ("--superpixel-count", 60)
    summary = parsed(
        run(
            "match", "image.png", "--soft", "soft.npy", "--reading", "classes", "--json",
            "--superpixels", method, *count,
        )
    )  # fmt: skip
    assert summary["superpixels"]["method"] == method
    assert 1 <= summary["regions"] <= summary["superpixels"]["regions"] < HEIGHT * WIDTH


def test_superpixels_from_a_file(folder):
    blocks = np.arange(HEIGHT)[:, None] // 3 * 100 + np.arange(WIDTH) // 3 - 50
    write_labels(folder / "blocks.tif", blocks)
    summary = parsed(
        run(
            "match", "image.png", "--soft", "soft.npy", "--reading", "classes", "--json",
            "--superpixels", "blocks.tif",
        )
    )  # fmt: skip
    assert summary["superpixels"] == summary["superpixels"] | {
        "method": "blocks.tif",
        "regions": 48,
    }
    assert all(len(np.unique(np.load(summary["partition"])[blocks == b])) == 1 for b in blocks.flat)


def test_the_class_term_is_reported_apart_from_the_distance(folder):
    arguments = ("match", "image.png", "--soft", "soft.npy", "--reading", "classes", *QUICK)
    summary = parsed(run(*arguments, "--class-weight", 0.5))
    labels = np.load(summary["partition"])
    target = SoftPartition.from_classes(scene()[1])
    assert summary["distance"] == pytest.approx(distance(target, labels), rel=1e-9)
    assert summary["objective"] > summary["distance"]
    assert len(summary["classes"]) == summary["regions"]


def test_a_volume_is_written_as_tiff(folder):
    image, soft = scene()
    volume, channels = np.stack([image[::3, ::3]] * 4), np.stack([soft[:, ::3, ::3]] * 4, axis=1)
    np.save("volume.npy", volume)
    np.save("channels.npy", channels)
    summary = parsed(
        run("match", "volume.npy", "--soft", "channels.npy", "--reading", "classes", *QUICK)
    )
    assert summary["grid"] == [4, 6, 8]
    assert summary["files"]["label_map"].endswith("labels.tif")
    labels = read_label_map(summary["files"]["label_map"])
    assert np.array_equal(labels, np.load(summary["partition"]))


def test_one_pixel(folder):
    np.save("one.npy", np.array([[7]], np.uint8))
    np.save("certain.npy", np.ones((2, 1, 1), np.float32) / 2)
    summary = parsed(
        run(
            "match", "one.npy", "--soft", "certain.npy", "--reading", "regions",
            "--channel-axis", 0, *QUICK,
        )
    )  # fmt: skip
    assert summary["regions"] == 1


@pytest.mark.parametrize("kind", ["opaque alpha", "16 bit", "colour", "float"])
def test_images_of_every_kind(folder, kind):
    image, _ = scene()
    colour = np.stack([image, image // 2, image // 3], axis=-1)
    if kind == "opaque alpha":
        Image.fromarray(np.dstack([colour, np.full_like(image, 255)])).save("kind.png")
    elif kind == "16 bit":
        Image.fromarray(image.astype(np.uint16) * 200).save("kind.png")
    elif kind == "colour":
        Image.fromarray(colour).save("kind.png")
    name = "kind.png"
    if kind == "float":
        name = "kind.npy"
        np.save(name, image / 1000)
    summary = parsed(run("match", name, "--soft", "soft.npy", "--reading", "classes", *QUICK))
    assert summary["regions"] == 3
    assert summary["grid"] == [HEIGHT, WIDTH]


def test_a_second_run_replaces_the_first(folder):
    arguments = ("match", "image.png", "--soft", "soft.npy", "--reading", "classes", *QUICK)
    parsed(run(*arguments, "--out", "here/there", "--n-regions", 2))
    summary = parsed(run(*arguments, "--out", "here/there"))
    out = folder / "here" / "there"
    assert len(list(out.iterdir())) == 4
    assert len(np.unique(np.load(out / "labels.npy"))) == summary["regions"] == 3


def test_markers_keep_regions_apart(folder):
    source = ("image.png", "--soft", "soft.npy", "--reading", "classes")
    markers = np.zeros(scene()[0].shape, np.uint8)
    markers[0, 0], markers[-1, -1] = 1, 2
    np.save(folder / "markers.npy", markers)
    free = np.load(parsed(run("match", *source, *QUICK))["partition"])
    held = np.load(parsed(run("match", *source, "--apart", "markers.npy", *QUICK))["partition"])
    assert free[0, 0] == free[-1, -1]
    assert held[0, 0] != held[-1, -1]
    np.save(folder / "small.npy", markers[1:])
    refused(run("match", *source, "--apart", "small.npy", *QUICK), "markers must lie on the grid")


def test_a_device_gives_the_same_partition(folder):
    pytest.importorskip("torch")
    source = ("image.png", "--soft", "soft.npy", "--reading", "classes")
    here, there = (
        parsed(run("match", *source, "--device", device, *QUICK)) for device in ("cpu", "cpu:torch")
    )
    assert there["distance"] == pytest.approx(here["distance"], abs=1e-12)
    assert there["regions"] == here["regions"]
    message = "--device must be cpu, cuda, cuda:N or auto, got 'gpu'"
    refused(run("match", *source, "--device", "gpu", *QUICK), message)
