import re

import numpy as np
import pytest

from hiersearch import Partition, SoftPartition, distances
from hiersearch.metric import run_distances
from hiersearch.partitions.runs import RunArrays


def test_packed_partitions_are_what_went_in():
    maps = [np.array([[0, 0, 1, 1]]), np.array([[5, 3, 3, 5]])]
    runs = RunArrays.of(maps)
    assert len(runs) == 2
    assert (runs.starts.tolist(), runs.ends.tolist()) == ([0, 2, 0, 1, 3], [2, 5])
    assert (runs.n_regions.tolist(), runs.squares.tolist()) == ([2, 2], [8, 8])
    assert [runs.partition(i) == Partition.from_labels(m) for i, m in enumerate(maps)] == [True] * 2


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="at least one"):
        RunArrays.of([])
    with pytest.raises(ValueError, match=r"partitions\[1\]"):
        RunArrays.of([np.zeros((2, 3), int), np.zeros((3, 2), int)])
    with pytest.raises(TypeError, match=r"partitions\[0\] must be a hard partition, got"):
        RunArrays.of([SoftPartition.from_regions(np.full((2, 2, 3), 0.5))])


def test_one_partition_with_a_measure_lends_it_to_all():
    rng = np.random.default_rng(3)
    measure = rng.integers(1, 5, size=(3, 4))
    maps = [rng.integers(0, 3, size=(3, 4)) for _ in range(3)]
    one = Partition.from_labels(maps[1], measure=measure)
    many = RunArrays.of([maps[0], one, maps[2]])
    expected = distances(maps[0], maps, measure=measure, normalized=False)
    assert run_distances(maps[0], many, normalized=False).tolist() == expected.tolist()
    with pytest.raises(ValueError, match="same measure"):
        RunArrays.of([maps[0], one, Partition.from_labels(maps[2], measure=measure + 1)])


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
    assert run_distances(
        np.array([[0, 0, 0, 0]]), RunArrays(**sound), normalized=False
    ).tolist() == [8, 6]
    with pytest.raises(error, match=re.escape(message)):
        RunArrays(**{**sound, **change})


def test_a_partition_that_is_not_there_is_refused():
    many = RunArrays.of([np.array([[0, 0, 1, 1]])])
    assert many.partition(0).labels.tolist() == [[0, 0, 1, 1]]
    for i in (-1, 1, 2**31):
        with pytest.raises(ValueError, match=r"i must be within 0\.\.0, got"):
            many.partition(i)
