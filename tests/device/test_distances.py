import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import Partition, SoftPartition, distances
from hiersearch.device import hard_overlaps, soft_overlaps
from hiersearch.device.choice import resolved
from hiersearch.device.distances import distance_matrix, pair_distances
from hiersearch.device.runs import GridRuns, RegionRuns, device_queries, fits, rounding
from hiersearch.partitions.one_measure import under
from hiersearch.partitions.runs import RunArrays
from tests.device.places import DEVICES, INTERPRETER, QUICK
from tests.exploration import seeds

torch = pytest.importorskip("torch")

KINDS = ["none", "integer", "float"]

everywhere = pytest.mark.parametrize("device", DEVICES)
quickly = pytest.mark.parametrize("device", QUICK)


def interpreted(test):
    """Run a test in Triton's interpreter, on few problems."""
    for name, values in (("kind", KINDS), ("seed", seeds(2))):
        test = pytest.mark.parametrize(name, values)(test)
    return pytest.mark.parametrize("device", INTERPRETER)(test)


problems = given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))


def some_measure(rng, grid, kind):
    if kind == "none":
        return None
    if kind == "integer":
        return rng.integers(0, 5, size=grid) + (rng.random(grid) < 0.1)
    return rng.random(grid) * 10.0 ** rng.integers(-9, 9)


def some_problem(seed, kind):
    """Return partitions, hard queries and soft queries of one small grid, under one measure."""
    rng = np.random.default_rng(seed)
    grid = tuple(rng.integers(1, 8, size=2 + seed % 2).tolist())
    measure = some_measure(rng, grid, kind)
    if measure is not None:
        measure.reshape(-1)[0] = 1
    maps = [rng.integers(0, rng.integers(1, 7), size=grid) for _ in range(int(rng.integers(1, 6)))]
    parts = [Partition.from_labels(labels, measure=measure) for labels in maps]
    many = RunArrays.of(parts)
    hard = [
        Partition.from_labels(rng.integers(0, 4, size=grid), measure=measure)._under(many.measure)
        for _ in range(2)
    ]
    soft = [some_soft(rng, grid, k, measure) for k in (1, int(rng.integers(2, 9)))]
    return parts, many, hard, soft


def some_soft(rng, grid, k, measure):
    values = rng.dirichlet(np.full(k, 0.3), size=grid)
    return SoftPartition.from_regions(np.moveaxis(values, -1, 0), measure=measure)


def brought_under(queries, many):
    return [under(query, many.measure) for query in queries]


def on_device(queries, many, device, **options):
    return distance_matrix(brought_under(queries, many), many, resolved(device), **options)


def close(found, expected, many, channels):
    """Say whether distances differ by no more than they may."""
    total = np.prod(many.grid) if many.measure is None else float(many.measure.sum())
    cells = rounding(int(np.prod(many.grid)), int(many.n_regions.max()), channels)
    return np.abs(found - expected).max() <= cells * float(total) ** 2


def check_hard(device, seed, kind):
    parts, many, hard, _ = some_problem(seed, kind)
    found = on_device(hard, many, device)
    expected = np.array([distances(query, parts, normalized=False) for query in hard])
    assert found.dtype == expected.dtype
    if kind == "float":
        assert close(found, expected, many, 4)
    else:
        assert found.tolist() == expected.tolist()


def check_soft(device, seed, kind):
    parts, many, _, soft = some_problem(seed, kind)
    found = on_device(soft, many, device)
    expected = np.array([distances(query, parts, normalized=False) for query in soft])
    assert found.dtype == np.float64
    assert close(found, expected, many, 8)


@quickly
@problems
def test_distances_of_hard_queries_are_the_cpus(device, seed, kind):
    check_hard(device, seed, kind)


@interpreted
def test_kernels_give_the_cpus_distances_of_hard_queries(device, seed, kind):
    check_hard(device, seed, kind)


@quickly
@problems
def test_distances_of_soft_queries_are_the_cpus_within_the_bound(device, seed, kind):
    check_soft(device, seed, kind)


@interpreted
def test_kernels_give_the_cpus_distances_of_soft_queries(device, seed, kind):
    check_soft(device, seed, kind)


@quickly
@problems
def test_all_algorithms_agree(device, seed, kind):
    _, many, _, soft = some_problem(seed, kind)
    place = resolved(device)
    queries = device_queries(brought_under(soft[1:], many), many.measure, place)
    runs = RegionRuns.of(GridRuns.of(many, place))
    rows = torch.arange(len(many), device=place.torch)
    numbers = torch.zeros_like(rows)
    gathers, segments, products = (
        soft_overlaps.soft_overlaps(queries, runs, numbers, rows, place, algorithm=name).cpu()
        for name in ("gathers", "segments", "products")
    )
    # Triton's kernel adds up squares in another order.
    assert gathers == pytest.approx(segments, rel=1e-14)
    assert gathers == pytest.approx(products, rel=1e-12)


@everywhere
def test_a_real_size_keeps_the_bound_and_equal_partitions_their_tie(device):
    rng = np.random.default_rng(1)
    grid = (64, 96) if device != "cpu:triton" else (24, 32)
    n = 40 if device != "cpu:triton" else 5
    blocks = np.kron(rng.integers(0, 9, size=(n, grid[0] // 8, grid[1] // 8)), np.ones((1, 8, 8)))
    maps = [m.astype(np.int64) for m in blocks]
    # The same partition under other labels, numbered in another order.
    maps.append(100 - maps[0])
    soft = some_soft(rng, grid, 21, None)
    hard = Partition.from_labels(maps[1])
    many = RunArrays.of([Partition.from_labels(m) for m in maps])
    found = on_device([soft], many, device)[0]
    expected = distances(soft, maps, normalized=False)
    assert close(found, expected, many, 21)
    assert on_device([hard], many, device)[0, 1] == 0
    assert found[0] == pytest.approx(found[-1], rel=1e-15)


@everywhere
@pytest.mark.parametrize("seed", seeds(2))
def test_pairs_in_any_order_are_those_of_the_matrix(device, seed):
    _, many, hard, soft = some_problem(seed, "integer")
    place = resolved(device)
    rng = np.random.default_rng(seed)
    numbers = torch.from_numpy(rng.integers(0, 2, size=7)).to(place.torch)
    rows = torch.from_numpy(rng.integers(0, len(many), size=7)).to(place.torch)
    grid_runs = GridRuns.of(many, place)
    for queries, runs in ((hard, grid_runs), (soft, RegionRuns.of(grid_runs))):
        prepared = device_queries(brought_under(queries, many), many.measure, place)
        found = pair_distances(prepared, runs, numbers, rows, place)
        matrix = on_device(queries, many, device)
        expected = matrix[numbers.cpu().numpy(), rows.cpu().numpy()]
        assert found.cpu().numpy().tolist() == expected.tolist()
        none = torch.empty(0, dtype=torch.int64, device=place.torch)
        assert pair_distances(prepared, runs, none, none, place).numel() == 0


@quickly
def test_what_does_not_fit_at_once_is_streamed_through(device):
    rng = np.random.default_rng(2)
    maps = [rng.integers(0, 4, size=(6, 5)) for _ in range(9)]
    many = RunArrays.of([Partition.from_labels(m) for m in maps])
    hard = [Partition.from_labels(rng.integers(0, 3, size=(6, 5))) for _ in range(3)]
    soft = [some_soft(rng, (6, 5), k, None) for k in (3, 5, 4)]
    for queries in (hard, soft):
        whole = on_device(queries, many, device)
        for budget in (1, 20_000, 100_000):
            assert on_device(queries, many, device, budget=budget).tolist() == whole.tolist()


@everywhere
def test_running_out_of_memory_changes_nothing(device, monkeypatch):
    rng = np.random.default_rng(3)
    maps = [rng.integers(0, 4, size=(6, 5)) for _ in range(9)]
    many = RunArrays.of([Partition.from_labels(m) for m in maps])
    soft, hard = [some_soft(rng, (6, 5), 3, None)], [Partition.from_labels(maps[0])]
    expected = [on_device(queries, many, device).tolist() for queries in (soft, hard)]
    failures = []

    def failing(compute):
        def tried(queries, runs, numbers, rows):
            if rows.numel() > 2:
                failures.append(rows.numel())
                raise torch.cuda.OutOfMemoryError("out of memory")
            return compute(queries, runs, numbers, rows)

        return tried

    for module, names in (
        (soft_overlaps, ("_gathered", "_in_one_kernel", "_segmented", "_products")),
        (hard_overlaps, ("_by_sorting", "_in_tables")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, failing(getattr(module, name)))
    assert [on_device(queries, many, device).tolist() for queries in (soft, hard)] == expected
    assert len(failures) >= 4


@everywhere
def test_tables_too_large_change_nothing(device, monkeypatch):
    rng = np.random.default_rng(4)
    maps = [rng.integers(0, 20, size=(6, 7)) for _ in range(4)]
    many = RunArrays.of([Partition.from_labels(m) for m in maps])
    expected = on_device([Partition.from_labels(maps[1])], many, device).tolist()
    monkeypatch.setattr(hard_overlaps, "LARGEST_TABLE", 100)
    assert on_device([Partition.from_labels(maps[1])], many, device).tolist() == expected


@everywhere
def test_sparse_queries_are_made_dense_if_their_channels_are_few(device):
    rng = np.random.default_rng(5)
    values = rng.dirichlet(np.ones(2), size=(5, 6)).transpose(2, 0, 1)
    channels = rng.integers(0, 7, size=values.shape)
    few = SoftPartition.from_sparse(values, channels, n_channels=7)
    maps = [rng.integers(0, 4, size=(5, 6)) for _ in range(4)]
    many = RunArrays.of([Partition.from_labels(m) for m in maps])
    assert fits(few)
    assert not fits(SoftPartition.from_sparse(values, channels, n_channels=10_000))
    found = on_device([few], many, device)[0]
    assert found == pytest.approx(distances(few, maps, normalized=False))


@quickly
def test_the_algorithm_with_the_fewest_bytes_is_chosen(device, monkeypatch):
    used = []
    products = soft_overlaps._products
    monkeypatch.setattr(
        soft_overlaps, "_products", lambda *a: (used.append("products"), products(*a))[1]
    )
    rng = np.random.default_rng(6)
    soft = some_soft(rng, (12, 12), 40, None)
    checks = np.indices((12, 12)).sum(axis=0) % 2
    for labels, expected in ((checks, ["products"]), (checks[:, [0] * 12], [])):
        found = on_device([soft], RunArrays.of([Partition.from_labels(labels)]), device)[0]
        assert used == expected
        assert found == pytest.approx(distances(soft, [labels], normalized=False), rel=1e-12)
        used.clear()
