"""Greedy merging does what it says, step by step, keeps its books, and obeys constraints."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hiersearch.hierarchy.costs import region_costs
from hiersearch.hierarchy.cuts import nearest_cut
from hiersearch.metric import distance
from hiersearch.partitions import Partition, SoftPartition
from hiersearch.refinement.metric_merging import metric_merging
from tests.refinement.merging_reference import greedy, objective

OFFSETS = {2: ((0, 1), (1, 0), (0, 2), (2, 1)), 3: ((0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 0, 2))}


def random_soft(rng, kind, grid, weighted=False):
    measure = rng.uniform(0.2, 2, grid) if weighted else None
    if kind == "affinities":
        offsets = OFFSETS[len(grid)]
        values = rng.uniform(0, 1, (len(offsets), *grid)).astype(np.float32)
        weights = rng.uniform(0.5, 2, len(offsets))
        return SoftPartition.from_affinities(values, offsets, weights=weights, measure=measure)
    scores = np.exp(3 * rng.standard_normal((3, *grid)))
    P = scores / scores.sum(axis=0)
    if kind == "sparse":
        channels = rng.integers(0, 5, (3, *grid))
        return SoftPartition.from_sparse(P, channels, n_channels=5, measure=measure)
    read = SoftPartition.from_classes if kind == "classes" else SoftPartition.from_regions
    return read(P, measure=measure)


def same(one, other):
    return distance(np.asarray(one), np.asarray(other), normalized=False) == 0


def blocks(grid, side=2):
    """Label map of small blocks, its numbers in scanning order."""
    places = np.indices(grid) // side
    sizes = [-(-s // side) for s in grid]
    return np.ravel_multi_index(tuple(places), sizes).astype(np.int32)


KINDS = st.sampled_from(["regions", "sparse", "classes", "affinities"])
GRIDS = st.sampled_from([(4, 5), (3, 4), (1, 9), (2, 3, 3)])


@given(st.integers(0, 10**6), KINDS, GRIDS, st.booleans(), st.sampled_from(["mean", "gain"]))
def test_merges_are_those_of_the_book(seed, kind, grid, weighted, order):
    rng = np.random.default_rng(seed)
    soft = random_soft(rng, kind, grid, weighted)
    boundary = rng.uniform(0, 1, grid)
    terms = {
        "price": float(rng.choice([0.0, 0.01, -0.01])),
        "boundary": boundary,
        "boundary_weight": float(rng.choice([0.0, 0.5])),
    }
    if kind in ("regions", "classes"):
        terms["class_weight"] = float(rng.choice([0.0, 0.3]))
    leaves = blocks(grid, int(rng.choice([1, 2])))
    found = metric_merging(None, soft, superpixels=leaves, order=order, **terms)
    expected, trace = greedy(soft, leaves, order, **terms)
    figures = found.trace[0].figures
    tree = found.trace[0].tree
    tree.validate()
    cut = tree.labels_of(tree.cut_with_regions(figures["regions_after"]))
    assert same(cut, expected)
    assert figures["merges"] == len(trace) - 1
    assert figures["objective_before"] == pytest.approx(trace[0], abs=1e-6)
    assert figures["objective_after"] == pytest.approx(trace[-1], abs=1e-6)
    changes = tree.altitudes[tree.n_leaves : tree.n_leaves + figures["merges"]]
    assert np.allclose(changes, np.diff(trace), atol=1e-6)
    assert (changes < 0).all()


@given(st.integers(0, 10**6), GRIDS, st.sampled_from(["mean", "gain"]))
def test_long_range_pairs_may_merge_regions_that_do_not_touch(seed, grid, order):
    rng = np.random.default_rng(seed)
    soft = random_soft(rng, "affinities", grid)
    found = metric_merging(None, soft, superpixels="pixels", order=order, long_range="merge")
    pixels = np.arange(np.prod(grid)).reshape(grid)
    expected, trace = greedy(soft, pixels, order, touching=False)
    assert same(found.labels, expected)
    assert found.trace[0].figures["objective_after"] == pytest.approx(trace[-1], abs=1e-6)


def test_long_range_votes_alone_never_join_regions_that_do_not_touch():
    # Ends of a row attract each other, but everything between them is repelled.
    affinities = np.zeros((2, 1, 6), np.float32)
    affinities[1, 0, 0] = 1
    soft = SoftPartition.from_affinities(affinities, [(0, 1), (0, 5)])
    voted = metric_merging(None, soft, superpixels="pixels")
    assert voted.partition.n_regions == 6
    joined = metric_merging(None, soft, superpixels="pixels", long_range="merge")
    assert joined.labels[0, 0] == joined.labels[0, 5]
    assert joined.partition.n_regions == 5


@given(st.integers(0, 10**6), KINDS, st.booleans())
def test_books_agree_with_the_metric_and_no_result_is_worse_than_the_leaves(seed, kind, weighted):
    rng = np.random.default_rng(seed)
    grid = (12, 15)
    soft = random_soft(rng, kind, grid, weighted)
    leaves = blocks(grid, 3)
    found = metric_merging(None, soft, superpixels=leaves)
    figures, tree = found.trace[0].figures, found.trace[0].tree
    cut = tree.labels_of(tree.cut_with_regions(figures["regions_after"]))
    assert figures["objective_before"] == pytest.approx(distance(soft, leaves), abs=1e-6)
    assert figures["objective_after"] == pytest.approx(distance(soft, cut), abs=1e-6)
    assert figures["objective_after"] <= figures["objective_before"]
    # The greedy result is a cut of the tree, so the best cut is at least as near.
    assert nearest_cut(tree, soft).distance <= figures["objective_after"] + 1e-6


def test_class_term_is_that_of_region_costs():
    rng = np.random.default_rng(5)
    soft = random_soft(rng, "classes", (12, 12))
    found = metric_merging(None, soft, superpixels=blocks((12, 12), 3), class_weight=0.4)
    figures, tree = found.trace[0].figures, found.trace[0].tree
    costs = region_costs(tree, soft, class_weight=0.4)
    cut = tree.cut_with_regions(figures["regions_after"])
    expected = (costs.constant + costs.costs[cut].sum()) / costs.scale
    assert figures["objective_after"] == pytest.approx(expected)


@given(st.integers(1, 20), st.integers(0, 100))
def test_a_number_of_regions_is_met_exactly(regions, seed):
    soft = random_soft(np.random.default_rng(seed), "regions", (8, 10))
    found = metric_merging(None, soft, superpixels=blocks((8, 10)), n_regions=regions)
    assert found.partition.n_regions == regions


def test_a_price_of_regions_merges_more_and_a_reward_less():
    soft = random_soft(np.random.default_rng(1), "regions", (16, 16))
    counts = [
        metric_merging(None, soft, superpixels=blocks((16, 16)), price=price).partition.n_regions
        for price in (-1.0, 0.0, 0.001, 1.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (64, 1)


def test_ties_are_broken_the_same_way_every_time():
    flat = SoftPartition.from_regions(np.full((2, 10, 10), 0.5))
    soft = SoftPartition.from_affinities(np.full((2, 10, 10), 0.75), [(0, 1), (1, 0)])
    for target in (flat, soft):
        one, other = (metric_merging(None, target, superpixels="pixels") for _ in range(2))
        assert np.array_equal(one.trace[0].tree.parents, other.trace[0].tree.parents)
    # Co-membership of exactly one half neither attracts nor repels.
    assert metric_merging(None, flat, superpixels="pixels").partition.n_regions == 100


def test_noise_inside_regions_is_averaged_away_and_their_border_stays():
    rng = np.random.default_rng(0)
    truth = (np.arange(40)[None] > np.arange(30)[:, None]).astype(int)
    inside = np.clip(np.where(truth, 0.85, 0.15) + rng.normal(0, 0.1, truth.shape), 0.01, 0.99)
    soft = SoftPartition.from_regions(np.stack([1 - inside, inside]))
    found = metric_merging(None, soft, superpixels=blocks((30, 40)), order="mean")
    probabilities = found.output.channels
    assert np.abs(probabilities.sum(axis=0) - 1).max() < 1e-5
    for region in np.unique(found.labels):
        mine = found.labels == region
        assert probabilities[1][mine] == pytest.approx(inside[mine].mean(), abs=1e-5)
    assert distance(found.labels, truth) < 0.05


# --- constraints ----------------------------------------------------------------------------


def uniform(grid):
    """Everything belongs together."""
    ones = np.ones((1, *grid), np.float32)
    return SoftPartition.from_regions(ones)


def test_pixels_that_must_be_linked_are_and_others_that_cannot_are_not():
    soft = random_soft(np.random.default_rng(3), "regions", (8, 8))
    found = metric_merging(
        None,
        soft,
        superpixels="pixels",
        must_link=[[[0, 0], [7, 7]]],
        cannot_link=[[[0, 1], [0, 2]]],
    )
    assert found.labels[0, 0] == found.labels[7, 7]
    all_one = metric_merging(
        None, uniform((8, 8)), superpixels="pixels", cannot_link=[[[0, 1], [0, 2]]]
    )
    assert all_one.labels[0, 1] != all_one.labels[0, 2]
    assert all_one.partition.n_regions == 2


@given(hnp.arrays(np.int64, (5, 6), elements=st.integers(-2, 3)), st.integers(0, 1000))
def test_markers_stay_apart_whatever_the_soft_output_says(markers, seed):
    rng = np.random.default_rng(seed)
    target = uniform((5, 6)) if seed % 2 else random_soft(rng, "affinities", (5, 6))
    found = metric_merging(None, target, superpixels="pixels", cannot_link=markers)
    for region in np.unique(found.labels):
        held = np.unique(markers[found.labels == region])
        assert np.count_nonzero(held) <= 1


@given(hnp.arrays(np.int64, (5, 6), elements=st.integers(0, 3)), st.integers(0, 1000))
def test_equal_markers_are_joined_whatever_the_soft_output_says(markers, seed):
    soft = random_soft(np.random.default_rng(seed), "affinities", (5, 6))
    found = metric_merging(None, soft, superpixels="pixels", must_link=markers)
    for marker in np.unique(markers[markers > 0]):
        assert np.unique(found.labels[markers == marker]).size == 1


@given(hnp.arrays(np.bool_, (6, 7)))
def test_nothing_merges_across_a_hard_boundary(marked):
    from skimage.measure import label

    if marked.all():
        marked[0, 0] = False
    found = metric_merging(
        None, uniform((6, 7)), superpixels=np.zeros((6, 7), int), hard_boundary=marked
    )
    open_parts = label(~marked, connectivity=1)
    # Unmarked pixels share a region where a path of unmarked pixels joins them, and only there.
    assert same(found.labels[~marked][None], open_parts[~marked][None])


def test_a_hard_boundary_with_a_gap_is_merged_through_the_gap_only():
    line = np.zeros((9, 9), bool)
    line[:, 4] = True
    leaves = blocks((9, 9), 3)
    closed = metric_merging(None, uniform((9, 9)), superpixels=leaves, hard_boundary=line)
    assert closed.partition.n_regions == 2
    line[4, 4] = False
    gap = metric_merging(None, uniform((9, 9)), superpixels=leaves, hard_boundary=line)
    assert gap.partition.n_regions == 1


BAD = [
    ({"must_link": [[[0, 0], [5, 5]]], "cannot_link": [[[0, 0], [5, 5]]]},
     r"cannot_link keeps pixels \(0, 0\) and \(5, 5\) apart, but must_link joins them"),
    ({"must_link": [[[0, 0], [0, 5]], [[0, 5], [5, 5]]], "cannot_link": [[[5, 5], [0, 0]]]},
     r"cannot_link keeps pixels \(5, 5\) and \(0, 0\) apart, but must_link joins them"),
    ({"cannot_link": [[[0, 0], [1, 1]]]}, "but superpixel 0 holds both"),
    ({"cannot_link": np.eye(6, dtype=int) * np.arange(1, 7)}, "but superpixel 0 holds both"),
    ({"must_link": [[[0, 0], [6, 0]]]}, r"must_link must hold pixels of the grid \(6, 6\)"),
    ({"must_link": np.zeros((3, 3), int)}, r"must_link must be a marker map of shape \(6, 6\) or"),
    ({"boundary": np.zeros((6, 7))}, r"boundary must have the grid's shape \(6, 6\), got \(6, 7\)"),
    ({"boundary": np.full((6, 6), np.nan)}, "boundary must be finite, got nan"),
    ({"boundary": np.full((6, 6), 1.5)}, r"boundary must be within \[0, 1\], got 1.5"),
    ({"hard_boundary": np.zeros((5, 6), bool)}, r"hard_boundary must have the grid's shape"),
    ({"hard_boundary": np.ones((6, 6), bool)}, "hard_boundary must leave pixels unmarked"),
    ({"n_regions": 10}, "n_regions must be at most the number of superpixels, 9, got 10"),
    ({"n_regions": 1, "cannot_link": [[[0, 0], [5, 5]]]}, "n_regions must be at least 2"),
    ({"price": np.nan}, "price must be a number, got nan"),
    ({"class_weight": -1}, "class_weight must be a number of at least 0, got -1"),
    ({"boundary_weight": -1}, "boundary_weight must be a number of at least 0, got -1"),
    ({"order": "least"}, "order must be one of mean, gain, got 'least'"),
    ({"long_range": "no"}, "long_range must be one of vote, merge, got 'no'"),
    ({"superpixels": np.zeros((6, 7), int)}, "superpixels and soft must share one grid"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[m[:40] for _, m in BAD])
def test_bad_input_is_refused_in_one_sentence(arguments, message):
    soft = random_soft(np.random.default_rng(0), "regions", (6, 6))
    with pytest.raises(ValueError, match=message):
        metric_merging(None, soft, **{"superpixels": blocks((6, 6)), **arguments})


def test_bad_types_are_refused():
    soft = random_soft(np.random.default_rng(0), "affinities", (6, 6))
    with pytest.raises(TypeError, match="class_weight needs a soft partition whose channels are"):
        metric_merging(None, soft, superpixels="pixels", class_weight=1.0)
    with pytest.raises(TypeError, match="hard_boundary must be boolean, true on the boundary"):
        metric_merging(None, soft, superpixels="pixels", hard_boundary=np.zeros((6, 6)))
    with pytest.raises(TypeError, match="soft must be a Partition, a SoftPartition or"):
        metric_merging(None, np.zeros((2, 6, 6)))


def test_links_across_a_hard_boundary_are_a_contradiction():
    line = np.zeros((6, 6), bool)
    line[3] = True
    with pytest.raises(ValueError, match=r"\(0, 0\) and \(5, 5\), but hard_boundary parts them"):
        metric_merging(
            None,
            uniform((6, 6)),
            superpixels="pixels",
            must_link=[[[0, 0], [5, 5]]],
            hard_boundary=line,
        )


def test_all_pixels_of_one_class_are_one_region():
    P = np.zeros((3, 6, 8), np.float32)
    P[1] = 1
    found = metric_merging(np.zeros((6, 8)), SoftPartition.from_classes(P))
    assert found.partition.n_regions == 1
    assert np.array_equal(found.labels, np.ones((6, 8)))


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 1, 1)])
def test_tiny_grids_work(grid):
    found = metric_merging(None, uniform(grid), superpixels="pixels")
    assert found.partition.n_regions == 1


def test_a_label_map_is_come_near_to_as_well():
    goal = blocks((8, 8), 4)
    found = metric_merging(None, Partition.from_labels(goal), superpixels=blocks((8, 8), 2))
    assert same(found.labels, goal)
    assert found.trace[0].figures["objective_after"] == pytest.approx(0)


def test_every_reading_returns_what_came_in_refined():
    grid = (12, 16)
    rng = np.random.default_rng(4)
    boundary = np.full(grid, 0.1)
    boundary[:, 8] = 0.9
    soft = SoftPartition.from_boundaries(boundary)
    assert metric_merging(None, soft).output.channels.shape == (1, *grid)
    assert metric_merging(None, random_soft(rng, "affinities", grid)).output.channels.shape[0] == 4
    classes = metric_merging(None, random_soft(rng, "classes", grid))
    assert classes.output.channels.shape == (3, *grid)
    assert np.array_equal(classes.labels, classes.output.channels.argmax(axis=0))


def test_objective_of_the_reference_is_the_metric():
    rng = np.random.default_rng(9)
    for kind in ("regions", "sparse", "affinities"):
        soft = random_soft(rng, kind, (3, 4), weighted=True)
        labels = rng.integers(0, 3, (3, 4))
        assert objective(soft, labels) == pytest.approx(distance(soft, labels), abs=1e-6)
