import numpy as np
import pytest

import hiersearch as hs
from hiersearch import build_hierarchy, match
from hiersearch.hierarchy.cuts import horizontal_curve, nearest_cut
from hiersearch.hierarchy.several import nearest_of_hierarchies
from tests.exploration import seeds
from tests.hierarchy.small_trees import KINDS, random_target

LINKAGES = ("average", "ward", "single", "watershed-area")


def several(image):
    return [build_hierarchy(image, superpixels="pixels", linkage=linkage) for linkage in LINKAGES]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", seeds(6))
def test_finds_the_nearest_of_all_horizontal_cuts(kind, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 30, size=(9, 11)).astype(float)
    trees = several(image)
    target = random_target(rng, kind, image.shape)
    found = nearest_of_hierarchies(trees, target)
    curves = [horizontal_curve(tree, target) for tree in trees]
    assert found.cut.distance == pytest.approx(min(c.distances.min() for c in curves), abs=1e-12)
    assert found.candidates == sum(c.distances.size for c in curves)
    assert found.cut.tree is trees[found.tree]
    labels = found.cut.labels
    assert hs.distance(target, labels) == pytest.approx(found.cut.distance, abs=1e-12)


def test_looks_at_few_cuts_of_hierarchies_that_hold_something_near():
    rng = np.random.default_rng(0)
    truth = np.kron(np.arange(6).reshape(2, 3), np.ones((16, 16), int))
    image = truth * 40.0 + rng.normal(0, 4, truth.shape)
    trees = several(image)
    found = nearest_of_hierarchies(trees, truth)
    assert found.candidates > 500
    assert found.looked_at < found.candidates / 10


def test_match_takes_several_hierarchies_and_returns_the_one_with_the_nearest_cut():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 30, size=(12, 10)).astype(float)
    trees = several(image)
    target = random_target(rng, "soft", image.shape)
    found = match(image, target, tree=trees)
    each = [nearest_cut(tree, target).distance for tree in trees]
    assert found.best.distance == pytest.approx(min(each))
    assert found.together is not None
    assert found.together.cut.distance >= found.best.distance - 1e-12
    assert found.together.looked_at <= found.together.candidates
    assert match(image, target, tree=trees[0]).together is None


def test_trees_of_one_region_are_no_trouble():
    tree = build_hierarchy(
        superpixels=np.zeros((3, 4), int), linkage="average", image=np.zeros((3, 4))
    )
    found = nearest_of_hierarchies([tree, tree], np.zeros((3, 4), int))
    assert (found.candidates, found.cut.distance, found.cut.n_regions) == (2, 0.0, 1)


def test_says_what_is_wrong():
    tree = build_hierarchy(np.zeros((3, 4)), superpixels="pixels", linkage="average")
    with pytest.raises(ValueError, match="at least one hierarchy"):
        nearest_of_hierarchies([], np.zeros((3, 4), int))
    with pytest.raises(TypeError, match=r"trees\[1\] must be a MergeTree"):
        nearest_of_hierarchies([tree, 3], np.zeros((3, 4), int))
    with pytest.raises(ValueError, match="grid"):
        nearest_of_hierarchies([tree], np.zeros((4, 3), int))
