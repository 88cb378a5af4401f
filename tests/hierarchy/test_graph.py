"""The region adjacency graph against a pixel-by-pixel reference, for all kinds of label maps."""

from copy import copy

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hiersearch.hierarchy._graph_kernels import stable_order
from hiersearch.hierarchy.agglomerate import agglomerate, pixel_tree
from hiersearch.hierarchy.graph import RegionGraph, compact_labels, numbers_of, region_graph
from hiersearch.hierarchy.watershed import watershed_tree
from hiersearch.partitions import SoftPartition
from hiersearch.refinement.metric_merging import metric_merging

GRIDS = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
)


def reference(labels, difference):
    """Return {(u, v): contrasts} by looking at every pair of neighbouring pixels."""
    values = np.unique(labels)
    edges = {}
    for p in np.ndindex(labels.shape):
        for axis in range(labels.ndim):
            q = tuple(p[i] + (i == axis) for i in range(labels.ndim))
            if q[axis] < labels.shape[axis] and labels[p] != labels[q]:
                pair = sorted(np.searchsorted(values, [labels[p], labels[q]]).tolist())
                edges.setdefault(tuple(pair), []).append(difference(p, q))
    return edges


def check_edges(graph, expected):
    assert [tuple(edge) for edge in graph.edges.tolist()] == sorted(expected)
    for edge, pair in enumerate(sorted(expected)):
        contrasts = expected[pair]
        assert graph.boundary_length[edge] == len(contrasts)
        assert graph.contrast_sum[edge] == pytest.approx(sum(contrasts))
        assert graph.contrast_min[edge] == pytest.approx(min(contrasts))
        assert graph.contrast_max[edge] == pytest.approx(max(contrasts))
        assert graph.contrast_mean[edge] == pytest.approx(np.mean(contrasts))


@st.composite
def scenes(draw):
    grid = draw(GRIDS)
    labels = draw(hnp.arrays(np.int64, grid, elements=st.sampled_from([-9, 0, 1, 2, 2**40])))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.float32, np.float64, np.int16]))
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    image = draw(hnp.arrays(dtype, grid + channels, elements=st.integers(0, 200)))
    return labels, image


@given(scenes(), st.sampled_from(["max", "euclidean"]))
def test_edges_and_contrasts_equal_those_of_all_pixel_pairs(scene, contrast):
    labels, image = scene
    rows = image.reshape((*labels.shape, -1)).astype(float)

    def difference(p, q):
        step = rows[p] - rows[q]
        return np.abs(step).max() if contrast == "max" else np.linalg.norm(step)

    check_edges(region_graph(labels, image, contrast=contrast), reference(labels, difference))


@given(scenes())
def test_region_sums_are_measure_weighted(scene):
    labels, image = scene
    rows = image.reshape((*labels.shape, -1)).astype(float)
    measure = np.linspace(0, 2, labels.size + 1)[1:].reshape(labels.shape)
    further = np.stack((measure, 3 - measure), axis=-1)
    graph = region_graph(labels, image, features=further, measure=measure)
    plain = region_graph(labels, image)
    for region, label in enumerate(np.unique(labels)):
        inside = labels == label
        assert np.array_equal(graph.leaf_map == region, inside)
        assert plain.sizes[region] == inside.sum()
        assert plain.feature_sums[region] == pytest.approx(rows[inside].sum(axis=0))
        columns = np.concatenate((rows[inside], further[inside]), axis=1)
        weights = measure[inside]
        assert graph.sizes[region] == pytest.approx(weights.sum())
        assert graph.feature_sums[region] == pytest.approx(weights @ columns)


@given(scenes())
def test_a_boundary_map_gives_the_contrast_in_place_of_the_image(scene):
    labels, image = scene
    boundary = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    graph = region_graph(labels, image, boundary=boundary)
    check_edges(graph, reference(labels, lambda p, q: max(boundary[p], boundary[q])))
    assert graph.feature_sums.shape[1] == image.reshape(labels.size, -1).shape[1]


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5))))
def test_any_labels_are_numbered_in_ascending_order(labels):
    compact, count = compact_labels(labels)
    expected = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    assert np.array_equal(compact, expected)
    assert count == expected.max() + 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint32, np.int64, np.uint64])
def test_the_extremes_of_every_integer_type_are_labels(dtype):
    ends = np.iinfo(dtype)
    labels = np.array([[ends.max, ends.min], [ends.max, 5]], dtype=dtype)
    expected = np.unique(labels, return_inverse=True)[1].reshape(2, 2)
    assert np.array_equal(compact_labels(labels)[0], expected)


def test_many_sparse_labels_outgrow_the_first_table():
    rng = np.random.default_rng(1)
    labels = rng.integers(-(2**62), 2**62, (80, 90))
    expected = np.unique(labels, return_inverse=True)[1].reshape(80, 90)
    graph = region_graph(labels)
    assert np.array_equal(graph.leaf_map, expected)
    assert graph.n_edges == 80 * 89 + 79 * 90


def test_more_edges_than_foreseen_outgrow_the_first_table():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 130, (200, 200))
    graph = region_graph(labels, labels)
    pairs = {
        tuple(sorted(pair))
        for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
        for pair in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
        if pair[0] != pair[1]
    }
    assert [tuple(edge) for edge in graph.edges.tolist()] == sorted(pairs)
    assert len(pairs) > 8 * 130 // 2


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (5, 1), (1, 1, 1), (2, 3, 4)])
def test_one_region_has_no_edges(grid):
    graph = region_graph(np.full(grid, -3), np.ones(grid))
    assert (graph.n_regions, graph.n_edges, graph.grid) == (1, 0, grid)
    assert graph.feature_sums.tolist() == [[np.prod(grid)]]


def test_a_region_in_two_parts_stays_one():
    graph = region_graph([[7, 1, 7]], [[0, 5, 2]])
    assert graph.edges.tolist() == [[0, 1]]
    assert (graph.contrast_min[0], graph.contrast_max[0], graph.sizes[1]) == (3, 5, 2)


def test_pixels_as_regions_take_the_short_way_to_the_same_graph():
    image = np.random.default_rng(3).integers(0, 9, (3, 4, 5))
    labels = np.arange(60).reshape(3, 4, 5)
    check_edges(
        region_graph(labels, image), reference(labels, lambda p, q: abs(image[p] - image[q]))
    )


def test_networkx_gets_all_statistics():
    graph = region_graph([[0, 1], [0, 2]], [[1.0, 2.0], [4.0, 8.0]])
    other = graph.to_networkx()
    assert nx.is_connected(other)
    assert other.nodes[0]["size"] == 2
    assert other.nodes[0]["feature_sum"].tolist() == [5.0]
    assert other.edges[0, 2] == {
        "boundary_length": 1.0,
        "contrast_sum": 4.0,
        "contrast_min": 4.0,
        "contrast_max": 4.0,
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": [[0.5]]}, TypeError, "labels must be a label map of integer type"),
        ({"labels": [0, 1]}, ValueError, "labels must be 2-D"),
        ({"labels": np.zeros((0, 3), int)}, ValueError, "at least one pixel"),
        (
            {"image": [[1.0, np.nan]]},
            ValueError,
            r"image must be finite, got nan at index \(0, 1\)",
        ),
        ({"image": [[np.inf, 1.0]]}, ValueError, "image must be finite"),
        ({"image": [[1.0]]}, ValueError, r"image must have the shape \(1, 2\)"),
        ({"image": np.zeros((1, 2, 0))}, ValueError, "at least one channel"),
        ({"image": [["a", "b"]]}, TypeError, "real numbers"),
        ({"image": [[-1e308, 1e308]]}, ValueError, "exceed the range of float64"),
        ({"boundary": [[[1.0], [2.0]]]}, ValueError, "boundary must have the labels' shape"),
        ({"boundary": [[1.0, np.nan]]}, ValueError, "boundary must be finite"),
        ({"features": [[np.nan, 0.0]]}, ValueError, "features must be finite"),
        ({"measure": [[-1.0, 1.0]]}, ValueError, "measure must not be negative"),
        ({"contrast": "min"}, ValueError, "contrast must be one of max, euclidean"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(arguments, error, message):
    with pytest.raises(error, match=message):
        region_graph(**{"labels": [[0, 1]], **arguments})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"edges": np.array([[0, 9]], np.int32)}, ValueError, r"u < v within 0\.\.2"),
        ({"edges": np.array([[-1, 1]], np.int32)}, ValueError, r"u < v within 0\.\.2"),
        ({"edges": np.array([[1, 0]], np.int32)}, ValueError, "u < v"),
        ({"edges": np.array([[0, 1]])}, TypeError, "edges must have dtype int32"),
        ({"contrast_sum": np.array([np.nan])}, ValueError, "contrast_sum must be finite"),
        ({"contrast_max": np.zeros(2)}, ValueError, r"contrast_max must have shape \(1,\)"),
        ({"boundary_length": np.zeros(1)}, ValueError, "boundary_length must be positive"),
        ({"sizes": np.array([-1.0, 1.0, 1.0])}, ValueError, "sizes must not be negative"),
        ({"leaf_map": np.array([[0, 7]], np.int32)}, ValueError, "leaf_map must lie within"),
    ],
)
def test_graphs_from_elsewhere_are_checked_before_use(change, error, message):
    arrays = {
        "leaf_map": np.array([[0, 1, 2]], np.int32),
        "edges": np.array([[0, 1]], np.int32),
        "boundary_length": np.ones(1),
        "contrast_sum": np.ones(1),
        "contrast_min": np.ones(1),
        "contrast_max": np.ones(1),
        "sizes": np.ones(3),
        "feature_sums": np.ones((3, 1)),
    }
    RegionGraph(**arrays)
    with pytest.raises(error, match=message):
        RegionGraph(**{**arrays, **change})


def test_parallel_edges_are_refused():
    edges = np.array([[0, 1], [0, 1]], np.int32)
    ones = np.ones(2)
    leaf_map = np.array([[0, 1]], np.int32)
    with pytest.raises(ValueError, match="each pair once"):
        RegionGraph(leaf_map, edges, ones, ones, ones, ones, ones, np.ones((2, 0)))


@given(
    hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e9, 1e9))
    | hnp.arrays(np.float64, st.integers(0, 60), elements=st.integers(0, 70000))
)
def test_the_order_of_weights_is_the_stable_one(weights):
    expected = np.argsort(weights + 0.0, kind="stable")
    for kind in (np.int32, np.int64):
        order = stable_order(weights, np.empty(0, kind))
        assert order.dtype == kind
        assert np.array_equal(order, expected)


def test_a_graph_must_have_a_pixel_of_every_region_and_columns_of_features():
    made = region_graph([[0, 1]], [[3, 7]])
    arrays = {name: getattr(made, name) for name in made.__match_args__}
    for change, message in (
        ({"leaf_map": np.zeros((1, 2), np.int32)}, "region 1 has no pixel"),
        ({"feature_sums": np.ones(2)}, r"feature_sums must be 2-D, got shape \(2,\)"),
        ({"edges": np.array([0, 1], np.int32)}, r"edges must be 2-D, got shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            RegionGraph(**{**arrays, **change})


def test_a_graph_does_not_follow_the_callers_arrays():
    made = region_graph([[0, 1, 2]], [[3, 7, 7]])
    arrays = {name: copy(getattr(made, name)) for name in made.__match_args__}
    graph = RegionGraph(**arrays)
    arrays["edges"][...] = 2**31 - 1
    arrays["leaf_map"][...] = -1
    assert agglomerate(graph).parents.tolist() == agglomerate(made).parents.tolist()


def test_pairs_are_numbered_in_64_bits_where_32_do_not_hold_them():
    assert [numbers_of(n) for n in (0, 2**31 - 1, 2**31)] == [np.int32, np.int32, np.int64]


@pytest.mark.slow
def test_pairs_numbered_in_64_bits_give_the_same_trees(monkeypatch):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 9, (8, 9))
    labels = np.arange(72).reshape(8, 9) // 2
    soft = SoftPartition.from_affinities(rng.random((2, 8, 9)), [[0, 1], [1, 0]])

    def found():
        graph = region_graph(labels, image)
        trees = [agglomerate(graph, name) for name in ("average", "single", "ward")]
        trees += [pixel_tree(image), watershed_tree(graph)]
        merged = metric_merging(None, soft, superpixels=labels)
        return [(t.parents.tolist(), t.altitudes.tolist()) for t in trees], merged.labels.tolist()

    expected = found()
    monkeypatch.setattr("hiersearch.hierarchy.graph.LARGEST_INT32", 3)
    assert found() == expected
