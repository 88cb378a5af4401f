"""Small random merge trees with targets, and the enumeration of all their cuts."""

import itertools

import numpy as np
from hypothesis import strategies as st

from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions import Partition, SoftPartition


def random_tree(rng, n_leaves, grid, arity=2):
    """Tree over a random leaf map (leaves need not be connected), random merges and altitudes."""
    n_pixels = int(np.prod(grid))
    leaf_map = np.concatenate([np.arange(n_leaves), rng.integers(0, n_leaves, n_pixels - n_leaves)])
    leaf_map = rng.permutation(leaf_map).reshape(grid)
    parents = {}
    roots = list(range(n_leaves))
    next_node = n_leaves
    while len(roots) > 1:
        size = min(len(roots), int(rng.integers(2, arity + 1)))
        chosen = rng.choice(len(roots), size, replace=False)
        for i in chosen:
            parents[roots[i]] = next_node
        roots = [r for i, r in enumerate(roots) if i not in set(chosen.tolist())] + [next_node]
        next_node += 1
    parents[roots[0]] = roots[0]
    n_nodes = next_node
    altitudes = np.concatenate([np.zeros(n_leaves), rng.integers(0, 6, n_nodes - n_leaves)])
    return MergeTree.from_parents([parents[i] for i in range(n_nodes)], altitudes, leaf_map)


def random_target(rng, kind, grid):
    n = int(np.prod(grid))
    if kind == "hard":
        return Partition.from_labels(rng.integers(0, 4, grid))
    if kind == "hard, many regions":
        return Partition.from_labels(rng.integers(0, 15, grid))
    if kind == "hard, weighted":
        measure = rng.random(grid) * (rng.random(grid) > 0.2)
        measure.flat[0] = 1
        return Partition.from_labels(rng.integers(0, 14, grid), measure=measure)
    if kind == "soft":
        return SoftPartition.from_regions(rng.dirichlet(np.full(3, 0.4), n).T.reshape(3, *grid))
    if kind == "soft, weighted":
        values = rng.dirichlet(np.full(3, 0.4), n).T.reshape(3, *grid)
        return SoftPartition.from_regions(values, measure=rng.random(grid) + 0.01)
    if kind == "sparse":
        values = rng.dirichlet(np.full(2, 0.6), n).T.reshape(2, *grid)
        channels = rng.integers(0, 7, (2, *grid))
        return SoftPartition.from_sparse(values, channels, n_channels=7)
    if kind == "affinities":
        offsets = np.concatenate([np.eye(len(grid), dtype=int), 2 * np.eye(len(grid), dtype=int)])
        weights = rng.random(len(offsets)) + 0.1
        affinities = rng.random((len(offsets), *grid))
        return SoftPartition.from_affinities(affinities, offsets, weights=weights)
    raise ValueError(kind)


KINDS = (
    "hard",
    "hard, many regions",
    "hard, weighted",
    "soft",
    "soft, weighted",
    "sparse",
    "affinities",
)


@st.composite
def trees_with_targets(draw, kinds=KINDS, most_leaves=6, arity=3):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = draw(st.sampled_from([(1, 7), (3, 4), (2, 2, 3)]))
    n_leaves = draw(st.integers(1, most_leaves))
    tree = random_tree(rng, n_leaves, grid, draw(st.integers(2, arity)))
    return tree, random_target(rng, draw(st.sampled_from(kinds)), grid)


def all_cuts(tree):
    """Every cut of the tree, as sorted tuples of node ids."""
    offsets, children = tree.children()

    def below(node):
        yield (node,)
        kids = children[offsets[node] : offsets[node + 1]]
        if len(kids):
            for parts in itertools.product(*[list(below(kid)) for kid in kids]):
                yield tuple(sorted(sum(parts, ())))

    return list(below(tree.root))
