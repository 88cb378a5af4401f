import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hiersearch.evaluation import class_iou
from hiersearch.hierarchy.agglomerate import pixel_tree
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions import SoftPartition
from hiersearch.refinement.tree_voting import image_tree, tree_voting
from tests.hierarchy.small_trees import random_tree

KINDS = (np.uint8, np.uint16, np.float32)


def ancestors(tree, node):
    found = [node]
    while node != tree.root:
        node = int(tree.parents[node])
        found.append(node)
    return found


def co_membership(tree, contrast, size, exponent):
    """S_pq: the largest worth of a region that holds both, pair by pair."""
    worth = np.exp(-tree.altitudes / contrast) * (1 + tree.sizes / size) ** -exponent
    if tree.n_nodes > 1:
        worth[tree.root] = 0
    leaves = tree.leaf_map.reshape(-1)
    lines = [set(ancestors(tree, int(leaf))) for leaf in leaves]
    return np.array([[worth[list(a & b)].max() for b in lines] for a in lines])


def voted(probabilities, trees, steps, weight, contrasts, size, exponent, measure=None):
    """Refine by dense matrices, in double precision."""
    k = probabilities.shape[0]
    values = probabilities.reshape(k, -1).astype(np.float64)
    mu = np.ones(values.shape[1]) if measure is None else measure.reshape(-1)
    for _ in range(steps):
        means = np.zeros_like(values)
        for tree, contrast in zip(trees, contrasts, strict=True):
            weights = co_membership(tree, contrast, size, exponent) * mu
            total = weights.sum(axis=1)
            means += np.where(total > 0, values @ weights.T / np.maximum(total, 1e-300), 0)
        scores = np.log(np.maximum(values, 1e-7)) + weight * means / len(trees)
        values = np.exp(scores - scores.max(axis=0))
        values /= values.sum(axis=0)
    return values.reshape(probabilities.shape)


def soft_output(rng, k, grid):
    values = rng.dirichlet(np.full(k, 0.5), int(np.prod(grid)))
    return np.ascontiguousarray(values.T.reshape(k, *grid))


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_it_is_multiplication_by_the_expected_co_membership(seed, n_trees, steps, k):
    rng = np.random.default_rng(seed)
    grid = [(1, 9), (4, 5), (2, 3, 4)][seed % 3]
    trees = [random_tree(rng, int(rng.integers(1, 9)), grid, arity=3) for _ in range(n_trees)]
    soft = soft_output(rng, k, grid)
    measure = rng.random(grid) * (rng.random(grid) > 0.3) + 1e-3 if seed % 2 else None
    parameters = {"size": 2.5, "exponent": 1.1}
    found = tree_voting(
        None, soft, reading="regions", trees=trees, steps=steps, contrast=2.0, weight=6.0,
        tolerance=0, measure=measure, **parameters,
    )  # fmt: skip
    wanted = voted(soft, trees, steps, 6.0, [2.0] * n_trees, **parameters, measure=measure)
    assert found.output.channels == pytest.approx(wanted, abs=2e-5)
    assert found.output.channels.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [(5, 6), (3, 4, 3), (1, 1), (1, 7)])
def test_the_trees_of_the_image_are_those_of_its_grey_levels(kind, grid):
    rng = np.random.default_rng(3)
    levels = rng.integers(0, 30, (*grid, 2))
    levels.flat[:2] = 0, 255
    image = levels.astype(np.uint8) if kind == np.uint8 else (levels * 2).astype(kind)
    soft = soft_output(rng, 3, grid)
    parameters = {"size": 4.0, "exponent": 1.3}
    found = tree_voting(
        image, soft, reading="classes", trees=1, weight=5.0, support=0, tolerance=0, **parameters
    )
    tree = pixel_tree(levels.astype(np.uint8), grid)
    pairs = [np.abs(np.diff(levels, axis=a)).max(axis=-1).reshape(-1) for a in range(len(grid))]
    contrast = np.sqrt(np.mean(np.concatenate(pairs) ** 2.0)) if np.prod(grid) > 1 else 1
    wanted = voted(soft, [tree], 1, 5.0, [contrast], **parameters)
    assert found.output.channels == pytest.approx(wanted, abs=1e-5)
    assert found.trace[0].figures["contrast"] == pytest.approx(contrast)
    assert np.array_equal(found.labels, wanted.argmax(axis=0))


def test_the_pixel_tree_of_a_photo_is_that_of_the_general_way():
    image = np.asarray(Image.open("tests/data/nuclei-stained.png"))
    tree, _ = image_tree(image, image.shape[:2])
    general = pixel_tree(image)
    assert np.array_equal(tree.parents, general.parents)
    assert np.array_equal(tree.altitudes, general.altitudes)
    assert np.array_equal(tree.sizes, general.sizes)
    tree.validate()


def test_brightness_and_contrast_of_the_image_make_no_difference():
    rng = np.random.default_rng(1)
    image = np.asarray(Image.open("tests/data/nuclei-dim.png"))[:60, :70].astype(np.float64)
    soft = soft_output(rng, 2, image.shape)
    first, second = (
        tree_voting(shown, soft, reading="classes") for shown in (image, 7 * image + 900)
    )
    assert first.output.channels == pytest.approx(second.output.channels, abs=0.02)


def test_a_tolerance_changes_little_and_saves_nodes():
    rng = np.random.default_rng(2)
    image = np.asarray(Image.open("tests/data/nuclei-plain.png"))
    soft = soft_output(rng, 3, image.shape)
    exact, quick = (
        tree_voting(image, soft, reading="classes", trees=1, steps=1, tolerance=t) for t in (0, 0.2)
    )
    assert (exact.labels != quick.labels).mean() < 0.02
    nodes = [found.trace[-1].figures["voting_nodes"] for found in (exact, quick)]
    # All leaves and few of as many inner nodes.
    assert nodes[1] < 0.75 * nodes[0]


@pytest.mark.parametrize("name", ["plain", "crowded", "dim"])
def test_noise_over_real_nuclei_goes(name):
    image = np.asarray(Image.open(f"tests/data/nuclei-{name}.png"))
    truth = (np.asarray(Image.open(f"tests/data/nuclei-{name}-labels.png")) > 0).astype(int)
    rng = np.random.default_rng(5)
    score = np.where(truth, 0.8, -0.8) + rng.normal(0, 1, truth.shape)
    inside = 1 / (1 + np.exp(-score))
    soft = np.stack([1 - inside, inside])
    found = tree_voting(image, soft, reading="classes")
    before, after = class_iou(soft.argmax(axis=0), truth), class_iou(found.labels, truth)
    assert after.mean > before.mean + 0.1
    assert found.trace[-1].figures["changed_pixels"] > 0


def test_labels_partition_and_trace_go_with_the_reading():
    image = np.zeros((8, 12), np.uint8)
    image[:, 4:8] = 90
    inside = np.where(image > 0, 0.8, 0.2)
    soft = np.stack([1 - inside, inside])
    classes = tree_voting(image, soft, reading="classes")
    assert classes.labels[0].tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert classes.partition.n_regions == 3
    regions = tree_voting(image, soft, reading="regions")
    assert np.array_equal(regions.labels, classes.labels)
    assert regions.partition.n_regions == 2
    assert [step.method for step in classes.trace] == ["image tree"] * 2 + ["tree_voting"]
    assert isinstance(classes.trace[0].tree, MergeTree)
    assert np.array_equal(
        tree_voting(image, SoftPartition.from_classes(soft)).output.channels,
        classes.output.channels,
    )


def seam_scene():
    """A nucleus with a seam of one pixel that the image does not show; speckles in the output."""
    image = np.random.default_rng(1).integers(0, 9, (40, 40)).astype(np.uint8)
    image[10:30, 10:30] += 120
    truth = np.zeros((40, 40), int)
    truth[9:31, 9:31] = 2
    truth[10:30, 10:30] = 1
    shown = truth.copy()
    shown[3, 3] = shown[35, 20] = 1
    shown[20, 20] = shown[15, 25] = 0
    soft = np.full((3, 40, 40), 0.2)
    np.put_along_axis(soft, shown[None], 0.6, axis=0)
    soft[:, truth == 2] = np.array([[0.3, 0.25, 0.45]]).T
    return image, soft, truth


def test_a_class_that_fills_no_regions_abstains_and_keeps_its_pixels():
    image, soft, truth = seam_scene()
    found = tree_voting(image, soft, reading="classes")
    assert found.trace[-1].figures["abstaining"] == [2]
    assert np.array_equal(found.labels, truth)
    starved = tree_voting(image, soft, reading="classes", support=0, steps=2)
    assert starved.trace[-1].figures["abstaining"] == []
    assert not (starved.labels == 2).any()


@given(st.integers(0, 2**32 - 1), st.integers(3, 5), st.integers(1, 3), st.floats(0.1, 1))
def test_whoever_abstains_neither_loses_nor_gains_pixels(seed, k, steps, support):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, 8, (4, 5), arity=3)
    soft = soft_output(rng, k, (4, 5))
    found = tree_voting(
        None, soft, reading="classes", trees=[tree], steps=steps, contrast=2.0, support=support
    )
    assert found.output.channels.sum(axis=0) == pytest.approx(1, abs=1e-5)
    before = soft.argmax(axis=0)
    for channel in found.trace[-1].figures["abstaining"]:
        assert np.array_equal(found.labels == channel, before == channel)


def test_the_votes_among_those_who_do_not_abstain_are_the_same():
    image, soft, _ = seam_scene()
    soft = np.random.default_rng(0).dirichlet([9, 9, 9], image.size).T.reshape(soft.shape) + soft
    soft /= soft.sum(axis=0)
    found, all_vote = (
        tree_voting(image, soft, reading="classes", support=share).output.channels
        for share in (0.5, 0)
    )
    # Odds of the two others do not depend on what the third does.
    odds, wanted = (np.log(channels[1] / channels[0]) for channels in (found, all_vote))
    assert odds == pytest.approx(wanted, abs=1e-4)
    # The third keeps its odds against the larger one.
    kept = np.log(found[2] / found[:2].max(axis=0))
    assert kept == pytest.approx(np.log(soft[2] / soft[:2].max(axis=0)), abs=1e-4)


def test_boundary_maps_stay_boundary_maps():
    image = np.zeros((9, 15), np.uint8)
    image[:, 7] = 120
    boundary = np.where(image > 0, 0.9, 0.1)
    boundary[4, 7] = 0.4
    for shape in ((9, 15), (1, 9, 15)):
        found = tree_voting(image, boundary.reshape(shape), reading="boundaries", steps=2)
        assert found.output.channels.shape == (1, 9, 15)
        assert found.output.channels[0, 4, 7] > 0.5
        assert found.partition.n_regions == 2
        assert np.array_equal(found.labels, found.partition.labels)


def test_all_pixels_of_one_class_stay_so():
    image = np.random.default_rng(0).integers(0, 255, (10, 11, 3)).astype(np.uint8)
    found = tree_voting(image, np.ones((1, 10, 11)), reading="classes")
    assert not found.labels.any()
    assert found.partition.n_regions == 1
    certain = np.stack([np.zeros((10, 11)), np.ones((10, 11))])
    found = tree_voting(image, certain, reading="classes")
    assert (found.labels == 1).all()
    assert np.isfinite(found.output.channels).all()


def test_pixels_without_measure_have_no_vote():
    image = np.zeros((1, 5), np.uint8)
    wrong = np.array([[0.9, 0.9, 0.1, 0.9, 0.9]])
    measure = np.array([[0.0, 0.0, 1.0, 0.0, 0.0]])
    soft = np.stack([1 - wrong, wrong])
    assert tree_voting(image, soft, reading="classes").labels[0, 0] == 1
    heard = tree_voting(image, soft, reading="classes", measure=measure)
    # The last pixel joins the others in the whole grid only, where nobody votes.
    assert heard.labels.tolist() == [[0] * 4 + [1]]


IMAGE, SOFT = np.zeros((4, 5), np.uint8), np.full((2, 4, 5), 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reading": None}, "reading must say what the channels"),
        ({"reading": "classy"}, "reading must be one of"),
        ({"image": None}, "image must be given where no trees are, got None"),
        ({"image": IMAGE[:3]}, r"image must have the shape \(4, 5\)"),
        ({"image": np.full((4, 5), np.nan)}, "image must be finite"),
        ({"soft": np.full((2, 4, 5), 0.7)}, "sum to 1"),
        ({"soft": np.full((2, 4, 5), np.nan)}, "must be finite"),
        ({"soft": IMAGE + 2.0, "reading": "boundaries"}, r"boundary must be within \[0, 1\]"),
        ({"trees": 0}, "trees must be within 1..2, got 0"),
        ({"trees": 3}, "trees must be within 1..2, got 3"),
        ({"trees": []}, "trees must hold a merge tree, got none"),
        ({"trees": [MergeTree.from_parents([0], [0], [[0, 0]])]}, r"share one grid, got \(4, 5\)"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"contrast": 0}, "contrast must be a positive number, got 0"),
        ({"contrast": np.nan}, "contrast must be a positive number, got nan"),
        ({"size": -1}, "size must be a positive number, got -1"),
        ({"exponent": -1}, "exponent must be a number of at least 0, got -1"),
        ({"tolerance": np.inf}, "tolerance must be a number of at least 0, got inf"),
        ({"weight": 51}, r"weight must be within \(0, 50\], got 51"),
        ({"weight": 0}, r"weight must be within \(0, 50\], got 0"),
        ({"support": 1.5}, r"support must be within \[0, 1\], got 1.5"),
        ({"support": np.nan}, r"support must be within \[0, 1\], got nan"),
        ({"measure": np.ones((3, 3))}, "measure must have the grid's shape"),
    ],
)
def test_bad_input_is_named(changes, message):
    arguments = {"image": IMAGE, "soft": SOFT, "reading": "classes"} | changes
    with pytest.raises(ValueError, match=message):
        tree_voting(arguments.pop("image"), arguments.pop("soft"), **arguments)


def test_what_has_no_channels_at_pixels_is_refused():
    affinities = SoftPartition.from_affinities(SOFT, [[0, 1], [1, 0]])
    with pytest.raises(TypeError, match=r"channels must be at pixels .* got affinities"):
        tree_voting(IMAGE, affinities)
    with pytest.raises(TypeError, match="trees must be merge trees"):
        tree_voting(IMAGE, SOFT, reading="classes", trees=["tree"])
    with pytest.raises(ValueError, match="reading must be that of the soft partition, 'regions'"):
        tree_voting(IMAGE, SoftPartition.from_regions(SOFT), reading="classes")
    with pytest.raises(ValueError, match="measure must be given with the soft partition"):
        tree_voting(IMAGE, SoftPartition.from_regions(SOFT), measure=np.ones((4, 5)))
