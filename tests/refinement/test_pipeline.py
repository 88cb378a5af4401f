import numpy as np
import pytest

from hiersearch.partitions import SoftPartition
from hiersearch.refinement.best_cut import best_cut
from hiersearch.refinement.pipeline import DEFAULT_METHODS, METHODS, refine
from hiersearch.refinement.tree_voting import tree_voting


def scene():
    image = np.zeros((24, 30), np.uint8)
    image[6:18, 8:20] = 150
    inside = np.where(image > 0, 0.8, 0.2)
    inside[9, 12], inside[2, 2] = 0.3, 0.7
    return image, np.stack([1 - inside, inside])


def test_the_default_is_that_of_the_reading():
    image, soft = scene()
    assert set(DEFAULT_METHODS) == {"regions", "classes", "boundaries", "affinities", "objects"}
    assert {name for names in DEFAULT_METHODS.values() for name in names} <= set(METHODS)
    for reading in ("classes", "regions"):
        found = refine(image, soft, reading=reading)
        assert DEFAULT_METHODS[reading][-1] in found.trace[-1].method
        assert found.output.channels.shape == soft.shape
        assert found.labels[12, 16] != found.labels[0, 29]


@pytest.mark.parametrize("as_soft_partition", [False, True])
def test_each_method_works_on_what_the_one_before_has_left(as_soft_partition):
    image, soft = scene()
    given = SoftPartition.from_classes(soft) if as_soft_partition else soft
    reading = None if as_soft_partition else "classes"
    found = refine(
        image,
        given,
        reading=reading,
        method=("tree_voting", "best_cut"),
        options={"tree_voting": {"trees": 1, "steps": 1}, "best_cut": {"price": 0.001}},
    )
    first = tree_voting(image, soft, reading="classes", trees=1, steps=1)
    second = best_cut(image, first.output.channels, reading="classes", price=0.001)
    assert np.array_equal(found.labels, second.labels)
    assert found.output.channels == pytest.approx(second.output.channels, abs=1e-6)
    methods = [step.method for step in found.trace]
    assert methods == [step.method for step in (*first.trace, *second.trace)]


@pytest.mark.parametrize("first", ["tree_voting", "metric_merging", "best_cut"])
@pytest.mark.parametrize("second", ["tree_voting", "metric_merging", "best_cut"])
@pytest.mark.parametrize("reading", ["classes", "regions", "boundaries"])
def test_all_pairs_compose(first, second, reading):
    image, soft = scene()
    if reading == "boundaries":
        soft = np.zeros(image.shape)
        soft[:, 14] = 0.9
    found = refine(image, soft, reading=reading, method=(first, second))
    assert found.labels.shape == image.shape
    assert found.partition.grid == image.shape
    assert np.isfinite(found.output.channels).all()


@pytest.mark.parametrize("method", ["best_cut", "metric_merging", ("best_cut", "metric_merging")])
def test_affinities_come_as_a_soft_partition(method):
    image, _ = scene()
    offsets = [[0, 1], [1, 0]]
    affinities = np.stack([image == np.roll(image, -1, axis) for axis in (1, 0)]).astype(float)
    measure = np.ones(image.shape)
    soft = SoftPartition.from_affinities(0.1 + 0.8 * affinities, offsets, measure=measure)
    found = refine(image, soft, method=method)
    assert found.partition.n_regions == 2
    assert found.output.channels.shape == affinities.shape


def test_objects_become_instances():
    image, soft = scene()
    edge = np.zeros(image.shape)
    edge[6:18, 13:15] = 0.7
    three = np.stack([soft[0] * (1 - edge), soft[1] * (1 - edge), edge])
    found = refine(image, three, reading="objects")
    assert found.labels[10, 9] != found.labels[10, 18]


def test_objects_come_of_boundaries_and_affinities_too():
    image, _ = scene()
    boundary = np.full(image.shape, 0.05)
    boundary[:, 14] = 0.9
    found = refine(image, boundary, reading="boundaries", method="objects")
    assert found.labels[3, 3] != found.labels[3, 25]
    affinities = np.stack([image == np.roll(image, -1, axis) for axis in (1, 0)]).astype(float)
    soft = SoftPartition.from_affinities(affinities, [[0, 1], [1, 0]])
    assert refine(image, soft, method="objects").partition.n_regions == 2
    again = refine(image, SoftPartition.from_boundaries(boundary), method="objects")
    assert np.array_equal(again.labels, found.labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reading": None}, "reading must say what the channels of an array mean, one of regions"),
        ({"reading": "things"}, "reading must be one of regions, .*objects, got 'things'"),
        ({"method": "magic"}, "method must be one of tree_voting, .*got 'magic'"),
        ({"method": ()}, "method must name at least one of tree_voting"),
        ({"method": "objects"}, "method 'objects' needs reading objects, .* got 'classes'"),
        ({"method": ("best_cut", "objects")}, "method 'objects' must come alone, got best_cut,"),
        ({"reading": "objects"}, "the objects reading needs 3 channels"),
        ({"options": {"best_cut": {}}}, "options must be for the methods used, tree_voting, got"),
        ({"options": {"tree_voting": {"steps": 0}}}, "steps must be at least 1"),
    ],
)
def test_bad_input_is_named(changes, message):
    image, soft = scene()
    with pytest.raises(ValueError, match=message):
        refine(image, soft, **({"reading": "classes"} | changes))


def test_a_method_is_refused_where_the_reading_goes_with_another():
    three = np.full((3, 4, 5), 1 / 3)
    with pytest.raises(ValueError, match=r"'best_cut' needs reading .* which goes with objects"):
        refine(None, three, reading="objects", method="best_cut")


def test_a_reading_must_not_contradict_the_soft_partition():
    image, soft = scene()
    with pytest.raises(ValueError, match="reading must be that of the soft partition, 'regions'"):
        refine(image, SoftPartition.from_regions(soft), reading="classes")
