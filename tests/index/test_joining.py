"""Duplicates are all pairs within a radius, and no others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiersearch import distance
from hiersearch.index import joining
from hiersearch.index.index import PartitionIndex
from hiersearch.index.results import id_key
from tests.hierarchy.small_trees import random_tree
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    changed,
    made,
    random_collection,
    random_measure,
)


def close_pairs(entries, radius, measure=None):
    """Return (distance, one id, other id) of all pairs within a radius, by brute force."""
    ids = sorted(entries, key=id_key)
    found = [
        (distance(entries[a], entries[b], measure=measure), a, b)
        for i, a in enumerate(ids)
        for b in ids[i + 1 :]
    ]
    within = [pair for pair in found if pair[0] <= radius]
    return sorted(within, key=lambda pair: (pair[0], id_key(pair[1]), id_key(pair[2])))


def listed(pairs):
    """Return (distance, one id, other id) of pairs."""
    return [(pair.distance, pair.a, pair.b) for pair in pairs]


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.sampled_from(GRIDS),
    measure_kind=st.sampled_from(MEASURES),
    radius=st.sampled_from([0, 0.02, 0.1, 0.4]),
)
def test_pairs_are_those_of_brute_force(tmp_path_factory, seed, grid, measure_kind, radius):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 36)
    measure = random_measure(rng, measure_kind, grid)
    with made(tmp_path_factory.mktemp("pairs") / "index", maps, measure) as index:
        found = listed(index.duplicates(radius))
        expected = close_pairs(dict(enumerate(maps)), radius, measure)
        if measure_kind == "float":
            assert {pair[1:] for pair in found} == {pair[1:] for pair in expected}
        else:
            assert found == expected


@pytest.mark.parametrize("place", [0, 7, 60, 200])
def test_a_radius_includes_its_end(tmp_path, place):
    rng = np.random.default_rng(1)
    entries = dict(enumerate(random_collection(rng, (11, 13), 30)))
    end = close_pairs(entries, 2)[place][0]
    with made(tmp_path / "index", list(entries.values())) as index:
        assert listed(index.duplicates(end)) == close_pairs(entries, end)


def test_pairs_reach_across_segments_and_leave_removed_entries_out(tmp_path):
    rng = np.random.default_rng(2)
    maps = random_collection(rng, (9, 14), 60)
    entries = {f"n{i}" if i % 2 else i: labels for i, labels in enumerate(maps)}
    ids = list(entries)
    with PartitionIndex.create(tmp_path / "index", (9, 14)) as index:
        for begin in range(0, 60, 20):
            for id in ids[begin : begin + 20]:
                index.add(entries[id], id)
        for id in (ids[0], ids[25], ids[59]):
            index.remove(id)
            del entries[id]
        done = []
        assert listed(index.duplicates(0.1, progress=done.append)) == close_pairs(entries, 0.1)
        assert done[-1] >= len(entries)


def test_cuts_of_hierarchies_are_compared(tmp_path):
    rng = np.random.default_rng(3)
    grid = (8, 9)
    tree = random_tree(rng, 12, grid)
    with PartitionIndex.create(tmp_path / "index", grid) as index:
        index.add_hierarchy(tree, "a")
        index.add(changed(rng, index.get("a@12"), 0.05), "b")
        entries = {id: index.get(id) for id in index.ids()}
        assert listed(index.duplicates(0.2)) == close_pairs(entries, 0.2)


def test_more_pairs_than_there_is_room_for_at_first_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "_ROOM", 4)
    maps = random_collection(np.random.default_rng(4), (6, 7), 40)
    with made(tmp_path / "index", maps) as index:
        assert listed(index.duplicates(1)) == close_pairs(dict(enumerate(maps)), 1)


def test_an_empty_index_has_no_pairs(tmp_path):
    with PartitionIndex.create(tmp_path / "index", (4, 6)) as index:
        assert index.duplicates(0.5) == []


@pytest.mark.parametrize(
    ("radius", "error"), [(-1, ValueError), (np.nan, ValueError), ("a", TypeError)]
)
def test_a_bad_radius_is_refused(tmp_path, radius, error):
    with (
        PartitionIndex.create(tmp_path / "index", (4, 6)) as index,
        pytest.raises(error, match="radius must be"),
    ):
        index.duplicates(radius)
