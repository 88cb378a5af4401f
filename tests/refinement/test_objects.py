"""Objects come out whole: touching ones apart, small ones kept, background left alone."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.io import imread
from skimage.metrics import adapted_rand_error

from hiersearch.partitions.checks import pair_slices
from hiersearch.refinement.objects import boundary_affinities, objects

DATA = Path(__file__).resolve().parents[1] / "data"


def discs(centres, radius, grid, softness=1.0):
    """Background, interior and boundary of discs, the boundary between touching ones included."""
    at = np.stack(np.meshgrid(*(np.arange(s) for s in grid), indexing="ij"), axis=-1)
    distances = np.stack([np.linalg.norm(at - c, axis=-1) for c in np.array(centres)])
    nearest = distances.argmin(axis=0)
    depth = radius - distances.min(axis=0)
    labels = np.where(depth > 0, nearest + 1, 0)
    two = np.sort(distances, axis=0)
    seam = (two[1] - two[0]) / 2 if len(centres) > 1 else np.full(grid, np.inf)
    inner = np.minimum(depth, seam)
    interior = 1 / (1 + np.exp(-(inner - 1.5) / softness * 2))
    inside = 1 / (1 + np.exp(-depth / softness * 3))
    interior = np.minimum(interior, inside)
    return labels, np.stack([1 - inside, interior, inside - interior])


def right(found, truth):
    """How many true objects some found one covers with IoU > 0.5."""
    hits = 0
    for i in np.unique(truth[truth > 0]):
        for j in np.unique(found[truth == i]):
            both = np.count_nonzero((truth == i) & (found == j))
            hits += j > 0 and both > 0.5 * np.count_nonzero((truth == i) | (found == j))
    return hits


def test_touching_discs_come_apart_and_background_is_zero():
    truth, soft = discs([(20, 20), (20, 37), (35, 28), (60, 60)], 10, (80, 80))
    found = objects(None, soft)
    assert found.labels.max() == 4
    assert right(found.labels, truth) == 4
    assert found.labels[0, 0] == 0
    assert np.array_equal(found.labels, found.partition.labels)
    assert found.output.channels.shape == soft.shape
    assert (found.output.channels.sum(axis=0) == 1).all()
    assert [step.method for step in found.trace] == ["metric_merging", "objects"]
    assert found.trace[-1].figures["objects"] == 4


def blunt(mask):
    """Channels of a network that sees no boundary within a mask."""
    inside = np.where(mask, 0.95, 0.02)
    return np.stack([1 - inside, 0.95 * inside, 0.05 * inside])


def two_balls(grid, apart, radius=10):
    at = np.stack(np.meshgrid(*(np.arange(s) for s in grid), indexing="ij"), axis=-1)
    middle = np.array(grid) // 2
    shift = np.eye(len(grid), dtype=int)[-1] * apart // 2
    return [np.linalg.norm(at - middle - side * shift, axis=-1) < radius for side in (-1, 1)]


@pytest.mark.parametrize("grid", [(40, 60), (30, 30, 60)])
def test_a_neck_parts_objects_between_which_the_network_sees_no_boundary(grid):
    left, right_one = two_balls(grid, 18)
    found = objects(None, blunt(left | right_one)).labels
    assert found.max() == 2
    assert right(found, left + 2 * (right_one & ~left)) == 2
    # A smooth outline, without a neck, stays one object.
    assert objects(None, blunt(np.logical_or(*two_balls(grid, 4)))).labels.max() == 1


def test_persistence_1_is_a_neck_narrower_by_a_seventh():
    mask = np.logical_or(*two_balls((40, 60), 18))
    counts = [objects(None, blunt(mask), persistence=p).labels.max() for p in (1.0, 20.0)]
    assert counts == [2, 1]


def test_a_small_hole_does_not_part_an_object():
    rows, columns = np.mgrid[:40, :60]
    mask = ((rows - 20) / 12) ** 2 + ((columns - 30) / 18) ** 2 < 1
    mask[18:21, 28:31] = False
    assert objects(None, blunt(mask)).labels.max() == 1


def test_a_clear_boundary_parts_an_object_without_a_neck():
    mask = np.zeros((24, 30), bool)
    mask[6:18, 8:20] = True
    soft = blunt(mask)
    assert objects(None, soft).labels.max() == 1
    soft[:, 6:18, 13:15] = np.array([0.1, 0.2, 0.7])[:, None, None]
    found = objects(None, soft).labels
    assert 0 != found[11, 9] != found[11, 18] != 0


def test_an_object_cut_by_the_border_stays_whole():
    rows, columns = np.mgrid[:40, :40]
    mask = np.hypot(rows, columns - 20) < 12
    found = objects(None, blunt(mask)).labels
    assert found.max() == 1
    assert (found[mask] == 1).mean() > 0.95


def test_touching_balls_come_apart_in_a_volume():
    truth, soft = discs([(12, 12, 12), (12, 12, 26)], 8, (24, 24, 40))
    found = objects(None, soft)
    assert found.labels.max() == 2
    assert right(found.labels, truth) == 2


def test_small_or_unsure_objects_become_background():
    truth, soft = discs([(20, 20), (50, 50)], 6, (70, 70))
    soft[:, 35:, 35:] = 0.35 * soft[:, 35:, 35:] + 0.65 * np.array([1, 0, 0])[:, None, None]
    assert objects(None, soft, certainty=0.3).labels.max() == 1
    assert objects(None, soft, certainty=0.3, confidence=0.1).labels.max() == 2
    assert objects(None, soft, minimum_size=200).labels.max() == 0
    assert truth.max() == 2


def test_a_deeper_valley_is_asked_for_by_persistence():
    _, soft = discs([(20, 20), (20, 34)], 10, (40, 56), softness=3.0)
    counts = [objects(None, soft, persistence=p).labels.max() for p in (0.2, 50.0)]
    assert counts == [2, 1]


def test_constraints_override_the_evidence():
    _, soft = discs([(20, 20), (20, 37)], 10, (40, 58))
    joined = objects(None, soft, must_link=[[[20, 20], [20, 37]]])
    assert joined.labels.max() == 1


@pytest.mark.parametrize("one", [0, 1, 2])
def test_all_pixels_of_one_class_are_one_region(one):
    soft = np.zeros((3, 20, 20), np.float32)
    soft[one] = 1
    found = objects(None, soft, confidence=-1)
    assert np.unique(found.labels).tolist() == [0 if one == 0 else 1]


def test_real_nuclei_most_objects_are_right():
    pytest.importorskip("torch")
    from hiersearch.networks import nuclei_network

    image = imread(DATA / "nuclei-plain.png")
    truth = imread(DATA / "nuclei-plain-labels.png").astype(int)
    soft = nuclei_network()(image)
    found = objects(image, soft).labels
    plain = ndimage.label(soft.argmax(axis=0) > 0)[0]
    assert right(found, truth) >= 0.6 * truth.max()
    assert right(found, truth) > right(plain, truth)


# --- boundary maps --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def volume():
    with np.load(DATA / "em-crop.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def rand_error(volume, labels):
    truth = volume["ground_truth"]
    return adapted_rand_error(truth[truth > 0], labels[truth > 0])[0]


def test_em_volume_given_fragments_and_a_break_even(volume):
    boundary = volume["boundary_probability"].astype(np.float64)
    before = rand_error(volume, volume["fragments"])
    found = objects(
        None, boundary, reading="boundaries", superpixels=volume["fragments"], break_even=0.95
    )
    assert rand_error(volume, found.labels) < 0.5 * before
    assert found.output.channels.shape == (1, *boundary.shape)


def test_em_volume_from_its_own_basins_is_calibrated_and_beats_the_fragments(volume):
    boundary = volume["boundary_probability"].astype(np.float64)
    found = objects(None, boundary[None], reading="boundaries")
    figures = found.trace[-1].figures
    assert figures["calibrated"]
    assert 0.5 < figures["break_even"] < 1
    assert rand_error(volume, found.labels) < rand_error(volume, volume["fragments"])


def test_nearest_affinities_break_even_at_the_height():
    soft = boundary_affinities(np.array([[0.2, 0.2, 0.8, 0.8]]), 0.8)
    assert soft.values[0, :3] == pytest.approx([0.5 + 0.6 * 0.5 / 0.8, 0.5, 0.5])


def test_an_image_of_one_row_works():
    assert objects(None, np.array([[0.1, 0.1, 0.9, 0.1]]), reading="boundaries").labels.shape == (
        1,
        4,
    )
    soft = np.array([[0.2, 0.7, 0.1]] * 6).T.reshape(3, 1, 6)
    assert objects(None, soft, minimum_size=1).labels.tolist() == [[1] * 6]


# --- affinities -----------------------------------------------------------------------------


def test_affinities_with_a_repulsive_long_range_part_what_short_ones_join():
    # A weak seam: neighbours say joined everywhere, pairs eight apart say apart across it.
    labels = np.repeat([[0] * 16 + [1] * 16], 24, axis=0)
    offsets = [(0, 1), (1, 0), (0, 8)]
    values = np.full((3, 24, 32), 0.6, np.float32)
    values[2] = 0.9
    values[2, :, 8:16] = 0.05
    leaves = (np.arange(32) // 4)[None] + 8 * (np.arange(24) // 4)[:, None]
    settings = {"reading": "affinities", "superpixels": leaves, "break_even": 0.5}
    found = objects(None, values, offsets=offsets, **settings)
    assert np.array_equal(found.labels, labels)
    short = objects(None, values[:2], offsets=offsets[:2], **settings)
    assert short.partition.n_regions == 1


def test_foreground_leaves_the_background_out():
    values = np.full((2, 20, 20), 0.9, np.float32)
    values[0, 9] = 0.0
    foreground = np.ones((20, 20))
    foreground[:, :5] = 0
    found = objects(
        None, values, reading="affinities", offsets=[(1, 0), (0, 1)], foreground=foreground
    ).labels
    assert (found[:, :5] == 0).all()
    # A seam without affinity parts the rest in two.
    assert np.unique(found[:10, 5:]).tolist() == [1]
    assert np.unique(found[10:, 5:]).tolist() == [2]


def true_affinities(labels, offsets, sure=0.9):
    """Affinities of a label map, uncertain by ``sure`` on both sides; those of 0 are noise."""
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(len(offsets), *labels.shape)).astype(np.float32)
    for channel, offset in zip(values, offsets, strict=True):
        source, target = pair_slices(np.array(offset), labels.shape)
        a, b = labels[source], labels[target]
        channel[source] = np.where((a == 0) & (b == 0), channel[source], 0.5 - sure / 2)
        channel[source][(a == b) & (a > 0)] = 0.5 + sure / 2
    return values


@pytest.mark.parametrize(("grid", "ndim"), [((50, 60), 2), ((16, 20, 30), 3)])
def test_touching_objects_come_apart_whatever_the_affinities_of_the_background(grid, ndim):
    radius = 10 if ndim == 2 else 6
    middle = [side // 2 for side in grid]
    centres = [(*middle[:-1], middle[-1] - radius + 1), (*middle[:-1], middle[-1] + radius - 1)]
    truth, _ = discs(centres, radius, grid)
    axes = np.eye(ndim, dtype=int)
    offsets = [tuple((axis * step).tolist()) for step in (1, 3, 6) for axis in axes]
    values = true_affinities(truth, offsets)
    settings = {"reading": "affinities", "offsets": offsets}
    found = objects(None, values, foreground=0.8 * (truth > 0) + 0.1, **settings).labels
    assert np.array_equal(found, truth) or np.array_equal(found, (3 - truth) * (truth > 0))


def test_a_small_hole_in_the_foreground_belongs_to_the_object_around_it():
    truth, _ = discs([(20, 20)], 12, (40, 40))
    foreground = (truth > 0).astype(float)
    foreground[18:22, 18:22] = 0
    offsets = [(0, 1), (1, 0)]
    values = true_affinities(truth, offsets)
    found = objects(None, values, reading="affinities", offsets=offsets, foreground=foreground)
    assert np.array_equal(found.labels, truth)


def test_no_foreground_is_all_background_and_small_objects_are_none():
    offsets = [(0, 1), (1, 0)]
    values = np.full((2, 12, 12), 0.9)
    settings = {"reading": "affinities", "offsets": offsets}
    assert objects(None, values, foreground=np.zeros((12, 12)), **settings).labels.max() == 0
    single = np.zeros((12, 12))
    single[3, 3] = single[7, 7:9] = 1
    assert objects(None, values, foreground=single, **settings).labels.max() == 0
    kept = objects(None, values, foreground=single, minimum_size=1, **settings).labels
    assert kept.max() == 2
    assert (kept > 0).sum() == 3


def test_a_method_of_superpixels_divides_the_image():
    image = np.repeat([[0] * 10 + [255] * 10], 20, axis=0).astype(np.uint8)
    values = np.full((2, 20, 20), 0.9)
    values[0, :, 9] = 0.1
    offsets = [(0, 1), (1, 0)]
    found = objects(image, values, reading="affinities", offsets=offsets, superpixels="guided")
    assert found.partition.n_regions == 2


def test_break_even_moves_affinities():
    values = np.full((2, 12, 12), 0.4, np.float32)
    offsets = [(1, 0), (0, 1)]
    settings = {"reading": "affinities", "offsets": offsets, "superpixels": "pixels"}
    assert objects(None, values, break_even=0.5, **settings).partition.n_regions == 144
    assert objects(None, values, break_even=0.8, **settings).partition.n_regions == 1
    # Where it is omitted, pairs break even at 0.7.
    counts = [objects(None, 0 * values + c, **settings).partition.n_regions for c in (0.69, 0.71)]
    assert counts == [144, 1]


OK = np.full((3, 8, 8), 1 / 3)
MAP = np.full((8, 8), 0.2)
BAD = [
    ((OK[:2] * 1.5, {}), "needs 3 channels"),
    ((OK[:, :1, :1], {}), r"must have two pixels or more, got the grid \(1, 1\)"),
    ((MAP[:1, :1], {"reading": "boundaries"}), "must have two pixels or more"),
    ((OK * 2, {}), "must sum to 1 over the channels"),
    ((np.full((3, 8, 8), np.nan), {}), "must be finite, got nan"),
    ((OK, {"reading": "classes"}), "objects needs one of the readings objects, .* got 'classes'"),
    ((OK, {"offsets": [(0, 1)]}), r"offsets must be given for reading 'affinities' alone"),
    ((OK, {"reading": "affinities"}), "offsets must be given for reading 'affinities', got None"),
    ((OK, {"superpixels": np.zeros((8, 8), int)}), "has no use for superpixels"),
    ((OK, {"foreground": MAP}), "has no use for foreground"),
    ((OK, {"break_even": 0.5}), "has no use for break_even"),
    ((OK, {"confidence": np.nan}), "confidence must be a number, got nan"),
    ((OK, {"certainty": 2}), r"certainty must be within \[0, 1\], got 2"),
    ((OK, {"persistence": 0}), "persistence must be a positive number, got 0"),
    ((OK, {"minimum_size": -1}), "minimum_size must be at least 0, got -1"),
    ((OK, {"cannot_link": [[[0, 0], [0, 1]]]}), "cannot_link keeps pixels"),
    ((MAP, {"reading": "boundaries", "break_even": 1.0}), r"break_even must be within \(0, 1\)"),
    ((MAP + 1, {"reading": "boundaries"}), r"boundary must be within \[0, 1\], got 1.2"),
    ((MAP * np.nan, {"reading": "boundaries"}), "boundary must be finite, got nan"),
    ((OK, {"reading": "boundaries", "superpixels": np.zeros((8, 9), int)}), "must share one grid"),
    (
        (MAP, {"reading": "boundaries", "foreground": np.ones((8, 9))}),
        r"foreground must have the grid's shape \(8, 8\), got \(8, 9\)",
    ),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_input_is_refused_in_one_sentence(given, message):
    probabilities, arguments = given
    with pytest.raises(ValueError, match=message):
        objects(None, probabilities, **arguments)


def test_a_boundary_map_takes_no_names_of_superpixels():
    with pytest.raises(TypeError, match="superpixels of a boundary map must be a label map, or"):
        objects(None, MAP, reading="boundaries", superpixels="slic")


def test_an_image_of_another_shape_is_refused_even_where_it_is_not_needed():
    channels = np.full((3, 6, 8), 1 / 3)
    with pytest.raises(ValueError, match=r"image must have the target's grid \(6, 8\)"):
        objects(np.zeros((5, 8)), channels)
