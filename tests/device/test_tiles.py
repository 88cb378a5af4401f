import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.device.choice import resolved
from hiersearch.device.tiles import SoftTiles, TileRows, soft_tile_bounds, tile_distances
from hiersearch.index.bounds import _search_kernels, _tile_kernels
from tests.device.places import DEVICES, QUICK

torch = pytest.importorskip("torch")

everywhere = pytest.mark.parametrize("device", DEVICES)
quickly = pytest.mark.parametrize("device", QUICK)


def on_cpu(codes, query, n_diagonal):
    """Return the distances that the CPU's kernel gives."""
    out = np.empty(len(codes), np.int32)
    rows = np.arange(len(codes), dtype=np.int32)
    _tile_kernels.byte_distances(codes, query, n_diagonal, rows, out)
    return out.tolist()


def check_distances(device, seed, n, n_queries, tiles, **options):
    rng = np.random.default_rng(seed)
    n_pairs = tiles * (tiles + 1) // 2
    codes = rng.integers(0, 256, size=(n, n_pairs), dtype=np.uint8)
    asked = rng.integers(0, 256, size=(n_queries, n_pairs), dtype=np.uint8)
    # The largest differences that there can be.
    codes[0], asked[0] = 255, 0
    place = resolved(device)
    rows, queries = (TileRows.of(array, tiles, place) for array in (codes, asked))
    found = tile_distances(rows, queries, place, **options)
    assert found.dtype == torch.int32
    assert found.cpu().numpy().tolist() == [on_cpu(codes, query, tiles) for query in asked]


@quickly
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 90),
    n_queries=st.integers(1, 6),
    tiles=st.sampled_from([1, 6, 24]),
)
def test_distances_are_the_cpus(device, seed, n, n_queries, tiles):
    check_distances(device, seed, n, n_queries, tiles)


@everywhere
@pytest.mark.parametrize(("n", "n_queries", "tiles"), [(1, 1, 1), (70, 3, 24), (65, 5, 6)])
def test_kernels_give_the_cpus_distances(device, n, n_queries, tiles):
    check_distances(device, 0, n, n_queries, tiles)


@quickly
@pytest.mark.parametrize("budget", [1, 5_000, 100_000])
def test_batches_change_nothing(device, budget):
    check_distances(device, 1, 50, 3, 6, budget=budget)


def soft_on_cpu(codes, pairs, spread, sizes, n_diagonal, unit):
    """Return the bounds that the CPU's kernel gives: all entries lie in one block."""
    n = len(codes)
    for array in (codes,):
        array.flags.writeable = False
    none = np.empty((n, 0), np.uint8), np.empty(n, np.float32)
    entries = _search_kernels.EntryTiles(*none, codes, none[1], np.array([n], np.int32))
    rows, bounds = _search_kernels.soft_members_within(
        entries,
        np.zeros(1, np.int32),
        np.empty(0, np.uint8),
        _search_kernels.SoftTileQuery(pairs, sizes, spread, n_diagonal, unit),
        np.inf,
        np.zeros(2, np.int64),
    )
    assert rows.tolist() == list(range(n))
    return bounds


def check_soft(device, seed, n, n_queries, tiles, **options):
    rng = np.random.default_rng(seed)
    n_pairs = tiles * (tiles + 1) // 2
    codes = rng.integers(0, 256, size=(n, n_pairs), dtype=np.uint8)
    unit = float(rng.random() + 0.1)
    sizes = 256 * unit * rng.integers(0, 2, size=n_pairs)
    pairs = rng.random((n_queries, n_pairs)) * 256 * unit
    spread = rng.random((n_queries, n_pairs)) * 0.2 * pairs
    place = resolved(device)
    rows = TileRows.of(codes, tiles, place)
    queries = SoftTiles.of(pairs, spread, sizes, unit, place)
    found = soft_tile_bounds(rows, queries, place, **options).cpu().numpy()
    expected = [
        soft_on_cpu(codes, pairs[q], spread[q], sizes, tiles, unit) for q in range(len(pairs))
    ]
    tolerance = 2 * n_pairs * np.finfo(np.float64).eps
    assert np.allclose(found, expected, rtol=tolerance, atol=0)


@quickly
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    n_queries=st.integers(1, 4),
    tiles=st.sampled_from([1, 6, 24]),
)
def test_soft_bounds_are_the_cpus(device, seed, n, n_queries, tiles):
    check_soft(device, seed, n, n_queries, tiles)


@everywhere
@pytest.mark.parametrize(("n", "n_queries", "tiles"), [(1, 1, 1), (33, 2, 24), (17, 3, 6)])
def test_kernels_give_the_cpus_soft_bounds(device, n, n_queries, tiles):
    check_soft(device, 0, n, n_queries, tiles)


@quickly
@pytest.mark.parametrize("budget", [1, 5_000, 100_000])
def test_batches_change_no_soft_bound(device, budget):
    check_soft(device, 1, 50, 3, 6, budget=budget)


@everywhere
def test_nothing_is_compared_with_nothing(device):
    place = resolved(device)
    none = TileRows.of(np.empty((0, 21), np.uint8), 6, place)
    one = TileRows.of(np.zeros((1, 21), np.uint8), 6, place)
    assert tile_distances(none, one, place).shape == (1, 0)
    assert tile_distances(one, none, place).shape == (0, 1)


@quickly
def test_says_so_where_rows_are_too_long(device):
    place = resolved(device)
    rows = TileRows.of(np.zeros((1, 33_000), np.uint8), 256, place)
    with pytest.raises(ValueError, match="fewer than 32896 pairs, got 33000"):
        tile_distances(rows, rows, place)
