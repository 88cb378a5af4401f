"""A segment's arrays as they are made: blocks, exact rings, reach of the tiles, labels."""

import numpy as np
import pytest

from hiersearch import Partition, distance
from hiersearch.index.bounds._tile_kernels import coarser_masses, pair_sums
from hiersearch.index.bounds.packing import COARSE, MIDDLE, Frame, packed
from hiersearch.index.segments.arranging import Cuts, arranged
from hiersearch.partitions.partition import as_measure
from tests.index.small_collections import random_collection, random_measure

GRID = (12, 18)


def arranged_maps(maps, weights=None, cuts=None):
    """Return the arrays of label maps, and the label maps in the order of the arrays."""
    measure = None if weights is None else as_measure(weights, GRID)
    frame = Frame(GRID, measure)
    partitions = [Partition.from_labels(labels)._under(measure) for labels in maps]
    none = Cuts.none(len(maps))
    arrays, order = arranged(frame, packed(frame, partitions), none if cuts is None else cuts)
    return frame, arrays, [maps[i] for i in order]


@pytest.mark.parametrize("kind", ["none", "integer", "float"])
def test_rings_are_exact_distances_to_the_pivot_of_the_block(kind):
    rng = np.random.default_rng(0)
    weights = random_measure(rng, kind, GRID)
    _, arrays, maps = arranged_maps(random_collection(rng, GRID, 30), weights)
    owner = np.repeat(arrays["block_pivots"], np.diff(arrays["block_ends"], prepend=0))
    expected = [
        distance(labels, maps[pivot], measure=weights, normalized=False)
        for labels, pivot in zip(maps, owner, strict=True)
    ]
    if kind == "float":
        assert arrays["ring"] == pytest.approx(expected, rel=1e-9, abs=1e-9 * weights.sum() ** 2)
    else:
        assert arrays["ring"].tolist() == expected


def test_members_lie_within_the_radius_of_their_block_by_their_tiles():
    rng = np.random.default_rng(1)
    frame, arrays, maps = arranged_maps(random_collection(rng, GRID, 30))
    partitions = [Partition.from_labels(labels) for labels in maps]
    sums = [pair_sums(coarser_masses(frame.masses(p), 16)) for p in partitions]
    begin = 0
    for end, pivot, radius in zip(
        arrays["block_ends"], arrays["block_pivots"], arrays["block_radii"], strict=True
    ):
        assert begin <= pivot < end
        reach = max(np.abs(sums[row] - sums[pivot]).sum() for row in range(begin, end))
        assert reach <= radius
        begin = end
    assert begin == len(maps)


def test_arrays_follow_the_order_of_the_blocks_and_are_read_only():
    rng = np.random.default_rng(2)
    frame, arrays, maps = arranged_maps(random_collection(rng, GRID, 20))
    again = packed(frame, [Partition.from_labels(labels) for labels in maps])
    for name in ("n_runs", "n_regions", "squares", "coarse", "middle"):
        assert np.array_equal(arrays[name], getattr(again, name))
        assert not arrays[name].flags.writeable
    assert arrays["coarse"].shape == (20, frame.n_pairs(COARSE))
    assert arrays["middle"].shape == (20, frame.n_pairs(MIDDLE))
    assert np.array_equal(np.split(arrays["code"], arrays["code_ends"])[7], again.code[7])


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([0, 255], "uint8"),
        ([-1, 3], "int16"),
        ([0, 256], "int16"),
        ([0, 40_000], "uint16"),
        ([-1, 40_000], "int32"),
        ([0, 3 * 10**9], "uint32"),
        ([-1, 2**63 - 1], "int64"),
    ],
)
def test_labels_are_kept_in_the_smallest_type_that_holds_all(labels, dtype):
    one = np.full(GRID, labels[0], np.int64)
    one[:5] = labels[1]
    _, arrays, _ = arranged_maps([one, np.full(GRID, labels[0], np.int64)])
    assert arrays["values"].dtype == dtype
    assert sorted(arrays["values"].tolist()) == sorted([*labels, labels[0]])
