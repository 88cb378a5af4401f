"""Exact distances and tile bounds on a GPU, against its memory's bandwidth and other ways to them.

Partitions are synthetic: Voronoi diagrams of 40 to 100 regions, whose run counts are like those of
real masks, copied until there are enough. Without a GPU the same is run at small sizes on torch's
CPU device, which shows that it works, not how fast it is. ``HIERSEARCH_GPU_PARTITIONS`` and
``HIERSEARCH_GPU_ENTRIES`` set the sizes: 100,000 and 1,000,000 on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.devices import best_device, device_name, seconds, size_of
from benchmarks.question import Answer, Question
from benchmarks.tables import Table, shown

QUESTION = Question(
    "How many exact distances a second does a GPU take, for a soft query of 21 channels?",
    minutes=4,
    packages=("torch",),
    optional=("triton", "faiss-cpu"),
    settings=("HIERSEARCH_GPU_PARTITIONS", "HIERSEARCH_GPU_ENTRIES"),
    group="gpu",
)

CHANNELS = 21
BASES = 100
"""Distinct partitions of a grid, which are copied."""
GRIDS = (((128, 192), 40), ((512, 512), 100))


def run() -> Iterator[Table]:
    device = best_device()
    bandwidth = _bandwidth(device)
    yield _distances(device, bandwidth)
    yield _tile_bounds(device, bandwidth)
    yield _algorithms(device)


def _bandwidth(device: str) -> float:
    """Return bytes a second that a large copy reads and writes within the device's memory."""
    import torch

    from hiersearch.device.choice import resolved

    size = 2**30 if device.startswith("cuda") else 2**26
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=resolved(device).torch)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device)


def voronoi(grid: tuple[int, int], regions: int, seed: int) -> np.ndarray:
    """Return the label map of random points' nearest pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(side, dtype=np.float32) for side in grid)
    nearest = np.full(grid, np.inf, np.float32)
    labels = np.zeros(grid, np.int32)
    for region, (y, x) in enumerate(rng.random((regions, 2)) * grid):
        squared = (rows[:, None] - np.float32(y)) ** 2 + (columns - np.float32(x)) ** 2
        closer = squared < nearest
        nearest[closer] = squared[closer]
        labels[closer] = region
    return labels


def soft_query(grid: tuple[int, int]):
    """Return a soft partition of 21 smooth channels."""
    from scipy.ndimage import gaussian_filter

    from hiersearch.partitions import SoftPartition

    rng = np.random.default_rng(0)
    fields = [gaussian_filter(rng.standard_normal(grid), 8) for _ in range(CHANNELS)]
    scores = np.exp(24 * np.stack(fields))
    return SoftPartition.from_regions((scores / scores.sum(axis=0)).astype(np.float32))


def _copied(runs, copies: int):
    """Return region runs so many times over, each at a place of its own in memory."""
    import torch

    from hiersearch.device.runs import RegionRuns

    def edges(values):
        shifts = torch.arange(copies, device=values.device)[:, None] * values[-1]
        return torch.cat([(values[:-1] + shifts).reshape(-1), values[-1:] * copies])

    return RegionRuns(
        runs.n_pixels,
        runs.starts.repeat(copies),
        runs.stops.repeat(copies),
        edges(runs.region_edges),
        edges(runs.edges),
        runs.squares.repeat(copies),
    )


def _distances(device: str, bandwidth: float) -> Table:
    """Figure 1, and the dense peer of figure 4."""
    import torch

    from hiersearch.device.choice import resolved
    from hiersearch.device.distances import pair_distances
    from hiersearch.device.runs import GridRuns, RegionRuns, device_queries, rounding
    from hiersearch.metric import RunArrays, run_distances
    from hiersearch.metric.queries import prepared_query
    from hiersearch.partitions import Partition

    place = resolved(device)
    wanted = size_of("HIERSEARCH_GPU_PARTITIONS", 100_000, 100, device)
    table = Table(
        f"One soft query of {CHANNELS} channels against stored partitions, on "
        f"{device_name(device)}",
        (
            "grid",
            "partitions; runs",
            "distances a second",
            "share of bandwidth: rows gathered; runs alone",
            "query prepared, ms",
            "from host memory, a second",
            "CPU, 2 threads, a second",
            "÷ CPU",
            "dense one-hot in torch ÷ ours",
            "apart",
        ),
    )
    for grid, regions in GRIDS:
        bases = min(BASES, wanted)
        maps = [voronoi(grid, regions, seed) for seed in range(bases)]
        parts = [Partition.from_labels(labels) for labels in maps]
        many = RunArrays.of(parts)
        soft = soft_query(grid)
        base = RegionRuns.of(GridRuns.of(many, place))
        runs = _copied(base, wanted // bases)
        queries = device_queries([soft], None, place)
        rows = torch.arange(len(runs), device=place.torch)
        numbers = torch.zeros_like(rows)

        def ours(queries=queries, runs=runs, numbers=numbers, rows=rows):
            return pair_distances(queries, runs, numbers, rows, place, algorithm="gathers")

        took = seconds(ours, device)
        bounds = 8 * (runs.starts.numel() + runs.region_edges.numel())
        gathered = 16 * queries.sums.shape[2] * runs.starts.numel()
        prepared = seconds(lambda soft=soft: device_queries([soft], None, place), device)
        ready = prepared_query(soft, None, prefix=True)
        on_cpu = seconds(lambda many=many, q=ready: many._raw_on_cpu(q, 2), "cpu", 3) / bases
        stored = RunArrays.of(parts * min(20, wanted // bases))
        streamed = seconds(
            lambda stored=stored, soft=soft: run_distances(soft, stored, device=device), device, 3
        )
        expected = run_distances(soft, many, normalized=False)
        apart = np.abs(ours()[:bases].cpu().numpy() - expected).max() / soft.total**2
        allowed = rounding(soft.n_pixels, int(many.n_regions.max()), CHANNELS)
        assert apart <= allowed
        dense = _dense(maps, soft, place.torch, device)
        each = took / len(runs)
        table.rows.append(
            (
                " × ".join(map(str, grid)),
                f"{len(runs):,}; {runs.starts.numel() / len(runs):,.0f}",
                shown(1 / each),
                f"{(bounds + gathered) / took / bandwidth:.0%}; {bounds / took / bandwidth:.1%}",
                shown(1e3 * prepared),
                shown(len(stored) / streamed),
                shown(1 / on_cpu),
                shown(on_cpu / each),
                shown(dense / each),
                f"{apart:.1e} of {allowed:.1e}",
            )
        )
        del runs
    table.notes += [
        f"Copying moves {bandwidth / 1e9:,.0f} GB/s. Distances a second are of partitions that "
        "are kept on the device. They read the bounds of runs, and for each run two rows of prefix "
        "sums, which mostly lie in the cache: the share counts both, then the bounds alone.",
        "From host memory: the whole call, with the query's prefix sums, of up to 2,000 "
        f"partitions. On the CPU: {BASES} partitions, without its prefix sums. "
        "Apart: largest difference to the CPU, as a share of M², and what is allowed.",
    ]
    return table


def _dense(maps, soft, here, device: str) -> float:
    """Return what a distance takes by a one-hot matrix product in single precision."""
    import torch

    sample = maps if device.startswith("cuda") else maps[:4]
    labels = torch.tensor(np.stack(sample).reshape(len(sample), -1), device=here)
    values = torch.tensor(soft.values, dtype=torch.float32, device=here).T.contiguous()
    regions = int(labels.max()) + 1
    at_once = max(1, 2**28 // (regions * labels.shape[1]))

    def overlaps():
        found = []
        for part in labels.long().split(at_once):
            members = torch.zeros((len(part), regions, part.shape[1]), device=here)
            members.scatter_(1, part[:, None, :], 1.0)
            found.append((members @ values).square().sum((1, 2)))
        return torch.cat(found)

    return seconds(overlaps, device, 3) / len(labels)


def _tile_bounds(device: str, bandwidth: float) -> Table:
    """Figure 2, and FAISS of figure 4."""
    import torch

    from hiersearch.device.choice import resolved
    from hiersearch.device.tiles import SoftTiles, TileRows, soft_tile_bounds, tile_distances

    place = resolved(device)
    n = size_of("HIERSEARCH_GPU_ENTRIES", 1_000_000, 10_000, device)
    pairs, diagonal = 300, 24
    made = torch.Generator(device=place.torch).manual_seed(0)

    def some(count):
        codes = torch.randint(
            0, 256, (count, pairs), dtype=torch.uint8, device=place.torch, generator=made
        )
        return TileRows.from_tensor(codes, diagonal)

    rows = some(n)
    table = Table(
        f"Tile bounds of {n:,} entries of {pairs} bytes, on {device_name(device)}",
        ("bounds", "queries", "ms", "share of bandwidth", "bounds a second"),
    )
    for count in (1, 32):
        asked = some(count)
        numbers = np.random.default_rng(0).random((2, count, pairs)) * 255
        soft = SoftTiles.of(numbers[0], 0.1 * numbers[1], np.full(pairs, 255.0), 1.0, place)
        ways = {
            ("hard", 4): lambda asked=asked: tile_distances(rows, asked, place),
            ("soft", 8): lambda soft=soft: soft_tile_bounds(rows, soft, place),
        }
        for (name, size), way in ways.items():
            took = seconds(way, device)
            read = rows.codes.numel() + size * n * count
            table.rows.append(
                (
                    name,
                    str(count),
                    shown(1e3 * took),
                    f"{read / took / bandwidth:.0%}",
                    shown(n * count / took),
                )
            )
    table.notes += [
        f"Copying moves {bandwidth / 1e9:,.0f} GB/s; counted are each entry's bytes once and each "
        "bound that is written.",
        _faiss_note(rows, device),
    ]
    return table


def _faiss_note(rows, device: str) -> str:
    """Return what FAISS takes for the nearest of the same rows under L1, where it can."""
    try:
        import faiss
    except ImportError:
        return "FAISS is not installed."
    vectors = rows.codes[:, : rows.n_pairs].float().cpu().numpy()
    vectors[:, rows.n_diagonal :] *= 2
    index: Any = faiss.IndexFlat(vectors.shape[1], faiss.METRIC_L1)
    name = "FAISS Flat L1 on the CPU"
    if device.startswith("cuda"):
        if not getattr(faiss, "get_num_gpus", lambda: 0)():
            return f"The installed FAISS ({faiss.__version__}) has no GPU index."
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
        name = "FAISS GPU Flat L1"
    index.add(vectors)
    took = [
        (count, 1e3 * seconds(lambda c=count: index.search(vectors[:c], 128), "cpu", 3))
        for count in (1, 32)
    ]
    times = ", ".join(f"{shown(ms)} ms for {count}" for count, ms in took)
    return (
        f"{name}, the 128 nearest of these rows: {times} queries, before the exact distances that "
        "they must be ranked by."
    )


def _algorithms(device: str) -> Table:
    """Which algorithm wins, by count of bytes and by measurement."""
    import torch

    from hiersearch.device.choice import resolved
    from hiersearch.device.runs import GridRuns, RegionRuns, device_queries
    from hiersearch.device.soft_overlaps import bytes_moved, chosen_algorithm, soft_overlaps
    from hiersearch.metric import RunArrays
    from hiersearch.partitions import Partition, SoftPartition

    place = resolved(device)
    n = 256 if place.is_gpu else 8
    grid = (128, 192)
    names = ("gathers", "products", "segments")
    table = Table(
        f"Algorithms of soft distances, 128 × 192 pixels, on {device_name(device)}",
        (
            "cell; regions; channels",
            "runs",
            *(f"{name}: µs; MB counted" for name in names),
            "least",
        ),
        notes=[
            "Label maps are square cells of random regions. Counted: the bytes that are read and "
            "written, see docs/device.md; the least by count is what is chosen."
        ],
    )
    rng = np.random.default_rng(0)
    for cell, regions, channels in (
        (16, 40, 21),
        (4, 40, 21),
        (2, 40, 21),
        (1, 40, 21),
        (1, 2, 21),
        (1, 200, 21),
        (4, 40, 4),
        (4, 40, 100),
    ):
        fine = [
            np.kron(
                rng.integers(0, regions, size=(grid[0] // cell, grid[1] // cell)),
                np.ones((cell, cell), np.int64),
            )
            for _ in range(n)
        ]
        many = RunArrays.of([Partition.from_labels(labels) for labels in fine])
        values = np.moveaxis(rng.dirichlet(np.ones(channels), size=grid), -1, 0)
        queries = device_queries([SoftPartition.from_regions(values)], None, place)
        runs = RegionRuns.of(GridRuns.of(many, place))
        rows = torch.arange(n, device=place.torch)
        size = (many.starts.size / n, float(many.n_regions.mean()), channels, grid[0] * grid[1])
        took, shares = {}, []
        for name in names:
            took[name] = seconds(
                lambda name=name, q=queries, r=runs, rows=rows: soft_overlaps(
                    q, r, torch.zeros_like(rows), rows, place, algorithm=name
                ),
                device,
                3,
            )
            counted = bytes_moved(name, *size, fused=place.on_triton)
            shares.append(f"{shown(1e6 * took[name] / n)}; {shown(counted / 1e6)}")
        chosen = chosen_algorithm(*size, fused=place.on_triton)
        best = min(took, key=lambda name: took[name])
        table.rows.append(
            (
                f"{cell}; {regions}; {channels}",
                f"{size[0]:,.0f}",
                *shares,
                f"{best}; by count {chosen}",
            )
        )
    return table


def answer(tables: list[Table]) -> Answer:
    table = tables[0]
    device = table.title.rpartition(", on ")[2]

    def of(column: str) -> str:
        return "; ".join(table.figures(column))

    grids = "; ".join(row[0] for row in table.rows)
    return Answer(
        f"{of('distances a second')} ({grids}) on {device}",
        f"two threads of the CPU {of('CPU, 2 threads, a second')}; dense one-hot in torch "
        f"{of('dense one-hot in torch ÷ ours')} times as long",
    )
