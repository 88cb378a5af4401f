"""A search returns what brute force over all entries returns: entries, distances, order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.io import imread

from hiersearch import Partition, SoftPartition, distance
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.index.search.results import id_key
from tests.exploration import examples
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    SOFT,
    assert_same,
    brute_force,
    changed,
    made,
    pairs_of,
    random_collection,
    random_labels,
    random_measure,
    random_soft,
    total_of,
)

seeds = st.integers(0, 2**32 - 1)
NUCLEI = sorted((Path(__file__).parents[2] / "data").glob("nuclei-*-labels.png"))
GRID = (96, 120)


def nuclei(count, seed=0):
    """Return crops and flips of nuclei label maps; a crop beside a few changed pixels of it."""
    rng = np.random.default_rng(seed)
    maps = [imread(file).astype(np.int32) for file in NUCLEI]
    found = []
    while len(found) < count:
        labels = maps[int(rng.integers(len(maps)))]
        top, left = (int(rng.integers(s - g + 1)) for s, g in zip(labels.shape, GRID, strict=True))
        down, right = (1 - 2 * rng.integers(2, size=2)).tolist()
        crop = labels[top : top + GRID[0], left : left + GRID[1]][::down, ::right]
        found += [crop, changed(rng, crop, 0.005)]
    return found[:count]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Yield an index of 400 real partitions and their label maps by id."""
    maps = nuclei(400)
    with made(tmp_path_factory.mktemp("real") / "index", maps) as index:
        yield index, dict(enumerate(maps))


@pytest.fixture
def small(tmp_path):
    """Yield an index of 60 partitions with metadata, and their label maps by id."""
    rng = np.random.default_rng(3)
    maps = random_collection(rng, (12, 18), 60)
    ids = [f"name {i}" if i % 3 else i for i in range(60)]
    metadata = [{"split": "train" if i % 4 else "test", "number": i} for i in range(60)]
    with made(tmp_path / "index", maps, ids=ids, metadata=metadata) as index:
        yield index, dict(zip(ids, maps, strict=True))


# --- equal to brute force -------------------------------------------------------------------


@pytest.mark.parametrize("measure_kind", MEASURES)
@examples(8)
@given(seed=seeds, grid=st.sampled_from(GRIDS), k=st.integers(1, 45))
def test_hard_queries_find_what_brute_force_finds(tmp_path_factory, measure_kind, seed, grid, k):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 40)
    measure = random_measure(rng, measure_kind, grid)
    with made(tmp_path_factory.mktemp("search") / "index", maps, measure) as index:
        for query in (maps[5], changed(rng, maps[7]), random_labels(rng, grid)):
            found = index.search(query, k)
            expected = brute_force(query, dict(enumerate(maps)), measure)[:k]
            exact, total = measure_kind != "float", total_of(measure, grid)
            assert_same(pairs_of(found), expected, exact, total)
            assert found.exact
            assert found.complete == (k <= 40)


@pytest.mark.parametrize("kind", SOFT)
@examples(5)
@given(seed=seeds, grid=st.sampled_from(GRIDS), measure_kind=st.sampled_from(MEASURES[:3]))
def test_soft_queries_find_what_brute_force_finds(tmp_path_factory, kind, seed, grid, measure_kind):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 40)
    measure = random_measure(rng, measure_kind, grid)
    with made(tmp_path_factory.mktemp("search") / "index", maps, measure) as index:
        for near in (maps[5], random_labels(rng, grid)):
            query = random_soft(rng, kind, near)
            expected = brute_force(query, dict(enumerate(maps)), measure)
            total = total_of(measure, grid)
            assert_same(pairs_of(index.search(query, 7)), expected[:7], exact=False, total=total)


def test_real_partitions_are_found_without_comparing_all(real):
    index, entries = real
    compared = 0
    for query in nuclei(12, seed=1):
        for k in (1, 10):
            found = index.search(query, k)
            assert pairs_of(found) == brute_force(query, entries)[:k]
        compared += index.search(query, 1).work.exact_distances
    assert compared < 0.25 * 12 * len(entries)


def test_a_stored_partition_is_its_own_nearest(real):
    index, entries = real
    for id in (0, 17, 399):
        assert (0, id) in pairs_of(index.search(entries[id], 3))


def test_real_soft_queries_find_what_brute_force_finds(real):
    index, entries = real
    rng = np.random.default_rng(2)
    for kind in ("regions", "classes", "boundaries"):
        query = random_soft(rng, kind, nuclei(3, seed=4)[2])
        assert_same(
            pairs_of(index.search(query, 10)), brute_force(query, entries)[:10], exact=False
        )


def test_masks_are_found_as_partitions_of_two_regions(real):
    index, entries = real
    mask = entries[3] > 0
    found = index.search(mask, 5)
    assert pairs_of(found) == brute_force(mask, entries)[:5]


# --- what is returned -----------------------------------------------------------------------


def test_distances_are_integers_where_they_are_exact(small, tmp_path):
    index, entries = small
    (one,) = index.search(random_labels(np.random.default_rng(1), (12, 18)), k=1)
    assert type(one.rho) is int
    assert one.distance == one.rho / (12 * 18) ** 2
    weights = np.full((12, 18), 0.5)
    with made(tmp_path / "weighted", list(entries.values())[:3], weights) as weighted:
        assert type(weighted.search(entries[0]).neighbours[0].rho) is float


def test_neighbours_bring_id_and_metadata(small):
    index, entries = small
    for one in index.search(entries["name 7"], 60):
        number = list(entries).index(one.id)
        split = "train" if number % 4 else "test"
        assert one.metadata == {"split": split, "number": number}


def test_ties_go_by_id_integers_before_text(tmp_path):
    labels = random_labels(np.random.default_rng(1), (6, 8), regions=3)
    ids = ["b", 10, "a", 9, "10", -1, "B"]
    with made(tmp_path / "index", [labels] * 7, ids=ids) as index:
        assert [one.id for one in index.search(labels, 7)] == [-1, 9, 10, "10", "B", "a", "b"]
        assert [one.id for one in index.search(labels, 2)] == [-1, 9]


def test_more_neighbours_than_entries_are_all_of_them_and_it_says_so(small):
    index, entries = small
    found = index.search(entries[0], 1000)
    assert len(found) == 60
    assert not found.complete
    assert found.exact
    assert index.search(entries[0], 60).complete


def test_work_accounts_for_every_entry(real):
    index, entries = real
    for query in nuclei(6, seed=5):
        for k in (1, 10):
            work = index.search(query, k).work
            assert work.entries == len(entries)
            assert work.exact_distances + sum(work.pruned.values()) == len(entries)
            assert work.bytes_read > 0
            assert work.seconds > 0
            assert work.blocks >= work.blocks_pruned


def test_queries_of_affinities_scan_and_say_so(small):
    index, _ = small
    rng = np.random.default_rng(1)
    work = index.search(random_soft(rng, "affinities", random_labels(rng, (12, 18)))).work
    assert work.scanned
    assert work.exact_distances == 60


def test_results_are_sequences(small):
    index, entries = small
    found = index.search(entries[0], 3)
    assert len(found) == 3
    assert found[0] == next(iter(found)) == found.neighbours[0]
    assert set(found.work.as_dict()) >= {"entries", "exact_distances", "pruned", "seconds"}


# --- radius, conditions, many, approximate --------------------------------------------------


@examples(10)
@given(seed=seeds, grid=st.sampled_from(GRIDS), measure_kind=st.sampled_from(["none", "integer"]))
def test_a_radius_holds_all_within_it_ends_included(tmp_path_factory, seed, grid, measure_kind):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 30)
    measure = random_measure(rng, measure_kind, grid)
    with made(tmp_path_factory.mktemp("radius") / "index", maps, measure) as index:
        query = changed(rng, maps[3])
        everything = brute_force(query, dict(enumerate(maps)), measure)
        for place in (0, 3, 12, 29):
            radius = distance(query, maps[everything[place][1]], measure=measure)
            found = index.search_radius(query, radius)
            assert pairs_of(found) == [p for p in everything if p[0] <= everything[place][0]]
            assert found.complete
        assert len(index.search_radius(query, 0)) == sum(d == 0 for d, _ in everything)
        assert pairs_of(index.search_radius(query, 1.0)) == everything


def test_soft_queries_have_radii_too(small):
    index, entries = small
    query = random_soft(np.random.default_rng(8), "regions", entries[0])
    everything = brute_force(query, entries)
    radius = (everything[9][0] + everything[10][0]) / 2 / (12 * 18) ** 2
    assert_same(pairs_of(index.search_radius(query, radius)), everything[:10], exact=False)


def test_a_condition_gives_the_nearest_among_those(small):
    index, entries = small
    rng = np.random.default_rng(4)
    chosen = {id: entries[id] for n, id in enumerate(entries) if n % 4 == 0 and n >= 10}
    condition = {"split": "test", "number": {">=": 10}}
    for _ in range(5):
        query = random_labels(rng, (12, 18))
        expected = brute_force(query, chosen)
        found = index.search(query, 5, where=condition)
        assert pairs_of(found) == expected[:5]
        assert found.work.entries == len(chosen)
        within = index.search_radius(query, expected[6][0] / (12 * 18) ** 2, where=condition)
        assert pairs_of(within) == [p for p in expected if p[0] <= expected[6][0]]


def test_a_condition_that_nothing_meets_gives_nothing(small):
    index, entries = small
    found = index.search(entries[0], 3, where={"number": 1000})
    assert len(found) == 0
    assert not found.complete
    assert found.work.entries == 0


def test_many_queries_give_what_each_gives(real):
    index, _ = real
    queries = nuclei(9, seed=6)
    for threads in (None, 1, 3):
        found = index.search_many(queries, 4, threads=threads)
        assert [one.neighbours for one in found] == [index.search(q, 4).neighbours for q in queries]
    assert index.search_many([]) == []


def test_approximate_answers_are_marked_and_their_distances_exact(real):
    index, entries = real
    right = 0
    for query in nuclei(10, seed=7):
        found = index.search(query, 5, approximate=True)
        assert not found.exact
        assert len(found) == 5
        assert all(one.rho == distance(query, entries[one.id], normalized=False) for one in found)
        right += found[0].rho == index.search(query)[0].rho
    assert right >= 8


# --- after changes --------------------------------------------------------------------------


def assert_equal_to_brute_force(index, entries, seed=0):
    """Assert it of a few queries, k and conditions."""
    rng = np.random.default_rng(seed)
    assert index.ids() == sorted(entries, key=id_key)
    for _ in range(4):
        query = changed(rng, entries[list(entries)[int(rng.integers(len(entries)))]])
        expected = brute_force(query, entries)
        for k in (1, 8):
            assert pairs_of(index.search(query, k)) == expected[:k]
        radius = expected[min(9, len(expected) - 1)][0] / query.size**2
        within = [pair for pair in expected if pair[0] / query.size**2 <= radius]
        assert pairs_of(index.search_radius(query, radius)) == within


def test_removed_entries_are_not_found(small):
    index, entries = small
    for id in list(entries)[::4]:
        index.remove(id)
        del entries[id]
    assert_equal_to_brute_force(index, entries)


def test_updated_entries_are_found_as_they_are_now(small):
    index, entries = small
    rng = np.random.default_rng(5)
    for id in list(entries)[::7]:
        entries[id] = random_labels(rng, (12, 18))
        index.update(id, entries[id])
    assert_equal_to_brute_force(index, entries)


def test_compaction_changes_no_answer(small):
    index, entries = small
    rng = np.random.default_rng(6)
    for i in range(5):
        entries[1000 + i] = random_labels(rng, (12, 18))
        index.add(entries[1000 + i], 1000 + i)
    for id in list(entries)[::5]:
        index.remove(id)
        del entries[id]
    index.compact()
    assert index.info()["segments"] == 1
    assert index.info()["removed_not_compacted"] == 0
    assert_equal_to_brute_force(index, entries)


def test_an_index_of_many_small_additions_is_searched_as_one_of_a_large_one(tmp_path):
    rng = np.random.default_rng(7)
    maps = random_collection(rng, (9, 14), 50)
    with PartitionIndex.create(tmp_path / "index", (9, 14)) as index:
        for labels in maps:
            index.add(labels)
        assert index.info()["segments"] < 20
        assert_equal_to_brute_force(index, dict(enumerate(maps)))


def test_several_segments_are_searched_together(tmp_path):
    rng = np.random.default_rng(8)
    maps = random_collection(rng, (9, 14), 90)
    with PartitionIndex.create(tmp_path / "index", (9, 14)) as index:
        for begin in range(0, 90, 30):
            index.add_many(maps[begin : begin + 30])
        assert index.info()["segments"] == 3
        assert_equal_to_brute_force(index, dict(enumerate(maps)))
        index.remove(40)
        (found,) = index.search_many([maps[40]], 90)
        expected = brute_force(maps[40], {i: m for i, m in enumerate(maps) if i != 40})
        assert pairs_of(found) == expected


def test_partitions_of_very_many_regions_are_compared(tmp_path):
    rng = np.random.default_rng(9)
    maps = [
        rng.permutation(90 * 100).reshape(90, 100),
        *(rng.integers(0, k, (90, 100)) for k in (3, 4000)),
    ]
    maps += [changed(rng, maps[0], 0.001), maps[2] // 2]
    with made(tmp_path / "index", maps) as index:
        for query in maps:
            assert pairs_of(index.search(query, 5)) == brute_force(query, dict(enumerate(maps)))


# --- other grids ----------------------------------------------------------------------------


def test_a_query_on_another_grid_is_resampled_and_the_result_says_so(small):
    index, entries = small
    query = np.kron(entries[0], np.ones((2, 3), int))
    found = index.search(query, 4)
    assert found.resampled_from == (24, 54)
    assert pairs_of(found) == brute_force(entries[0], entries)[:4]
    assert index.search(entries[0]).resampled_from is None


def test_a_soft_query_on_another_grid_is_averaged(small):
    index, entries = small
    rng = np.random.default_rng(3)
    values = rng.dirichlet(np.ones(3), (24, 36)).transpose(2, 0, 1)
    found = index.search(SoftPartition.from_regions(values), 4)
    averaged = values.reshape(3, 12, 2, 18, 2).mean(axis=(2, 4))
    assert found.resampled_from == (24, 36)
    expected = brute_force(SoftPartition.from_regions(averaged), entries)[:4]
    for (one, _), (other, _) in zip(pairs_of(found), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_the_measure_of_the_index_counts_whatever_the_query_carries(tmp_path):
    rng = np.random.default_rng(4)
    maps = random_collection(rng, (8, 9), 20)
    measure = random_measure(rng, "integer", (8, 9))
    with made(tmp_path / "index", maps, measure) as index:
        query = Partition.from_labels(maps[2], measure=rng.random((8, 9)))
        expected = brute_force(maps[2], dict(enumerate(maps)), measure)[:5]
        assert pairs_of(index.search(query, 5)) == expected
        assert np.array_equal(index.measure, measure)


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda i, q: i.search(q, 0), ValueError, "k must be"),
        (lambda i, q: i.search(q, 2.5), TypeError, "k must be"),
        (lambda i, q: i.search(q.astype(float)), TypeError, "query must be a Partition"),
        (lambda i, q: i.search(np.stack([q, q])), ValueError, "query must be 2-D"),
        (lambda i, q: i.search(q, where={"colour": 1}), ValueError, "colour"),
        (lambda i, q: i.search(q, where=3), TypeError, "condition"),
        (lambda i, q: i.search_radius(q, -0.1), ValueError, "radius must be a distance"),
        (lambda i, q: i.search_radius(q, np.nan), ValueError, "radius must be a distance"),
        (lambda i, q: i.search_radius(q, np.inf), ValueError, "radius must be a distance"),
        (lambda i, q: i.search_radius(q, "0.1"), TypeError, "radius must be a number"),
        (lambda i, q: i.search_radius(q, True), TypeError, "radius must be a number"),
        (lambda i, q: i.search_many([q], threads=0), ValueError, "threads must be"),
    ],
)
def test_bad_searches_are_refused_by_name(small, call, error, message):
    index, entries = small
    with pytest.raises(error, match=message):
        call(index, entries[0])


def test_probabilities_that_are_not_numbers_are_refused():
    values = np.full((2, 12, 18), 0.5)
    values[0, 3, 4] = np.nan
    with pytest.raises(ValueError, match=r"probabilities must be finite.*3, 4"):
        SoftPartition.from_regions(values)


def test_affinities_on_another_grid_are_refused(small):
    index, _ = small
    query = SoftPartition.from_affinities(np.full((1, 24, 36), 0.5), [(0, 1)])
    with pytest.raises(ValueError, match="query must lie on the grid"):
        index.search(query)


def test_an_empty_index_cannot_be_searched(tmp_path):
    with PartitionIndex.create(tmp_path / "index", (4, 6)) as index:
        for query in (lambda q: index.search(q), lambda q: index.search_radius(q, 0.5)):
            with pytest.raises(ValueError, match="index must hold an entry"):
                query(np.zeros((4, 6), int))
        index.add_many([Entry(np.zeros((4, 6), int), "only")])
        index.remove("only")
        with pytest.raises(ValueError, match="index must hold an entry"):
            index.search(np.zeros((4, 6), int))
