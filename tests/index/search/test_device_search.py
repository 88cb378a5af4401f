"""A search on a device returns what a search on the CPU returns, bit for bit."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hiersearch import MergeTree, Partition, SoftPartition
from hiersearch.errors import DamageError
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.index.search import device_search, resident
from hiersearch.index.search.found_pairs import FoundPairs
from tests.device.places import INTERPRETER, QUICK
from tests.exploration import examples
from tests.hierarchy.small_trees import random_tree
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    SOFT,
    changed,
    has_pairs,
    made,
    random_collection,
    random_labels,
    random_measure,
    random_soft,
)

torch = pytest.importorskip("torch")

seeds = st.integers(0, 2**32 - 1)
GRID = (12, 18)
on_each_device = pytest.mark.parametrize("device", QUICK)


def same(found, expected):
    """Check that results are equal but for what it took to find them."""
    for one, other in zip(found, expected, strict=True):
        assert one.neighbours == other.neighbours
        assert [type(n.rho) for n in one] == [type(n.rho) for n in other]
        assert (one.exact, one.complete) == (other.exact, other.complete)
        assert one.resampled_from == other.resampled_from
        assert one.work.entries == other.work.entries
    return True


def agree(index, queries, k=5, **options):
    """Check that a device finds what the CPU finds; return the results."""
    device = options.pop("device")
    found = index.search_many(queries, k, device=device, **options)
    assert same(found, index.search_many(queries, k, **options))
    return found


def queries_near(rng, maps, count):
    """Return label maps equal to, near to and far from some."""
    found = [maps[0], random_labels(rng, maps[0].shape)]
    while len(found) < count:
        found.append(changed(rng, maps[int(rng.integers(len(maps)))], 0.05))
    return found[:count]


@pytest.fixture
def shelf(tmp_path):
    """Yield an index of 150 partitions in three segments, some removed, and their label maps."""
    rng = np.random.default_rng(3)
    maps = random_collection(rng, GRID, 150)
    metadata = [{"split": "train" if i % 4 else "test", "number": i} for i in range(150)]
    with made(tmp_path / "index", maps[:90], metadata=metadata[:90]) as index:
        index.add_many(map(Entry, maps[90:130], range(90, 130), metadata[90:130]))
        index.add_many(map(Entry, maps[130:], range(130, 150), metadata[130:]))
        index.remove_many([3, 4, 95, 149])
        assert index.info()["segments"] > 1
        yield index, maps


@contextmanager
def reopened(index, **options):
    with PartitionIndex.open(index.path, **options) as again:
        yield again


# --- equal to the CPU -----------------------------------------------------------------------


@on_each_device
@pytest.mark.parametrize("measure_kind", MEASURES)
@examples(4)
@given(seed=seeds, grid=st.sampled_from(GRIDS), k=st.integers(1, 45))
def test_hard_queries_find_what_the_cpu_finds(
    tmp_path_factory, device, measure_kind, seed, grid, k
):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 40)
    measure = random_measure(rng, measure_kind, grid)
    with made(tmp_path_factory.mktemp("device") / "index", maps, measure) as index:
        found = agree(index, queries_near(rng, maps, 4), k, device=device)
        radius = found[-1][-1].distance
        within = index.search_radius(maps[7], radius, device=device)
        assert same([within], [index.search_radius(maps[7], radius)])


@on_each_device
@examples(6)
@given(seed=seeds, grid=st.sampled_from(GRIDS), measure_kind=st.sampled_from(MEASURES))
# A measure that leaves no pair of neighbours, which affinities need.
@example(seed=0, grid=(1, 9), measure_kind="zeros")
def test_soft_queries_find_what_the_cpu_finds(tmp_path_factory, device, seed, grid, measure_kind):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 40)
    measure = random_measure(rng, measure_kind, grid)
    with made(tmp_path_factory.mktemp("device") / "index", maps, measure) as index:
        kinds = SOFT if has_pairs(measure) else [kind for kind in SOFT if kind != "affinities"]
        queries = [random_soft(rng, kind, maps[5]) for kind in kinds]
        found = agree(index, queries, 7, device=device)
        radius = found[0][-1].distance
        within = index.search_radius(queries[0], radius, device=device)
        assert same([within], [index.search_radius(queries[0], radius)])


@pytest.mark.parametrize("device", INTERPRETER)
def test_tritons_kernels_find_it_too(tmp_path, device):
    rng = np.random.default_rng(5)
    maps = random_collection(rng, (4, 5), 5)
    with made(tmp_path / "index", maps) as index:
        agree(index, [maps[2], random_soft(rng, "regions", maps[3])], 2, device=device)


@on_each_device
@pytest.mark.parametrize("count", [1, 32, 300])
def test_one_call_answers_many_queries(tmp_path, device, count):
    rng = np.random.default_rng(count)
    maps = random_collection(rng, (5, 7), 80)
    with made(tmp_path / "index", maps) as index:
        found = agree(index, queries_near(rng, maps, count), 4, device=device)
        assert all(one.work.batch == count for one in found)
        assert index.search_many([], device=device) == []


@on_each_device
def test_queries_of_all_kinds_in_one_call_come_back_in_their_order(shelf, device):
    index, maps = shelf
    rng = np.random.default_rng(1)
    queries = [random_soft(rng, kind, maps[8]) for kind in SOFT]
    queries[1::2] = [
        maps[9],
        maps[10],
        Partition.from_labels(np.kron(maps[11], np.ones((2, 2), int))),
    ]
    found = agree(index, queries, 6, device=device)
    assert found[5].resampled_from == (24, 36)


@on_each_device
def test_ties_at_the_end_go_by_id(tmp_path, device):
    labels = random_labels(np.random.default_rng(1), (6, 8), regions=3)
    ids = ["b", 10, "a", 9, "10", -1, "B"]
    soft = SoftPartition.from_regions(
        np.random.default_rng(2).dirichlet([1, 1], (6, 8)).T.swapaxes(1, 2)
    )
    with made(tmp_path / "index", [labels] * 7, ids=ids) as index:
        for query in (labels, soft):
            found = index.search(query, 2, device=device)
            assert [one.id for one in found] == [-1, 9]
            agree(index, [query], 7, device=device)


@on_each_device
def test_conditions_and_removed_entries_are_kept_to(shelf, device):
    index, maps = shelf
    rng = np.random.default_rng(2)
    queries = [*queries_near(rng, maps, 3), random_soft(rng, "regions", maps[3])]
    for condition in ({"split": "test"}, {"number": {">=": 140}}, {"number": 3}, {"number": 999}):
        for one in agree(index, queries, 30, where=condition, device=device):
            assert all(n.metadata["number"] != 3 for n in one)
    assert 3 not in [one.id for one in index.search(maps[3], 140, device=device)]
    radius = index.search(maps[5], 20)[-1].distance
    where = {"split": "train"}
    within = index.search_radius(maps[5], radius, where=where, device=device)
    assert same([within], [index.search_radius(maps[5], radius, where=where)])


@on_each_device
@pytest.mark.parametrize("measure_kind", MEASURES)
def test_cuts_of_hierarchies_are_found_among_partitions(tmp_path, device, measure_kind):
    rng = np.random.default_rng(6)
    maps = random_collection(rng, GRID, 25)
    measure = random_measure(rng, measure_kind, GRID)
    with made(tmp_path / "index", maps, measure) as index:
        trees: list[MergeTree] = [random_tree(rng, 15, GRID, arity=3) for _ in range(3)]
        for number, tree in enumerate(trees):
            index.add_hierarchy(tree, f"tree {number}")
        index.compact()
        near = changed(rng, trees[1].labels_of(trees[1].cut_with_regions(5)), 0.02)
        queries = [near, maps[2], *(random_soft(rng, kind, near) for kind in SOFT)]
        found = agree(index, queries, 9, device=device)
        assert any(isinstance(one.id, str) for one in found[0])


@on_each_device
def test_an_index_that_changes_is_searched_as_it_is_now(shelf, device):
    index, maps = shelf
    rng = np.random.default_rng(4)
    queries = [*queries_near(rng, maps, 3), random_soft(rng, "classes", maps[3])]
    agree(index, queries, device=device)
    index.add(maps[5], "new")
    assert "new" in [one.id for one in agree(index, [maps[5]], 9, device=device)[0]]
    index.remove("new")
    index.update(7, maps[8])
    agree(index, queries, 20, device=device)
    index.compact()
    agree(index, queries, 20, device=device)
    (held,) = index._held.values()
    assert len({view for view, _ in held.n_held}) == index.info()["segments"] == 1


@on_each_device
def test_approximate_answers_are_marked_and_their_distances_exact(shelf, device):
    index, maps = shelf
    everything = {one.id: one.rho for one in index.search(maps[9], 150)}
    found = index.search(maps[9], 3, approximate=True, device=device)
    assert not found.exact
    assert len(found) == 3
    assert all(one.rho == everything[one.id] for one in found)
    assert found[0].rho == 0


def test_faiss_proposals_change_no_answer_where_faiss_has_no_gpu(shelf):
    pytest.importorskip("faiss")
    index, maps = shelf
    with reopened(index, proposals="faiss") as again:
        agree(again, maps[:3], device="cpu:torch")


@examples(8)
@given(seed=seeds, k=st.integers(1, 5), whole=st.booleans())
def test_found_pairs_are_the_nearest_of_each_query(seed, k, whole):
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, 9, (3, 20)) * (1 if whole else 0.5)
    found = FoundPairs(np.array([np.inf, 3.0, np.inf]), k, whole, slack=0.25)
    order = rng.permutation(60)
    for part in np.array_split(order, 5):
        near = part[distances.reshape(-1)[part] <= found.highest[part // 20]]
        found.add(near // 20, near % 20, distances.reshape(-1)[near])
    slack = 0 if whole else 0.25
    for number, row in enumerate(distances):
        highest = np.sort(row)[k - 1] + slack
        highest = min(highest, 3 + slack) if number == 1 else highest
        columns, values = found.of(number)
        assert sorted(columns.tolist()) == np.flatnonzero(row <= highest).tolist()
        assert values.tolist() == np.sort(row[row <= highest]).tolist()


def test_integers_beyond_what_floats_hold_stay_exact():
    found = FoundPairs(np.array([np.inf]), 1, True, 0)
    nearest = 2**61 + 1
    found.add(np.array([0, 0]), np.array([4, 5]), np.array([nearest, nearest + 1]))
    assert found.of(0)[1].tolist() == [nearest]


# --- memory ---------------------------------------------------------------------------------


@on_each_device
def test_what_the_budget_leaves_out_is_streamed(shelf, device, monkeypatch):
    index, maps = shelf
    # Parts of some rows each.
    monkeypatch.setattr(resident, "PART_BYTES", 10_000)
    rng = np.random.default_rng(7)
    queries = [maps[0], random_soft(rng, "regions", maps[3])]
    kept, sent = [], []
    for budget in (0, 30_000, 60_000, 2**24):
        with reopened(index, device_bytes=budget) as again:
            agree(again, queries, device=device)
            found = agree(again, queries, device=device)
            (held,) = again._held.values()
            assert held.kept.n_bytes <= budget
            kept.append(held.kept.n_bytes)
            sent.append(found[0].work.bytes_sent)
    assert kept[0] == 0
    assert kept == sorted(set(kept))
    assert sent[0] >= 146 * 300
    assert sent == sorted(sent, reverse=True)
    assert sent[-1] == 0


@on_each_device
def test_batches_are_halved_where_memory_runs_out(shelf, device, monkeypatch):
    index, maps = shelf
    queries = queries_near(np.random.default_rng(8), maps, 11)
    topk = torch.topk

    def small(values, *arguments, **options):
        if values.shape[0] > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return topk(values, *arguments, **options)

    monkeypatch.setattr(torch, "topk", small)
    found = agree(index, queries, device=device)
    assert {one.work.batch for one in found} == {1, 2, 3} - {1}


@on_each_device
def test_less_stays_on_a_device_with_less_memory_than_its_budget(shelf, device, monkeypatch):
    index, maps = shelf
    joined = resident._joined

    def small(parts, n_rows, *sizes):
        if n_rows > 20:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return joined(parts, n_rows, *sizes)

    monkeypatch.setattr(resident, "_joined", small)
    agree(index, maps[:4], device=device)
    (held,) = index._held.values()
    assert {n for (_, kind), n in held.n_held.items() if kind == "GridRuns"} <= set(range(1, 21))


@on_each_device
def test_pairs_and_bounds_come_in_parts_where_they_are_many(shelf, device, monkeypatch):
    index, maps = shelf
    monkeypatch.setattr(device_search, "PAIRS_AT_ONCE", 50)
    monkeypatch.setattr(device_search, "BOUNDS_AT_ONCE", 64)
    monkeypatch.setattr(device_search, "PROPOSED", 1)
    monkeypatch.setattr(device_search, "SECOND", 1)
    rng = np.random.default_rng(9)
    agree(index, queries_near(rng, maps, 9), 3, device=device)
    agree(index, [random_soft(rng, "regions", maps[n]) for n in range(3)], 3, device=device)


def test_several_threads_may_search_on_one_device(shelf):
    index, maps = shelf
    expected = index.search_many(maps[:8], 3)
    found = [None] * 8

    def search(number):
        found[number] = index.search(maps[number], 3, device="cpu:torch")

    threads = [threading.Thread(target=search, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(found, expected)


# --- what is said ---------------------------------------------------------------------------


@on_each_device
def test_work_says_what_the_device_did(shelf, device):
    index, maps = shelf
    rng = np.random.default_rng(10)
    queries = [maps[5], maps[6], random_soft(rng, "affinities", maps[6])]
    first = index.search_many(queries, device=device)
    again = index.search_many(queries, device=device)
    for one in first[:2] + again[:2]:
        work = one.work
        assert work.device.startswith(device)
        assert work.batch == 2
        assert work.entries == 146
        assert work.exact_distances + sum(work.pruned.values()) == 146
        assert work.bytes_read > 150 * 300
        assert work.seconds > 0
    assert first[0].work.bytes_sent > 150 * 300
    assert again[0].work.bytes_sent == 0
    assert (first[2].work.device, first[2].work.batch) == ("cpu", 1)
    assert first[2].work.scanned


def test_bounds_rule_out_most_of_a_larger_collection(tmp_path):
    rng = np.random.default_rng(11)
    maps = [m for _ in range(25) for m in random_collection(rng, (16, 24), 24)]
    with made(tmp_path / "index", maps) as index:
        found = agree(index, [changed(rng, m, 0.01) for m in maps[:120:24]], device="cpu:torch")
        compared = np.mean([one.work.exact_distances for one in found])
        assert compared < 0.6 * len(maps)


def test_auto_stays_on_the_cpu_for_what_is_small(shelf):
    index, maps = shelf
    for found in (index.search(maps[3], device="auto"), *index.search_many(maps, device="auto")):
        assert found.work.device == "cpu"
    assert index.search_radius(maps[3], 0.1, device="auto").work.device == "cpu"


def test_work_is_counted_from_what_the_device_has_already(shelf):
    index, maps = shelf
    moment = index._live(None)
    before, more = index._device_work(moment, 1), index._device_work(moment, 1000)
    index.search(maps[0], device="cpu:torch")
    after = index._device_work(moment, 1)
    assert more.cpu_seconds > 900 * before.cpu_seconds
    assert more.bytes_sent == before.bytes_sent > after.bytes_sent == 0


@on_each_device
def test_damaged_bytes_are_reported(shelf, device):
    index, maps = shelf
    index.compact()
    (segment,) = index._store.segments
    path, offset = segment.data.path, segment.data._arrays["code"].offset
    index.close()
    damaged = bytearray(path.read_bytes())
    damaged[offset + 1000] ^= 4
    path.write_bytes(damaged)
    with PartitionIndex.open(index.path) as again, pytest.raises(DamageError, match="code"):
        again.search(maps[0], device=device)


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("gpu", ValueError, "device must be cpu, cuda, cuda:N or auto, got 'gpu'"),
        ("cuda:x", ValueError, "device must be cpu, cuda, cuda:N or auto, got 'cuda:x'"),
        (0, TypeError, "device must be a string such as 'cpu' or 'cuda:0', got 0"),
    ],
)
def test_bad_devices_are_refused_by_name(shelf, device, error, message):
    index, maps = shelf
    for call in (
        lambda: index.search(maps[0], device=device),
        lambda: index.search_many(maps[:2], device=device),
        lambda: index.search_radius(maps[0], 0.1, device=device),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(shelf):
    index, maps = shelf
    with pytest.raises(ValueError, match="got 'cuda:3'"):
        index.search(maps[0], device="cuda:3")


@pytest.mark.parametrize(
    ("budget", "error", "message"),
    [
        (-1, ValueError, "device_bytes must be at least 0, got -1"),
        (2.5, TypeError, "device_bytes must be a whole number, got 2.5"),
        (True, TypeError, "device_bytes must be a whole number, got True"),
    ],
)
def test_bad_budgets_are_refused_by_name(shelf, budget, error, message):
    with pytest.raises(error, match=message), reopened(shelf[0], device_bytes=budget):
        pass


def test_other_arguments_are_checked_on_a_device_too(shelf, tmp_path):
    index, maps = shelf
    with pytest.raises(ValueError, match="k must be"):
        index.search(maps[0], 0, device="cpu:torch")
    with pytest.raises(ValueError, match="radius must be a distance"):
        index.search_radius(maps[0], -1, device="cpu:torch")
    with pytest.raises(TypeError, match="query must be a Partition"):
        index.search_many([maps[0], maps[0].astype(float)], device="cpu:torch")
    with (
        PartitionIndex.create(tmp_path / "empty", (4, 6)) as empty,
        pytest.raises(ValueError, match="index must hold an entry"),
    ):
        empty.search(np.zeros((4, 6), int), device="cpu:torch")
