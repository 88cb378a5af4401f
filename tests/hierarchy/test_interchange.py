"""Merge trees survive the way to SciPy, Higra and NetworkX and back."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet, fcluster, is_monotonic, is_valid_linkage, linkage

from hiersearch.hierarchy.interchange import (
    from_higra,
    from_linkage_matrix,
    from_networkx,
    to_higra,
    to_linkage_matrix,
    to_networkx,
)
from hiersearch.hierarchy.tree import MergeTree
from tests.hierarchy.test_tree import trees


def partition(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def assert_equal(one, other):
    assert np.array_equal(one.parents, other.parents)
    assert np.array_equal(one.altitudes, other.altitudes)
    assert np.array_equal(one.sizes, other.sizes)
    assert np.array_equal(one.leaf_map, other.leaf_map)


def with_distances(tree):
    return MergeTree(tree.parents, np.abs(tree.altitudes), tree.sizes, tree.leaf_map)


@given(trees(), st.integers(0, 10))
def test_linkage_matrix_is_valid_and_cuts_alike(drawn, threshold):
    assume(drawn.is_binary)
    tree = with_distances(drawn)
    matrix = to_linkage_matrix(tree)
    assert matrix.shape == (tree.n_leaves - 1, 4)
    back = from_linkage_matrix(matrix, tree.leaf_map)
    cut = tree.labels_of(tree.horizontal_cut(threshold)).ravel()
    assert partition(back.labels_of(back.horizontal_cut(threshold)).ravel()) == partition(cut)
    if tree.n_leaves > 1:
        assert is_valid_linkage(matrix)
        assert is_monotonic(matrix)
        clusters = fcluster(matrix, threshold, "distance")[tree.leaf_map.ravel()]
        assert partition(clusters) == partition(cut)


@given(st.integers(0, 10**6), st.integers(2, 20))
def test_scipys_trees_return_unchanged(seed, n):
    matrix = linkage(np.random.default_rng(seed).random((n, 2)), "average")
    tree = from_linkage_matrix(matrix, np.arange(n)[None])
    assert np.array_equal(to_linkage_matrix(tree), matrix)
    assert tree.altitudes[tree.root] == cophenet(matrix).max()


@given(trees())
def test_higra_and_networkx_return_the_same_tree(tree):
    assert_equal(from_higra(*to_higra(tree), tree.leaf_map), tree)
    graph = to_networkx(tree)
    assert nx.is_arborescence(graph)
    assert_equal(from_networkx(graph), tree)


def test_exported_arrays_are_copies():
    tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]])
    to_higra(tree)[1][2] = 9
    to_networkx(tree).graph["leaf_map"][0, 0] = 9
    assert (tree.altitudes[2], tree.leaf_map[0, 0]) == (1, 0)


def test_only_binary_trees_with_distances_become_linkage_matrices():
    with pytest.raises(ValueError, match="node 3 has 3 children"):
        to_linkage_matrix(MergeTree.from_parents([3] * 4, [0, 0, 0, 1], [[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"node 2 has -1\.0"):
        to_linkage_matrix(MergeTree.from_parents([2] * 3, [0, 0, -1], [[0, 1]]))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, 1, 1.0]], r"matrix must have the shape \(n - 1, 4\)"),
        ([[0, 0, 1.0, 2]], "row 0 joins cluster 0, which row 0 joined already"),
        ([[0, 5, 1.0, 2]], r"row 0 joins cluster 5, but only the clusters 0\.\.1 exist"),
        ([[0, 0.5, 1.0, 2]], r"row 0 joins cluster 0\.5"),
        ([[0, 1, -1.0, 2]], r"row 0 has the negative distance -1\.0"),
        ([[0, 1, 1.0, 3]], "row 0 must count 2 leaves, got 3"),
        ([[0, 1, np.nan, 2]], "matrix must be finite"),
        ([[0, 1, 1.0, 2], [2, 3, 1.0, 3]], "leaf 2 has no pixel"),
    ],
)
def test_matrices_that_are_no_linkage_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        from_linkage_matrix(matrix, [[0, 1]])


def test_a_pixel_alone_has_an_empty_matrix():
    tree = from_linkage_matrix(np.empty((0, 4)), [[0]])
    assert to_linkage_matrix(tree).shape == (0, 4)


def test_graphs_that_are_no_tree_are_refused():
    tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]])
    graph = to_networkx(tree)
    graph.add_edge(1, 0)
    with pytest.raises(ValueError, match="must be a tree"):
        from_networkx(graph)
    graph = to_networkx(tree)
    del graph.nodes[1]["size"]
    with pytest.raises(ValueError, match="node 1 must carry the attribute size"):
        from_networkx(graph)
    del graph.graph["leaf_map"]
    with pytest.raises(ValueError, match="leaf_map"):
        from_networkx(graph)
    with pytest.raises(ValueError, match=r"nodes 0\.\.n-1"):
        from_networkx(nx.relabel_nodes(to_networkx(tree), {0: "a"}))
    graph = to_networkx(tree)
    graph.remove_edge(2, 0)
    with pytest.raises(ValueError, match="node 0 has parent -1"):
        from_networkx(graph)
