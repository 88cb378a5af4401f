"""The break-even is read off the map, and a map that does not tell is taken at its word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.hierarchy.agglomerate import agglomerate
from hiersearch.hierarchy.graph import region_graph
from hiersearch.refinement.calibration import break_even


def squares(inner, outer, noise=0.3, seed=0):
    """Objects of 16 × 16 pixels in fragments of 4 × 4, boundaries of two heights in log-odds."""
    rng = np.random.default_rng(seed)
    odds = np.full((128, 128), float(inner))
    for along in (odds, odds.T):
        along[::16] = along[15::16] = outer
    odds += rng.normal(0, noise, odds.shape)
    fragments = np.arange(32 * 32).reshape(32, 32).repeat(4, 0).repeat(4, 1)
    return fragments, 1 / (1 + np.exp(-odds))


def calibrated(fragments, boundary):
    graph = region_graph(fragments, boundary=boundary)
    tree = agglomerate(graph, "average")
    return break_even(tree, graph), tree


@given(st.floats(-3, 3), st.integers(0, 100))
def test_two_populations_are_parted_wherever_the_map_puts_them(shift, seed):
    fragments, boundary = squares(shift - 2, shift + 2, seed=seed)
    found, tree = calibrated(fragments, boundary)
    assert found.calibrated
    low, high = (1 / (1 + np.exp(-odds)) for odds in (shift - 2, shift + 2))
    assert low < found.height < high
    labels = tree.labels_of(tree.horizontal_cut(found.height))
    objects = np.arange(64).reshape(8, 8).repeat(16, 0).repeat(16, 1)
    assert np.unique(labels * 64 + objects).size == 64
    assert labels.max() == 63
    assert found.means[0] < found.means[1]
    assert found.share == pytest.approx(63 / 1023, abs=0.01)


def test_one_population_leaves_the_map_as_it_is():
    rng = np.random.default_rng(1)
    fragments, _ = squares(0, 0)
    found, _ = calibrated(fragments, rng.uniform(0, 1, fragments.shape))
    assert not found.calibrated
    assert found.height == 0.5


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_map_leaves_the_map_as_it_is(value):
    fragments, _ = squares(0, 0)
    found, _ = calibrated(fragments, np.full(fragments.shape, value))
    assert (found.calibrated, found.height) == (False, 0.5)


def test_few_merges_leave_the_map_as_it_is():
    found, _ = calibrated(np.array([[0, 1, 2]]), np.array([[0.1, 0.1, 0.9]]))
    assert (found.calibrated, found.height) == (False, 0.5)


def test_walls_above_one_do_not_count():
    fragments, boundary = squares(-2, 2)
    walled = np.hstack((boundary, np.full((128, 8), 7.0)))
    more = np.hstack((fragments, np.full((128, 8), 2000)))
    plain, _ = calibrated(fragments, boundary)
    with_wall, _ = calibrated(more, walled)
    assert with_wall.height == pytest.approx(plain.height, abs=0.02)


def test_bad_input_is_refused_in_one_sentence():
    fragments, boundary = squares(-2, 2)
    graph = region_graph(fragments, boundary=boundary)
    tree = agglomerate(graph, "average")
    with pytest.raises(ValueError, match="graph must have contrasts: build it with boundary="):
        break_even(tree, region_graph(fragments))
    smaller = region_graph(fragments[:64], boundary=boundary[:64])
    with pytest.raises(ValueError, match="tree must have the graph's 512 regions as leaves, got"):
        break_even(tree, smaller)
