import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.hierarchy.agglomerate import pixel_tree
from hiersearch.metric import distance
from hiersearch.partitions import Partition, SoftPartition
from hiersearch.refinement.best_cut import best_cut
from tests.hierarchy.small_trees import all_cuts, random_target, random_tree


def objective(tree, cut, soft, metric_weight, class_weight, price):
    """Sum the three terms anew from the label map of a cut."""
    labels = tree.labels_of(np.array(cut))
    measure = np.ones(labels.size) if soft.measure is None else soft.measure
    total = price * len(cut)
    if metric_weight:
        partition = Partition.from_labels(labels, measure=measure.reshape(labels.shape))
        total += metric_weight * distance(soft, partition)
    if class_weight:
        values = soft.values * measure
        sums = [values[:, labels.reshape(-1) == region].sum(axis=1) for region in range(len(cut))]
        missed = sum(s.sum() - s.max() for s in sums)
        total += class_weight * missed / measure.sum()
    return total


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([0.3, 1.0]),
    st.sampled_from([-0.02, 0.0, 0.02, 0.1]),
)
def test_no_cut_is_better(seed, metric_weight, class_weight, price):
    rng = np.random.default_rng(seed)
    grid = [(1, 7), (3, 4), (2, 2, 3)][seed % 3]
    tree = random_tree(rng, int(rng.integers(1, 7)), grid, arity=3)
    values = rng.dirichlet(np.full(3, 0.4), int(np.prod(grid))).T.reshape(3, *grid)
    measure = rng.random(grid) + 0.01 if seed % 2 else None
    soft = SoftPartition.from_classes(values, measure=measure)
    weights = {"metric_weight": metric_weight, "class_weight": class_weight, "price": price}
    found = best_cut(None, soft, tree=tree, **weights)
    best = min(objective(tree, cut, soft, **weights) for cut in all_cuts(tree))
    assert found.trace[-1].figures["objective"] == pytest.approx(best, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["soft", "sparse", "affinities"]))
def test_other_readings_have_the_metric_and_the_price(seed, kind):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, int(rng.integers(1, 7)), (3, 4), arity=3)
    soft = random_target(rng, kind, (3, 4))
    found = best_cut(None, soft, tree=tree, price=0.01)
    best = min(objective(tree, cut, soft, 1.0, 0.0, 0.01) for cut in all_cuts(tree))
    assert found.trace[-1].figures["objective"] == pytest.approx(best, abs=1e-6)
    again = distance(soft, found.partition) + 0.01 * found.trace[-1].figures["regions"]
    assert again == pytest.approx(best, abs=1e-6)


def scene():
    image = np.zeros((24, 30), np.uint8)
    image[6:18, 8:20] = 150
    inside = np.where(image > 0, 0.8, 0.2)
    inside[9, 12], inside[2, 2] = 0.3, 0.7
    return image, np.stack([1 - inside, inside])


def test_a_region_takes_its_best_class_and_a_price_removes_specks():
    image, soft = scene()
    found = best_cut(image, soft, reading="classes", tree=pixel_tree(image))
    assert np.array_equal(found.labels, image > 0)
    assert found.partition.n_regions == 2
    assert np.array_equal(found.output.channels.argmax(axis=0), found.labels)
    assert found.output.channels.sum(axis=0) == pytest.approx(1, abs=1e-5)


def test_other_readings_get_partitions():
    image, soft = scene()
    regions = best_cut(image, soft, reading="regions", price=1e-3)
    assert regions.partition.n_regions == 2
    boundary = np.zeros(image.shape)
    boundary[:, 14] = 0.9
    found = best_cut(None, boundary, reading="boundaries", tree=regions.trace[0].tree)
    assert found.output.channels.shape == (1, *image.shape)
    found = best_cut(image, boundary, reading="boundaries")
    assert found.partition.n_regions == 2
    assert set(np.unique(found.output.channels)) == {0.0, 1.0}


def test_all_pixels_of_one_class_are_one_region():
    image, _ = scene()
    found = best_cut(image, np.ones((1, *image.shape)), reading="classes")
    assert found.trace[-1].figures["regions"] == 1
    assert not found.labels.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reading": None}, "reading must say what the channels"),
        ({"image": None}, "image must be given where no tree is, got None"),
        ({"image": np.zeros((3, 3))}, r"image must have the target's grid \(24, 30\)"),
        ({"tree": random_tree(np.random.default_rng(0), 2, (3, 4))}, "soft and tree must share"),
        ({"price": np.inf}, "price must be a finite number, got inf"),
        ({"class_weight": -1}, "class_weight must be a number of at least 0, got -1"),
        ({"metric_weight": np.nan}, "metric_weight must be a number of at least 0, got nan"),
        ({"class_weight": 0}, "metric_weight and class_weight must not both be 0"),
        ({"reading": "regions", "class_weight": 1}, "class_weight needs channels read as classes"),
    ],
)
def test_bad_input_is_named(changes, message):
    image, soft = scene()
    arguments = {"image": image, "reading": "classes"} | changes
    with pytest.raises(ValueError, match=message):
        best_cut(arguments.pop("image"), soft, **arguments)


def test_affinities_need_offsets():
    image, soft = scene()
    with pytest.raises(ValueError, match="offsets must be given for reading 'affinities'"):
        best_cut(image, soft, reading="affinities")
