"""Each example runs as a reader would run it, from any folder, and says something true."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments, folder):
    """Run an example in ``folder`` and return what it prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(printed):
    """Split the lines of a table into a name and numbers, missing ones as NaN."""
    found = {}
    for line in printed.splitlines():
        match = re.fullmatch(r"(\S.*?) {2,}((?:(?:-?[\d.]+|–) +)+-?[\d.]+)", line)
        if match:
            numbers = match[2].replace("–", "nan").split()
            found[match[1]] = [float(number) for number in numbers]
    return found


def shown(path):
    """Size of a picture that is not blank."""
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("L")).std() > 20
        return picture.size


def test_every_example_has_a_test():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "match_nuclei.py",
        "match_em_volume.py",
        "readings.py",
        "index_nuclei.py",
        "refine_em_volume.py",
        "refine_nuclei.py",
        "train_nuclei.py",
    }


def test_nuclei_the_best_of_all_cuts_is_no_farther_than_the_best_threshold(tmp_path):
    pytest.importorskip("torch")
    printed = run("match_nuclei.py", "--out", "pictures", folder=tmp_path)
    found = {
        name: (float(distance), int(regions), float(to_truth))
        for name, distance, regions, to_truth in re.findall(
            r"(best [a-z ]+cuts?): distance ([\d.]+), (\d+) regions, best of \S+; ([\d.]+)", printed
        )
    }
    best, horizontal = found["best of all cuts"], found["best horizontal cut"]
    assert best[0] <= horizontal[0] < 0.1
    # 63 nuclei, some of them touching, and the background.
    assert 30 <= best[1] <= 200
    assert best[2] < 0.04
    nearest = [float(d) for d in re.findall(r"nearest cut \d: distance ([\d.]+)", printed)]
    assert len(nearest) == 3
    assert nearest == sorted(nearest)
    assert nearest[0] == pytest.approx(best[0], abs=1e-5)
    assert shown(tmp_path / "pictures" / "match.png")[0] == 1800


def test_em_volume_a_low_break_even_comes_close_to_the_best_threshold(tmp_path):
    printed = run("match_em_volume.py", "--out", tmp_path / "em", folder=tmp_path)
    table = rows(printed)
    regions = {name: numbers[0] for name, numbers in table.items()}
    rand_error = {name: numbers[2] for name, numbers in table.items()}
    information = {name: numbers[3] for name, numbers in table.items()}
    oracle = "best threshold, chosen with the ground truth"
    cuts = [f"nearest cut, break-even affinity {value}" for value in ("0.5", "0.3", "0.1", "0.05")]
    assert regions["fragments"] == 27
    counts = [regions[name] for name in ("fragments", *cuts)]
    assert counts == sorted(counts, reverse=True)
    for error in (rand_error, information):
        assert error[oracle] <= error[cuts[-1]] < error[cuts[0]] < error["fragments"]
    assert rand_error[cuts[-1]] <= 1.1 * rand_error[oracle]
    assert rand_error["nearest cut, break-even affinity 0.01"] > rand_error["fragments"]
    assert shown(tmp_path / "em" / "em.png")[0] == 1650


def test_em_volume_takes_a_volume_of_ones_own(tmp_path):
    # Two cells of two fragments each, with a membrane between the cells.
    fragments = np.repeat(np.arange(1, 5), 3).reshape(1, 1, 12) * np.ones((4, 5, 1), int)
    membrane = np.zeros(fragments.shape, np.float16)
    membrane[..., 5:7] = 1
    np.savez(
        tmp_path / "cells.npz",
        image=(255 * (1 - membrane)).astype(np.uint8),
        boundary_probability=membrane,
        fragments=fragments.astype(np.uint16),
        ground_truth=((fragments + 1) // 2).astype(np.uint16),
    )
    table = rows(run("match_em_volume.py", "cells.npz", "--out", "em", folder=tmp_path))
    assert table["fragments"][0] == 4
    for value in ("0.5", "0.05"):
        regions, _, rand_error, information = table[f"nearest cut, break-even affinity {value}"]
        assert (regions, rand_error, information) == (2, 0, 0)


def test_readings_a_wrong_reading_prefers_all_nuclei_as_one_region(tmp_path):
    pytest.importorskip("torch")
    printed = run("readings.py", "--out", "pictures", folder=tmp_path)
    table = rows(printed)
    apart = {name: numbers[4] for name, numbers in table.items()}
    as_one = {name: numbers[5] for name, numbers in table.items()}
    for name in ("regions", "classes", "boundaries"):
        assert apart[name] < as_one[name]
    assert as_one["classes as regions"] < apart["classes as regions"]
    # Objects and boundaries tell touching nuclei apart, classes cannot.
    nuclei = {name: numbers[2] for name, numbers in table.items()}
    assert min(nuclei["regions"], nuclei["boundaries"]) > nuclei["classes"] > 0
    to_truth = {name: numbers[3] for name, numbers in table.items()}
    assert to_truth["boundary as a class"] > 3 * to_truth["boundaries"]
    target = tmp_path / "pictures" / "readings.png"
    assert shown(target)[0] > 1000
    assert target.stat().st_size < 600_000


def test_index_the_second_annotators_maps_are_the_near_duplicates(tmp_path):
    printed = run("index_nuclei.py", "--out", "pictures", folder=tmp_path)
    count = int(re.search(r"([\d,]+) label maps of 128 × 128", printed)[1])
    assert count > 500
    first = re.search(
        r"nearest to '(.+)', moved by three pixels:\n +distance [\d.]+ +(.+)", printed
    )
    assert first[1] == first[2]
    distances = int(re.search(r"exact: ([\d,]+) exact distances among", printed)[1])
    assert distances < count
    pairs = re.findall(r"distance ([\d.]+)  (.+) \| (.+)", printed)
    assert len(pairs) == 12
    for distance, one, other in pairs:
        original, anew = sorted((one, other), key=len)
        way = anew.removeprefix(f"{original} ")
        assert way in ("copied", "missed", "moved", "grown")
        assert (float(distance) == 0) == (way == "copied")
    for name in ("nearest.png", "duplicates.png"):
        assert shown(tmp_path / "pictures" / name)[0] == 1800


def test_index_a_folder_of_ones_own(tmp_path):
    labels = np.zeros((40, 60), np.uint16)
    labels[5:20, 5:30] = 1
    labels[22:35, 33:50] = 2
    for place, moved in enumerate((0, 0, 20)):
        Image.fromarray(np.roll(labels, moved, axis=1)).save(tmp_path / f"{place}-mask.png")
    printed = run("index_nuclei.py", ".", "--pattern", "*-mask.png", folder=tmp_path)
    assert "3 label maps of 128 × 128" in printed
    assert "groups of near-duplicates within 0.03: 1" in printed
    assert "distance 0.00000  0-mask | 1-mask" in printed


def test_em_objects_calibrated_on_the_map_are_as_good_as_the_best_threshold(tmp_path):
    printed = run("refine_em_volume.py", "--out", tmp_path / "em", folder=tmp_path)
    table = rows(printed)
    rand_error = {name: numbers[1] for name, numbers in table.items()}
    oracle = rand_error["best threshold, chosen with the ground truth"]
    assert rand_error["calibrated"] <= oracle
    assert rand_error["calibrated, own basins"] <= 1.1 * oracle
    assert rand_error["calibrated"] < rand_error["break-even 0.5"] < rand_error["fragments"]
    assert shown(tmp_path / "em" / "em-objects.png")[0] == 1800


def test_refining_nuclei_betters_classes_and_objects(tmp_path):
    pytest.importorskip("torch")
    printed = run("refine_nuclei.py", "--out", "pictures", folder=tmp_path)
    found = {
        (kind, name): (float(first), float(second))
        for kind, name, first, second in re.findall(
            r"(classes|objects), (.+): .+ ([\d.]+), .+ ([\d.]+)", printed
        )
    }
    for kind, plain in (("classes", "arg-max"), ("objects", "nearest seed")):
        before, after = found[kind, plain], found[kind, "refined"]
        assert after[0] > before[0]
        assert after[1] > before[1]
    for name in ("classes.png", "objects.png"):
        assert shown(tmp_path / "pictures" / name)[0] > 3000


def test_training_on_four_images_lowers_the_loss_and_gives_a_network(tmp_path):
    torch = pytest.importorskip("torch")
    printed = run("train_nuclei.py", "--out", "trained", "--steps", 60, folder=tmp_path)
    rows = re.findall(r"step (\d+), loss ([\d.]+), average_precision_50 ([\d.e-]+)", printed)
    assert [int(step) for step, *_ in rows] == [15, 30, 45, 60]
    losses = [float(loss) for _, loss, _ in rows]
    assert losses[-1] < 0.8 * losses[0]
    assert 0 <= float(re.search(r"refined: AP at IoU 0.5 ([\d.]+)", printed)[1]) <= 1
    content = torch.load(tmp_path / "trained" / "nuclei.pt", weights_only=True)
    assert content["reading"] == "objects"
    assert shown(tmp_path / "trained" / "learning.png")[0] == 1200
    assert shown(tmp_path / "trained" / "nuclei.png")[0] > 1000
