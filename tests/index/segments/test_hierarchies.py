"""Hierarchies in an index: the tree is stored once, its cuts are found like any entry."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from skimage.io import imread

from hiersearch import MergeTree, Partition, build_hierarchy
from hiersearch.index.index import PartitionIndex
from hiersearch.index.search import queries
from tests.exploration import examples
from tests.hierarchy.small_trees import random_tree
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    SOFT,
    assert_same,
    brute_force,
    changed,
    made,
    pairs_of,
    random_collection,
    random_labels,
    random_measure,
    random_soft,
    total_of,
)

DATA = Path(__file__).parents[2] / "data"
seeds = st.integers(0, 2**32 - 1)


def tree_on(rng, grid):
    """Return a random tree with at most 20 leaves."""
    return random_tree(rng, int(rng.integers(1, min(20, math.prod(grid)) + 1)), grid, arity=3)


def cuts_of(tree, name):
    """Return the label maps of all horizontal cuts by the ids that an index gives them."""
    lowest = [-np.inf, *np.unique(tree.altitudes[tree.n_leaves :])]
    cuts = [tree.horizontal_cut(altitude) for altitude in lowest]
    return {f"{name}@{cut.size}": tree.labels_of(cut) for cut in cuts}


def mixed(folder, rng, grid, measure=None, trees=3, plain=12):
    """Return an index of partitions and hierarchies, and all label maps by id."""
    maps = random_collection(rng, grid, plain)
    entries = dict(enumerate(maps))
    index = made(folder, maps, measure)
    for t in range(trees):
        tree = tree_on(rng, grid)
        cuts = cuts_of(tree, f"tree {t}")
        assert index.add_hierarchy(tree, f"tree {t}") == list(cuts)
        entries.update(cuts)
    return index, entries


def near(rng, entries):
    """Return a label map near some entry."""
    return changed(rng, entries[list(entries)[int(rng.integers(len(entries)))]])


@pytest.fixture(scope="module")
def photo():
    """Return two hierarchies of a photo of nuclei and its true labels."""
    image = imread(DATA / "nuclei-plain.png")[:96, :120]
    labels = imread(DATA / "nuclei-plain-labels.png")[:96, :120].astype(int)
    slic = build_hierarchy(image, superpixels="slic", linkage="average", grid=labels.shape)
    basins = build_hierarchy(
        image, superpixels="watershed", linkage="mean-colour", grid=labels.shape
    )
    return {"slic": slic, "basins": basins}, labels


# --- entries are the cuts -------------------------------------------------------------------


@examples(8)
@given(seed=seeds, grid=st.sampled_from(GRIDS), measure_kind=st.sampled_from(MEASURES))
def test_all_horizontal_cuts_become_entries(tmp_path_factory, seed, grid, measure_kind):
    rng = np.random.default_rng(seed)
    measure = random_measure(rng, measure_kind, grid)
    index, entries = mixed(tmp_path_factory.mktemp("cuts") / "index", rng, grid, measure)
    with index:
        assert set(index.ids()) == set(entries)
        for id, labels in entries.items():
            assert Partition.from_labels(index.get(id)) == Partition.from_labels(labels)
            expected = Partition.from_labels(labels, measure=measure)
            np.testing.assert_allclose(
                np.sort(index.partition(id).sizes), np.sort(expected.sizes), rtol=1e-12
            )
        assert index.verify() == []


def test_cuts_carry_altitude_and_number_of_regions(tmp_path):
    tree = MergeTree.from_parents([4, 4, 5, 5, 6, 6, 6], [0, 0, 0, 0, 1, 2.5, 4], [[0, 1, 2, 3]])
    with PartitionIndex.create(tmp_path / "index", (1, 4)) as index:
        ids = index.add_hierarchy(tree, "t", metadata={"image": "a"})
        assert ids == ["t@4", "t@3", "t@2", "t@1"]
        assert index.metadata("t@2") == {"image": "a", "regions": 2, "altitude": 2.5}
        found = index.search(np.array([[0, 0, 1, 1]]), 4, where={"regions": {">": 2}})
        assert {one.id for one in found} == {"t@4", "t@3"}


def test_chosen_thresholds_become_entries_equal_cuts_once(tmp_path):
    tree = MergeTree.from_parents([4, 4, 5, 5, 6, 6, 6], [0, 0, 0, 0, 1, 2.5, 4], [[0, 1, 2, 3]])
    with PartitionIndex.create(tmp_path / "index", (1, 4)) as index:
        assert index.add_hierarchy(tree, "t", thresholds=[3, 1, 2, np.inf]) == ["t@3", "t@2", "t@1"]
        assert index.metadata("t@1")["altitude"] is None
        assert index.get("t@3").tolist() in ([[0, 0, 1, 2]], [[2, 2, 0, 1]])
        assert index.add_hierarchy(tree, 5, thresholds=[0]) == ["5@4"]


def test_a_hierarchy_is_stored_once_however_many_cuts_it_has(tmp_path, photo):
    trees, _ = photo
    sizes = []
    for count in (2, 60):
        with PartitionIndex.create(tmp_path / str(count), trees["slic"].grid) as index:
            altitudes = np.unique(trees["slic"].altitudes[trees["slic"].n_leaves :])
            index.add_hierarchy(trees["slic"], "a", thresholds=altitudes[-count:])
            (segment,) = index._store.segments
            names = [n for n in segment.data.names if n == "code" or n.startswith("tree_")]
            sizes.append(sum(segment.data.array(name).nbytes for name in names))
    # Besides the tree itself an entry says where its code ends, in 8 bytes.
    assert sizes[1] - sizes[0] <= 58 * 8


# --- distances ------------------------------------------------------------------------------


@examples(8)
@given(seed=seeds, grid=st.sampled_from(GRIDS), measure_kind=st.sampled_from(MEASURES))
# An entry equal to the query is at 0, brute force says 3e-15.
@example(seed=73880, grid=(5, 7), measure_kind="float")
def test_cuts_and_partitions_are_found_together(tmp_path_factory, seed, grid, measure_kind):
    rng = np.random.default_rng(seed)
    measure = random_measure(rng, measure_kind, grid)
    index, entries = mixed(tmp_path_factory.mktemp("cuts") / "index", rng, grid, measure)
    with index:
        for query in (near(rng, entries), random_labels(rng, grid)):
            expected = brute_force(query, entries, measure)
            exact, total = measure_kind != "float", total_of(measure, grid)
            for k in (1, 9, len(entries)):
                assert_same(pairs_of(index.search(query, k)), expected[:k], exact, total)
            if exact:
                assert all(type(one.rho) is int for one in index.search(query, 9))


@pytest.mark.parametrize("kind", SOFT)
@examples(4)
@given(seed=seeds, grid=st.sampled_from(GRIDS))
def test_soft_queries_find_cuts(tmp_path_factory, kind, seed, grid):
    rng = np.random.default_rng(seed)
    index, entries = mixed(tmp_path_factory.mktemp("cuts") / "index", rng, grid)
    with index:
        query = random_soft(rng, kind, near(rng, entries))
        expected = brute_force(query, entries)
        assert_same(pairs_of(index.search(query, 9)), expected[:9], exact=False)


def test_large_integer_measures_stay_exact(tmp_path):
    # Sums of squares that float64 does not hold: cuts are then compared one by one.
    rng = np.random.default_rng(3)
    measure = rng.integers(10**6, 2 * 10**6, (12, 18))
    assert measure.sum() > queries.EXACT_TOTAL
    index, entries = mixed(tmp_path / "index", rng, (12, 18), measure)
    with index:
        query = near(rng, entries)
        assert pairs_of(index.search(query, 12)) == brute_force(query, entries, measure)[:12]


def test_rings_within_a_hierarchy_are_differences_of_square_sums(tmp_path, photo):
    trees, _ = photo
    with PartitionIndex.create(tmp_path / "index", trees["slic"].grid) as index:
        index.add_hierarchy(trees["slic"], "a")
        (view,) = index._all_views()
        pivots = view.arrays["block_pivots"][view.block_of]
        ids = view.stored.all_ids()
        for row in range(0, view.n_entries, 25):
            pivot = index.get(ids[pivots[row]])
            assert view.arrays["ring"][row] == brute_force(index.get(ids[row]), {0: pivot})[0][0]


def test_the_nearest_of_two_real_hierarchies_is_found_with_few_distances(tmp_path, photo):
    trees, labels = photo
    entries = {}
    with PartitionIndex.create(tmp_path / "index", labels.shape) as index:
        for name, tree in trees.items():
            index.add_hierarchy(tree, name)
            entries.update(cuts_of(tree, name))
        assert set(index.ids()) == set(entries)
        rng = np.random.default_rng(1)
        for query in (labels, changed(rng, entries["slic@30"], 0.02)):
            found = index.search(query, 3)
            assert pairs_of(found) == brute_force(query, entries)[:3]
            assert found.work.exact_distances < 0.5 * len(entries)
        soft = random_soft(rng, "classes", labels)
        expected = brute_force(soft, entries)[:3]
        assert_same(pairs_of(index.search(soft, 3)), expected, exact=False)


def test_a_hierarchy_is_passed_over_once_for_all_its_cuts(tmp_path, photo, monkeypatch):
    trees, labels = photo
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return original(*arguments)

    original = queries.region_costs
    monkeypatch.setattr(queries, "region_costs", counted)
    with PartitionIndex.create(tmp_path / "index", labels.shape) as index:
        for name, tree in trees.items():
            index.add_hierarchy(tree, name)
        assert index.search(labels, 150).work.exact_distances >= 150
    assert len(calls) == 2


# --- changes --------------------------------------------------------------------------------


def test_compaction_keeps_hierarchies_and_drops_those_without_entries(tmp_path):
    rng = np.random.default_rng(6)
    index, entries = mixed(tmp_path / "index", rng, (12, 18), trees=4)
    with index:
        for id in [id for id in entries if str(id).startswith("tree 2")] + ["tree 1@1", 3]:
            index.remove(id)
            del entries[id]
        index.compact()
        assert index.info()["segments"] == 1
        (segment,) = index._store.segments
        assert segment.data.shape("tree_runs") == (3,)
        for id, labels in entries.items():
            assert Partition.from_labels(index.get(id)) == Partition.from_labels(labels)
        for _ in range(3):
            query = near(rng, entries)
            assert pairs_of(index.search(query, 8)) == brute_force(query, entries)[:8]
        assert index.verify() == []


def test_a_cut_can_be_updated_to_any_partition(tmp_path):
    rng = np.random.default_rng(7)
    index, entries = mixed(tmp_path / "index", rng, (12, 18))
    with index:
        entries["tree 0@1"] = random_labels(rng, (12, 18))
        index.update("tree 0@1", entries["tree 0@1"])
        assert np.array_equal(index.get("tree 0@1"), entries["tree 0@1"])
        query = near(rng, entries)
        assert pairs_of(index.search(query, 8)) == brute_force(query, entries)[:8]


def test_more_hierarchies_than_stay_decoded_are_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(queries, "KEPT_COSTS", 3)
    rng = np.random.default_rng(8)
    index, entries = mixed(tmp_path / "index", rng, (9, 10), trees=20, plain=4)
    with index:
        index.compact()
        query = near(rng, entries)
        assert pairs_of(index.search(query, 60)) == brute_force(query, entries)[:60]


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "more", "error", "message"),
    [
        ((np.zeros((4, 6), int), "a"), {}, TypeError, "tree must be a MergeTree"),
        (("tree", 1.5), {}, TypeError, "id must be an integer or a string"),
        (("tree", True), {}, TypeError, "id must be an integer or a string"),
        (("tree", "a"), {"thresholds": []}, ValueError, "thresholds must be numbers"),
        (("tree", "a"), {"thresholds": [1, np.nan]}, ValueError, "thresholds must be numbers"),
        (("tree", "a"), {"metadata": {"x": object()}}, TypeError, "metadata"),
        (("other", "a"), {}, ValueError, "tree must lie on the grid"),
    ],
)
def test_bad_hierarchies_are_refused(tmp_path, arguments, more, error, message):
    rng = np.random.default_rng(9)
    trees = {"tree": tree_on(rng, (4, 6)), "other": tree_on(rng, (6, 4))}
    tree, id = arguments
    with PartitionIndex.create(tmp_path / "index", (4, 6)) as index:
        with pytest.raises(error, match=message):
            index.add_hierarchy(
                trees.get(tree, tree) if isinstance(tree, str) else tree, id, **more
            )
        assert len(index) == 0


def test_a_hierarchy_of_a_known_name_is_refused(tmp_path):
    tree = tree_on(np.random.default_rng(10), (4, 6))
    with PartitionIndex.create(tmp_path / "index", (4, 6)) as index:
        index.add_hierarchy(tree, "a")
        with pytest.raises(ValueError, match="is in the index already"):
            index.add_hierarchy(tree, "a")
