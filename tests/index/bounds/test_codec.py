"""The run code gives back what it was made of, and never believes what it was not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import Partition
from hiersearch.index.bounds.packing import decoded, run_code
from tests.index.small_collections import GRIDS, random_labels

seeds = st.integers(0, 2**32 - 1)
grids = st.one_of(
    st.sampled_from(GRIDS), st.lists(st.integers(1, 30), min_size=2, max_size=3).map(tuple)
)


def assert_sound(runs, n_regions, n_pixels):
    """Assert that runs are a partition, whichever."""
    starts, labels = runs
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert starts[-1] < n_pixels
    assert labels.min() >= 0
    assert labels.max() < n_regions


def restored(partition):
    """Return a label map from a partition's code and the names of its regions."""
    code, order = run_code(partition)
    runs = decoded(code, partition.n_runs, partition.n_regions, partition.grid)
    assert runs is not None
    assert np.array_equal(runs[0], partition.run_starts)
    lengths = np.diff(runs[0], append=partition.n_pixels)
    return np.repeat(partition.label_values[order][runs[1]], lengths).reshape(partition.grid)


@given(seeds, grids)
def test_any_partition_comes_back(seed, grid):
    rng = np.random.default_rng(seed)
    labels = random_labels(rng, grid)
    assert np.array_equal(restored(Partition.from_labels(labels)), labels)


@pytest.mark.parametrize("n_regions", [1, 2, 255, 256, 257, 70_000])
def test_numbers_of_regions_around_powers_of_two_come_back(n_regions):
    labels = np.random.default_rng(1).permutation(np.arange(300 * 300) % n_regions)
    labels = labels.reshape(300, 300)
    assert np.array_equal(restored(Partition.from_labels(labels)), labels)


@pytest.mark.parametrize("empty_rows", [0, 900, 1000, 1100, 4000])
def test_costly_runs_above_many_equal_rows_fit(empty_rows):
    # Pixel by pixel new regions cost more than is first reserved; so may the rows below them.
    rng = np.random.default_rng(2)
    noise = rng.permutation(4000).reshape(1, 4000)
    labels = np.concatenate([noise, np.zeros((empty_rows, 4000), int)])
    assert np.array_equal(restored(Partition.from_labels(labels)), labels)


def test_edges_that_move_far_between_rows_come_back():
    labels = np.zeros((6, 5000), int)
    for row, edge in enumerate([1, 4999, 3, 2500, 4000, 10]):
        labels[row, edge:] = 1
    assert np.array_equal(restored(Partition.from_labels(labels)), labels)


def test_smooth_outlines_take_less_than_a_byte_a_run():
    y, x = np.mgrid[:128, :192]
    labels = sum((np.hypot(y - 30 * i, x - 45 * i) < 14).astype(int) * (i + 1) for i in range(5))
    partition = Partition.from_labels(labels)
    assert run_code(partition)[0].size < partition.n_runs


@given(seeds, grids, st.integers(1, 3))
def test_a_code_that_was_cut_short_is_refused(seed, grid, cut):
    partition = Partition.from_labels(random_labels(np.random.default_rng(seed), grid))
    code = run_code(partition)[0]
    assert decoded(code[:-cut], partition.n_runs, partition.n_regions, grid) is None


@given(seeds, grids, st.integers(1, 8))
def test_a_damaged_code_is_refused_or_some_partition(seed, grid, flips):
    rng = np.random.default_rng(seed)
    partition = Partition.from_labels(random_labels(rng, grid))
    code = run_code(partition)[0].copy()
    for bit in rng.integers(8 * code.size, size=flips):
        code[bit >> 3] ^= np.uint8(1 << (bit & 7))
    runs = decoded(code, partition.n_runs, partition.n_regions, grid)
    if runs is not None:
        assert_sound(runs, partition.n_regions, partition.n_pixels)


@given(seeds, grids, st.integers(0, 60), st.integers(1, 50), st.integers(1, 12))
def test_bytes_that_nobody_wrote_are_refused_or_some_partition(seed, grid, size, runs, regions):
    code = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    found = decoded(code, runs, regions, grid)
    if found is not None:
        assert_sound(found, regions, int(np.prod(grid)))
