"""Hierarchical watersheds against minimum spanning forests rooted in the persistent minima."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.hierarchy.graph import RegionGraph, region_graph
from hiersearch.hierarchy.watershed import ATTRIBUTES, watershed_tree


def pixel_graph(weights, areas):
    """Return the graph of an image's pixels with the given edge weights."""
    graph = region_graph(np.arange(areas.size).reshape(areas.shape), measure=areas)
    return RegionGraph(
        graph.leaf_map,
        graph.edges,
        graph.boundary_length,
        weights,
        weights,
        weights,
        graph.sizes,
        graph.feature_sums,
    )


@st.composite
def scenes(draw):
    """Draw a graph whose edge weights are all different."""
    shape = draw(st.sampled_from([(1, 2), (1, 9), (3, 4), (4, 5)]))
    n_edges = shape[0] * (shape[1] - 1) + (shape[0] - 1) * shape[1]
    weights = np.array(draw(st.permutations(range(1, n_edges + 1))), dtype=float)
    n_pixels = shape[0] * shape[1]
    areas = draw(st.lists(st.integers(1, 4), min_size=n_pixels, max_size=n_pixels))
    return pixel_graph(weights, np.array(areas, dtype=float).reshape(shape))


def components_of(n):
    return {item: frozenset([item]) for item in range(n)}


def join(components, u, v):
    joined = components[u] | components[v]
    components.update(dict.fromkeys(joined, joined))
    return joined


def extinctions(graph, attribute):
    """Return {edge that is a minimum: attribute of its basin when a greater one absorbs it}."""
    edges, weights = graph.edges.tolist(), graph.contrast_min
    lowest_edge = [
        min(weights[e] for e in range(len(edges)) if region in edges[e])
        for region in range(graph.n_regions)
    ]

    def worth(basin, level):
        if attribute == "area":
            return sum(graph.sizes[r] for r in basin)
        if attribute == "dynamics":
            return level - min(lowest_edge[r] for r in basin)
        return sum(graph.sizes[r] * (level - lowest_edge[r]) for r in basin)

    components, survivor, result = components_of(graph.n_regions), {}, {}
    for e in np.argsort(weights):
        one, other = components[edges[e][0]], components[edges[e][1]]
        if one is other:
            continue
        joined = join(components, *edges[e])
        basins = [basin for basin in (one, other) if basin in survivor]
        if not basins:
            survivor[joined] = e
            continue
        basins.sort(key=lambda basin: worth(basin, weights[e]))
        if len(basins) == 2:
            result[survivor[basins[0]]] = worth(basins[0], weights[e])
        survivor[joined] = survivor[basins[-1]]
    result[survivor[components[0]]] = np.inf
    return result


def forest(graph, roots):
    """Return the partition of the minimum spanning forest rooted in some minima."""
    edges = graph.edges.tolist()
    components = components_of(graph.n_regions)
    rooted = set()
    for e in roots:
        rooted.add(join(components, *edges[e]))
    for e in np.argsort(graph.contrast_min):
        one, other = components[edges[e][0]], components[edges[e][1]]
        if one is other or (one in rooted and other in rooted):
            continue
        joined = join(components, *edges[e])
        if one in rooted or other in rooted:
            rooted.add(joined)
    return set(components.values())


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@given(graph=scenes())
def test_every_level_is_the_forest_of_the_minima_that_outlast_it(attribute, graph):
    tree = watershed_tree(graph, attribute)
    tree.validate()
    assert tree.is_increasing
    lasting = extinctions(graph, attribute)
    levels = [level for level in lasting.values() if np.isfinite(level)]
    assert sorted(set(levels)) == sorted(set(tree.altitudes.tolist()) - {0.0})
    for level in [0.0, *levels]:
        roots = [edge for edge, value in lasting.items() if value > level]
        labels = tree.labels_of(tree.horizontal_cut(level)).ravel()
        found = {frozenset(np.flatnonzero(labels == i).tolist()) for i in range(labels.max() + 1)}
        assert found == forest(graph, roots)


def test_a_plateau_is_one_minimum():
    graph = region_graph([range(6)], [[0, 1, 2, 7, 8, 9]])
    tree = watershed_tree(graph, "area")
    assert tree.altitudes.tolist() == [0] * 10 + [3]
    tree = watershed_tree(graph, "dynamics")
    assert tree.altitudes[-1] == 4


def test_measure_weighs_area_and_weights_replace_contrast():
    graph = region_graph([range(4)], [[0, 1, 9, 9]], measure=[[5, 1, 2, 1]])
    assert watershed_tree(graph, "area").altitudes[-1] == 3
    assert watershed_tree(graph, "dynamics", weights=[1, 4, 2]).altitudes[-1] == 2


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_one_region_is_a_tree_of_one_node(attribute):
    assert watershed_tree(region_graph([[4]], [[1]]), attribute).n_nodes == 1


def test_what_does_not_fit_is_refused():
    graph = region_graph([[0, 1]], [[1, 5]])
    with pytest.raises(ValueError, match="attribute must be one of area, volume, dynamics"):
        watershed_tree(graph, "depth")
    with pytest.raises(ValueError, match="needs edge weights"):
        watershed_tree(region_graph([[0, 1]]))
    with pytest.raises(ValueError, match="one value per edge"):
        watershed_tree(graph, weights=[1, 2])
    with pytest.raises(ValueError, match=r"not be negative, got -1.0 at edge 0"):
        watershed_tree(graph, weights=[-1])
    with pytest.raises(ValueError, match="finite"):
        watershed_tree(graph, weights=[np.nan])
