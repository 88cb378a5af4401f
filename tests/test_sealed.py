"""Private, read-only arrays, and objects that stay as they were checked."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from hiersearch import MergeTree, Partition, SoftPartition, nearest_cuts_by_regions, trade_off
from hiersearch._sealed import private, sealed
from hiersearch.hierarchy.costs import region_costs
from hiersearch.hierarchy.graph import region_graph
from hiersearch.partitions.runs import RunArrays


def test_a_private_array_is_the_same_array_only_if_nobody_can_write_to_it():
    own = sealed(np.arange(4))
    assert private(own) is own
    assert private(own[1:3]).base is own
    assert private(np.frombuffer(b"abcd", np.uint8)).tolist() == [97, 98, 99, 100]


@pytest.mark.parametrize(
    "given",
    [
        np.arange(4),
        np.broadcast_to(np.arange(1), (4,)),
        np.arange(8)[::2],
        np.arange(4)[::-1],
        np.arange(4).astype(">i8"),
        np.zeros(33, np.uint8)[1:].view(np.int64),
        np.asfortranarray(np.arange(4).reshape(2, 2)),
    ],
    ids=["writeable", "broadcast", "strided", "reversed", "big-endian", "unaligned", "Fortran"],
)
def test_any_other_array_is_copied_to_a_plain_one(given):
    kept = private(given)
    assert kept.tolist() == given.tolist()
    assert not np.shares_memory(kept, given)
    assert not kept.flags.writeable
    assert kept.flags.c_contiguous
    assert kept.flags.aligned
    assert kept.dtype.isnative


def test_a_read_only_view_of_a_writeable_array_or_file_is_copied(tmp_path):
    owner = np.arange(4)
    view = owner[:]
    view.flags.writeable = False
    np.save(tmp_path / "file.npy", owner)
    mapped = np.load(tmp_path / "file.npy", mmap_mode="r")
    for given in (view, mapped):
        assert not np.shares_memory(private(given), given)
        assert type(private(given)) is np.ndarray


def test_private_converts_in_the_same_copy():
    assert private(np.array([1, 2], np.uint8), np.int32).dtype == np.int32


LABELS = np.array([[0, 0, 1], [2, 2, 1]])


def objects():
    tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 2], LABELS)
    target = np.array([[5, 5, 5], [7, 7, 7]])
    measure = np.arange(6.0).reshape(2, 3)
    return {
        "Partition": Partition.from_labels(LABELS, measure=measure),
        "RunArrays": RunArrays.of([LABELS, target]),
        "MergeTree": tree,
        "MergeTree under a measure": tree.with_measure(measure),
        "RegionGraph": region_graph(LABELS, measure),
        "RegionCosts": region_costs(tree, target),
        "Memberships": SoftPartition.from_sparse(np.ones((1, 2, 3)), LABELS[None]),
        "dense Memberships": SoftPartition.from_regions(np.full((2, 2, 3), 0.5), measure=measure),
        "Affinities": SoftPartition.from_affinities(np.full((1, 2, 3), 0.5), [[0, 1]]),
        "RegionCurve": nearest_cuts_by_regions(tree, target),
        "TradeOff": trade_off(tree, target),
    }


def arrays_of(made):
    values = {name: getattr(made, name) for name in made.__match_args__}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("name", objects())
def test_the_arrays_of_validated_objects_cannot_be_written_to(name):
    for array in arrays_of(objects()[name]).values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy", "replace"])
@pytest.mark.parametrize("name", objects())
def test_copies_hold_the_same_and_cannot_be_written_to_either(name, way):
    made = objects()[name]
    again = {
        "pickle": lambda: pickle.loads(pickle.dumps(made)),
        "copy": lambda: copy.copy(made),
        "deepcopy": lambda: copy.deepcopy(made),
        "replace": lambda: dataclasses.replace(made),
    }[way]()
    assert type(again) is type(made)
    before, after = arrays_of(made), arrays_of(again)
    assert before.keys() == after.keys()
    for field, array in before.items():
        assert np.array_equal(after[field], array)
        assert after[field].dtype == array.dtype
        assert not after[field].flags.writeable


def test_replacing_a_field_is_checked():
    made = objects()
    with pytest.raises(ValueError, match=r"run_labels must be within 0\.\.2, got 9 at index 1"):
        dataclasses.replace(made["Partition"], run_labels=np.array([0, 9, 2, 1]))
    with pytest.raises(ValueError, match=r"node 0 has parent 9, outside 0\.\.4"):
        dataclasses.replace(made["MergeTree"], parents=np.array([9, 3, 4, 4, 4]))


def test_callers_keep_writeable_arrays():
    labels, parents = LABELS.copy(), np.array([3, 3, 4, 4, 4])
    leaf_map, heights = LABELS.astype(np.int32), np.zeros(5)
    probabilities = np.full((2, 2, 3), 0.5, np.float32)
    measure = np.ones((2, 3))
    Partition.from_labels(labels, measure=measure)
    MergeTree.from_parents(parents, heights, leaf_map)
    SoftPartition.from_regions(probabilities, measure=measure)
    for array in (labels, parents, leaf_map, heights, probabilities, measure):
        array[...] = 1
