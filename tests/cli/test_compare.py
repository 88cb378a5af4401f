import json

import numpy as np
import pytest
from sklearn.metrics.cluster import pair_confusion_matrix

from tests.cli.running import parsed, refused, run, write_labels


@pytest.fixture
def maps(tmp_path):
    rng = np.random.default_rng(5)
    a = np.repeat(np.repeat(rng.integers(0, 4, (4, 5)), 3, 0), 3, 1)
    b = np.where(rng.random(a.shape) < 0.2, 9, a)
    return write_labels(tmp_path / "a.npy", a), write_labels(tmp_path / "b.tif", b), a, b


def test_all_parts_agree_with_scikit_learns_pair_counts(maps):
    path_a, path_b, a, b = maps
    summary = parsed(run("compare", path_a, path_b, "--json"))
    pairs = pair_confusion_matrix(a.ravel(), b.ravel())
    parts = summary["parts"]
    assert parts["joined_only_in_a"] == pairs[1, 0]
    assert parts["joined_only_in_b"] == pairs[0, 1]
    assert summary["rho"] == pairs[1, 0] + pairs[0, 1]
    assert summary["rho"] == parts["sum_a2"] + parts["sum_b2"] - 2 * parts["sum_n2"]
    # Ordered pairs, each pixel with itself among them.
    assert parts["joined_in_both"] == pairs[1, 1] + a.size
    assert summary["distance"] == pytest.approx(summary["rho"] / a.size**2, rel=1e-12)
    assert summary["jaccard"] == pytest.approx(
        summary["rho"] / (pairs[1, 0] + pairs[0, 1] + parts["joined_in_both"])
    )
    assert 0 < summary["adapted_rand_error"] < 1
    assert summary["variation_of_information"] > 0


def test_region_statistics(maps):
    path_a, path_b, a, _ = maps
    summary = parsed(run("compare", path_a, path_b, "--json"))
    sizes = np.unique(a, return_counts=True)[1]
    assert summary["a"]["regions"] == sizes.size
    found = [summary["a"][key] for key in ("smallest", "median", "largest")]
    assert found == [sizes.min(), np.median(sizes), sizes.max()]


def test_the_same_partition_under_other_labels(tmp_path, maps):
    path_a, _, a, _ = maps
    renamed = write_labels(tmp_path / "renamed.npy", a.astype(np.int64) * -(10**12) - 3)
    summary = parsed(run("compare", path_a, renamed, "--json"))
    assert summary["distance"] == summary["rho"] == summary["jaccard"] == 0
    assert summary["adapted_rand_error"] == pytest.approx(0, abs=1e-12)
    assert "the same partition" in run("compare", path_a, renamed).stdout


@pytest.mark.parametrize("truth", ["first", "second", "both", None])
def test_ignored_pixels_play_no_part(maps, truth):
    path_a, path_b, a, b = maps
    void = {"first": a == 2, "both": (a == 2) | (b == 2)}.get(truth, b == 2)
    said = () if truth is None else ("--truth", truth)
    summary = parsed(run("compare", path_a, path_b, "--ignore", 2, *said, "--json"))
    pairs = pair_confusion_matrix(a[~void], b[~void])
    assert summary["rho"] == pairs[1, 0] + pairs[0, 1]
    assert summary["total_measure"] == (~void).sum()
    assert summary["a"]["regions"] == len(np.unique(a[~void]))
    assert summary["b"]["regions"] == len(np.unique(b[~void]))
    assert summary["ignored"]["labels"] == [2]
    assert summary["ignored"]["in"] == (truth or "second")
    assert summary["ignored"]["pixels"] == void.sum()


def test_several_labels_may_be_ignored_beside_a_measure(tmp_path, maps):
    path_a, path_b, a, b = maps
    weights = np.random.default_rng(1).integers(0, 4, a.shape)
    np.save(tmp_path / "measure.npy", weights)
    np.save(tmp_path / "kept.npy", np.where(np.isin(b, [1, 9]), 0, weights))
    given = ("--ignore", 1, "--ignore", 9, "--measure", tmp_path / "measure.npy")
    summary = parsed(run("compare", path_a, path_b, *given, "--json"))
    wanted = parsed(run("compare", path_a, path_b, "--measure", tmp_path / "kept.npy", "--json"))
    assert summary.pop("ignored")["labels"] == [1, 9]
    assert wanted.pop("ignored") is None
    assert summary == wanted


def test_in_the_order_of_result_and_truth_the_void_of_the_truth_is_left_out(tmp_path):
    result = np.arange(60 * 80).reshape(60, 80) // 16  # 300 regions, 255 among them
    truth = result // 2
    truth[:, :4] = 255
    files = write_labels(tmp_path / "r.npy", result), write_labels(tmp_path / "t.png", truth)
    found = run("compare", *files, "--ignore", 255, "--json")
    summary = json.loads(found.stdout)
    assert summary["total_measure"] == 4560
    assert summary["distance"] == pytest.approx(0.003324, abs=1e-6)
    # The result has a region of that number: what is meant may be said.
    assert found.stderr.count("\n") == 1
    assert "warning" in found.stderr
    assert "r.npy has the label 255 of --ignore, too" in found.stderr
    quiet = run("compare", *files, "--ignore", 255, "--truth", "second", "--json")
    assert quiet.stderr == ""
    assert json.loads(quiet.stdout) == summary
    said = run("compare", *files, "--ignore", 255).stdout
    assert "left out 240 pixels of label 255 in B" in said


def test_an_ignored_label_that_is_not_there_is_said(maps):
    result = run("compare", *maps[:2], "--ignore", 77, "--ignore", 9, "--json")
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1
    assert "warning: no pixel has the label 77 of --ignore in" in result.stderr
    assert "b.tif" in result.stderr
    assert json.loads(result.stdout)["ignored"]["absent"] == [77]


def test_the_truth_is_only_asked_for_its_ignored_labels(maps):
    refused(run("compare", *maps[:2], "--truth", "first"), "--truth is for --ignore only")
    command = ("compare", *maps[:2], "--ignore", 2, "--truth", "a")
    refused(run(*command), "--truth must be one of first, second, both, got 'a'")


def test_label_maps_of_archives_by_name(tmp_path, maps):
    path_a, _, _, b = maps
    np.savez(tmp_path / "l.npz", image=b * 9, masks=b)
    command = ("compare", path_a, tmp_path / "l.npz", "--json")
    refused(run(*command), "l.npz", "several arrays", "(image, masks)", "--key")
    refused(run(*command, "--key", "mask"), "no array named 'mask' (its arrays: image, masks)")
    summary = parsed(run(*command, "--key", "masks"))
    assert summary["rho"] == parsed(run("compare", *maps[:2], "--json"))["rho"]
    refused(run("compare", *maps[:2], "--key", "masks"), "--key is for .npz files only")


def test_a_measure_weighs_pixels(tmp_path, maps):
    path_a, path_b, a, b = maps
    weights = np.random.default_rng(1).integers(0, 4, a.shape)
    np.save(tmp_path / "measure.npy", weights)
    measured = ("--measure", tmp_path / "measure.npy", "--json")
    summary = parsed(run("compare", path_a, path_b, *measured))
    joined = [(m.ravel()[:, None] == m.ravel()) for m in (a, b)]
    product = np.outer(weights.ravel(), weights.ravel())
    assert summary["rho"] == (product * (joined[0] != joined[1])).sum()
    assert summary["adapted_rand_error"] is None


def test_the_table_names_everything(maps):
    result = run("compare", *maps[:2])
    assert result.exit_code == 0
    for part in ("distance", "Σn²", "only in A", "Jaccard", "Rand", "smallest", "b.tif"):
        assert part in result.stdout


def test_bad_input(tmp_path, maps):
    path_a, path_b, a, _ = maps
    np.save(tmp_path / "float.npy", a + 0.5)
    command = ("compare", path_a, tmp_path / "float.npy")
    refused(run(*command), "float.npy must be whole numbers", "at index (0, 0)")
    other = write_labels(tmp_path / "other.npy", a[:-1])
    wanted = ("must share one grid", "shape (12, 15)", "shape (11, 15)")
    refused(run("compare", path_a, other, "--json"), *wanted)
    refused(run("compare", path_a, tmp_path / "absent.png"), "absent.png: no such file")
    path_b.write_bytes(path_b.read_bytes()[:100])
    refused(run("compare", path_a, path_b), "cannot read", "b.tif")
    refused(run("compare", path_a), "Missing argument 'B'")
    one = write_labels(tmp_path / "one.npy", a * 0)
    refused(run("compare", one, one, "--ignore", 0), "--ignore 0 leaves no pixel")
    np.save(tmp_path / "measure.npy", np.ones((2, 2)))
    refused(run("compare", one, one, "--measure", tmp_path / "measure.npy"), "--measure", "(2, 2)")
    np.save(tmp_path / "measure.npy", -np.ones(a.shape))
    refused(run("compare", one, one, "--measure", tmp_path / "measure.npy"), "negative")


@pytest.mark.parametrize("labels", [[[7]], [[1, 2], [3, 4]]], ids=["one pixel", "all pixels apart"])
def test_partitions_that_join_no_pair_are_compared(tmp_path, labels):
    np.save(tmp_path / "a.npy", np.array(labels))
    files = (tmp_path / "a.npy", tmp_path / "a.npy")
    summary = parsed(run("compare", *files, "--json"))
    assert summary["distance"] == 0
    # The adapted Rand error is a ratio of joined pairs: there are none.
    assert summary["adapted_rand_error"] is None
    assert "adapted Rand" not in run("compare", *files).stdout
