import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.hierarchy.costs import forbidden_nodes, region_costs
from hiersearch.hierarchy.curve import log10_cuts_by_regions, nearest_cuts_by_regions, trade_off
from hiersearch.hierarchy.cut_result import in_words, log10_cuts
from hiersearch.hierarchy.cuts import horizontal_curve, nearest_cut, nearest_horizontal_cut
from hiersearch.hierarchy.k_best import nearest_cuts
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.metric import distance
from hiersearch.partitions import Partition
from tests.hierarchy.small_trees import all_cuts, random_target, random_tree, trees_with_targets

TREE = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
TARGET = np.array([[0, 0, 1, 1]])


def enumerated(tree, target, forbidden=None):
    """All allowed cuts with their distances by the metric itself, nearest first."""
    cuts = [cut for cut in all_cuts(tree) if forbidden is None or not any(forbidden[list(cut)])]
    found = [(distance(target, tree.labels_of(cut)), cut) for cut in cuts]
    return sorted(found)


@st.composite
def constrained(draw):
    tree, target = draw(trees_with_targets())
    minimum = draw(st.sampled_from([0, 0, 2, 3]))
    apart = None
    if draw(st.booleans()):
        apart = np.zeros(tree.grid, int)
        n = apart.size
        leaves = tree.leaf_map.reshape(-1)
        a, b = draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))
        if leaves[a] != leaves[b]:
            apart.flat[a], apart.flat[b] = 1, -7
    constraints = {"minimum_size": minimum, "apart": apart}
    return tree, target, constraints, forbidden_nodes(tree, **constraints)


@given(constrained())
def test_nearest_cut_is_the_best_of_all_allowed_cuts(case):
    tree, target, constraints, forbidden = case
    expected = enumerated(tree, target, forbidden)
    if not expected:
        with pytest.raises(ValueError, match="constraints must allow a cut"):
            nearest_cut(tree, target, **constraints)
        return
    result = nearest_cut(tree, target, **constraints)
    assert result.distance == pytest.approx(expected[0][0], abs=1e-9)
    assert distance(target, result.partition) == pytest.approx(result.distance, abs=1e-9)
    assert result.candidates == str(len(expected))
    assert tuple(result.nodes.tolist()) in {cut for _, cut in expected}


@given(constrained())
def test_nearest_horizontal_cut_is_the_best_threshold(case):
    tree, target, constraints, forbidden = case
    levels = [-np.inf, *np.unique(tree.monotone().altitudes[tree.n_leaves :])]
    cuts = [tree.horizontal_cut(level) for level in levels]
    allowed = [cut for cut in cuts if not forbidden[cut].any()]
    if not allowed:
        with pytest.raises(ValueError, match="constraints must allow a horizontal cut"):
            nearest_horizontal_cut(tree, target, **constraints)
        return
    distances = [distance(target, tree.labels_of(cut)) for cut in allowed]
    result = nearest_horizontal_cut(tree, target, **constraints)
    assert result.distance == pytest.approx(min(distances), abs=1e-9)
    assert result.candidates == str(len(allowed))
    assert result.nodes.tolist() == tree.horizontal_cut(result.altitude).tolist()
    curve = horizontal_curve(tree, target, **constraints)
    assert curve.regions.tolist() == [len(cut) for cut in cuts]
    finite = curve.distances[np.isfinite(curve.distances)]
    assert finite == pytest.approx(np.array(distances), abs=1e-9)


@given(constrained(), st.integers(1, 6))
def test_curve_holds_the_best_cut_for_every_number_of_regions(case, most):
    tree, target, constraints, forbidden = case
    most = min(most, tree.n_leaves)
    curve = nearest_cuts_by_regions(tree, target, most, **constraints)
    assert curve.distances.size == most
    counts = log10_cuts_by_regions(tree, most, region_costs(tree, target).forbidding(forbidden))
    found = enumerated(tree, target, forbidden)
    for k in range(1, most + 1):
        of_k = [d for d, cut in found if len(cut) == k]
        if not of_k:
            assert curve.distances[k - 1] == np.inf
            assert counts[k - 1] == -np.inf
            with pytest.raises(ValueError, match="there is none"):
                curve.cut(k)
            continue
        result = curve.cut(k)
        assert result.n_regions == k
        assert result.distance == pytest.approx(min(of_k), abs=1e-9)
        assert curve.distances[k - 1] == pytest.approx(min(of_k), abs=1e-9)
        assert distance(target, result.partition) == pytest.approx(min(of_k), abs=1e-9)
        assert result.candidates == str(len(of_k))
        assert not forbidden[result.nodes].any()


@given(constrained())
def test_trade_off_is_the_lower_convex_hull_of_all_cuts(case):
    tree, target, constraints, forbidden = case
    found = enumerated(tree, target, forbidden)
    if not found:
        with pytest.raises(ValueError, match="constraints must allow"):
            trade_off(tree, target, **constraints)
        return
    hull = trade_off(tree, target, **constraints)
    for price in [-1.0, -0.05, 0.0, 0.01, 0.03, 0.1, 0.5, 2.0]:
        expected = min(d + price * len(cut) for d, cut in found)
        result = hull.at(price)
        assert result.distance + price * result.n_regions == pytest.approx(expected, abs=1e-9)
        assert not forbidden[result.nodes].any()
        by_vertices = (hull.distances + price * hull.regions).min()
        assert by_vertices == pytest.approx(expected, abs=1e-9)
    assert (np.diff(hull.regions) > 0).all()
    assert (np.diff(hull.prices) <= 0).all()
    for i in range(hull.regions.size):
        assert hull.cut(i).n_regions == hull.regions[i]
        assert hull.cut(i).distance == pytest.approx(hull.distances[i], abs=1e-9)


@given(constrained(), st.integers(1, 40))
def test_nearest_cuts_come_in_order_without_repetition(case, count):
    tree, target, constraints, forbidden = case
    found = enumerated(tree, target, forbidden)
    if not found:
        with pytest.raises(ValueError, match="constraints must allow"):
            nearest_cuts(tree, target, count, **constraints)
        return
    results = nearest_cuts(tree, target, count, **constraints)
    assert len(results) == min(count, len(found))
    got = np.array([r.distance for r in results])
    assert got == pytest.approx(np.array([d for d, _ in found[:count]]), abs=1e-9)
    assert len({tuple(r.nodes.tolist()) for r in results}) == len(results)
    for result in results:
        assert distance(target, result.partition) == pytest.approx(result.distance, abs=1e-9)


def test_searches_agree_on_a_larger_tree():
    rng = np.random.default_rng(0)
    tree = random_tree(rng, 300, (20, 25))
    target = random_target(rng, "soft", (20, 25))
    best = nearest_cut(tree, target)
    curve = nearest_cuts_by_regions(tree, target)
    assert curve.distances.min() == pytest.approx(best.distance, abs=1e-12)
    assert curve.best().distance == pytest.approx(best.distance, abs=1e-12)
    for k in (1, 2, 17, 100, 299, 300):
        result = curve.cut(k)
        assert result.n_regions == k
        assert result.distance == pytest.approx(curve.distances[k - 1], abs=1e-12)
    hull = trade_off(tree, target)
    assert hull.at(0.0).distance == pytest.approx(best.distance, abs=1e-12)
    assert hull.distances == pytest.approx(curve.distances[hull.regions - 1], abs=1e-12)
    first = nearest_cuts(tree, target, 50)
    assert first[0].distance == pytest.approx(best.distance, abs=1e-12)
    assert all(a.distance <= b.distance + 1e-15 for a, b in itertools.pairwise(first))
    total = np.logaddexp.reduce(log10_cuts_by_regions(tree, 300) * math.log(10))
    assert total / math.log(10) == pytest.approx(log10_cuts(tree))


def test_a_number_of_regions_can_be_fixed():
    assert nearest_cut(TREE, TARGET, n_regions=3).nodes.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"n_regions must be within 1\.\.3, got 4"):
        nearest_cut(TREE, TARGET, n_regions=4)
    with pytest.raises(TypeError, match=r"n_regions must be a whole number, got 1\.5"):
        nearest_cut(TREE, TARGET, n_regions=1.5)
    with pytest.raises(ValueError, match=r"most must be within 1\.\.3, got 0"):
        nearest_cuts_by_regions(TREE, TARGET, 0)


def test_of_equally_near_cuts_the_coarsest_wins():
    flat = np.full((2, 1, 4), 0.5, np.float32)
    tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 0, 1, 1]])
    from hiersearch.partitions import SoftPartition

    soft = SoftPartition.from_regions(flat)
    assert nearest_cut(tree, soft).nodes.tolist() == [2]
    assert nearest_horizontal_cut(tree, soft).nodes.tolist() == [2]


def test_scale_set_hierarchy_has_the_best_cuts_as_horizontal_cuts():
    rng = np.random.default_rng(1)
    tree = random_tree(rng, 60, (10, 12))
    target = random_target(rng, "soft", (10, 12))
    hull = trade_off(tree, target)
    ordered = hull.hierarchy()
    assert ordered.is_increasing
    positive = hull.prices[hull.prices >= 0]
    for price in [0.0, *positive]:
        assert ordered.horizontal_cut(price).tolist() == hull.at(price).nodes.tolist()


def test_one_pixel_one_leaf_and_one_region_work():
    tree = MergeTree.from_parents([0], [0.0], [[0]])
    target = Partition.from_labels(np.array([[4]]))
    for result in (
        nearest_cut(tree, target),
        nearest_horizontal_cut(tree, target),
        nearest_cut(tree, target, n_regions=1),
        nearest_cuts(tree, target, 3)[0],
        trade_off(tree, target).at(0),
    ):
        assert result.distance == 0
        assert result.labels.tolist() == [[0]]
        assert result.candidates == "1"


def test_deep_trees_need_no_recursion():
    n = 5000
    parents = [n, *range(n, 2 * n - 1), *range(n + 1, 2 * n - 1), 2 * n - 2]
    tree = MergeTree.from_parents(parents, np.maximum(0, np.arange(2 * n - 1) - n), [range(n)])
    target = (np.arange(n) >= n // 2).astype(int)[None]
    results = nearest_cuts(tree, target, 20)
    assert len(results) == 20
    assert nearest_cuts_by_regions(tree, target, 10).cut(7).n_regions == 7
    assert trade_off(tree, target).at(0).distance == pytest.approx(results[0].distance)


def test_huge_numbers_of_candidates_are_put_in_words():
    assert in_words(0.0) == "1"
    assert in_words(math.log10(123456)) == "123456"
    assert in_words(41.5) == "3.2e+41"
    rng = np.random.default_rng(2)
    result = nearest_cut(random_tree(rng, 400, (20, 20)), np.zeros((20, 20), int))
    assert "e+" in result.candidates


def test_costs_prepared_once_serve_all_searches():
    costs = region_costs(TREE, TARGET)
    assert nearest_cut(TREE, costs).distance == nearest_cut(TREE, TARGET).distance
    other = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="target must have a cost for each of the 3 nodes"):
        nearest_cut(other, costs)
    with pytest.raises(ValueError, match="class_weight must be given when the costs are made"):
        nearest_cut(TREE, costs, class_weight=1.0)


def test_hand_built_curves_are_checked():
    tree = MergeTree.from_parents([4, 4, 5, 5, 6, 6, 6], [0, 0, 0, 0, 1, 2, 3], [[0, 1, 2, 3]])
    curve = nearest_cuts_by_regions(tree, np.array([[0, 0, 1, 1]]))
    hull = trade_off(tree, np.array([[0, 0, 1, 1]]))
    for made, change, message in (
        (curve, {"places": np.zeros(3, int)}, r"places must be of shape \(7,\), got shape"),
        (curve, {"places": np.full(7, 99)}, r"places must be within 0\.\."),
        (curve, {"choices": np.zeros(2)}, "choices must be 1-D of uint16 or uint32"),
        (curve, {"distances": np.zeros(9)}, "distances must be at most as many as leaves, 4"),
        (hull, {"node_prices": np.zeros(3)}, r"node_prices must be float64 of shape \(7,\)"),
        (hull, {"prices": np.full(hull.prices.size, np.nan)}, "prices must be numbers, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(made, **change)


def test_choices_of_another_search_end_in_a_sentence():
    tree = MergeTree.from_parents([4, 4, 5, 5, 6, 6, 6], [0, 0, 0, 0, 1, 2, 3], [[0, 1, 2, 3]])
    curve = nearest_cuts_by_regions(tree, np.array([[0, 0, 1, 1]]))
    wrong = replace(curve, choices=np.full(curve.choices.size, 2**15, np.uint16))
    for regions in (3, 4):
        with pytest.raises(ValueError, match="choices must tell of a cut into"):
            wrong.cut(regions)
