"""Near-duplicates: time and memory against all pairs compared, and for many equal label maps.

Entries are windows of 128 × 192 out of nuclei images, as in ``index_search``; needs
``HIERSEARCH_NUCLEI``. ``DUPLICATES_SIZE`` names their number, 20000 unless given, and
``DUPLICATES_FOLDER`` a folder that keeps the index for another run. Distances of all pairs are
timed on a sample and scaled up; that the answers are the same is checked on a smaller collection.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np

from benchmarks.index_windows import GRID, collection
from benchmarks.question import NUCLEI, Answer, Question
from benchmarks.tables import Table, shown, span

QUESTION = Question(
    "How long do all groups of near-duplicates among 20,000 partitions take?",
    minutes=10,
    data=(NUCLEI,),
    settings=("DUPLICATES_SIZE", "DUPLICATES_FOLDER"),
)
SIZE = 20_000
CHECKED = 1_500
"""Entries of which all pairs are compared."""
RADII = (0.0, 0.002, 0.005, 0.01, 0.02)
COPIES = (1_000, 10_000, 100_000)
REPEATS = 3


def run() -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        return [_copies(Path(folder)), _windows(Path(folder)), _agreement(Path(folder))]


def _seconds(function) -> tuple[float, object]:
    """Return the median of several timings, and the result."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)), result


def _copies(folder: Path) -> Table:
    """Equal label maps, each number in a process of its own for the memory."""
    from hiersearch.index.index import PartitionIndex

    table = Table(
        "Equal label maps of 48 × 64",
        ("copies", "pairs", "duplicates(0), s", "memory beside what was there, MB", "groups"),
    )
    code = """
        import resource, sys, time
        from hiersearch.index.index import PartitionIndex
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with PartitionIndex.open(sys.argv[1]) as index:
            index.duplicates(0)
        with PartitionIndex.open(sys.argv[2]) as index:
            before, times = peak(), []
            for _ in range(3):
                begin = time.perf_counter()
                groups = index.duplicates(0)
                times.append(time.perf_counter() - begin)
            print(sorted(times)[1], peak() - before, len(groups))
    """
    few = folder / "few"
    with PartitionIndex.create(few, (48, 64)) as index:
        index.add_many([np.zeros((48, 64), np.uint8)] * 10)
    for copies in COPIES:
        path = folder / f"copies-{copies}"
        with PartitionIndex.create(path, (48, 64)) as index:
            index.add_many(np.zeros((48, 64), np.uint8) for _ in range(copies))
        command = [sys.executable, "-c", textwrap.dedent(code), str(few), str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, memory, groups = done.stdout.split()
        table.rows.append(
            (
                f"{copies:,}",
                f"{copies * (copies - 1) // 2:,}",
                shown(float(seconds)),
                shown(float(memory)),
                groups,
            )
        )
    return table


def _windows(folder: Path) -> Table:
    """Windows of nuclei images at several radii, against all pairs compared."""
    from hiersearch.index.index import PartitionIndex
    from hiersearch.metric import RunArrays, run_distances

    size = int(os.environ.get("DUPLICATES_SIZE", SIZE))
    path = Path(os.environ.get("DUPLICATES_FOLDER") or folder) / f"windows-{size}"
    if not path.exists():
        with PartitionIndex.create(path, GRID) as index:
            index.add_many(collection(size), memory=2**30)
    table = Table(
        f"{size:,} windows of {GRID[0]} × {GRID[1]}",
        (
            "radius",
            "groups; entries in them; largest",
            "duplicates, s",
            "pairs",
            "duplicate_pairs, s",
            "pairs that bounds leave (share)",
            "all pairs ÷ duplicates",
        ),
    )
    with PartitionIndex.open(path) as index:
        rng = np.random.default_rng(0)
        ids = rng.choice(index.ids(), 500, replace=False).tolist()
        sample = [index.partition(one) for one in ids]
        arrays = RunArrays.of(sample)
        scan, _ = _seconds(lambda: [run_distances(one, arrays) for one in sample[:20]])
        n_pairs = size * (size - 1) / 2
        everything = scan / (20 * len(sample)) * n_pairs
        index.duplicates(0)
        for radius in RADII:
            seconds, groups = _seconds(lambda r=radius: index.duplicates(r))
            begin = time.perf_counter()
            count = sum(1 for _ in index.duplicate_pairs(radius))
            of_pairs = time.perf_counter() - begin
            left = _candidates(index, radius)
            sizes = [len(group) for group in groups]
            table.rows.append(
                (
                    f"{radius:g}",
                    f"{len(sizes):,}; {sum(sizes):,}; {max(sizes, default=0):,}",
                    shown(seconds),
                    f"{count:,}",
                    shown(of_pairs),
                    f"{left:,} ({100 * left / n_pairs:.3g} %)",
                    shown(everything / seconds),
                )
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.notes.append(
        f"All {n_pairs:,.0f} pairs by run-length scan on two threads: {everything:,.0f} s, scaled "
        f"up from {20 * len(sample):,} pairs. Largest resident memory of the process: {peak:,.0f} "
        "MB."
    )
    return table


def _candidates(index, radius: float) -> int:
    """Count the pairs of entries whose distance cannot be told to be beyond a radius."""
    from hiersearch.index.search.answering import raised
    from hiersearch.index.search.copies import first_copies
    from hiersearch.index.search.joining import TileJoin

    entries = index._entries()
    distinct = entries.live & (first_copies(entries) == np.arange(entries.n))
    join = TileJoin(entries, distinct, raised(radius * float(entries.frame.total) ** 2))
    return sum(firsts.size for firsts, _ in join.candidates())


def _agreement(folder: Path) -> Table:
    """Pairs against all distances of a smaller collection."""
    from hiersearch.index.index import PartitionIndex
    from hiersearch.metric import RunArrays, run_distances

    partitions = list(collection(CHECKED))
    table = Table(
        f"Agreement with the distances of all pairs of {CHECKED:,} entries",
        ("radius", "pairs", "pairs found with the same distance", "found beyond them"),
    )
    arrays = RunArrays.of(partitions)
    raw = np.stack([run_distances(one, arrays, normalized=False) for one in partitions])
    first, second = np.triu_indices(CHECKED, 1)
    scale = float(GRID[0] * GRID[1]) ** 2
    with PartitionIndex.create(folder / "checked", GRID) as index:
        index.add_many(partitions)
        for radius in RADII:
            near = raw[first, second] / scale <= radius
            close = np.stack([first[near], second[near]], axis=1).tolist()
            wanted = {(a, b): int(raw[a, b]) for a, b in close}
            found = {(pair.a, pair.b): pair.rho for pair in index.duplicate_pairs(radius)}
            same = sum(wanted.get(pair) == value for pair, value in found.items())
            table.rows.append(
                (
                    f"{radius:g}",
                    f"{len(wanted):,}",
                    f"{same:,}",
                    f"{len(found.keys() - wanted.keys()):,}",
                )
            )
    return table


def answer(tables: list[Table]) -> Answer:
    windows = tables[1]
    slower = windows.figures("all pairs ÷ duplicates")
    least, most = windows.rows[0][0], windows.rows[-1][0]
    return Answer(
        f"{span(windows.figures('duplicates, s'))} s at radii {least} to {most}",
        f"run-length scan of all pairs {span(slower)} times as long",
    )
