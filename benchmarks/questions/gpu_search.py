"""Exact 10-NN searches of a whole index on a GPU, in batches, against the CPU's.

Entries and queries are windows of large Voronoi diagrams whose regions were joined, as cuts of a
hierarchy join them: windows that overlap are neighbours. Without a GPU the same is run at small
sizes on torch's CPU device, which shows that it works, not how fast it is.
``HIERSEARCH_GPU_INDEX_ENTRIES`` sets how many entries, 1,000,000 on a GPU, or as many as are packed
in 150 s; ``HIERSEARCH_GPU_INDEX`` names a folder that keeps the index for another run.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.devices import best_device, device_name, size_of
from benchmarks.question import Answer, Question
from benchmarks.tables import Table, shown

QUESTION = Question(
    "How many exact 10-NN searches of a whole index a second does a GPU answer?",
    minutes=6,
    packages=("torch",),
    optional=("triton",),
    settings=("HIERSEARCH_GPU_INDEX_ENTRIES", "HIERSEARCH_GPU_INDEX"),
    group="gpu",
)
GRID = (128, 192)
DIAGRAMS, FEWER = 16, 2
"""How many there are on a GPU, and elsewhere."""
SIDE, REGIONS = 512, 900
"""Pixels and regions of a diagram."""
LEFT, WAYS = (40, 800), 12
"""How many regions are left once some were joined: 5 to 80 in a window."""
K = 10
BUILDING_SECONDS = 150
FIRST = 10_000
"""Entries from which it is seen how fast they are packed."""
WINDOWS_AT_ONCE = 512


def run() -> list[Table]:
    from hiersearch.index.index import PartitionIndex

    device = best_device()
    wanted = size_of("HIERSEARCH_GPU_INDEX_ENTRIES", 1_000_000, 200, device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(os.environ.get("HIERSEARCH_GPU_INDEX", folder)) / f"windows-{wanted}"
        diagrams = DIAGRAMS if device.startswith("cuda") else FEWER
        notes = [] if path.exists() else [_built(path, wanted, diagrams)]
        with PartitionIndex.open(path) as index:
            return [_searches(index, device, diagrams, notes)]


@functools.cache
def _label_maps(diagrams: int) -> list[np.ndarray]:
    """Return Voronoi diagrams, each joined in several ways to fewer regions."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    pixels = np.stack(np.indices((SIDE, SIDE)), axis=-1).reshape(-1, 2)
    maps = []
    for _ in range(diagrams):
        points = rng.random((REGIONS, 2)) * SIDE
        diagram = cKDTree(points).query(pixels, workers=-1)[1].reshape(SIDE, SIDE)
        for left in np.geomspace(*LEFT, WAYS).astype(int):
            # Regions around the same one of a few points become one region.
            around = points[rng.choice(REGIONS, left, replace=False)]
            maps.append(cKDTree(around).query(points)[1].astype(np.int16)[diagram])
    return maps


def windows(count: int, seed: int, diagrams: int) -> Iterator:
    """Yield partitions of random windows of some diagrams."""
    from hiersearch.partitions import Partition

    maps = _label_maps(diagrams)

    def some(begin: int) -> list[Partition]:
        rng = np.random.default_rng([seed, begin])
        found = []
        for _ in range(min(WINDOWS_AT_ONCE, count - begin)):
            top, left = (int(rng.integers(SIDE - side + 1)) for side in GRID)
            labels = maps[int(rng.integers(len(maps)))]
            found.append(Partition.from_labels(labels[top : top + GRID[0], left : left + GRID[1]]))
        return found

    begins = range(0, count, WINDOWS_AT_ONCE)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for part in threads.map(some, begins):
            yield from part


def _built(path: Path, wanted: int, diagrams: int) -> str:
    """Make the index; return how long it took."""
    from hiersearch.index.index import PartitionIndex

    with PartitionIndex.create(path, GRID) as index:
        # Kernels are compiled before anything is timed.
        index.add_many(windows(10, 0, diagrams))
        begin = time.perf_counter()
        index.add_many(windows(min(wanted, FIRST), 1, diagrams), memory=2**36)
        rate = len(index) / (time.perf_counter() - begin)
        rest = min(wanted, int(rate * BUILDING_SECONDS)) - len(index)
        if rest > 0:
            index.add_many(windows(rest, 2, diagrams), memory=2**36)
        seconds = time.perf_counter() - begin
        return (
            f"{len(index):,} of {wanted:,} entries were made and packed, in {seconds:.0f} s on "
            f"{os.cpu_count()} cores."
        )


def _searches(index, device: str, diagrams: int, notes: list[str]) -> Table:
    """Figure 3: latency and throughput by size of the batch."""
    table = Table(
        f"Exact {K}-NN among {len(index):,} entries of {GRID[0]} × {GRID[1]} on "
        f"{device_name(device)}",
        (
            "queries a call",
            "a call, ms: median",
            "99th percentile",
            "queries a second",
            "÷ CPU",
            "exact distances a query",
            "equal to the CPU's",
        ),
        notes=notes,
    )
    on_gpu = device.startswith("cuda")
    batches = ((1, 100), (32, 20), (1024, 3)) if on_gpu else ((1, 2), (4, 1))
    asked = list(windows(max(size for size, _ in batches), 3, diagrams))
    sample = asked[: 64 if on_gpu else 4]
    index.search_many(sample[:1], K)
    begin = time.perf_counter()
    expected = index.search_many(sample, K)
    on_cpu = len(sample) / (time.perf_counter() - begin)
    begin = time.perf_counter()
    index.search_many(asked[:1], K, device=device)
    first = time.perf_counter() - begin
    for size, repeats in batches:
        times, found = [], {}
        for repeat in range(repeats):
            chosen = [(repeat * size + i) % len(asked) for i in range(size)]
            begin = time.perf_counter()
            results = index.search_many([asked[i] for i in chosen], K, device=device)
            times.append(time.perf_counter() - begin)
            found.update(zip(chosen, results, strict=True))
        compared = [i for i in range(len(sample)) if i in found]
        right = sum(found[i].neighbours == expected[i].neighbours for i in compared)
        rate = size / float(np.median(times))
        table.rows.append(
            (
                f"{size:,}",
                shown(1e3 * float(np.median(times))),
                shown(1e3 * float(np.percentile(times, 99))),
                shown(rate),
                shown(rate / on_cpu),
                shown(float(np.mean([r.work.exact_distances for r in found.values()]))),
                f"{right} of {len(compared)}",
            )
        )
    spared = np.mean([one.work.exact_distances for one in expected])
    table.notes += [
        f"The CPU answered {on_cpu:,.1f} queries a second on {os.cpu_count()} cores, with "
        f"{spared:,.0f} exact distances each. The first call on the device, which fills its "
        f"memory, took {first:.2f} s; times are of whole calls, queries prepared in them.",
    ]
    return table


def answer(tables: list[Table]) -> Answer:
    (table,) = tables
    many = table.rows[-1]
    rate, ratio = (many[table.column(name)] for name in ("queries a second", "÷ CPU"))
    among, device = table.title.removeprefix(f"Exact {K}-NN ").rsplit(" on ", 1)
    return Answer(
        f"{rate} {among}, on {device}, {many[0]} a call",
        f"CPU kernels: the GPU answers {ratio} times as many",
    )
