"""Greedy merging against a naive reference, SciPy and minimum spanning trees."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import pdist

from hiersearch.hierarchy.agglomerate import (
    agglomerate,
    check_leaves,
    kruskal_tree,
    pixel_tree,
)
from hiersearch.hierarchy.graph import RegionGraph, region_graph
from hiersearch.hierarchy.linkage import mix
from hiersearch.hierarchy.tree import MergeTree
from tests.exploration import examples


@st.composite
def graphs(draw):
    """Draw the graph of a small scene with two colour and two soft channels, whole-numbered."""
    grid = draw(st.sampled_from([(1, 1), (1, 7), (4, 5), (5, 6), (2, 3, 3)]))
    labels = draw(hnp.arrays(np.int16, grid, elements=st.integers(0, 12)))
    image = draw(hnp.arrays(np.uint8, (*grid, 2), elements=st.integers(0, 9)))
    soft = draw(hnp.arrays(np.float64, (*grid, 2), elements=st.integers(0, 3)))
    measure = draw(hnp.arrays(np.float64, grid, elements=st.integers(0, 2)))
    if not measure.any():
        measure[:] = 1.0
    return region_graph(labels, image, features=soft, measure=measure)


def difference_of_means(graph_sizes, sums, u, v):
    if graph_sizes[u] == 0 or graph_sizes[v] == 0:
        return np.zeros_like(sums[u])
    return sums[u] * (1 / graph_sizes[u]) - sums[v] * (1 / graph_sizes[v])


def summed(values):
    """Sum from left to right, as ties depend on the last bit."""
    total = 0.0
    for value in values:
        total += value
    return total


def average(s, f, u, v, edge):
    return edge[1] / edge[0]


def complete(s, f, u, v, edge):
    return edge[3]


def single(s, f, u, v, edge):
    return edge[2]


def mean_colour(s, f, u, v, edge):
    return np.sqrt(summed(difference_of_means(s, f, u, v) ** 2))


def ward(s, f, u, v, edge):
    total = s[u] + s[v]
    squared = summed(difference_of_means(s, f, u, v) ** 2)
    return s[u] * s[v] / total * squared if total else 0.0


def mixed(s, f, u, v, edge):
    step = difference_of_means(s, f, u, v)
    colour, soft = np.sqrt(summed(step[:2] ** 2)), summed(np.abs(step[2:]))
    return 0.5 * colour + 0.25 * soft + 0.25 * (edge[1] / edge[0])


def naive_tree(graph, linkage):
    """Merge greedily by looking at every edge in every step."""
    n = graph.n_regions
    sizes = dict(enumerate(graph.sizes.tolist()))
    sums = dict(enumerate(graph.feature_sums))
    statistics = np.stack(
        (graph.boundary_length, graph.contrast_sum, graph.contrast_min, graph.contrast_max), axis=1
    )
    edges = {
        tuple(pair): (number, *statistics[number])
        for number, pair in enumerate(graph.edges.tolist())
    }
    parents, altitudes = list(range(2 * n - 1)), [0.0] * (2 * n - 1)
    for node in range(n, 2 * n - 1):
        value, _, u, v = min(
            (linkage(sizes, sums, u, v, edge[1:]), edge[0], u, v) for (u, v), edge in edges.items()
        )
        parents[u] = parents[v] = node
        altitudes[node] = value
        sizes[node] = sizes.pop(u) + sizes.pop(v)
        sums[node] = sums.pop(u) + sums.pop(v)
        merged = {}
        for pair, edge in edges.items():
            renamed = tuple(sorted(node if end in (u, v) else end for end in pair))
            if renamed[0] == renamed[1]:
                continue
            if renamed in merged:
                first = merged[renamed]
                edge = (
                    min(first[0], edge[0]),
                    first[1] + edge[1],
                    first[2] + edge[2],
                    min(first[3], edge[3]),
                    max(first[4], edge[4]),
                )
            merged[renamed] = edge
        edges = merged
    return parents, altitudes


CASES = {
    "average": ("average", average),
    "complete": ("complete", complete),
    "mean-colour": ("mean-colour", mean_colour),
    "ward": ("ward", ward),
    "mix": (mix(colour=0.5, soft=0.25, boundary=0.25), mixed),
}


@pytest.mark.parametrize("case", CASES)
@given(graph=graphs())
def test_every_linkage_merges_as_the_naive_algorithm_does(case, graph):
    linkage, reference = CASES[case]
    tree = agglomerate(graph, linkage, colour_channels=2 if case == "mix" else None)
    parents, altitudes = naive_tree(graph, reference)
    assert tree.altitudes == pytest.approx(altitudes, abs=1e-9)
    assert tree.parents.tolist() == parents
    tree.validate()
    assert tree.sizes[: graph.n_regions].tolist() == graph.sizes.tolist()


@given(graphs())
def test_single_linkage_has_the_altitudes_and_cuts_of_the_minimum_spanning_tree(graph):
    tree = agglomerate(graph, "single")
    _, altitudes = naive_tree(graph, single)
    assert tree.altitudes.tolist() == altitudes
    assert tree.is_increasing
    for threshold in set(altitudes):
        components = {leaf: {leaf} for leaf in range(graph.n_regions)}
        for (u, v), weight in zip(graph.edges.tolist(), graph.contrast_min, strict=True):
            if weight <= threshold and components[u] is not components[v]:
                joined = components[u] | components[v]
                components.update(dict.fromkeys(joined, joined))
        assert tree.horizontal_cut(threshold).size == len(
            {frozenset(c) for c in components.values()}
        )


def complete_graph(points):
    """Return the graph in which all points are neighbours, by their distances."""
    n = len(points)
    u, v = np.triu_indices(n, 1)
    distances = pdist(points)
    return RegionGraph(
        leaf_map=np.arange(n, dtype=np.int32)[None],
        edges=np.stack((u, v), axis=1).astype(np.int32),
        boundary_length=np.ones(u.size),
        contrast_sum=distances,
        contrast_min=distances,
        contrast_max=distances,
        sizes=np.ones(n),
        feature_sums=points,
    )


@pytest.mark.parametrize("name", ["single", "average", "complete", "ward", "mean-colour"])
@given(seed=st.integers(0, 10**6), n=st.integers(2, 30))
@examples(30)
def test_on_complete_graphs_the_tree_is_that_of_scipy(name, seed, n):
    points = np.random.default_rng(seed).random((n, 3))
    tree = agglomerate(complete_graph(points), name)
    expected = scipy_linkage(points, {"mean-colour": "centroid"}.get(name, name))[:, 2]
    if name == "ward":
        expected = expected**2 / 2
    if name == "mean-colour":
        assert tree.altitudes[n:] == pytest.approx(expected)
    else:
        assert np.sort(tree.altitudes[n:]) == pytest.approx(expected)


def average_by_hand(size_u, size_v, sum_u, sum_v, length, total, low, high):
    return total / length


@numba.njit
def colour_by_hand(size_u, size_v, sum_u, sum_v, length, total, low, high):
    if size_u == 0 or size_v == 0:
        return 0.0
    squared = 0.0
    for channel in range(sum_u.shape[0]):
        step = sum_u[channel] * (1 / size_u) - sum_v[channel] * (1 / size_v)
        squared += step * step
    return np.sqrt(squared)


def test_a_function_does_what_the_linkage_it_imitates_does():
    rng = np.random.default_rng(0)
    graph = region_graph(rng.integers(0, 150, (30, 40)), rng.random((30, 40, 3)))
    for function, name in ((average_by_hand, "average"), (colour_by_hand, "mean-colour")):
        own, known = agglomerate(graph, function), agglomerate(graph, name)
        assert np.array_equal(own.parents, known.parents)
        assert own.altitudes == pytest.approx(known.altitudes)


def not_a_number(size_u, size_v, sum_u, sum_v, length, total, low, high):
    return np.nan if size_u + size_v > 2 else length


def raising(size_u, size_v, sum_u, sum_v, length, total, low, high):
    if size_u + size_v > 2:
        raise ValueError("too large")
    return length


@pytest.mark.parametrize("function", [not_a_number, raising])
def test_a_function_that_fails_for_a_pair_names_the_pair(function):
    with pytest.raises(ValueError, match="the linkage of regions 2 and 3 is not finite or raised"):
        agglomerate(region_graph([[0, 1, 2]]), function)


def test_a_graph_that_is_not_connected_is_refused():
    graph = region_graph([[0, 1, 2, 3]], [[1, 2, 3, 4]])
    cut = RegionGraph(
        graph.leaf_map,
        graph.edges[[0, 2]],
        *(np.ones(2) for _ in range(4)),
        graph.sizes,
        graph.feature_sums,
    )
    for linkage in ("average", "single"):
        with pytest.raises(ValueError, match="4 regions form 2 components"):
            agglomerate(cut, linkage)


def test_what_a_linkage_needs_must_be_in_the_graph():
    bare = region_graph([[0, 1]])
    with pytest.raises(ValueError, match="compares contrasts, but the graph has none"):
        agglomerate(bare, "single")
    with pytest.raises(ValueError, match="compares mean colours, but the graph has none"):
        agglomerate(bare, "ward")
    with pytest.raises(ValueError, match="compares soft outputs, but the graph has none"):
        agglomerate(region_graph([[0, 1]], [[1, 2]]), mix(soft=1.0))
    with pytest.raises(ValueError, match=r"colour_channels must be within 0\.\.0"):
        agglomerate(bare, mix(soft=1.0), colour_channels=3)
    with pytest.raises(TypeError, match="must be a name, a Linkage or a function"):
        agglomerate(bare, 3.5)


def test_regions_without_measure_merge_without_a_warning():
    graph = region_graph([[0, 1, 2]], [[5, 90, 7]], measure=[[1, 0, 1]])
    for linkage in ("mean-colour", "ward"):
        tree = agglomerate(graph, linkage)
        assert tree.altitudes[3] == 0
        assert tree.sizes.tolist() == [1, 0, 1, 1, 2]
        assert np.isfinite(tree.altitudes).all()


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float64]),
        st.sampled_from([(1, 1), (1, 6), (4, 5), (4, 5, 3)]),
        elements=st.integers(0, 200),
    )
)
def test_pixel_tree_is_single_linkage_of_the_pixel_graph(image):
    tree = pixel_tree(image)
    grid = image.shape[:2]
    graph = region_graph(np.arange(grid[0] * grid[1]).reshape(grid), image)
    expected = agglomerate(graph, "single")
    assert tree.parents.tolist() == expected.parents.tolist()
    assert tree.altitudes.tolist() == expected.altitudes.tolist()
    assert tree.sizes.tolist() == expected.sizes.tolist()
    assert tree.has_pixel_leaves
    tree.validate()


def test_pixel_tree_reads_volumes_boundaries_and_measures():
    volume = np.random.default_rng(4).random((2, 3, 4)).astype(np.float32)
    labels = np.arange(24).reshape(2, 3, 4)
    tree = pixel_tree(volume, (2, 3, 4), measure=volume)
    expected = agglomerate(region_graph(labels, volume, measure=volume), "single")
    assert np.array_equal(tree.parents, expected.parents)
    assert tree.sizes == pytest.approx(expected.sizes)
    flooded = pixel_tree(volume, (2, 3, 4), boundary=True)
    expected = agglomerate(region_graph(labels, boundary=volume), "single")
    assert np.array_equal(flooded.altitudes, expected.altitudes)


def test_pixel_tree_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="image must be finite, got nan"):
        pixel_tree([[0.0, np.nan]])
    with pytest.raises(ValueError, match="image must have the shape"):
        pixel_tree([[0.0, 1.0]], (2, 1))


@pytest.mark.parametrize("linkage", ["average", "complete", "ward", "mean-colour", "single"])
def test_large_pixel_graphs_give_valid_trees(linkage):
    rng = np.random.default_rng(5)
    image = np.cumsum(rng.integers(-2, 3, (128, 128)), axis=1)
    tree = agglomerate(region_graph(np.arange(128 * 128).reshape(128, 128), image), linkage)
    tree.validate()
    assert tree.is_binary
    assert tree.sizes[tree.root] == 128 * 128


def test_kruskal_tree_takes_negative_weights_and_parallel_edges():
    edges = np.array([[0, 1], [0, 1], [1, 2]], dtype=np.int32)
    leaf_map = np.array([[0, 1, 2]], dtype=np.int32)
    tree = kruskal_tree(leaf_map, edges, np.array([3.0, -1.0, -2.0]), np.ones(3))
    assert isinstance(tree, MergeTree)
    assert tree.altitudes.tolist() == [0, 0, 0, -2, -1]


def comb(cores, teeth):
    """Return a chain of cores that merge in balanced order, each with outer regions of its own."""
    links = [(i, i + 1, float((i + 1) & -(i + 1))) for i in range(cores - 1)]
    outer = [
        (core, cores + teeth * core + i, 1000.0 + core)
        for core in range(cores)
        for i in range(teeth)
    ]
    u, v, contrast = map(np.array, zip(*sorted(links + outer), strict=True))
    n = cores * (1 + teeth)
    return RegionGraph(
        leaf_map=np.arange(n, dtype=np.int32)[None],
        edges=np.stack((u, v), axis=1).astype(np.int32),
        boundary_length=np.ones(u.size),
        contrast_sum=contrast,
        contrast_min=contrast,
        contrast_max=contrast,
        sizes=np.ones(n),
        feature_sums=np.zeros((n, 0)),
    )


def test_edges_that_move_again_and_again_are_still_found():
    # Each merge moves all outer edges of one half: the edge table fills up and is made anew.
    graph = comb(128, 2)
    tree = agglomerate(graph, "average")
    parents, altitudes = naive_tree(graph, average)
    assert tree.parents.tolist() == parents
    assert tree.altitudes.tolist() == altitudes


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"edges": [0, 1]}, ValueError, r"edges must have shape \(m, 2\), got \(2,\)"),
        ({"edges": [[0], [1]]}, ValueError, r"edges must have shape \(m, 2\), got \(2, 1\)"),
        (
            {"edges": [[0, 1], [1, 3]]},
            ValueError,
            r"edges must join regions .*, got 0\.\.3",
        ),
        ({"edges": [[0, 1], [1, -1]]}, ValueError, r"edges must join regions .*, got -1\.\.1"),
        ({"edges": [[0.0, 1], [1, 2]]}, TypeError, "edges must be an array of integers"),
        ({"edges": [[0, 1], [0, 1]]}, ValueError, "3 regions form 2 components"),
        ({"weights": [1.0]}, ValueError, r"weights must have shape \(2,\), got \(1,\)"),
        ({"weights": [1.0, np.nan]}, ValueError, "weights must be finite, got nan"),
        ({"leaf_map": [[0, 1, 5]]}, ValueError, r"leaf_map must lie within 0\.\.2"),
        ({"leaf_map": [[0, 1, 1]]}, ValueError, "leaf_map: leaf 2 has no pixel"),
        ({"sizes": [1.0, 1, -1]}, ValueError, "sizes must not be negative, got -1"),
        ({"sizes": [[1.0, 1, 1]]}, ValueError, r"sizes must be 1-D and not empty, got shape"),
    ],
)
def test_kruskal_tree_names_what_is_wrong(change, error, message):
    sound = {
        "leaf_map": [[0, 1, 2]],
        "edges": [[0, 1], [1, 2]],
        "weights": [5, 2],
        "sizes": [1] * 3,
    }
    assert kruskal_tree(**sound).parents.tolist() == [4, 3, 3, 4, 4]
    with pytest.raises(error, match=message):
        kruskal_tree(**{**sound, **change})


def test_more_leaves_than_a_tree_can_number_are_refused_before_memory_is_taken():
    message = r"a hierarchy must have at most 2\*\*30 leaves, got 10737"
    with pytest.raises(ValueError, match=message):
        pixel_tree(np.broadcast_to(np.uint8(0), (2**15, 2**15 + 1)))
    with pytest.raises(ValueError, match=message):
        kruskal_tree([[0]], [[0, 1]], [1.0], np.broadcast_to(1.0, (2**30 + 1,)))
    with pytest.raises(ValueError, match=r"image must have fewer than 2\*\*31 pixels"):
        pixel_tree(np.broadcast_to(np.uint8(0), (2**16, 2**15)))
    check_leaves(2**30)
