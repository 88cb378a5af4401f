import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import Partition, SoftPartition, distance, distances
from hiersearch.metric import run_distance_matrix, run_distances
from hiersearch.partitions.runs import RunArrays


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
    found = run_distances(query, many, normalized=False)
    if kind == "float":
        assert found == pytest.approx(expected)
    else:
        assert found.dtype == np.int64
        assert found.tolist() == expected
    assert run_distances(query, many) == pytest.approx(
        [distance(query, m, measure=measure) for m in maps]
    )


def test_threads_and_tables_too_large_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 40, size=(12, 13)) for _ in range(150)]
    many = RunArrays.of(maps)
    query = rng.integers(0, 30, size=(12, 13))
    expected = [distance(query, m, normalized=False) for m in maps]
    for threads in (1, 2, 5):
        assert run_distances(query, many, normalized=False, threads=threads).tolist() == expected
    monkeypatch.setattr("hiersearch.metric.many_distances.LARGEST_TABLE", 100)
    assert run_distances(query, many, normalized=False).tolist() == expected


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="query and runs must share one grid"):
        run_distances(np.zeros((3, 2), int), RunArrays.of([np.zeros((2, 3), int)]))


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
    assert run_distances(soft, many) == pytest.approx(expected, abs=1e-12)
    sparse = SoftPartition.from_sparse(
        rng.dirichlet(np.ones(2), size=grid).transpose(2, 0, 1),
        rng.integers(0, 5, size=(2, *grid)),
    )
    expected = distances(sparse, maps, measure=measure)
    assert run_distances(sparse, many) == pytest.approx(expected, abs=1e-12)


def test_many_queries_give_the_rows_of_single_ones():
    rng = np.random.default_rng(1)
    maps = [rng.integers(0, 4, size=(6, 7)) for _ in range(70)]
    many = RunArrays.of(maps)
    affinities = SoftPartition.from_affinities(rng.random((1, 6, 7)), [(0, 1)])
    queries = [maps[0], some_soft(rng, (6, 7), 3), affinities, maps[3]]
    for normalized in (True, False):
        found = run_distance_matrix(queries, many, normalized=normalized)
        for row, query in zip(found, queries, strict=True):
            assert row.tolist() == run_distances(query, many, normalized=normalized).tolist()
            assert row == pytest.approx(distances(query, maps, normalized=normalized))
    assert run_distance_matrix(maps[:2], many, normalized=False).dtype == np.int64
    assert run_distance_matrix([], many).shape == (0, 70)


def test_a_device_takes_the_queries_that_fit_and_the_cpu_the_rest():
    rng = np.random.default_rng(2)
    maps = [rng.integers(0, 4, size=(6, 7)) for _ in range(5)]
    many = RunArrays.of(maps)
    affinities = SoftPartition.from_affinities(rng.random((1, 6, 7)), [(0, 1)])
    queries = [maps[0], some_soft(rng, (6, 7), 3), affinities, maps[3]]
    expected = run_distance_matrix(queries, many)
    pytest.importorskip("torch")
    for device in ("cpu", "auto", "cpu:torch"):
        assert run_distance_matrix(queries, many, device=device) == pytest.approx(
            expected, abs=1e-12
        )
        found = run_distances(maps[0], many, normalized=False, device=device)
        assert found.tolist() == run_distances(maps[0], many, normalized=False).tolist()


def test_devices_are_checked():
    many = RunArrays.of([np.zeros((2, 3), int)])
    with pytest.raises(ValueError, match="device must be cpu, cuda, cuda:N or auto, got 'tpu'"):
        run_distances(np.zeros((2, 3), int), many, device="tpu")
    with pytest.raises(TypeError, match="device must be a string"):
        run_distance_matrix([], many, device=0)
