"""``hiersearch index``: filling an index, searching it, and looking after it."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.hierarchy.ucm import ucm
from hiersearch.index.resample import resampled, resampled_labels
from hiersearch.index.store.segment import Segment
from hiersearch.metric import distance
from hiersearch.partitions import Partition, SoftPartition
from hiersearch.partitions.files import read_image, read_label_map
from tests.cli.running import parsed, refused, run, write_labels
from tests.index.faults.crafted import rewrite_segment, sound_folder
from tests.index.formats.annotations import (
    instances,
    write_ground_truth,
    write_json,
    write_panoptic,
)

DATA = Path(__file__).resolve().parents[2] / "data"
NUCLEI = read_label_map(DATA / "nuclei-stained-labels.png")
GRID = (64, 64)


def index(*arguments):
    return run("index", *arguments)


def maps():
    """Twelve label maps: crops of nuclei, some of them moved by a pixel or two."""
    return {
        f"crop-{y}-{x}-{move}": np.roll(NUCLEI[y : y + 64, x : x + 64], move, axis=1)
        for y in (0, 64)
        for x in (0, 64)
        for move in (0, 1, 2)
    }


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Return a folder with label maps, an index of them, and nothing that a test may change."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "maps").mkdir()
    for name, labels in maps().items():
        write_labels(folder / "maps" / f"{name}.png", labels)
    assert index("create", folder / "crops", "--grid", "64x64").exit_code == 0
    split = {name: {"split": "test" if "-2" in name else "train"} for name in maps()}
    write_json(folder / "split.json", split)
    summary = parsed(
        index(
            "add", folder / "crops", folder / "maps", "--metadata", '{"from": "nuclei"}',
            "--metadata-file", folder / "split.json", "--json",
        )
    )  # fmt: skip
    assert (summary["added"], summary["entries"], summary["files"]) == (12, 12, 12)
    assert summary["resampled"] == summary["skipped"] == 0
    assert summary["metadata_unused"] == []
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Return the current folder, with an empty index "crops" in it."""
    monkeypatch.chdir(tmp_path)
    assert index("create", "crops", "--grid", "64x64").exit_code == 0
    return tmp_path


def brute(query, names=None):
    """Rank the label maps by their distances, ties by id."""
    found = [
        (float(distance(query, Partition.from_labels(labels))), name)
        for name, labels in maps().items()
        if names is None or name in names
    ]
    return sorted(found)


def ranked(summary):
    return [(one["distance"], one["id"]) for one in summary["results"]]


# --- searching ------------------------------------------------------------------------------


def test_the_answer_is_that_of_brute_force_and_says_what_it_took(shelf):
    query = NUCLEI[10:74, 20:84]
    write_labels(shelf / "query.png", query)
    summary = parsed(index("search", shelf / "crops", shelf / "query.png", "-k", 5, "--json"))
    assert summary["exact"] is True
    assert summary["complete"] is True
    assert ranked(summary) == brute(Partition.from_labels(query))[:5]
    assert summary["work"]["entries"] == 12
    assert 0 < summary["work"]["exact_distances"] <= 12
    assert summary["resampled_from"] is None
    first = summary["results"][0]
    assert first["rho"] == round(first["distance"] * 4096**2)
    assert first["metadata"]["from"] == "nuclei"
    assert first["metadata"]["file"] == f"{first['id']}.png"


def test_a_device_gives_the_same_answer(shelf):
    pytest.importorskip("torch")
    write_labels(shelf / "near.png", NUCLEI[5:69, 25:89])
    for amount in (("-k", 5), ("--radius", 0.2)):
        command = ("search", shelf / "crops", shelf / "near.png", *amount, "--json")
        found = {
            device: parsed(index(*command, "--device", device))
            for device in ("cpu", "cpu:torch", "auto")
        }
        assert ranked(found["cpu"]) == ranked(found["cpu:torch"]) == ranked(found["auto"])
        assert found["cpu:torch"]["exact"] is True
        assert found["cpu:torch"]["work"]["device"] == "cpu:torch"
        assert found["auto"]["work"]["device"] == found["cpu"]["work"]["device"] == "cpu"
    message = "--device must be cpu, cuda, cuda:N or auto, got 'gpu'"
    refused(index(*command, "--device", "gpu"), message)


def test_a_mask_may_be_the_query(shelf):
    mask = NUCLEI[:64, :64] > 0
    Image.fromarray(mask).save(shelf / "mask.png")
    summary = parsed(index("search", shelf / "crops", shelf / "mask.png", "-k", 12, "--json"))
    assert ranked(summary) == brute(Partition.from_labels(mask))


def test_a_query_of_another_size_is_brought_to_the_grid_and_said_so(shelf):
    write_labels(shelf / "large.npy", NUCLEI)
    command = ("search", shelf / "crops", shelf / "large.npy", "-k", 3)
    summary = parsed(index(*command, "--json"))
    assert summary["resampled_from"] == [128, 128]
    small = Partition.from_labels(resampled_labels(NUCLEI, GRID))
    assert ranked(summary) == brute(small)[:3]
    assert "the query was brought from 128×128 to 64×64" in index(*command).stdout


def test_entries_may_be_queries(shelf):
    summary = parsed(index("search", shelf / "crops", "--id", "crop-0-64-1", "-k", 2, "--json"))
    assert ranked(summary)[0] == (0.0, "crop-0-64-1")
    assert summary["results"][1]["id"].startswith("crop-0-64-")


@pytest.mark.parametrize(
    ("conditions", "chosen"),
    [
        (["split=test"], lambda name: "-2" in name),
        (["split=train", "regions>=4"], lambda name: "-2" not in name and regions(name) >= 4),
    ],
)
def test_conditions_restrict_the_search_exactly(shelf, conditions, chosen):
    where = [part for text in conditions for part in ("--where", text)]
    summary = parsed(
        index("search", shelf / "crops", "--id", "crop-0-0-0", "-k", 4, *where, "--json")
    )
    names = [name for name in maps() if chosen(name)]
    assert 0 < len(names) < 12
    query = Partition.from_labels(maps()["crop-0-0-0"])
    assert ranked(summary) == brute(query, names)[:4]
    assert summary["complete"] == (len(names) >= 4)


def regions(name):
    return np.unique(maps()[name]).size


def test_more_than_there_are_gives_all_and_says_so(shelf):
    command = ("search", shelf / "crops", "--id", "crop-0-0-0", "-k", 100)
    summary = parsed(index(*command, "--json"))
    assert len(summary["results"]) == 12
    assert summary["complete"] is False
    assert "all 12 entries that there are" in " ".join(index(*command).stdout.split())


def test_a_radius_in_place_of_a_number(shelf):
    query = Partition.from_labels(maps()["crop-64-0-0"])
    near = [one for one in brute(query) if one[0] <= 0.2]
    assert 1 < len(near) < 12
    command = ("search", shelf / "crops", "--id", "crop-64-0-0", "--radius")
    assert ranked(parsed(index(*command, 0.2, "--json"))) == near
    write_labels(shelf / "far.npy", np.arange(4096).reshape(GRID))
    nothing = index("search", shelf / "crops", shelf / "far.npy", "--radius", 0)
    assert "nothing in" in nothing.stdout


def soft_output():
    bright = np.where(NUCLEI[:64, :64] > 0, 0.8, 0.1)
    return np.stack([1 - bright, bright]).astype(np.float32)


@pytest.mark.parametrize("reading", ["regions", "classes"])
def test_soft_queries(shelf, reading):
    soft = soft_output()
    np.save(shelf / "soft.npy", np.moveaxis(soft, 0, -1))
    target = getattr(SoftPartition, f"from_{reading}")(soft)
    # The flag stands before or after the file.
    for arguments in (("--soft", shelf / "soft.npy"), (shelf / "soft.npy", "--soft")):
        command = ("search", shelf / "crops", *arguments, "--reading", reading, "-k", 4, "--json")
        summary = parsed(index(*command))
        wanted = brute(target)[:4]
        assert [name for _, name in ranked(summary)] == [name for _, name in wanted]
        found = [d for d, _ in ranked(summary)]
        assert found == pytest.approx([d for d, _ in wanted], abs=1e-9)


def test_soft_queries_of_another_size_are_averaged(shelf):
    soft = np.repeat(np.repeat(soft_output(), 3, axis=1), 2, axis=2)
    np.save(shelf / "large-soft.npy", soft)
    command = ("search", shelf / "crops", shelf / "large-soft.npy", "--soft", "--reading")
    refused(
        index(*command, "regions", "--json"),
        "--channel-axis must be given for", "(2, 192, 128): no axis fits the index's grid (64, 64)",
    )  # fmt: skip
    summary = parsed(index(*command, "regions", "--channel-axis", 0, "--json"))
    assert summary["resampled_from"] == [192, 128]
    wanted = brute(resampled(SoftPartition.from_regions(soft), GRID))
    assert [d for d, _ in ranked(summary)] == pytest.approx([d for d, _ in wanted[:10]], abs=1e-9)


def test_boundary_maps_may_be_pictures(shelf):
    edges = np.zeros(GRID, np.uint8)
    edges[:, 30] = 255
    Image.fromarray(edges).save(shelf / "edges.png")
    command = ("search", shelf / "crops", shelf / "edges.png", "--soft", "--reading", "boundaries")
    summary = parsed(index(*command, "-k", 2, "--json"))
    wanted = brute(SoftPartition.from_boundaries((edges / 255).astype(np.float32)))
    assert [d for d, _ in ranked(summary)] == pytest.approx([d for d, _ in wanted[:2]], abs=1e-9)


def test_the_shipped_network_finds_the_nuclei_of_its_image(empty):
    pytest.importorskip("torch")
    Image.fromarray(read_image(DATA / "nuclei-plain.png")[:64, 192:]).save("image.png")
    for name in ("plain", "crowded", "dim"):
        labels = read_label_map(DATA / f"nuclei-{name}-labels.png")[:64, 192:]
        write_labels(empty / f"{name}.png", labels)
    index("add", "crops", "plain.png", "crowded.png", "dim.png")
    command = ("search", "crops", "image.png", "--network", "nuclei", "-k", 1)
    summary = parsed(index(*command, "--json", "--out", "found"))
    assert summary["results"][0]["id"] == "plain"


def test_approximate_searches_say_so(shelf):
    command = ("search", shelf / "crops", "--id", "crop-0-0-0", "-k", 3, "--approximate", "--json")
    summary = parsed(index(*command))
    assert summary["exact"] is False
    assert len(summary["results"]) == 3


def test_tables_and_pictures(shelf, tmp_path):
    out = tmp_path / "out"
    result = index("search", shelf / "crops", "--id", "crop-0-0-0", "-k", 3, "--out", out)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines() if line.startswith(" crop")] == [
        name for _, name in brute(Partition.from_labels(maps()["crop-0-0-0"]))[:3]
    ]
    assert "exact distances among 12 entries" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["search.json", "search.png"]
    summary = json.loads((out / "search.json").read_text())
    assert len(summary["results"]) == 3
    assert summary["files"]["picture"] == str(out / "search.png")
    with Image.open(out / "search.png") as picture:
        assert picture.size[0] == 1800
        assert np.asarray(picture.convert("L")).std() > 20


def test_soft_queries_have_a_picture_too(shelf, tmp_path):
    np.save(shelf / "soft.npy", soft_output())
    command = ("search", shelf / "crops", shelf / "soft.npy", "--soft", "--reading", "classes")
    assert index(*command, "--out", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "search.png").stat().st_size > 10_000


# --- near-duplicates ------------------------------------------------------------------------


def close_pairs(radius):
    """Return the distances of all pairs of label maps within a radius, by their names."""
    parts = {name: Partition.from_labels(labels) for name, labels in maps().items()}
    names = sorted(parts)
    found = {
        (a, b): float(distance(parts[a], parts[b]))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }
    return {pair: value for pair, value in found.items() if value <= radius}


RADIUS = 0.15


def test_duplicates_are_what_pairs_within_the_radius_connect(shelf, tmp_path):
    wanted = close_pairs(RADIUS)
    assert 3 < len(wanted) < 60
    command = ("duplicates", shelf / "crops", "--radius", RADIUS)
    summary = parsed(index(*command, "--json", "--out", tmp_path))
    groups = summary["groups"]
    joined = {name for pair in wanted for name in pair}
    assert sorted(name for group in groups for name in group) == sorted(joined)
    for pair in wanted:
        assert sum(set(pair) <= set(group) for group in groups) == 1
    every = close_pairs(1)
    for group, distances in zip(groups, summary["distances"], strict=True):
        assert group[0] == min(group)
        assert distances == [0, *(every[group[0], name] for name in group[1:])]
        assert distances == sorted(distances)
    assert (summary["entries"], summary["radius"]) == (12, RADIUS)
    assert summary["redundant"] == len(joined) - len(groups)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["duplicates.json", "duplicates.png"]
    assert json.loads((tmp_path / "duplicates.json").read_text()) == summary
    shown = index(*command).stdout
    assert f"groups: {len(groups)}, of {len(joined)} of 12 entries" in shown
    assert groups[0][0] in shown


def test_pairs_within_the_radius_nearest_first(shelf, tmp_path):
    wanted = close_pairs(RADIUS)
    command = ("duplicates", shelf / "crops", "--radius", RADIUS, "--pairs")
    summary = parsed(index(*command, "--json", "--out", tmp_path))
    assert {(p["a"], p["b"]): p["distance"] for p in summary["pairs"]} == wanted
    order = [p["distance"] for p in summary["pairs"]]
    assert order == sorted(order)
    assert summary["count"] == len(wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["duplicates.json", "duplicates.png"]
    everything = index("duplicates", shelf / "crops", "--radius", 1, "--pairs").stdout
    assert "pairs: 66" in everything
    assert "and 46 more pairs" in everything


def test_no_duplicates(shelf, tmp_path):
    for more in ((), ("--pairs",)):
        result = index("duplicates", shelf / "crops", "--radius", 0, "--out", tmp_path, *more)
        assert result.exit_code == 0
        assert "no two of 12 entries are within 0" in result.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["duplicates.json"]


@pytest.fixture
def copies(empty):
    """Return the current folder, with an index "crops" of 3 and 2 copies and another map."""
    (empty / "maps").mkdir()
    for name, moved in {"b": 0, "a": 0, "c": 0, "d": 2, "e": 2, "f": 20}.items():
        write_labels(empty / "maps" / f"{name}.png", np.roll(NUCLEI[:64, :64], moved, axis=1))
    assert index("add", "crops", "maps").exit_code == 0
    return empty


def test_all_but_the_representatives_are_removed_in_one_commit(copies):
    before = parsed(index("info", "crops", "--json"))["generation"]
    summary = parsed(index("duplicates", "crops", "--radius", 0, "--remove", "--yes", "--json"))
    assert summary["groups"] == [["a", "b", "c"], ["d", "e"]]
    assert (summary["removed"], summary["entries"], summary["left"]) == (["b", "c", "e"], 6, 3)
    info = parsed(index("info", "crops", "--json"))
    assert (info["entries"], info["generation"]) == (3, before + 1)
    again = index("duplicates", "crops", "--radius", 0, "--remove", "--yes")
    assert "no two of 3 entries" in again.stdout
    assert "removed 0, 3 entries left" in again.stdout
    assert parsed(index("info", "crops", "--json"))["generation"] == before + 1


def test_removing_without_a_terminal_needs_yes(copies):
    command = ("duplicates", "crops", "--radius", 0)
    refused(index(*command, "--remove"), "--remove asks before it removes", "--yes")
    refused(index(*command, "--yes"), "--yes is for --remove only")
    refused(index(*command, "--remove", "--yes", "--pairs"), "--pairs and --remove")
    assert parsed(index("info", "crops", "--json"))["entries"] == 6


@pytest.mark.skipif(os.name != "posix", reason="makes a terminal")
@pytest.mark.parametrize(("answer", "left"), [("n", 6), ("y", 3)])
def test_removing_asks_and_says_how_many_go(copies, monkeypatch, capsys, answer, left):
    from hiersearch.cli import app

    keyboard, terminal = os.openpty()
    try:
        os.write(keyboard, f"{answer}\n".encode())
        with os.fdopen(terminal) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            with pytest.raises(SystemExit, match="0"):
                app(["index", "duplicates", "crops", "--radius", "0", "--remove"])
    finally:
        os.close(keyboard)
    said = capsys.readouterr()
    assert "Remove 3 of 6 entries, keeping the first of each group?" in said.err
    assert f"removed {6 - left}, {left} entries left" in said.out
    assert parsed(index("info", "crops", "--json"))["entries"] == left


# --- adding ---------------------------------------------------------------------------------


def ids_in(path):
    """Return the ids of all entries, by the search for anything."""
    info = parsed(index("info", path, "--json"))
    write_labels(Path("any.npy"), np.zeros(GRID, int))
    found = parsed(index("search", path, "any.npy", "-k", max(1, info["entries"]), "--json"))
    assert len(found["results"]) == info["entries"]
    return {one["id"]: one["metadata"] for one in found["results"]}


def test_every_kind_of_file(empty):
    write_labels(empty / "a.png", NUCLEI[:64, :64])
    write_labels(empty / "b.tif", NUCLEI)
    np.savez("c.npz", labels=np.stack([NUCLEI[:64, :64], NUCLEI[64:, 64:]]))
    write_ground_truth(empty / "d.mat", [NUCLEI, NUCLEI.T])
    write_panoptic(empty / "e.json", empty / "e")
    result = index("add", "crops", "a.png", "b.tif", "c.npz", "d.mat", "e.json", "--resample")
    assert result.exit_code == 0, result.output
    assert "added 7 entries from 5 files" in result.stdout
    assert "4 of another size were brought to 64×64" in result.stdout
    found = ids_in("crops")
    assert set(found) == {"a", "b", "c/0", "c/1", "d/0", "d/1", "139"}
    assert found["b"] == {"file": "b.tif", "regions": 13, "height": 128, "width": 128}
    assert found["139"]["objects"] == {"sky": 1, "bird": 1}


def test_instances_of_coco(empty):
    pytest.importorskip("pycocotools")
    write_json(empty / "instances.json", instances())
    index("add", "crops", "instances.json", "--prefix", "val/", "--resample")
    found = ids_in("crops")
    assert set(found) == {"val/000000000139", "val/000000000285"}
    command = ("search", "crops", "any.npy", "--where", "objects.car>=2", "-k", 9, "--json")
    assert [name for _, name in ranked(parsed(index(*command)))] == ["val/000000000139"]


def test_contour_maps_become_cuts(empty):
    image = read_image(DATA / "nuclei-stained.png")
    tree = build_hierarchy(image, superpixels="watershed", linkage="average").monotone()
    savemat("h.mat", {"ucm2": ucm(tree)})
    levels = np.quantile(tree.altitudes[tree.n_leaves :], [0.9, 0.97, 0.99]).tolist()
    chosen = ",".join(map(str, levels))
    assert index("add", "crops", "h.mat", "--thresholds", chosen, "--resample").exit_code == 0
    wanted = {}
    for level in levels:
        cut = tree.labels_of(tree.horizontal_cut(level))
        small = Partition.from_labels(resampled_labels(cut, GRID))
        wanted[f"h@{small.n_regions}"] = small
    found = ids_in("crops")
    assert set(found) == set(wanted)
    assert found[next(iter(wanted))]["file"] == "h.mat"
    index("export", "crops", "out")
    for name, partition in wanted.items():
        assert Partition.from_labels(read_label_map(empty / "out" / f"{name}.png")) == partition
    # What is there is left out as a whole.
    summary = parsed(index("add", "crops", "h.mat", "--skip-existing", "--resample", "--json"))
    assert (summary["added"], summary["skipped"]) == (0, 1)


def test_ids_may_be_given(empty):
    write_labels(empty / "a.png", NUCLEI[:64, :64])
    write_labels(empty / "b.png", NUCLEI[64:, :64])
    assert index("add", "crops", "a.png", "b.png", "--id", "x", "--id", "7").exit_code == 0
    assert set(ids_in("crops")) == {"x", "7"}
    assert parsed(index("remove", "crops", "7", "--json"))["removed"] == ["7"]


def test_adding_goes_on_where_it_ended(empty):
    write_labels(empty / "a.png", NUCLEI[:64, :64])
    write_labels(empty / "b.png", NUCLEI[64:, :64])
    index("add", "crops", "a.png")
    refused(index("add", "crops", "a.png", "b.png"), "'a'")
    result = index("add", "crops", "a.png", "b.png", "--skip-existing")
    assert "added 1 entry from 2 files" in result.stdout
    assert "1 left out: the index has their ids" in result.stdout
    assert set(ids_in("crops")) == {"a", "b"}


def test_annotations_without_a_shape_are_counted_or_refused(empty):
    pytest.importorskip("pycocotools")
    content = instances()
    content["annotations"][2]["segmentation"] = []
    content["annotations"][1]["segmentation"] = [[1, 2]]
    write_json(empty / "instances.json", content)
    refused(
        index("add", "crops", "instances.json", "--strict"),
        "annotation 101 must have a shape in its image, got polygons of [2] coordinates",
    )
    summary = parsed(index("add", "crops", "instances.json", "--resample", "--json"))
    assert summary["added"] == 2
    reasons = {"no polygon of three points or more": 1, "no segmentation": 1}
    assert summary["annotations_skipped"] == reasons
    said = index("add", "crops", "instances.json", "--prefix", "again/", "--resample").stdout
    assert said.count("annotations left out") == 1
    wanted = "2 annotations left out: no polygon of three points or more (1); no segmentation (1)"
    assert wanted in said


def test_ids_keep_the_folders_of_files(empty):
    for name in ("bear", "camel"):
        (empty / "frames" / name).mkdir(parents=True)
        write_labels(empty / "frames" / name / "00000.png", NUCLEI[:64, :64])
    refused(index("add", "crops", "frames"), "got none", "'**/*'")
    assert index("add", "crops", "frames", "--pattern", "*/*.png").exit_code == 0
    assert set(ids_in("crops")) == {"bear/00000", "camel/00000"}
    again = index("add", "crops", "frames/bear", "frames/camel", "--skip-existing", "--json")
    assert parsed(again)["skipped"] == 2


def test_pixels_of_ignored_labels_go_to_the_nearest_when_adding_and_searching(empty):
    open_map = np.repeat([[1] * 30 + [255] * 5 + [2] * 29], 64, axis=0)
    closed = np.repeat([[1] * 32 + [2] * 32], 64, axis=0)
    write_labels(empty / "open.png", open_map)
    write_labels(empty / "closed.png", closed)
    result = index("add", "crops", "open.png", "--ignore", 255)
    assert "320 pixels of ignored labels went to the nearest" in result.stdout
    near = ("search", "crops", "closed.png", "-k", 1, "--json")
    # The middle of an odd number of columns goes to either side.
    rho = parsed(index(*near))["results"][0]["rho"]
    moved = np.repeat([[1] * 33 + [2] * 31], 64, axis=0)
    assert rho in (0, round(distance(closed, moved) * 4096**2))
    summary = parsed(index("search", "crops", "open.png", "--ignore", 255, "-k", 1, "--json"))
    assert summary["results"][0]["rho"] == 0
    for command in (("add", "crops", "closed.png"), near[:5]):
        absent = index(*command, "--ignore", 255)
        assert absent.exit_code == 0
        assert "warning: no pixel" in absent.stderr
        assert "--ignore (255)" in absent.stderr
    refused(
        index("search", "crops", "--id", "open", "--ignore", 255), "--ignore is for a label map"
    )
    refused(
        index("search", "crops", "closed.png", "--ignore", 1, "--ignore", 2), "must have a label"
    )


def test_arrays_of_archives_by_name(empty):
    np.savez("l.npz", image=NUCLEI[:64, :64] % 5, a=NUCLEI[:64, :64], b=NUCLEI[64:, 64:])
    refused(index("add", "crops", "l.npz"), "several arrays", "(image, a, b)", "--key")
    assert index("add", "crops", "l.npz", "--key", "a", "--key", "b").exit_code == 0
    assert set(ids_in("crops")) == {"l/a", "l/b"}
    command = ("search", "crops", "l.npz", "-k", 1)
    refused(index(*command), "several arrays")
    summary = parsed(index(*command, "--key", "b", "--json"))
    assert ranked(summary) == [(0.0, "l/b")]
    np.savez("soft.npz", x=soft_output(), y=soft_output()[::-1])
    soft = ("search", "crops", "soft.npz", "--soft", "--reading", "classes", "-k", 1, "--json")
    refused(index(*soft), "several arrays", "(x, y)")
    assert parsed(index(*soft, "--key", "x"))["results"][0]["id"] == "l/a"
    refused(index("search", "crops", "--id", "l/a", "--key", "x"), "--key is for QUERY")
    write_labels(empty / "q.png", NUCLEI)
    refused(index("search", "crops", "q.png", "--key", "x"), "--key is for .npz, .pt")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"a": {"x": ' + "[" * 100_000, "nested too deep"),
        ('{"a": {}, "b": {}, "a": {}}', "the key 'a' twice"),
        ('{"a": {"x": NaN}}', "NaN, which is no number of JSON"),
        ('{"a": {"x": ' + "9" * 5000 + "}}", "thousands of digits"),
        ('{"a": 3}', "must map ids to objects, got 3"),
    ],
)
def test_metadata_that_cannot_be_taken_as_they_stand(empty, text, part):
    write_labels(empty / "a.png", NUCLEI[:64, :64])
    (empty / "m.json").write_text(text)
    refused(index("add", "crops", "a.png", "--metadata-file", "m.json"), "m.json", part)


def test_conditions_nested_too_deep_are_text(shelf):
    command = ("search", shelf / "crops", "--id", "crop-0-0-0", "--where", "split=" + "[" * 100_000)
    assert parsed(index(*command, "--json"))["results"] == []


def test_metadata_that_no_entry_takes_is_said(empty):
    write_labels(empty / "a.png", NUCLEI[:64, :64])
    write_json(empty / "m.json", {"a": {"x": 1}, "b": {}, "c": {}})
    command = ("add", "crops", "a.png", "--metadata-file", "m.json", "--metadata", '{"x": 0}')
    result = index(*command)
    assert "metadata of 2 ids not used, 'b' the first" in result.stdout
    assert ids_in("crops")["a"]["x"] == 1


def test_label_maps_of_another_size_are_left_out_and_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index("create", "crops", "--grid", "4x6")
    write_labels(tmp_path / "fits.png", np.arange(24).reshape(4, 6))
    write_labels(tmp_path / "large.png", np.arange(96).reshape(8, 12))
    result = index("add", "crops", "fits.png", "large.png", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["added"], summary["resampled"]) == (1, 0)
    (failed,) = summary["failed"]
    assert failed["file"].endswith("large.png")
    for part in ("(8, 12)", "(4, 6)", "--resample"):
        assert part in failed["error"]
    summary = parsed(index("add", "crops", "large.png", "--resample", "--json"))
    assert (summary["added"], summary["resampled"]) == (1, 1)


def test_a_volume_is_an_entry_of_an_index_of_volumes(empty):
    volume = np.load(DATA / "em-crop.npz")["fragments"]
    np.savez("v.npz", labels=volume)
    index("create", "volumes", "--grid", "6x24x32")
    summary = parsed(index("add", "volumes", "v.npz", "--resample", "--json"))
    assert (summary["added"], summary["resampled"]) == (1, 1)
    summary = parsed(index("search", "volumes", "v.npz", "-k", 1, "--json", "--out", "out"))
    assert ranked(summary) == [(0.0, "v")]
    assert index("export", "volumes", "maps").exit_code == 0
    wanted = Partition.from_labels(resampled_labels(volume, (6, 24, 32)))
    assert Partition.from_labels(read_label_map(empty / "maps" / "v.tif")) == wanted


# --- looking after it -----------------------------------------------------------------------


def copied(shelf, folder):
    import shutil

    shutil.copytree(shelf / "crops", folder / "copy")
    return folder / "copy"


def test_what_is_removed_is_not_found(shelf, tmp_path):
    copy = copied(shelf, tmp_path)
    result = index("remove", copy, "crop-0-0-0", "crop-0-0-1", "crop-0-0-0")
    assert "removed 2 entries" in result.stdout
    assert "10 left" in result.stdout
    write_labels(tmp_path / "q.png", maps()["crop-0-0-0"])
    kept = [name for name in maps() if name not in ("crop-0-0-0", "crop-0-0-1")]
    query = Partition.from_labels(maps()["crop-0-0-0"])
    for _ in range(2):
        summary = parsed(index("search", copy, tmp_path / "q.png", "-k", 10, "--json"))
        assert ranked(summary) == brute(query, kept)
        assert parsed(index("compact", copy, "--json"))["entries"] == 10


def test_nothing_goes_if_one_id_is_unknown(shelf, tmp_path):
    copy = copied(shelf, tmp_path)
    refused(index("remove", copy, "crop-0-0-0", "crop-9"), "no entry with the id 'crop-9'")
    assert parsed(index("info", copy, "--json"))["entries"] == 12


def test_several_are_removed_in_one_commit(shelf, tmp_path):
    copy = tmp_path / "index"
    shutil.copytree(shelf / "crops", copy)
    before = parsed(index("info", copy, "--json"))["generation"]
    summary = parsed(index("remove", copy, "crop-0-0-0", "crop-0-0-1", "crop-64-0-2", "--json"))
    assert (len(summary["removed"]), summary["entries"]) == (3, 9)
    assert parsed(index("info", copy, "--json"))["generation"] == before + 1


@pytest.mark.filterwarnings("ignore::hiersearch.errors.MergingWarning")
def test_a_merge_that_fails_is_a_warning(shelf, tmp_path):
    copy = tmp_path / "index"
    assert index("create", copy, "--grid", "64x64").exit_code == 0
    one = next((shelf / "maps").iterdir())
    for number in range(15):
        assert index("add", copy, one, "--prefix", f"{number}/").exit_code == 0
    old = copy / "segments" / "00000004.seg"
    content = bytearray(old.read_bytes())
    content[Segment.open(old)._arrays["masses"].offset + 1] ^= 1
    old.write_bytes(content)
    added = index("add", copy, one, "--prefix", "15/", "--json")
    assert added.exit_code == 0
    assert "hiersearch: warning: all is added, but small segments could not be" in added.stderr
    assert parsed(added)["added"] == 1
    assert "00000004.seg" in parsed(added)["merging"]
    told = index("info", copy)
    assert "16 small segments wait to be merged" in " ".join(told.stdout.split())
    assert index("compact", copy).exit_code == 2
    assert index("repair", copy).exit_code == 0
    assert index("compact", copy).exit_code == 0
    assert "merging" not in index("info", copy).stdout


@pytest.mark.parametrize("grid", ["65536x65536", "2000x2000x2000"])
def test_a_grid_that_is_too_large_leaves_nothing(tmp_path, grid):
    made = index("create", tmp_path / "a" / "index", "--grid", grid)
    assert refused(made, "grid must have fewer than 2**31 pixels")
    assert list(tmp_path.iterdir()) == []


def test_info_in_both_forms(shelf):
    summary = parsed(index("info", shelf / "crops", "--json"))
    assert summary["entries"] == 12
    assert list(summary["grid"]) == [64, 64]
    assert "12" in index("info", shelf / "crops").stdout


def test_export_writes_label_maps_and_whose_they_are(shelf, tmp_path):
    out = tmp_path / "all"
    result = index("export", shelf / "crops", out)
    assert "wrote 12 entries" in result.stdout
    records = json.loads((out / "entries.json").read_text())["entries"]
    assert {record["id"] for record in records} == set(maps())
    for record in records:
        labels = read_label_map(out / record["file"])
        assert Partition.from_labels(labels) == Partition.from_labels(maps()[record["id"]])
        assert record["metadata"]["from"] == "nuclei"
    some = parsed(index("export", shelf / "crops", tmp_path / "b", "--id", "crop-0-0-1", "--json"))
    assert some["files"] == ["crop-0-0-1.png"]


def test_names_of_files_stay_in_the_folder_and_apart(empty):
    write_labels(empty / "a.png", NUCLEI[:64, :64])
    names = ["../up", "a/b", "a-b", "A-B", ".hidden", "x" * 300]
    for name in names:
        assert index("add", "crops", "a.png", "--id", name).exit_code == 0
    files = parsed(index("export", "crops", "out", "--json"))["files"]
    assert len({name.lower() for name in files}) == len(names)
    assert sorted(path.name for path in (empty / "out").iterdir()) == sorted(
        [*files, "entries.json"]
    )
    assert not any(name.startswith(".") for name in files)


def test_damage_is_found_and_mended(shelf, tmp_path):
    copy = copied(shelf, tmp_path)
    assert "is sound" in index("verify", copy).stdout
    assert parsed(index("verify", copy, "--json"))["sound"] is True
    (segment,) = copy.rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    found = index("verify", copy, "--json")
    assert found.exit_code == 1
    summary = json.loads(found.stdout)
    assert summary["sound"] is False
    assert segment.name in summary["damage"][0]
    result = index("verify", copy)
    assert result.exit_code == 1
    assert "index repair" in result.stdout
    report = parsed(index("repair", copy, "--json"))
    assert report["kept"] + len(report["lost"]) == 12
    assert report["damage"] == summary["damage"]
    assert index("verify", copy).exit_code == 0
    assert parsed(index("info", copy, "--json"))["entries"] == report["kept"]
    assert "kept" in index("repair", copy).stdout


def test_verify_deep_finds_bounds_that_are_not_what_runs_give(tmp_path):
    sound_folder(tmp_path / "index")
    assert "is sound" in index("verify", tmp_path / "index", "--deep").stdout

    def alter(arrays):
        arrays["squares"][3] -= 1

    rewrite_segment(tmp_path / "index", 1, arrays=alter)
    assert index("verify", tmp_path / "index").exit_code == 0
    result = index("verify", tmp_path / "index", "--deep")
    assert result.exit_code == 1
    assert "is not what the runs of entry" in result.stdout.replace("\n", " ")
    assert f"index repair {tmp_path / 'index'} --deep" in result.stdout.replace("\n", "")
    assert parsed(index("repair", tmp_path / "index", "--json"))["damage"] == []
    report = parsed(index("repair", tmp_path / "index", "--deep", "--json"))
    assert len(report["damage"]) >= 1
    assert report["lost"] == []
    assert index("verify", tmp_path / "index", "--deep").exit_code == 0


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_interrupted_adding_leaves_a_sound_index_and_says_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_large_maps(tmp_path / "maps", 8)
    index("create", "noise", "--grid", "256x256")
    code = """
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from hiersearch.index.formats import collections
        read, seen = collections.read_label_map, []
        def interrupt(file):
            seen.append(file)
            if len(seen) == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return read(file)
        collections.read_label_map = interrupt
        from hiersearch.cli import main
        sys.argv = "hiersearch index add noise maps --memory 1MB".split()
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert "Traceback" not in done.stderr
    entries = parsed(index("info", "noise", "--json"))["entries"]
    assert 0 < entries < 7
    assert f"noise is sound and holds {entries} entries, {entries} of them new" in done.stderr
    assert index("verify", "noise").exit_code == 0
    summary = parsed(index("add", "noise", "maps", "--skip-existing", "--json"))
    assert (summary["skipped"], summary["entries"]) == (entries, 8)


def write_large_maps(folder, count):
    """Write maps of so many runs that a few of them fill a megabyte."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place in range(count):
        write_labels(folder / f"{place}.png", rng.integers(0, 4, (256, 256)))


def test_progress_shows_rate_and_time_left_on_a_terminal_only(monkeypatch):
    import io

    import rich.console

    from hiersearch.cli.console import progress_bar

    for is_terminal in (True, False):
        written = io.StringIO()
        screen = rich.console.Console(file=written, force_terminal=is_terminal, width=120)
        monkeypatch.setattr(rich.console, "Console", lambda screen=screen, **options: screen)
        with progress_bar("Adding", "entries", quiet=False) as report:
            report(0.5, 1200)
        shown = written.getvalue()
        assert ("1,200 entries, " in shown) == is_terminal
        assert ("/s" in shown) == is_terminal
        assert ("50%" in shown) == is_terminal
        assert ("left" in shown) == is_terminal


def test_help_needs_none_of_the_heavy_packages():
    code = """
        import sys
        from typer.testing import CliRunner
        from hiersearch.cli import app
        for name in ("create", "add", "search", "duplicates", "export", "verify"):
            assert CliRunner().invoke(app, ["index", name, "--help"]).exit_code == 0
        heavy = {"numpy", "scipy", "numba", "skimage", "matplotlib", "torch", "rich.progress"}
        sys.exit(f"imported {heavy & set(sys.modules)}" if heavy & set(sys.modules) else 0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", ["64", "64x", "64x0", "axb", "1x2x3x4", "64x-3", "", "64.5x64"])
def test_grids_that_are_none(tmp_path, grid):
    refused(index("create", tmp_path / "i", "--grid", grid), "--grid must be HxW", repr(grid))
    assert not (tmp_path / "i").exists()


def test_an_index_is_not_created_over_something_else(empty):
    write_labels(empty / "a.png", NUCLEI)
    refused(index("create", ".", "--grid", "8x8"), ".")
    refused(index("create", "a.png", "--grid", "8x8"), "a.png")
    refused(index("create", "crops", "--grid", "8x8"), "crops")


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "{}", "a.png"), ("search", "{}", "a.png"), ("duplicates", "{}", "--radius", "0"),
        ("remove", "{}", "x"), ("info", "{}"), ("verify", "{}"), ("repair", "{}"),
        ("compact", "{}"), ("export", "{}", "out"),
    ],
)  # fmt: skip
def test_folders_that_are_no_index(empty, arguments):
    write_labels(empty / "a.png", NUCLEI)
    (empty / "photos").mkdir()
    (empty / "photos" / "a.txt").write_text("x")
    for path in ("photos", "absent", "a.png"):
        refused(index(*(part.format(path) for part in arguments)), path)
    assert not (empty / "absent").exists()
    assert [file.name for file in (empty / "photos").iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("crop.png", "-k", 0), ("-k must be at least 1, got 0",)),
        (("crop.png", "-k", 2, "--radius", 0.1), ("at most one of -k and --radius",)),
        (("crop.png", "--radius", -0.1), ("--radius must be within 0..1, got -0.1",)),
        (("crop.png", "--radius", "nan"), ("--radius must be within 0..1, got nan",)),
        (("crop.png", "--radius", 0.1, "--approximate"), ("--approximate is for -k only",)),
        ((), ("give either QUERY or --id, got neither",)),
        (("crop.png", "--id", "a"), ("give either QUERY or --id, got both",)),
        (("--id", "nobody"), ("no entry with the id 'nobody'",)),
        (("absent.png",), ("absent.png: no such file",)),
        (("crop.png", "--soft"), ("--reading must say what the channels mean",)),
        (("crop.png", "--soft", "--reading", "x"), ("--reading must be one of", "'x'")),
        (("crop.png", "--reading", "classes"), ("--reading is for --soft or --network FILE only",)),
        (("crop.png", "--network", "nuclei", "--reading", "classes"), ("--reading is for",)),
        (("crop.png", "--soft", "--network", "nuclei"), ("at most one of --soft and --network",)),
        (("--id", "a", "--soft"), ("--soft is for QUERY only",)),
        (("crop.png", "--channel-axis", 0), ("--channel-axis is for --soft only, got 0",)),
        (("crop.png", "--activation", "softmax"), ("--activation is for --network FILE only",)),
        (("crop.png", "--network", "x.pt", "--reading", "classes", "--activation", "y"), ("'y'",)),
        (("crop.png", "--soft", "--reading", "affinities"), ("--offsets must be given",)),
        (("crop.png", "--soft", "--reading", "classes", "--offsets", "0,1"), ("--offsets is for",)),
        (("crop.png", "--soft", "--reading", "classes"), ("cannot read crop.png as prob",)),
        (("crop.png", "--where", "split"), ("condition must be KEY", "'split'")),
        (("crop.png", "--where", "spilt=train"), ("'spilt'", "split")),
        (("volume.npy",), ("must be 2-D", "(2, 3, 4)")),
        (("soft.npy", "--soft", "--reading", "classes"), ("2-D grid", "(2, 3, 4, 5)")),
        (("square.npy", "--soft", "--reading", "classes"), ("axes [0, 1, 2] all fit",)),
        (("square.npy", "--soft", "--reading", "classes", "--channel-axis", 5), ("within -3..2",)),
        (("nan.npy", "--soft", "--reading", "classes"), ("nan.npy", "must be finite, got nan")),
        (("crop.png", "--out", "crop.png"), ("cannot be a folder",)),
    ],
)  # fmt: skip
def test_searches_that_are_refused(shelf, tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(tmp_path)
    write_labels(tmp_path / "crop.png", NUCLEI[:64, :64])
    np.save("volume.npy", np.zeros((2, 3, 4), int))
    np.save("soft.npy", np.zeros((2, 3, 4, 5), np.float32))
    np.save("square.npy", np.full((64, 64, 64), 1 / 64, np.float32))
    np.save("nan.npy", np.full((2, 64, 64), np.nan, np.float32))
    refused(index("search", shelf / "crops", *arguments), *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("absent.png",), ("absent.png: no such file or folder",)),
        (("notes.txt",), ("notes.txt must be a folder or end in",)),
        (("maps",), ("maps must hold files * that end in", "got none")),
        (("crop.png", "--metadata", "{"), ("--metadata must be a JSON object, got '{'",)),
        (("crop.png", "--metadata", "[1]"), ("--metadata must be a JSON object, got '[1]'",)),
        (("crop.png", "--metadata", '{"a": NaN}'), ("a",)),
        (("crop.png", "--metadata-file", "notes.txt"), ("--metadata-file notes.txt must be",)),
        (("crop.png", "--metadata-file", "one.json"), ("map ids to objects, got 1 for 'crop'",)),
        (("crop.png", "--metadata-file", "absent.json"), ("absent.json: no such file",)),
        (("crop.png", "--thresholds", "a"), ("--thresholds must be numbers like",)),
        (("crop.png", "--memory", "much"), ("--memory must be a size like 256MB, got 'much'",)),
        (("crop.png", "--memory", "0"), ("--memory must be a size", "'0'")),
        (("crop.png", "--memory", "9KB"), ("memory must be at least 1048576, got 9216",)),
        (("crop.png", "--id", "a", "--id", "b"), ("names must be one for each of 1 files, got 2",)),
        (("crop.png", "crop.png"), ("'crop'",)),
        (("cut.png",), ("cannot read cut.png as a label map",)),
        (("cut.mat",), ("cannot read cut.mat as MATLAB segmentations",)),
        (("cut.json",), ("cannot read cut.json as COCO annotations",)),
        (("colour.png",), ("cannot read colour.png as a label map", "3 channels")),
        (("volumes.npy",), ("must hold 2-D label maps or a stack", "(2, 2, 3, 4)")),
    ],
)  # fmt: skip
def test_what_is_not_added(empty, arguments, parts):
    write_labels(empty / "crop.png", NUCLEI[:64, :64])
    (empty / "notes.txt").write_text("hello")
    (empty / "maps").mkdir()
    write_json(empty / "one.json", {"crop": 1})
    (empty / "cut.png").write_bytes((empty / "crop.png").read_bytes()[:90])
    cut = write_ground_truth(empty / "cut.mat", [NUCLEI])
    cut.write_bytes(cut.read_bytes()[:300])
    (empty / "cut.json").write_text('{"images": [')
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("colour.png")
    np.save("volumes.npy", np.zeros((2, 2, 3, 4), int))
    refused(index("add", "crops", *arguments), *parts)
    assert parsed(index("info", "crops", "--json"))["entries"] == 0


def test_what_was_added_before_an_error_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_large_maps(tmp_path / "maps", 6)
    index("create", "noise", "--grid", "256x256")
    # The last file is there already.
    index("add", "noise", "maps/5.png")
    result = index("add", "noise", "maps", "--memory", "1MB")
    entries = parsed(index("info", "noise", "--json"))["entries"] - 1
    assert entries > 0
    refused(result, "'5'", f"; {entries} entries were added before: go on with --skip-existing")


def test_instances_without_pycocotools(empty, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    write_json(empty / "instances.json", instances())
    refused(index("add", "crops", "instances.json"), 'pip install "hiersearch[coco]"')


@pytest.mark.parametrize("radius", ["-1", "2", "nan"])
def test_radii_that_are_none(shelf, radius):
    refused(
        index("duplicates", shelf / "crops", "--radius", radius), "--radius must be within 0..1"
    )


def test_queries_of_an_empty_index(empty):
    write_labels(empty / "a.png", NUCLEI[:64, :64])
    refused(index("search", "crops", "a.png", "-k", 3, "--json"), "must hold an entry", "crops")
    assert parsed(index("duplicates", "crops", "--radius", 1, "--json"))["groups"] == []
