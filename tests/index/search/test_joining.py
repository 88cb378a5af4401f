"""Pairs and groups of near-duplicates are those of all pairs compared, and no others."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import distance
from hiersearch.errors import DamageError
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.index.search import duplicates, joining, pair_distances
from hiersearch.index.search.results import id_key
from hiersearch.index.segments import decoding
from tests.exploration import examples
from tests.hierarchy.small_trees import random_tree
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    changed,
    made,
    random_collection,
    random_labels,
    random_measure,
)

RADII = (0, 0.02, 0.1, 0.4)


def close_pairs(entries, radius, measure=None):
    """Return (distance, one id, other id) of all pairs within a radius, by brute force."""
    ids = sorted(entries, key=id_key)
    found = [
        (distance(entries[a], entries[b], measure=measure), a, b)
        for i, a in enumerate(ids)
        for b in ids[i + 1 :]
    ]
    return in_order(pair for pair in found if pair[0] <= radius)


def in_order(pairs):
    return sorted(pairs, key=lambda pair: (pair[0], id_key(pair[1]), id_key(pair[2])))


def listed(pairs):
    """Return (distance, one id, other id) of pairs."""
    return in_order((pair.distance, pair.a, pair.b) for pair in pairs)


def groups_of(entries, pairs, measure=None):
    """Return ids and raw distances of what pairs connect, by brute force."""
    group_of = {name: frozenset([name]) for name in entries}
    for _, a, b in pairs:
        joined = group_of[a] | group_of[b]
        group_of.update(dict.fromkeys(joined, joined))
    found = []
    for group in {group for group in group_of.values() if len(group) > 1}:
        first = min(group, key=id_key)
        raw = {
            id: distance(entries[first], entries[id], measure=measure, normalized=False)
            for id in group
        }
        ids = sorted(group, key=lambda id: (id != first, raw[id], id_key(id)))
        found.append((ids, [raw[id] for id in ids]))
    return sorted(found, key=lambda group: (-len(group[0]), id_key(group[0][0])))


def relabelled(rng, labels):
    """Return the same partition under other labels."""
    names, place = np.unique(labels, return_inverse=True)
    return (rng.permutation(names.size) * 3 - 5)[place].reshape(labels.shape)


def assert_right(index, entries, radius, measure=None, whole=True):
    """Assert that pairs and groups are those of brute force, up to the rounding of floats."""
    expected = close_pairs(entries, radius, measure)
    found = listed(index.duplicate_pairs(radius))
    groups = index.duplicates(radius)
    wanted = groups_of(entries, expected, measure)
    for group in groups:
        assert group.representative == group.ids[0] == min(group.ids, key=id_key)
        assert group.others == group.ids[1:]
        np.testing.assert_array_equal(group.distances, group.rho / float(index._frame.total) ** 2)
    if whole:
        assert found == expected
        assert [(list(group.ids), group.rho.tolist()) for group in groups] == wanted
        assert all(group.rho.dtype == np.int64 for group in groups)
        return
    assert [pair[1:] for pair in sorted(found, key=lambda pair: pair[1:])] == [
        pair[1:] for pair in sorted(expected, key=lambda pair: pair[1:])
    ]
    assert [(set(group.ids), group.representative) for group in groups] == [
        (set(ids), ids[0]) for ids, _ in wanted
    ]
    for group, (ids, raw) in zip(groups, wanted, strict=True):
        values = dict(zip(ids, raw, strict=True))
        scale = float(index._frame.total) ** 2
        for id, value in zip(group.ids, group.rho.tolist(), strict=True):
            assert math.isclose(value, values[id], rel_tol=1e-9, abs_tol=1e-12 * scale)


# --- against all pairs ----------------------------------------------------------------------


@examples(10)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.sampled_from(GRIDS),
    measure_kind=st.sampled_from(MEASURES),
    radius=st.sampled_from(RADII),
)
def test_pairs_and_groups_are_those_of_brute_force(
    tmp_path_factory, seed, grid, measure_kind, radius
):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 26)
    maps += [relabelled(rng, maps[int(rng.integers(26))]) for _ in range(10)]
    measure = random_measure(rng, measure_kind, grid)
    # Equal partitions are at distance 0 whatever floating-point numbers make of it.
    radius = max(radius, 1e-9) if measure_kind == "float" else radius
    entries = dict(enumerate(maps))
    with made(tmp_path_factory.mktemp("pairs") / "index", maps, measure) as index:
        assert_right(index, entries, radius, measure, whole=measure_kind != "float")


@pytest.mark.parametrize("place", [0, 7, 60, 200])
def test_a_radius_includes_its_end(tmp_path, place):
    rng = np.random.default_rng(1)
    entries = dict(enumerate(random_collection(rng, (11, 13), 30)))
    end = close_pairs(entries, 2)[place][0]
    with made(tmp_path / "index", list(entries.values())) as index:
        assert_right(index, entries, end)


@examples(4)
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from(RADII))
def test_pairs_reach_across_segments_and_leave_removed_entries_out(tmp_path_factory, seed, radius):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, (9, 14), 40)
    maps += [relabelled(rng, maps[int(rng.integers(40))]) for _ in range(14)]
    entries = {f"n{i}" if i % 2 else i: labels for i, labels in enumerate(maps)}
    ids = list(entries)
    with PartitionIndex.create(tmp_path_factory.mktemp("many") / "index", (9, 14)) as index:
        for some in np.array_split(rng.permutation(54), 4):
            index.add_many([Entry(entries[ids[i]], ids[i]) for i in some])
        # Of some segments all are gone.
        for id in [ids[i] for i in rng.choice(54, int(rng.integers(0, 40)), replace=False)]:
            index.remove(id)
            del entries[id]
        done = []
        assert_right(index, entries, radius)
        index.duplicates(radius, progress=done.append)
        assert done == sorted(done)
        assert done[-1] == len(entries)
        index.compact()
        assert_right(index, entries, radius)


@examples(4)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.sampled_from([(8, 9), (3, 4, 5)]),
    measure_kind=st.sampled_from(["none", "integer"]),
    radius=st.sampled_from(RADII),
)
def test_cuts_of_hierarchies_are_compared(tmp_path_factory, seed, grid, measure_kind, radius):
    rng = np.random.default_rng(seed)
    measure = random_measure(rng, measure_kind, grid)
    trees = [random_tree(rng, 9, grid) for _ in range(2)]
    path = tmp_path_factory.mktemp("cuts") / "index"
    with PartitionIndex.create(path, grid, measure=measure) as index:
        for name, tree in zip("abc", [*trees, trees[0]], strict=True):
            index.add_hierarchy(tree, name)
        cuts = index.ids()
        for i in range(6):
            labels = index.get(cuts[int(rng.integers(len(cuts)))])
            index.add(relabelled(rng, labels) if i % 2 else changed(rng, labels, 0.05), i)
        entries = {id: index.get(id) for id in index.ids()}
        assert_right(index, entries, radius, measure)
        # All cuts of the third hierarchy are those of the first.
        assert len(list(index.duplicate_pairs(0))) >= sum(id.startswith("c@") for id in cuts)


def test_batches_however_small_find_all(tmp_path, monkeypatch):
    for module, name, value in (
        (joining, "ROOM", 4),
        (joining, "BLOCKS_AT_ONCE", 1),
        (joining, "TASKS_AT_ONCE", 2),
        (duplicates, "PAIRS_AT_ONCE", 3),
        (pair_distances, "RUNS_AT_ONCE", 50),
        (pair_distances, "LARGEST_TABLE", 20),
        (pair_distances, "PAIRS_A_THREAD", 1),
    ):
        monkeypatch.setattr(module, name, value)
    assert decoding.LARGEST_TABLE > 20
    maps = random_collection(np.random.default_rng(4), (6, 7), 50)
    entries = dict(enumerate(maps))
    with made(tmp_path / "index", maps[:40]) as index:
        index.add_many(maps[40:])
        for radius in (0.1, 1):
            assert_right(index, entries, radius)


# --- groups ---------------------------------------------------------------------------------


def chain(n, step=1):
    """Return label maps of two halves whose border moves on from one to the next."""
    columns = np.arange(40)
    return [np.tile(columns < 5 + step * i, (4, 1)).astype(int) for i in range(n)]


def test_groups_are_chains_of_near_ones(tmp_path):
    maps = chain(12)
    near = distance(maps[0], maps[1])
    assert distance(maps[0], maps[11]) > 3 * near
    radius = max(distance(a, b) for a, b in itertools.pairwise(maps))
    with made(tmp_path / "index", maps) as index:
        (group,) = index.duplicates(radius)
        assert group.ids == tuple(range(12))
        assert group.rho.tolist() == [distance(maps[0], m, normalized=False) for m in maps]
        assert group.distances.max() > radius
        assert len(group) == 12


def test_groups_come_by_size_then_by_representative(tmp_path):
    near, far = chain(2)[0], chain(2, 14)[1]
    ids = {"b": near, "a": near, 9: far, 10: far, "c": near}
    with made(tmp_path / "index", list(ids.values()), ids=list(ids)) as index:
        assert [group.ids for group in index.duplicates(0)] == [("a", "b", "c"), (9, 10)]
        index.remove("c")
        assert [group.ids for group in index.duplicates(0)] == [(9, 10), ("a", "b")]


def test_results_cannot_be_changed(tmp_path):
    with made(tmp_path / "index", [np.zeros((3, 4), int)] * 2) as index:
        (group,) = index.duplicates(0)
        for array in (group.rho, group.distances):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


# --- copies ---------------------------------------------------------------------------------


def test_equal_partitions_cost_no_distances(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    labels = random_labels(rng, (12, 18), 5)
    maps = [relabelled(rng, labels) for _ in range(300)]

    def none(*arguments):
        raise AssertionError(f"{arguments[1].size} pairs were compared")

    with made(tmp_path / "index", maps) as index:
        monkeypatch.setattr(
            pair_distances.Entries,
            "_compared",
            lambda self, a, b: none(self, a) if a.size else np.empty(0, np.int64),
        )
        (group,) = index.duplicates(0.3)
        assert group.ids == tuple(range(300))
        assert not group.rho.any()
        pairs = index.duplicate_pairs(0.3)
        assert [(p.a, p.b) for p in itertools.islice(pairs, 400)] == list(
            itertools.islice(itertools.combinations(range(300), 2), 400)
        )


def test_pairs_of_copies_are_made_one_by_one(tmp_path):
    # All of them would be 4.5 million.
    with made(tmp_path / "index", [np.zeros((2, 3), np.uint8)] * 3_000) as index:
        first = next(index.duplicate_pairs(0))
        assert (first.a, first.b, first.distance, first.rho) == (0, 1, 0.0, 0)
        assert type(first.rho) is int
        (group,) = index.duplicates(0)
        assert len(group) == 3_000


def test_partitions_that_differ_where_nothing_weighs_are_at_distance_zero(tmp_path):
    measure = np.ones((4, 6), int)
    measure[0, 0] = 0
    one = np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0)
    other = one.copy()
    other[0, 0] = 1
    with made(tmp_path / "index", [one, other, one[:, ::-1].copy()], measure) as index:
        assert [group.ids for group in index.duplicates(0)] == [(0, 1, 2)]
        assert len(list(index.duplicate_pairs(0))) == 3


def test_hashes_only_propose(tmp_path, monkeypatch):
    from hiersearch.index.search import copies

    rng = np.random.default_rng(6)
    maps = [np.roll(chain(1)[0], shift, axis=1) for shift in (0, 1, 2, 1, 0, 1)]
    maps += [relabelled(rng, labels) for labels in maps]
    entries = dict(enumerate(maps))
    with made(tmp_path / "index", maps) as index:
        monkeypatch.setattr(copies, "hash", lambda code: 7, raising=False)
        assert_right(index, entries, 0)
        assert [len(group) for group in index.duplicates(0)] == [6, 4, 2]


def test_damaged_codes_are_reported(tmp_path):
    rng = np.random.default_rng(7)
    maps = [random_labels(rng, (30, 40), 6)] * 3
    with made(tmp_path / "index", maps) as index:
        (file,) = (tmp_path / "index").rglob("*.seg")
        offset = index._store.segments[0].data._arrays["code"].offset
    content = bytearray(file.read_bytes())
    content[offset + 3] ^= 1
    file.write_bytes(content)
    with PartitionIndex.open(tmp_path / "index") as index, pytest.raises(DamageError):
        index.duplicates(0)


# --- edges ----------------------------------------------------------------------------------


def test_an_empty_index_has_no_duplicates(tmp_path):
    with PartitionIndex.create(tmp_path / "index", (4, 6)) as index:
        assert index.duplicates(0.5) == []
        assert list(index.duplicate_pairs(0.5)) == []
        index.add(np.zeros((4, 6), int))
        assert index.duplicates(1) == []
        index.remove(0)
        assert index.duplicates(1) == []


@pytest.mark.parametrize("method", ["duplicates", "duplicate_pairs"])
@pytest.mark.parametrize(
    ("radius", "error"), [(-1, ValueError), (np.nan, ValueError), ("a", TypeError)]
)
def test_a_bad_radius_is_refused(tmp_path, method, radius, error):
    with (
        PartitionIndex.create(tmp_path / "index", (4, 6)) as index,
        pytest.raises(error, match="radius must be"),
    ):
        getattr(index, method)(radius)


def test_an_interrupted_join_leaves_the_index_as_it_is(tmp_path):
    rng = np.random.default_rng(8)
    maps = random_collection(rng, (9, 14), 40)
    entries = dict(enumerate(maps))

    def interrupt(done):
        raise KeyboardInterrupt

    with made(tmp_path / "index", maps) as index:
        generation = index.info()["generation"]
        with pytest.raises(KeyboardInterrupt):
            index.duplicates(0.1, progress=interrupt)
        assert index.info()["generation"] == generation
        assert_right(index, entries, 0.1)
        index.add(maps[0], "new")
        assert index.verify() == []


def test_pairs_are_those_of_the_moment_when_they_were_asked_for(tmp_path):
    maps = chain(6)
    with made(tmp_path / "index", maps) as index:
        pairs = index.duplicate_pairs(1)
        index.remove_many([0, 1, 2])
        index.compact()
        assert len(list(pairs)) == 15
        assert len(list(index.duplicate_pairs(1))) == 3
