import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hiersearch.device import batches
from hiersearch.device.choice import pays, resolved
from hiersearch.hierarchy.agglomerate import pixel_tree
from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.hierarchy.costs import region_costs
from hiersearch.hierarchy.cuts import horizontal_curve, nearest_cut, nearest_horizontal_cut
from hiersearch.hierarchy.device_trees import (
    DenseChannels,
    DeviceTree,
    Target,
    exponent_for,
    metric_costs,
    work_of_costs,
    work_of_sweep,
)
from hiersearch.hierarchy.matching import match
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.metric import distance
from hiersearch.partitions import Partition, SoftPartition
from tests.hierarchy.small_trees import all_cuts, random_target, random_tree, trees_with_targets

torch = pytest.importorskip("torch")

DEVICES = ["cpu:torch", pytest.param("cuda", marks=pytest.mark.gpu)]
WHOLE = ("hard", "hard, many regions", "hard, whole measure")


def random_case(rng, kind, grid):
    if kind == "hard, whole measure":
        measure = rng.integers(0, 1000, grid)
        measure.flat[0] = 7
        return Partition.from_labels(rng.integers(0, 14, grid), measure=measure)
    return random_target(rng, kind, grid)


def difference_allowed(tree, target, regions):
    """What the documentation states for the distance of one cut."""
    channels = target.n_regions if isinstance(target, Partition) else target.n_channels
    return (math.prod(tree.grid) + channels + regions) * 2.0**-50


@pytest.mark.parametrize("device", DEVICES)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 9))
def test_every_node_sums_its_own_leaves_exactly(device, seed, n_leaves, arity):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, n_leaves, (5, 6), arity)
    here = DeviceTree.of(tree.parents, tree.leaf_map, n_leaves, resolved(device))
    values = rng.integers(-(2**40), 2**40, (3, 30))
    table = here.sums_of_leaves(torch.tensor(values, device=here.first.device))
    sums = here.sums_of_nodes(table).cpu().numpy()
    wanted = np.zeros((3, tree.n_nodes), np.int64)
    for row in range(3):
        np.add.at(wanted[row], tree.leaf_map.reshape(-1), values[row])
    for node in range(tree.n_nodes - 1):
        wanted[:, tree.parents[node]] += wanted[:, node]
    assert np.array_equal(sums, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", WHOLE)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_of_whole_numbers_costs_and_cuts_are_those_of_the_cpu_bit_for_bit(
    device, kind, seed, n_leaves
):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, n_leaves, (3, 5), 4)
    target = random_case(rng, kind, tree.grid)
    there, here = (region_costs(tree, target, device=name) for name in (device, "cpu"))
    assert np.array_equal(there.costs, here.costs)
    assert (there.constant, there.scale) == (here.constant, here.scale)
    for search in (nearest_cut, nearest_horizontal_cut):
        found, wanted = (search(tree, target, device=name) for name in (device, "cpu"))
        assert found.distance == wanted.distance
        assert np.array_equal(found.nodes, wanted.nodes)


@pytest.mark.parametrize("device", DEVICES)
@given(trees_with_targets())
def test_costs_of_a_cut_add_up_to_the_distance_of_its_partition(device, case):
    tree, target = case
    costs = region_costs(tree, target, device=device)
    for cut in all_cuts(tree):
        by_costs = (costs.constant + costs.costs[list(cut)].sum()) / costs.scale
        assert by_costs == pytest.approx(distance(target, tree.labels_of(cut)), abs=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@given(trees_with_targets(kinds=("soft", "soft, weighted")), st.floats(0.1, 3))
def test_class_terms_are_those_of_the_cpu(device, case, weight):
    tree, target = case
    there, here = (
        region_costs(tree, target, class_weight=weight, device=name) for name in (device, "cpu")
    )
    assert np.array_equal(there.classes, here.classes)
    assert there.costs == pytest.approx(here.costs, abs=1e-12 * here.scale)


@pytest.mark.parametrize("device", DEVICES)
def test_of_equally_probable_classes_the_first_is_named(device):
    tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]])
    target = SoftPartition.from_classes(np.array([[[0, 0.5]], [[0.5, 0.5]], [[0.5, 0]]]))
    costs = region_costs(tree, target, class_weight=1.0, device=device)
    assert costs.classes.tolist() == [1, 0, 1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("leaves", ["pixels", "superpixels"])
@pytest.mark.parametrize("weighted", [False, True])
def test_on_a_real_image_distances_agree_within_the_bound(device, leaves, weighted):
    image = np.asarray(Image.open("tests/data/nuclei-stained.png"))
    grid = image.shape[:2]
    linked = pixel_tree(image) if leaves == "pixels" else build_hierarchy(image)
    rng = np.random.default_rng(0)
    measure = rng.random(grid) + 0.1 if weighted else None
    tree = linked if measure is None else linked.with_measure(measure)
    values = rng.dirichlet(np.full(5, 0.3), math.prod(grid)).T.reshape(5, *grid)
    target = SoftPartition.from_regions(values.astype(np.float32), measure=measure)
    there, here = (region_costs(tree, target, device=name) for name in (device, "cpu"))
    # Small regions lose nothing to what lies beside them.
    assert (np.abs(there.costs - here.costs) <= 1e-12 * tree.sizes**2).all()
    for search in (nearest_cut, nearest_horizontal_cut):
        found, wanted = (search(tree, costs) for costs in (there, here))
        allowed = difference_allowed(tree, target, wanted.n_regions)
        assert abs(found.distance - wanted.distance) <= allowed
    curves = [horizontal_curve(tree, target, device=name) for name in (device, "cpu")]
    assert np.array_equal(curves[0].altitudes, curves[1].altitudes)
    assert np.array_equal(curves[0].regions, curves[1].regions)
    allowed = difference_allowed(tree, target, tree.n_nodes)
    assert (np.abs(curves[0].distances - curves[1].distances) <= 2 * allowed).all()


@pytest.mark.parametrize("device", DEVICES)
@given(trees_with_targets(), st.sampled_from([0, 2, 3]))
def test_the_curve_keeps_track_of_forbidden_regions(device, case, minimum):
    tree, target = case
    there, here = (
        horizontal_curve(tree, target, minimum_size=minimum, device=name)
        for name in (device, "cpu")
    )
    assert np.array_equal(there.altitudes, here.altitudes)
    assert np.array_equal(there.regions, here.regions)
    assert np.array_equal(np.isinf(there.distances), np.isinf(here.distances))
    finite = np.isfinite(here.distances)
    assert there.distances[finite] == pytest.approx(here.distances[finite], abs=1e-13)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
def test_measures_of_any_size_keep_their_precision(scale):
    rng = np.random.default_rng(4)
    tree = random_tree(rng, 6, (4, 5))
    values = rng.dirichlet(np.ones(3), 20).T.reshape(3, 4, 5)
    measure = scale * (rng.random((4, 5)) + 0.1)
    target = SoftPartition.from_regions(values, measure=measure)
    there, here = (region_costs(tree, target, device=name) for name in ("cpu:torch", "cpu"))
    assert there.costs / here.scale == pytest.approx(here.costs / here.scale, abs=1e-15)


@given(st.floats(1e-154, 1e154))
def test_a_grid_fills_the_steps_without_leaving_them(total):
    steps = total * 2.0 ** exponent_for(total)
    assert 2.0**60 <= steps < 2.0**61


@pytest.mark.parametrize("kind", ["sparse", "soft", "hard, many regions"])
def test_a_small_memory_changes_nothing(monkeypatch, kind):
    rng = np.random.default_rng(7)
    tree = random_tree(rng, 8, (4, 5))
    target = random_target(rng, kind, tree.grid)
    at_once = region_costs(tree, target, device="cpu:torch")
    monkeypatch.setattr(batches, "CPU_BYTES", 1)
    one_by_one = region_costs(tree, target, device="cpu:torch")
    assert one_by_one.costs == pytest.approx(at_once.costs, abs=1e-14 * at_once.scale)
    assert one_by_one.constant == pytest.approx(at_once.constant, rel=1e-15)


class Scarce(DenseChannels):
    """Channels of which two at a time fit into memory."""

    def table(self, tree, begin, end):
        if end - begin > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return super().table(tree, begin, end)


def test_where_memory_runs_out_batches_are_halved():
    rng = np.random.default_rng(8)
    tree = random_tree(rng, 8, (4, 5))
    values = rng.dirichlet(np.ones(7), 20).T.astype(np.float32)
    where = resolved("cpu:torch")
    here = DeviceTree.of(tree.parents, tree.leaf_map, 8, where)
    plenty = Target.of(values, None, 7, None, where)
    scarce = Target(Scarce(values, None, plenty.exponent, where), None, plenty.exponent)
    wanted, constant = metric_costs(here, plenty)
    costs, total = metric_costs(here, scarce)
    assert costs == pytest.approx(wanted, abs=1e-12)
    assert total == pytest.approx(constant)


@pytest.mark.parametrize("device", DEVICES)
def test_probabilities_may_be_on_the_device_already(device):
    rng = np.random.default_rng(9)
    tree = random_tree(rng, 5, (4, 5))
    values = rng.dirichlet(np.ones(3), 20).T.astype(np.float32)
    where = resolved(device)
    here = DeviceTree.of(tree.parents, tree.leaf_map, 5, where)
    found = [
        metric_costs(here, Target.of(given, None, 3, None, where))[0]
        for given in (values, torch.tensor(values, device=where.torch))
    ]
    assert np.array_equal(*found)


def test_auto_takes_a_gpu_for_many_values_only():
    photo = 512 * 512
    assert pays(work_of_costs(photo, 2 * photo - 1, 58, 58, sparse=False))
    assert pays(work_of_costs(photo, 7109, 58, 58, sparse=False))
    assert not pays(work_of_costs(128 * 192, 800, 12, 12, sparse=False))
    # Of a thousand regions a GPU writes out every one for every node.
    assert not pays(work_of_costs(photo, 2 * photo - 1, 1, 1000, sparse=True))
    assert not pays(work_of_sweep(7109))


TREE = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
HARD = np.array([[0, 0, 1, 1]])


@pytest.mark.parametrize(
    "call",
    [region_costs, horizontal_curve, nearest_horizontal_cut, nearest_cut],
)
def test_devices_that_are_none_are_named(call):
    with pytest.raises(ValueError, match="device must be cpu, cuda, cuda:N or auto, got 'gpu'"):
        call(TREE, HARD, device="gpu")
    with pytest.raises(TypeError, match="device must be a string"):
        call(TREE, region_costs(TREE, HARD) if call is not region_costs else HARD, device=0)


def test_match_hands_the_device_on_and_names_one_that_is_none():
    there, here = (match(None, HARD, tree=TREE, device=name) for name in ("cpu:torch", "cpu"))
    assert there.best.distance == here.best.distance == 0
    assert there.horizontal.nodes.tolist() == here.horizontal.nodes.tolist()
    with pytest.raises(ValueError, match="device must be cpu, cuda, cuda:N or auto, got 'gpu'"):
        match(None, HARD, tree=TREE, device="gpu")


@pytest.mark.parametrize("search", [nearest_cut, nearest_horizontal_cut])
def test_auto_gives_the_same_answer_wherever_it_goes(search):
    assert search(TREE, HARD, device="auto").nodes.tolist() == [2, 3]
