import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import Partition, SoftPartition, distance, distances
from hiersearch.metric.run_arrays import RunArrays


@given(st.integers(0, 2**32 - 1), st.sampled_from(["none", "integer", "float"]))
def test_distances_are_those_of_single_pairs(seed, kind):
    rng = np.random.default_rng(seed)
    grid = tuple(rng.integers(1, 9, size=2 + seed % 2).tolist())
    measure = {
        "none": None,
        "integer": rng.integers(1, 5, size=grid),
        "float": rng.random(grid) + 0.1,
    }[kind]
    maps = [rng.integers(0, rng.integers(1, 6), size=grid) for _ in range(int(rng.integers(1, 9)))]
    many = RunArrays.of([Partition.from_labels(labels, measure=measure) for labels in maps])
    query = rng.integers(0, 4, size=grid)
    expected = [distance(query, m, measure=measure, normalized=False) for m in maps]
    found = many.distances(query, normalized=False)
    if kind == "float":
        assert found == pytest.approx(expected)
    else:
        assert found.dtype == np.int64
        assert found.tolist() == expected
    assert many.distances(query) == pytest.approx(
        [distance(query, m, measure=measure) for m in maps]
    )


def test_threads_and_tables_too_large_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 40, size=(12, 13)) for _ in range(150)]
    many = RunArrays.of(maps)
    query = rng.integers(0, 30, size=(12, 13))
    expected = [distance(query, m, normalized=False) for m in maps]
    for threads in (1, 2, 5):
        assert many.distances(query, normalized=False, threads=threads).tolist() == expected
    monkeypatch.setattr("hiersearch.metric.run_arrays.LARGEST_TABLE", 100)
    assert many.distances(query, normalized=False).tolist() == expected


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="at least one"):
        RunArrays.of([])
    with pytest.raises(ValueError, match=r"partitions\[1\]"):
        RunArrays.of([np.zeros((2, 3), int), np.zeros((3, 2), int)])
    with pytest.raises(ValueError, match="query"):
        RunArrays.of([np.zeros((2, 3), int)]).distances(np.zeros((3, 2), int))


def some_soft(rng, grid, k):
    return SoftPartition.from_regions(np.moveaxis(rng.dirichlet(np.ones(k), size=grid), -1, 0))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_soft_queries_are_taken_too(seed, weighted):
    rng = np.random.default_rng(seed)
    grid = tuple(rng.integers(1, 8, size=2).tolist())
    measure = rng.random(grid) + 0.1 if weighted else None
    maps = [rng.integers(0, rng.integers(1, 6), size=grid) for _ in range(4)]
    many = RunArrays.of([Partition.from_labels(labels, measure=measure) for labels in maps])
    soft = some_soft(rng, grid, int(rng.integers(1, 6)))
    expected = distances(soft, maps, measure=measure)
    assert many.distances(soft) == pytest.approx(expected, abs=1e-12)
    sparse = SoftPartition.from_sparse(
        rng.dirichlet(np.ones(2), size=grid).transpose(2, 0, 1),
        rng.integers(0, 5, size=(2, *grid)),
    )
    expected = distances(sparse, maps, measure=measure)
    assert many.distances(sparse) == pytest.approx(expected, abs=1e-12)


def test_many_queries_give_the_rows_of_single_ones():
    rng = np.random.default_rng(1)
    maps = [rng.integers(0, 4, size=(6, 7)) for _ in range(70)]
    many = RunArrays.of(maps)
    affinities = SoftPartition.from_affinities(rng.random((1, 6, 7)), [(0, 1)])
    queries = [maps[0], some_soft(rng, (6, 7), 3), affinities, maps[3]]
    for normalized in (True, False):
        found = many.distances_many(queries, normalized=normalized)
        for row, query in zip(found, queries, strict=True):
            assert row.tolist() == many.distances(query, normalized=normalized).tolist()
            assert row == pytest.approx(distances(query, maps, normalized=normalized))
    assert many.distances_many(maps[:2], normalized=False).dtype == np.int64
    assert many.distances_many([]).shape == (0, 70)


def test_a_device_takes_the_queries_that_fit_and_the_cpu_the_rest():
    rng = np.random.default_rng(2)
    maps = [rng.integers(0, 4, size=(6, 7)) for _ in range(5)]
    many = RunArrays.of(maps)
    affinities = SoftPartition.from_affinities(rng.random((1, 6, 7)), [(0, 1)])
    queries = [maps[0], some_soft(rng, (6, 7), 3), affinities, maps[3]]
    expected = many.distances_many(queries)
    pytest.importorskip("torch")
    for device in ("cpu", "auto", "cpu:torch"):
        assert many.distances_many(queries, device=device) == pytest.approx(expected, abs=1e-12)
        found = many.distances(maps[0], normalized=False, device=device)
        assert found.tolist() == many.distances(maps[0], normalized=False).tolist()


def test_one_partition_with_a_measure_lends_it_to_all():
    rng = np.random.default_rng(3)
    measure = rng.integers(1, 5, size=(3, 4))
    maps = [rng.integers(0, 3, size=(3, 4)) for _ in range(3)]
    one = Partition.from_labels(maps[1], measure=measure)
    many = RunArrays.of([maps[0], one, maps[2]])
    expected = distances(maps[0], maps, measure=measure, normalized=False)
    assert many.distances(maps[0], normalized=False).tolist() == expected.tolist()
    with pytest.raises(ValueError, match="same measure"):
        RunArrays.of([maps[0], one, Partition.from_labels(maps[2], measure=measure + 1)])


def test_devices_are_checked():
    many = RunArrays.of([np.zeros((2, 3), int)])
    with pytest.raises(ValueError, match="device must be cpu, cuda, cuda:N or auto, got 'tpu'"):
        many.distances(np.zeros((2, 3), int), device="tpu")
    with pytest.raises(TypeError, match="device must be a string"):
        many.distances_many([], device=0)


def fields_of(made):
    return {name: getattr(made, name) for name in made.__match_args__}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"starts": [0, 2, 0, 4]}, ValueError, "starts must be within 0..3, got 4 at index 3"),
        ({"starts": [0, 2, 1, 3]}, ValueError, "starts must begin with 0 in each partition, got 1"),
        ({"starts": [0, 0, 0, 1]}, ValueError, "starts must ascend in each partition, got 0 after"),
        ({"labels": [0, 1, 0, 2]}, ValueError, "labels must be within 0..1, got 2 at index 3"),
        ({"labels": [0, 1, 0, 0]}, ValueError, "labels must hold every region, but region 1 of"),
        ({"labels": [0, 0, 0, 1]}, ValueError, "labels must hold every region, but region 1 of"),
        ({"ends": [2, 5]}, ValueError, "ends must be within 1..4, got 5 at index 1"),
        ({"ends": [2, 3]}, ValueError, "ends must ascend to the number of runs, 4, got [2 3]"),
        ({"ends": [4, 4]}, ValueError, "ends must ascend to the number of runs, 4, got [4 4]"),
        ({"n_regions": [2, 3]}, ValueError, "n_regions must be within 1..2, got 3 at index 1"),
        ({"n_regions": [2, 1]}, ValueError, "labels must be within 0..0 in partition 1, got 1 at"),
        ({"squares": [8, 9]}, ValueError, "squares must be the sums of squared sizes, 10 of"),
        ({"squares": [8.0, 10.0]}, ValueError, "squares must be int64 of shape (2,)"),
        ({"measure": np.ones((1, 4))}, ValueError, "measure must be flat, of shape (4,)"),
    ],
)
def test_the_constructor_names_what_is_wrong(change, error, message):
    sound = fields_of(RunArrays.of([np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])]))
    assert RunArrays(**sound).distances(np.array([[0, 0, 0, 0]]), normalized=False).tolist() == [
        8,
        6,
    ]
    with pytest.raises(error, match=re.escape(message)):
        RunArrays(**{**sound, **change})


def test_a_partition_that_is_not_there_is_refused():
    many = RunArrays.of([np.array([[0, 0, 1, 1]])])
    assert many.partition(0).labels().tolist() == [[0, 0, 1, 1]]
    for i in (-1, 1, 2**31):
        with pytest.raises(ValueError, match=r"i must be within 0\.\.0, got"):
            many.partition(i)
