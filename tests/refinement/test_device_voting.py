import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hiersearch.device import batches
from hiersearch.device.choice import pays
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.refinement import best_cut, refine, tree_voting
from hiersearch.refinement.device_voting import work_of_votes
from tests.hierarchy.small_trees import random_tree
from tests.refinement.test_tree_voting import IMAGE, SOFT, seam_scene, soft_output, voted

pytest.importorskip("torch")

DEVICES = ["cpu:torch", pytest.param("cuda", marks=pytest.mark.gpu)]


def nuclei(name, noise):
    image = np.asarray(Image.open(f"tests/data/nuclei-{name}.png"))
    truth = np.asarray(Image.open(f"tests/data/nuclei-{name}-labels.png")) > 0
    score = np.where(truth, 0.8, -0.8) + np.random.default_rng(5).normal(0, noise, truth.shape)
    inside = 1 / (1 + np.exp(-score))
    return image, np.stack([1 - inside, inside])


@pytest.mark.parametrize("device", DEVICES)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_it_is_multiplication_by_the_expected_co_membership(device, seed, n_trees, steps, k):
    rng = np.random.default_rng(seed)
    grid = [(1, 9), (4, 5), (2, 3, 4)][seed % 3]
    trees = [random_tree(rng, int(rng.integers(1, 9)), grid, arity=3) for _ in range(n_trees)]
    soft = soft_output(rng, k, grid)
    measure = rng.random(grid) * (rng.random(grid) > 0.3) + 1e-3 if seed % 2 else None
    parameters = {"size": 2.5, "exponent": 1.1}
    found = tree_voting(
        None, soft, reading="regions", trees=trees, steps=steps, contrast=2.0, weight=6.0,
        tolerance=0, measure=measure, device=device, **parameters,
    )  # fmt: skip
    wanted = voted(soft, trees, steps, 6.0, [2.0] * n_trees, **parameters, measure=measure)
    assert found.output.channels == pytest.approx(wanted, abs=5e-6)
    assert found.output.channels.dtype == np.float32


def test_worths_that_fall_by_many_orders_of_magnitude_lose_nothing():
    # A chain of merges, each far less worth than the one before, above pixels without a vote.
    n = 12
    parents = [n, n, *range(n + 1, 2 * n - 1), *range(n + 1, 2 * n - 1), 2 * n - 2]
    tree = MergeTree.from_parents(
        parents, np.concatenate([np.zeros(n), 3.0 * np.arange(1, n)]), [np.arange(n)]
    )
    soft = soft_output(np.random.default_rng(2), 2, (1, n))
    measure = np.array([[1.0] * 3 + [0.0] * (n - 4) + [1.0]])
    parameters = {"size": 5.0, "exponent": 1.0}
    found = tree_voting(
        None, soft, reading="regions", trees=[tree], contrast=1.0, weight=6.0, tolerance=0,
        measure=measure, device="cpu:torch", **parameters,
    )  # fmt: skip
    wanted = voted(soft, [tree], 1, 6.0, [1.0], **parameters, measure=measure)
    assert found.output.channels == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tolerance", [0, 0.2])
def test_on_real_nuclei_it_agrees_with_the_cpu(device, tolerance):
    image, soft = nuclei("crowded", 1.0)
    there, here = (
        tree_voting(image, soft, reading="classes", tolerance=tolerance, steps=2, device=name)
        for name in (device, "cpu")
    )
    assert there.output.channels == pytest.approx(here.output.channels, abs=2e-5)
    unlike = there.labels != here.labels
    # Only where two classes are as probable.
    assert (np.abs(here.output.channels[0] - 0.5)[unlike] < 1e-5).all()
    nodes = [found.trace[-1].figures["voting_nodes"] for found in (there, here)]
    assert nodes[0] == nodes[1]


@pytest.mark.parametrize("device", DEVICES)
def test_classes_abstain_as_on_the_cpu(device):
    image, soft, truth = seam_scene()
    found = tree_voting(image, soft, reading="classes", steps=2, device=device)
    wanted = tree_voting(image, soft, reading="classes", steps=2)
    assert found.trace[-1].figures["abstaining"] == [2]
    assert np.array_equal(found.labels, truth)
    assert found.output.channels == pytest.approx(wanted.output.channels, abs=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_boundary_maps_and_pixels_without_measure(device):
    image = np.zeros((9, 15), np.uint8)
    image[:, 7] = 120
    boundary = np.where(image > 0, 0.9, 0.1)
    boundary[4, 7] = 0.4
    found = tree_voting(image, boundary, reading="boundaries", steps=2, device=device)
    assert found.output.channels[0, 4, 7] > 0.5
    assert found.partition.n_regions == 2
    wrong = np.array([[0.9, 0.9, 0.1, 0.9, 0.9]])
    measure = np.array([[0.0, 0.0, 1.0, 0.0, 0.0]])
    heard = tree_voting(
        IMAGE[:1], np.stack([1 - wrong, wrong]), reading="classes", measure=measure, device=device
    )
    assert heard.labels.tolist() == [[0] * 4 + [1]]


def test_of_equals_the_first_wins_and_zeros_can_be_outvoted():
    found = tree_voting(IMAGE, SOFT, reading="classes", device="cpu:torch")
    assert not found.labels.any()
    certain = np.stack([np.zeros((4, 5)), np.ones((4, 5))])
    certain[:, 2, 2] = [1, 0]
    found = tree_voting(IMAGE, certain, reading="classes", weight=50, device="cpu:torch")
    assert np.isfinite(found.output.channels).all()
    assert found.labels.all()


def test_a_small_memory_changes_nothing(monkeypatch):
    image, soft, _ = seam_scene()
    at_once = tree_voting(image, soft, reading="classes", device="cpu:torch")
    monkeypatch.setattr(batches, "CPU_BYTES", 2**14)
    piecewise = tree_voting(image, soft, reading="classes", device="cpu:torch")
    assert piecewise.output.channels == pytest.approx(at_once.output.channels, abs=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_the_best_cut_is_that_of_the_cpu(device, weights):
    image, soft = nuclei("plain", 0.5)
    there, here = (
        best_cut(
            image, soft, reading="classes", metric_weight=weights[0], class_weight=weights[1],
            device=name,
        )
        for name in (device, "cpu")
    )  # fmt: skip
    objectives = [found.trace[-1].figures["objective"] for found in (there, here)]
    assert objectives[0] == pytest.approx(objectives[1], abs=1e-12)
    assert np.array_equal(there.labels, here.labels)


def test_refine_hands_the_device_to_the_methods_that_know_it():
    image, soft, _ = seam_scene()
    methods = ["tree_voting", "best_cut", "metric_merging"]
    there, here = (
        refine(image, soft, reading="classes", method=methods, device=name)
        for name in ("cpu:torch", "cpu")
    )
    assert np.array_equal(there.labels, here.labels)
    own = {"tree_voting": {"device": "gpu"}}
    with pytest.raises(ValueError, match="got 'gpu'"):
        refine(image, soft, reading="classes", options=own)


@pytest.mark.parametrize("call", [tree_voting, best_cut, refine])
def test_devices_that_are_none_are_named(call):
    with pytest.raises(ValueError, match="device must be cpu, cuda, cuda:N or auto, got 'gpu'"):
        call(IMAGE, SOFT, reading="classes", device="gpu")


def test_auto_takes_a_gpu_for_many_values_only():
    photo = 512 * 512
    assert pays(work_of_votes(photo, 4 * photo, 21, 1))
    assert not pays(work_of_votes(64 * 64, 4 * 64 * 64, 2, 1))
