"""Merge trees: their rules, their cuts, and what measures and inversions do to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.hierarchy.tree import MergeTree


@st.composite
def trees(draw, most_leaves=9):
    """Draw a random n-ary merge tree on a one-row image, with any altitudes."""
    n_leaves = draw(st.integers(1, most_leaves))
    parents, alive = {}, list(range(n_leaves))
    node = n_leaves
    while len(alive) > 1:
        count = draw(st.integers(2, min(3, len(alive))))
        chosen = draw(st.permutations(alive))[:count]
        for child in chosen:
            parents[child] = node
        alive = [item for item in alive if item not in chosen] + [node]
        node += 1
    parents[node - 1] = node - 1
    altitudes = [0.0] * n_leaves + draw(
        st.lists(st.integers(-3, 9), min_size=node - n_leaves, max_size=node - n_leaves)
    )
    repeats = draw(st.lists(st.integers(1, 3), min_size=n_leaves, max_size=n_leaves))
    leaf_map = np.repeat(np.arange(n_leaves), repeats)[None]
    return MergeTree.from_parents([parents[i] for i in range(node)], altitudes, leaf_map)


def leaves_under(tree, node):
    if node < tree.n_leaves:
        return {node}
    children = [i for i in range(tree.root) if tree.parents[i] == node]
    return set().union(*(leaves_under(tree, child) for child in children))


def is_cut(tree, nodes):
    covered = [leaf for node in nodes for leaf in leaves_under(tree, node)]
    return sorted(covered) == list(range(tree.n_leaves))


@given(trees())
def test_counts_sizes_and_children_agree_with_the_definition(tree):
    offsets, nodes = tree.children()
    assert tree.n_leaves + tree.n_inner == tree.n_nodes
    for node in range(tree.n_nodes):
        under = leaves_under(tree, node)
        assert tree.sizes[node] == np.isin(tree.leaf_map, list(under)).sum()
        expected = [i for i in range(tree.root) if tree.parents[i] == node]
        assert nodes[offsets[node] : offsets[node + 1]].tolist() == expected
    assert tree.is_binary == all(np.diff(offsets)[tree.n_leaves :] == 2)


@given(trees(), st.integers(-4, 10))
def test_horizontal_cut_holds_the_largest_nodes_whose_merges_are_all_low(tree, altitude):
    def low(node):
        if node < tree.n_leaves:
            return True
        inside = [i for i in range(tree.root) if tree.parents[i] == node]
        return tree.altitudes[node] <= altitude and all(low(i) for i in inside)

    expected = [
        node
        for node in range(tree.n_nodes)
        if low(node) and (node == tree.root or not low(tree.parents[node]))
    ]
    cut = tree.horizontal_cut(altitude)
    assert cut.tolist() == expected
    assert is_cut(tree, cut)


@given(trees(), st.data())
def test_cut_with_regions_undoes_the_last_merges(tree, data):
    regions = data.draw(st.integers(1, tree.n_leaves))
    cut = tree.cut_with_regions(regions)
    assert is_cut(tree, cut)
    assert cut.size <= regions
    if tree.is_binary:
        assert cut.size == regions
    # Every kept node is older than every undone one.
    undone = {tree.parents[node] for node in cut if node != tree.root}
    assert all(node < merge for node in cut for merge in undone)


@given(trees(), st.data())
def test_labels_of_gives_each_pixel_the_position_of_its_region(tree, data):
    cut = data.draw(st.permutations(tree.cut_with_regions(tree.n_leaves // 2 + 1).tolist()))
    labels = tree.labels_of(cut)
    assert labels.dtype == np.int32
    assert labels.shape == tree.grid
    for position, node in enumerate(cut):
        expected = np.isin(tree.leaf_map, list(leaves_under(tree, node)))
        assert np.array_equal(labels == position, expected)


@given(trees(), st.data())
def test_node_sets_that_are_no_cut_are_refused(tree, data):
    nodes = data.draw(st.lists(st.integers(0, tree.root), min_size=1, max_size=6))
    if is_cut(tree, nodes):
        assert tree.labels_of(nodes).max() == len(nodes) - 1
    else:
        with pytest.raises(ValueError, match="cut"):
            tree.labels_of(nodes)


@given(trees())
def test_monotone_raises_altitudes_just_enough(tree):
    raised = tree.monotone()
    assert raised.is_increasing
    assert tree.is_increasing == np.array_equal(raised.altitudes, tree.altitudes)
    for node in range(tree.n_nodes):
        under = [
            i for i in range(tree.n_nodes) if leaves_under(tree, i) <= leaves_under(tree, node)
        ]
        assert raised.altitudes[node] == tree.altitudes[under].max()


@given(trees())
def test_measure_is_summed_over_pixels_and_may_vanish(tree):
    measure = np.arange(tree.leaf_map.size, dtype=np.float32).reshape(tree.grid) + 0.5
    measure[tree.leaf_map == 0] = 0.0
    if not measure.any():
        with pytest.raises(ValueError, match="positive somewhere"):
            tree.with_measure(measure)
        return
    measured = tree.with_measure(measure)
    measured.validate()
    assert measured.sizes[0] == 0
    assert measured.sizes[tree.root] == pytest.approx(measure.sum())
    assert tree.sizes[tree.root] == tree.leaf_map.size


def test_one_leaf_and_volumes_work_everywhere():
    tree = MergeTree.from_parents([0], [0], np.zeros((2, 1, 3), np.uint8))
    assert (tree.n_leaves, tree.n_inner, tree.root, tree.is_binary) == (1, 0, 0, True)
    assert tree.horizontal_cut(-1).tolist() == tree.cut_with_regions(1).tolist() == [0]
    assert tree.labels_of([0]).shape == (2, 1, 3)
    assert not tree.has_pixel_leaves
    assert MergeTree.from_parents([0], [0], [[0]]).has_pixel_leaves


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([2, 5, 2], "node 1 has parent 5, outside 0..2"),
        ([2, -1, 2], "node 1 has parent -1, outside 0..2"),
        ([2, 0, 2], "node 1 has parent 0; a parent must come later"),
        ([2, 1, 2], "node 1 is its own parent"),
        ([2, 2, 1], "the last node, 2, is the root"),
        ([2, 2, 4, 4, 4], "node 3 has no children but follows a node that has"),
        ([1, 2, 2], "node 1 has one child"),
    ],
)
def test_a_broken_rule_of_parents_is_named_with_its_node(parents, message):
    with pytest.raises(ValueError, match=f"parents: {message}"):
        MergeTree.from_parents(parents, [0.0] * len(parents), [[0, 1]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"parents": [2.0, 2.0, 2.0]}, TypeError, "parents must be an array of integers"),
        ({"parents": np.zeros(0, int)}, ValueError, "parents must be 1-D and not empty"),
        ({"altitudes": [0, 0, np.nan]}, ValueError, "altitudes must be finite"),
        ({"altitudes": [0, 0]}, ValueError, "altitudes must have one value per node"),
        ({"sizes": [1, 1, 3]}, ValueError, "sizes: node 2 has size 3.0"),
        ({"sizes": [-1, 1, 0]}, ValueError, "sizes: node 0 has the negative size"),
        ({"leaf_map": [[0, 2]]}, ValueError, r"leaf_map must lie within 0\.\.1"),
        ({"leaf_map": [[0, -1]]}, ValueError, "leaf_map must lie within"),
        ({"leaf_map": [[0, 0]]}, ValueError, "leaf_map: leaf 1 has no pixel"),
        ({"leaf_map": [0, 1]}, ValueError, "leaf_map must be 2-D"),
    ],
)
def test_a_broken_array_is_named(change, error, message):
    arguments = {"parents": [2, 2, 2], "altitudes": [0, 0, 1], "leaf_map": [[0, 1]], **change}
    with pytest.raises(error, match=message):
        MergeTree.from_parents(**arguments)


def test_requests_outside_the_tree_are_refused():
    tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]])
    with pytest.raises(ValueError, match=r"regions must be within 1\.\.2"):
        tree.cut_with_regions(3)
    with pytest.raises(ValueError, match="nan"):
        tree.horizontal_cut(float("nan"))
    with pytest.raises(ValueError, match=r"node ids within 0\.\.2, got 7"):
        tree.labels_of([7])
    with pytest.raises(TypeError, match="integers"):
        tree.labels_of([0.0, 1.0])
    with pytest.raises(ValueError, match="leaf 1 is in none"):
        tree.labels_of([0])


def test_a_tree_does_not_follow_the_callers_arrays():
    parents, altitudes = np.array([3, 3, 4, 4, 4]), np.array([0.0, 0, 0, 1, 5])
    sizes, leaf_map = np.array([1.0, 1, 2, 2, 4]), np.array([[0, 1, 2, 2]], np.int32)
    made = [
        MergeTree.from_parents(parents, altitudes, leaf_map),
        MergeTree.from_parents(parents, altitudes, leaf_map, sizes),
        MergeTree(parents, altitudes, sizes, leaf_map),
    ]
    for array in (parents, altitudes, sizes, leaf_map):
        array[...] = 2**31 - 1
    for tree in made:
        tree.validate()
        assert tree.labels_of(tree.horizontal_cut(1)).tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"parents": np.array([2, 2, 2], np.int32)}, TypeError, "parents must have dtype int64"),
        ({"parents": np.array([9, 2, 2])}, ValueError, r"node 0 has parent 9, outside 0\.\.2"),
        (
            {"leaf_map": np.array([[0, 9]], np.int32)},
            ValueError,
            r"leaf_map must lie within 0\.\.1",
        ),
        ({"leaf_map": np.array([[0, 1]])}, TypeError, "leaf_map must have dtype int32, got int64"),
        ({"sizes": np.ones(3)}, ValueError, "sizes: node 2 has size 1.0, which is not the sum"),
        ({"altitudes": np.ones(2)}, ValueError, "altitudes must have one value per node"),
    ],
)
def test_a_hand_built_tree_is_checked(change, error, message):
    arguments = {
        "parents": np.array([2, 2, 2]),
        "altitudes": np.array([0.0, 0, 1]),
        "sizes": np.array([1.0, 1, 2]),
        "leaf_map": np.array([[0, 1]], np.int32),
    }
    assert MergeTree(**arguments).n_leaves == 2
    with pytest.raises(error, match=message):
        MergeTree(**{**arguments, **change})


def test_more_nodes_than_32_bits_can_number_are_refused():
    many = np.broadcast_to(np.int64(0), (2**31,))
    with pytest.raises(ValueError, match=r"parents must name fewer than 2\*\*31 nodes, got 214748"):
        MergeTree.from_parents(many, many, [[0]])
