import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.hierarchy.costs import (
    RegionCosts,
    channel_sums_of_leaves,
    class_terms,
    forbidden_nodes,
    region_costs,
)
from hiersearch.hierarchy.curve import log10_cuts_by_regions
from hiersearch.hierarchy.cuts import log10_cuts, nearest_cut
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.metric import class_properties, distance
from hiersearch.partitions import Partition, SoftPartition
from tests.hierarchy.small_trees import all_cuts, random_tree, trees_with_targets

TREE = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])


@given(trees_with_targets())
def test_costs_of_a_cut_add_up_to_the_distance_of_its_partition(case):
    tree, target = case
    costs = region_costs(tree, target)
    for cut in all_cuts(tree):
        by_costs = (costs.constant + costs.costs[list(cut)].sum()) / costs.scale
        assert by_costs == pytest.approx(distance(target, tree.labels_of(cut)), abs=1e-9)


@given(trees_with_targets(kinds=("soft", "soft, weighted")), st.floats(0.1, 3))
def test_class_weight_adds_the_class_property_term(case, weight):
    tree, target = case
    costs = region_costs(tree, target, class_weight=weight)
    for cut in all_cuts(tree):
        partition = Partition.from_labels(tree.labels_of(cut))
        names = costs.classes[list(cut)]
        properties = (class_properties(target), class_properties(partition, names, 3))
        expected = distance(target, partition, properties=properties, property_weight=weight)
        by_costs = (costs.constant + costs.costs[list(cut)].sum()) / costs.scale
        assert by_costs == pytest.approx(expected, abs=1e-9)


def test_class_names_are_the_best_ones_for_a_target_read_as_classes():
    rng = np.random.default_rng(3)
    tree = random_tree(rng, 5, (4, 5))
    target = SoftPartition.from_classes(rng.dirichlet([1, 1, 1], 20).T.reshape(3, 4, 5))
    plain = region_costs(tree, target)
    weighted = region_costs(tree, target, class_weight=0.7)
    probabilities = target.values.reshape(3, 4, 5).astype(float)
    for node in range(tree.n_nodes):
        cut = next(c for c in all_cuts(tree) if node in c)
        mask = tree.labels_of(cut) == cut.index(node)
        sums = probabilities[:, mask].sum(axis=1)
        assert weighted.classes[node] == sums.argmax()
        missed = (mask.sum() - sums.max()) * 0.7 * 20
        assert weighted.costs[node] - plain.costs[node] == pytest.approx(missed)


def test_class_weight_is_refused_without_classes():
    with pytest.raises(TypeError, match="class_weight needs a soft target whose channels"):
        region_costs(TREE, np.array([[0, 0, 1, 1]]), class_weight=1.0)
    with pytest.raises(ValueError, match="class_weight must be a number of at least 0, got -1"):
        region_costs(TREE, np.array([[0, 0, 1, 1]]), class_weight=-1)


def test_a_target_on_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"target and tree must share one grid, got \(2, 2\)"):
        region_costs(TREE, np.zeros((2, 2), int))


def test_ignored_pixels_cost_nothing():
    target = Partition.from_labels(np.array([[0, 0, 1, 9]]), ignore=9)
    costs = region_costs(TREE, target)
    assert costs.scale == 9
    assert costs.costs.tolist() == [-1, -1, -1, -4, 9 - 2 * 5]


def test_nodes_smaller_than_the_minimum_are_forbidden():
    assert forbidden_nodes(TREE, minimum_size=2).tolist() == [True, True, False, False, False]


def test_markers_and_pairs_forbid_what_holds_them_together():
    markers = np.array([[5, 0, -3, 0]])
    assert forbidden_nodes(TREE, apart=markers).tolist() == [False] * 4 + [True]
    pairs = [((0, 0), (0, 1))]
    assert forbidden_nodes(TREE, apart=pairs).tolist() == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("apart", "message"),
    [
        (np.array([[0, 0, 1, 2]]), "leaf 2 holds pixels that are to stay apart"),
        ([((0, 2), (0, 3))], "leaf 2 holds pixels that are to stay apart"),
        ([((0, 0), (0, 9))], r"apart must hold pixels of the grid \(1, 4\), got \[0, 9\]"),
        (np.zeros((1, 3), int), r"apart must be a marker map of shape \(1, 4\) or pairs"),
    ],
)
def test_constraints_that_do_not_fit_are_named(apart, message):
    with pytest.raises(ValueError, match=message):
        forbidden_nodes(TREE, apart=apart)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"costs": [[1.0]]}, ValueError, "costs must be 1-D, one for each node, got shape"),
        ({"costs": ["a"]}, TypeError, "costs must be real numbers, got dtype"),
        ({"costs": [1.0, np.nan]}, ValueError, "costs must be finite or .inf, got nan of node 1"),
        ({"costs": [-np.inf, 1.0]}, ValueError, "costs must be finite or .inf, got -inf of node 0"),
        ({"costs": [1e308, 1e308]}, ValueError, "costs must have a sum within float64, got inf"),
        ({"constant": np.nan}, ValueError, "constant must be a finite number, got nan"),
        ({"scale": 0.0}, ValueError, "scale must be a positive number, got 0.0"),
        ({"classes": [0]}, ValueError, r"classes must be of shape \(2,\), got shape \(1,\)"),
    ],
)
def test_hand_built_costs_are_checked(change, error, message):
    sound = {"costs": [1.0, np.inf], "constant": 0.0, "scale": 1.0, "classes": [0, 3]}
    assert RegionCosts(**sound).classes.dtype == np.int32
    with pytest.raises(error, match=message):
        RegionCosts(**{**sound, **change})


def test_costs_and_targets_of_another_tree_are_refused():
    tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]])
    short = RegionCosts([1.0], 0.0, 1.0)
    for search in (
        lambda: log10_cuts(tree, short),
        lambda: log10_cuts_by_regions(tree, 2, short),
        lambda: nearest_cut(tree, short),
    ):
        with pytest.raises(ValueError, match="must have a cost for each of the 3 nodes, got"):
            search()
    wide = SoftPartition.from_regions(np.full((2, 4, 4), 0.5))
    with pytest.raises(ValueError, match="goal and tree must share one grid"):
        class_terms(tree, wide)
    with pytest.raises(ValueError, match="goal and tree must share one grid"):
        channel_sums_of_leaves(tree, wide, 100)
