import math

import numba
import numpy as np
import pytest

from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.hierarchy.cuts import nearest_cut
from hiersearch.hierarchy.linkage import mix
from hiersearch.hierarchy.matching import match
from hiersearch.metric import distance
from hiersearch.partitions import Partition, SoftPartition

GRID = (24, 32)


def scene(noise=0.02):
    """Two bright squares on a dark ground: image, soft output of two classes, truth."""
    truth = np.zeros(GRID, int)
    truth[4:12, 4:12] = 1
    truth[10:20, 18:28] = 2
    rng = np.random.default_rng(0)
    image = (truth > 0) * 0.8 + noise * rng.random(GRID)
    inside = np.where(truth > 0, 0.9, 0.1)
    return image, np.stack([1 - inside, inside]), truth


IMAGE, CLASSES, TRUTH = scene()

# Watershed superpixels lose the very corners of the squares: about 8 of the 768 pixels.
CORNERS = 0.025
OFFSETS = [(0, 1), (1, 0)]


def affinities():
    """Certain affinities between neighbours, from the truth."""
    joined = np.ones((2, *GRID))
    joined[0, :, :-1] = TRUTH[:, :-1] == TRUTH[:, 1:]
    joined[1, :-1] = TRUTH[:-1] == TRUTH[1:]
    return SoftPartition.from_affinities(joined, OFFSETS)


def boundaries():
    edges = np.zeros(GRID)
    edges[:, 1:] = np.maximum(edges[:, 1:], TRUTH[:, :-1] != TRUTH[:, 1:])
    edges[1:] = np.maximum(edges[1:], TRUTH[:-1] != TRUTH[1:])
    return SoftPartition.from_boundaries(0.9 * edges)


@pytest.mark.parametrize(
    "image",
    [IMAGE, None, (255 * IMAGE / IMAGE.max()).astype(np.uint8)],
    ids=["image", "no image", "8 bit"],
)
@pytest.mark.parametrize(
    "target",
    [SoftPartition.from_classes(CLASSES), affinities(), TRUTH],
    ids=["classes", "affinities", "hard"],
)
def test_the_scene_is_found_from_every_kind_of_target(image, target):
    found = match(image, target, superpixel_count=80)
    assert distance(found.best.partition, TRUTH) < 2 * CORNERS
    assert found.best.distance <= found.horizontal.distance


def test_boundaries_lead_to_the_regions_between_them():
    # An image without any edge: what is found comes from the boundaries alone.
    found = match(np.zeros(GRID), boundaries(), superpixels="pixels")
    # Pixels of the boundary itself belong to both sides alike, and stay alone.
    assert (np.bincount(found.best.labels.reshape(-1)) >= 20).sum() == 3
    assert distance(found.best.partition, TRUTH) < 0.1


def test_guided_superpixels_keep_to_edges_that_the_image_lacks():
    flat = np.zeros(GRID)
    found = match(flat, SoftPartition.from_classes(CLASSES), superpixel_count=100)
    leaves = Partition.from_labels(found.tree.leaf_map)
    assert match(None, TRUTH, tree=found.tree).best.distance < 2 * CORNERS
    assert leaves.n_regions < 200


def test_the_best_is_the_nearest_cut_of_the_tree():
    target = SoftPartition.from_classes(CLASSES)
    tree = build_hierarchy(IMAGE, superpixels="pixels", linkage="average")
    found = match(None, target, tree=tree)
    assert found.tree is tree
    assert found.best.nodes.tolist() == nearest_cut(tree, target).nodes.tolist()
    assert set(found.seconds) == {"costs", "best cut", "horizontal cut"}


def test_constraints_reach_the_search():
    target = SoftPartition.from_classes(CLASSES)
    assert match(IMAGE, target, n_regions=5).best.n_regions == 5
    large = match(IMAGE, target, minimum_size=90)
    assert min(np.bincount(large.best.labels.reshape(-1))) >= 90
    apart = np.zeros(GRID, int)
    apart[5, 5], apart[10, 10] = 1, 2
    labels = match(IMAGE, target, superpixels="pixels", apart=apart).best.labels
    assert labels[5, 5] != labels[10, 10]


def test_top_gives_distinct_cuts_in_order():
    found = match(IMAGE, SoftPartition.from_classes(CLASSES), k=5)
    distances = [cut.distance for cut in found.nearest]
    assert len({tuple(cut.nodes) for cut in found.nearest}) == 5
    assert distances == sorted(distances)
    assert distances[0] == pytest.approx(found.best.distance)


def test_a_user_linkage_sees_image_and_soft_output():
    @numba.njit
    def by_soft(size_u, size_v, sum_u, sum_v, length, total, low, high):
        # Column 0 is the image, columns 1 and 2 the two classes.
        return abs(sum_u[2] / size_u - sum_v[2] / size_v) if sum_u.size == 3 else math.nan

    target = SoftPartition.from_regions(CLASSES)
    found = match(IMAGE, target, linkage=by_soft, superpixel_count=150)
    assert distance(found.best.partition, TRUTH) < CORNERS


@pytest.mark.parametrize(
    ("superpixels", "count"),
    [("slic", 150), ("felzenszwalb", None), ("watershed", 150), (TRUTH + 7, None)],
)
def test_other_superpixels_serve(superpixels, count):
    target = SoftPartition.from_classes(CLASSES)
    found = match(IMAGE, target, superpixels=superpixels, superpixel_count=count)
    assert distance(found.best.partition, TRUTH) < 2 * CORNERS


def test_volumes_are_matched():
    truth = np.zeros((6, 12, 14), int)
    truth[1:5, 2:8, 2:8] = 1
    inside = np.where(truth > 0, 0.9, 0.2)
    target = SoftPartition.from_classes(np.stack([1 - inside, inside]))
    found = match(truth * 100.0, target, superpixels="pixels")
    assert found.best.labels.shape == truth.shape
    assert distance(found.best.partition, truth) == 0
    guided = match(truth * 100.0, target, linkage=mix(soft=1.0), superpixel_count=150)
    assert distance(guided.best.partition, truth) < 0.1


def test_one_pixel_matches_itself():
    found = match(np.array([[3]]), SoftPartition.from_regions(np.ones((1, 1, 1))))
    assert (found.best.n_regions, found.best.distance) == (1, 0.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image": np.zeros((5, 5))}, ValueError, r"image must have the target's grid \(24, 32\)"),
        ({"image": np.zeros((0, 5))}, ValueError, "image must not be empty"),
        ({"image": np.full(GRID, np.nan)}, ValueError, r"image must be finite, got nan at index"),
        ({"superpixels": "hexagons"}, ValueError, "superpixels must be one of guided, slic"),
        ({"linkage": "nonsense"}, ValueError, "linkage must be one of"),
        ({"n_regions": 10**6}, ValueError, r"n_regions must be within 1\.\."),
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"n_regions": 3, "k": 2}, ValueError, "k must be 1 where n_regions is given"),
        ({"image": None, "superpixels": "slic"}, ValueError, "image must be given"),
        ({"target": CLASSES}, TypeError, "say how its channels are read"),
        ({"minimum_size": 10**6}, ValueError, "constraints must allow a cut of the tree"),
    ],
)
def test_what_does_not_fit_is_named(arguments, error, message):
    given = {"image": IMAGE, "target": SoftPartition.from_classes(CLASSES)} | arguments
    with pytest.raises(error, match=message):
        match(given.pop("image"), given.pop("target"), **given)
