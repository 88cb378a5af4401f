import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import Partition, distance
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
