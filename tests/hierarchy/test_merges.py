"""A probability for each merge of a hierarchy is a soft partition like any other, exactly."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import MergeTree, PartitionIndex, SoftPartition, distance, distances, match
from hiersearch.hierarchy import nearest_cut, nearest_cuts, nearest_of_hierarchies, region_costs
from hiersearch.metric import comembership_distance
from hiersearch.partitions import Merges
from hiersearch.plots import soft_picture
from hiersearch.refinement import refine
from tests.exploration import examples

SEEDS = st.integers(0, 2**32 - 1)


def random_tree(rng, grid, most_leaves=9):
    """A tree whose merges join two to four nodes."""
    n = int(np.prod(grid))
    n_leaves = int(rng.integers(1, min(n, most_leaves) + 1))
    leaf_map = np.concatenate([np.arange(n_leaves), rng.integers(0, n_leaves, n - n_leaves)])
    rng.shuffle(leaf_map)
    roots, parents = list(range(n_leaves)), [0] * n_leaves
    while len(roots) > 1:
        chosen = rng.permutation(len(roots))[: int(rng.integers(2, min(4, len(roots)) + 1))]
        for i in chosen:
            parents[roots[i]] = len(parents)
        roots = [root for i, root in enumerate(roots) if i not in chosen] + [len(parents)]
        parents.append(0)
    parents[-1] = len(parents) - 1
    altitudes = np.maximum(np.arange(len(parents)) - n_leaves + 1, 0)
    return MergeTree.from_parents(parents, altitudes, leaf_map.reshape(grid))


def random_measure(rng, grid):
    kind = rng.integers(3)
    if kind == 0:
        return None
    measure = rng.integers(0, 4, grid) if kind == 1 else rng.random(grid)
    measure.flat[0] += 1
    return measure


def random_case(seed):
    rng = np.random.default_rng(seed)
    grid = (int(rng.integers(1, 5)), int(rng.integers(2, 7)))
    tree = random_tree(rng, grid)
    probabilities = rng.random(tree.n_nodes - tree.n_leaves)
    measure = random_measure(rng, grid)
    return rng, tree, SoftPartition.from_hierarchy(tree, probabilities, measure=measure)


def comembership(soft):
    """C of all pairs of pixels, by walking up the tree."""

    def above(node):
        return [node] if soft.parents[node] == node else [node, *above(soft.parents[node])]

    ancestors = [above(leaf) for leaf in range(soft.n_leaves)]
    n = soft.n_pixels
    table = np.ones((n, n))
    for p, q in itertools.product(range(n), repeat=2):
        one, other = ancestors[soft.leaf_map[p]], ancestors[soft.leaf_map[q]]
        table[p, q] = soft.joined[next(node for node in one if node in other)]
    return table


def disagreement(soft, labels):
    flat = np.asarray(labels).reshape(-1)
    weights = np.ones(flat.size) if soft.measure is None else soft.measure.astype(float)
    apart = np.abs((flat[:, None] == flat) - comembership(soft))
    return weights @ apart @ weights


@given(seed=SEEDS)
@examples(60)
def test_the_distance_is_the_disagreement_over_all_pairs(seed):
    rng, _, soft = random_case(seed)
    maps = [rng.integers(0, 5, soft.grid) for _ in range(3)]
    wanted = [disagreement(soft, labels) for labels in maps]
    found = [distance(soft, labels, normalized=False) for labels in maps]
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert distances(soft, maps).tolist() == pytest.approx(np.array(wanted) / soft.total**2)


@given(seed=SEEDS)
@examples(40)
def test_triangles_through_hard_partitions_close(seed):
    rng, _, soft = random_case(seed)
    one, other = (rng.integers(0, 4, soft.grid) for _ in range(2))
    between = distance(one, other, measure=None if soft.measure is None else
                       soft.measure.reshape(soft.grid))  # fmt: skip
    assert distance(soft, other) <= distance(soft, one) + between + 1e-12
    assert between <= distance(soft, one) + distance(soft, other) + 1e-12


@given(seed=SEEDS)
@examples(60)
def test_costs_of_any_tree_add_up_to_the_distance_of_each_cut(seed):
    rng, tree, soft = random_case(seed)
    for other in (tree, random_tree(rng, soft.grid), random_tree(rng, soft.grid, 30)):
        costs = region_costs(other, soft)
        for n_regions in range(1, other.n_leaves + 1):
            try:
                cut = other.cut_with_regions(n_regions)
            except ValueError:
                continue  # merges of several leave numbers out
            found = costs.constant + costs.costs[cut].sum()
            wanted = distance(soft, other.labels_of(cut), normalized=False)
            assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(seed=SEEDS)
@examples(30)
def test_the_nearest_cut_is_the_nearest_of_all_cuts(seed):
    _, tree, soft = random_case(seed)
    every = nearest_cuts(tree, soft, 10**6)
    by_hand = [disagreement(soft, cut.labels) / soft.total**2 for cut in every]
    best = nearest_cut(tree, soft)
    assert best.distance == pytest.approx(min(by_hand), abs=1e-12)
    hard = soft.hard()
    assert distance(soft, hard) == pytest.approx(best.distance, abs=1e-12)
    assert hard.n_regions <= min(
        cut.n_regions for cut, d in zip(every, by_hand, strict=True) if d <= min(by_hand) + 1e-12
    )


def test_where_probabilities_fall_with_altitude_the_best_cut_is_the_threshold_at_a_half():
    rng = np.random.default_rng(0)
    for _ in range(20):
        tree = random_tree(rng, (5, 6), 20)
        falling = np.sort(rng.random(tree.n_nodes - tree.n_leaves))[::-1]
        soft = SoftPartition.from_hierarchy(tree, falling)
        joined = int((falling > 0.5).sum())
        wanted = tree.labels_of(tree.horizontal_cut(joined))
        assert distance(nearest_cut(tree, soft).labels, wanted, normalized=False) == 0


def test_match_takes_the_hierarchy_that_a_target_is_of():
    _, tree, soft = random_case(5)
    found = match(None, soft)
    assert np.array_equal(found.tree.parents, tree.parents)
    assert found.best.distance == pytest.approx(nearest_cut(tree, soft).distance)
    # A hierarchy of one's own is as good, and so are several.
    rng = np.random.default_rng(2)
    others = [random_tree(rng, soft.grid, 20) for _ in range(3)]
    several = match(None, soft, tree=others)
    assert several.best.distance == min(nearest_cut(t, soft).distance for t in others)
    together = nearest_of_hierarchies(others, soft)
    assert together.cut.distance >= several.best.distance
    assert match(rng.random(soft.grid), soft, superpixels="pixels").tree.n_leaves == soft.n_pixels


def test_an_index_scans_for_it_and_is_exact(tmp_path):
    rng, _, soft = random_case(8)
    maps = [rng.integers(0, 4, soft.grid) for _ in range(40)]
    with PartitionIndex.create(tmp_path / "index", soft.grid) as index:
        index.add_many(maps)
        index.add_hierarchy(random_tree(rng, soft.grid, 12), "tree")
        found = index.search(soft.with_measure(None), 5)
        every = [distance(soft.with_measure(None), index.partition(id)) for id in index.ids()]
        assert found.work.scanned
        assert found.distances.tolist() == pytest.approx(sorted(every)[:5])
        other = random_case(1)[2]
        with pytest.raises(ValueError, match=r"query must lie on the grid .* if it is of a hier"):
            index.search(other)


def test_its_picture_shows_where_neighbours_are_apart():
    tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 2], [[0, 1, 2, 2]])
    soft = SoftPartition.from_hierarchy(tree, [0.9, 0.25])
    shown = soft_picture(soft)
    assert shown.kind.startswith("apart from a neighbour")
    assert shown.pixels.shape[:2] == (1, 4)
    assert not np.array_equal(shown.pixels[0, 0], shown.pixels[0, 1])


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5], r"probabilities must be 2 numbers, one for each merge of the tree, or 5"),
        ([0.5, 1.5], r"within \[0, 1\], got 1.5 for node 4"),
        ([0.5, -0.1], r"within \[0, 1\], got -0.1 for node 4"),
        ([np.nan, 0.5], "finite"),
    ],
)
def test_what_are_no_probabilities_is_refused(probabilities, message):
    tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 2], [[0, 1, 2, 2]])
    with pytest.raises(ValueError, match=message):
        SoftPartition.from_hierarchy(tree, probabilities)


def test_what_needs_channels_says_so_with_the_way_out():
    tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 2], [[0, 1, 2, 2]])
    soft = SoftPartition.from_hierarchy(tree, [1, 1, 1, 0.9, 0.25])
    assert repr(soft) == "<Merges 1×4: 3 leaves, probabilities of 2 merges>"
    assert soft.joined.tolist() == [1, 1, 1, 0.9, 0.25]
    with pytest.raises(TypeError, match=r"must have channels, got <Merges .*hard"):
        refine(np.zeros((1, 4)), soft)
    with pytest.raises(TypeError, match="a must be hard or have channels"):
        comembership_distance(soft, soft)
    with pytest.raises(TypeError, match="class_weight needs"):
        region_costs(tree, soft, class_weight=1)


def test_the_constructor_checks_what_compiled_functions_follow():
    made = {"grid": (1, 2), "measure": None, "reading": "hierarchy"}
    sound = Merges(**made, parents=[2, 2, 2], leaf_map=[0, 1], joined=[1, 1, 0.5])
    assert (sound.n_leaves, sound.n_nodes) == (2, 3)
    for parents, leaves, joined in (
        ([2, 2, 5], [0, 1], [1, 1, 0.5]),
        ([0, 2, 2], [0, 1], [1, 1, 0.5]),
        ([1, 2, 2], [0, 1], [1, 1, 0.5]),
        ([2, 2, 2], [0, 2], [1, 1, 0.5]),
        ([2, 2, 2], [0, -1], [1, 1, 0.5]),
        ([2, 2, 2], [0], [1, 1, 0.5]),
        ([2, 2, 2], [0, 1], [1, 0.5, 0.5]),
        ([2, 2, 2], [0, 1], [1, 1, 2]),
    ):
        with pytest.raises(ValueError, match="must"):
            Merges(**made, parents=parents, leaf_map=leaves, joined=joined)
