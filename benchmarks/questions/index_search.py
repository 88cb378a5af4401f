"""Exact nearest partitions: distances needed, time, growth and size, against scans and indexes.

Entries are windows of 128 × 192 out of nuclei images, flipped at random: the nuclei and the cuts
of two hierarchies. Queries are cuts of a third hierarchy of windows that are in the collection
("held-out cuts"), and anything from windows of other images ("other images"). Needs
``HIERSEARCH_NUCLEI``; ``INDEX_SIZES`` names the sizes for
growth, the largest of which takes long: 1000,10000,100000 unless given. ``INDEX_FOLDER`` keeps
the indexes for another run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import index_peers
from benchmarks.index_windows import GRID, base_maps, collection, windows
from benchmarks.question import NUCLEI, Answer, Question
from benchmarks.tables import Table, figure, shown

QUESTION = Question(
    "How long does the exact nearest of 20,000 partitions of 128 × 192 take, with how many exact "
    "distances and bytes an entry?",
    minutes=20,
    data=(NUCLEI,),
    packages=("scikit-learn",),
    optional=("faiss-cpu", "nmslib", "usearch"),
    settings=("INDEX_SIZES", "INDEX_FOLDER"),
    in_readme=True,
)

SIZE = 20_000
QUERIES = 100
SMALL = 2_000
"""Entries for peers that call back for each distance."""


def queries(count: int = QUERIES, seed: int = 0):
    """Return held-out cuts of windows that are in the collection, and partitions of others."""
    from hiersearch.partitions import Partition

    rng = np.random.default_rng(seed + 1)
    maps, sources = base_maps("train")
    # So few windows that the smallest collection has them, too.
    held_out = [cut for _, cuts in windows(maps, sources, 60, seed) for cut in cuts]
    chosen = rng.choice(len(held_out), count, replace=False)
    near = [Partition.from_labels(held_out[i]) for i in chosen]
    maps, sources = base_maps("test")
    far = []
    for stored, rest in windows(maps, sources, 2 * count, seed + 2):
        whole = stored + rest
        if whole and len(far) < count:
            far.append(Partition.from_labels(whole[rng.integers(len(whole))]))
    return {"held-out cuts": near, "other images": far}


def timed(function: Callable, values) -> tuple[np.ndarray, list]:
    """Return milliseconds and results of a function on each value, after one that warms up."""
    function(values[0])
    times, results = [], []
    for value in values:
        begin = time.perf_counter()
        results.append(function(value))
        times.append(1e3 * (time.perf_counter() - begin))
    return np.array(times), results


def nearest(distances, k: int) -> list[tuple[int, int]]:
    """Return (distance, number) of the k smallest, ties by number."""
    limit = np.partition(distances, k - 1)[k - 1]
    rows = np.flatnonzero(distances <= limit)
    return sorted((int(distances[i]), int(i)) for i in rows)[:k]


def run() -> Iterator[Table]:
    entries = list(collection(SIZE))
    asked = queries()
    with tempfile.TemporaryDirectory() as folder:
        yield _needed(entries, asked, Path(folder))
        yield _peers(entries, asked)
        yield _hostile(Path(folder))
        yield _pairs_a_second(entries, asked["held-out cuts"])
        yield _growth(asked, Path(folder))


def _built(entries, path: Path):
    from hiersearch.index.index import PartitionIndex

    begin = time.perf_counter()
    index = PartitionIndex.create(path, GRID)
    index.add_many(entries, memory=2**30)
    return index, time.perf_counter() - begin


def _needed(entries, asked, folder: Path) -> Table:
    """Figures 1 and 2: distances needed and time, against both scans."""
    from hiersearch.metric import RunArrays, run_distances

    index, _ = _built(entries, folder / "needed")
    arrays = RunArrays.of(entries)
    dense = [p.labels for p in entries[:: SIZE // 200]]
    table = Table(
        f"Exact search among {SIZE:,} entries, {QUERIES} queries each",
        (
            "queries; k",
            "exact distances, mean (share)",
            "search, ms: median; mean",
            "run-length scan, ms (1 thread; 2)",
            "scan ÷ search: medians; means",
            "dense NumPy scan ÷ search",
            "pruned by: blocks / coarse / middle tiles / pivots / overlap",
        ),
    )
    agreed = 0
    for name, partitions in asked.items():
        for k in (1, 10):
            took, found = timed(lambda q, k=k: index.search(q, k), partitions)
            scans = {
                threads: timed(
                    lambda q, t=threads: run_distances(q, arrays, normalized=False, threads=t),
                    partitions[:20],
                )
                for threads in (1, 2)
            }
            for query, result in zip(partitions, found, strict=True):
                expected = nearest(run_distances(query, arrays, normalized=False), k)
                agreed += [(n.rho, n.id) for n in result] == expected
            slow = timed(lambda q: _dense_scan(q, dense), partitions[:5])[0]
            whole = np.median(slow) * SIZE / len(dense)
            exact = np.mean([r.work.exact_distances for r in found])
            pruned = [
                np.mean([r.work.pruned.get(bound, 0) for r in found])
                for bound in ("blocks", "coarse tiles", "middle tiles", "pivots", "overlap")
            ]
            one = scans[1][0]
            table.rows.append(
                (
                    f"{name}; {k}",
                    f"{exact:.1f} ({100 * exact / SIZE:.3f} %)",
                    f"{shown(np.median(took))}; {shown(np.mean(took))}",
                    f"{shown(np.median(one))}; {shown(np.median(scans[2][0]))}",
                    f"{shown(np.median(one) / np.median(took))}; "
                    f"{shown(np.mean(one) / np.mean(took))}",
                    shown(whole / np.median(took)),
                    " / ".join(f"{p:,.0f}" for p in pruned),
                )
            )
    index.close()
    table.notes.append(
        f"Results equal to the scan's, distances and ids: {agreed} of {4 * QUERIES}. The dense "
        f"scan (`np.bincount` of both label maps) was timed on {len(dense)} entries and scaled up."
    )
    return table


def _dense_scan(query, maps):
    labels = query.labels.reshape(-1)
    a = (np.bincount(labels).astype(np.int64) ** 2).sum()
    found = []
    for other in maps:
        flat = other.reshape(-1)
        k = int(flat.max()) + 1
        n = np.bincount(labels * k + flat).astype(np.int64)
        b = np.bincount(flat).astype(np.int64)
        found.append(a + (b**2).sum() - 2 * (n**2).sum())
    return found


def _peers(entries, asked) -> Table:
    """Other exact ways, by what they can bear."""
    table = Table(
        "Other ways to the exact nearest, held-out cuts",
        (
            "method",
            "entries",
            "building, s",
            "1-NN, ms",
            "distances a query",
            "÷ ours at that size",
            "right",
        ),
    )
    from hiersearch.metric import RunArrays, run_distances

    partitions = asked["held-out cuts"][:40]
    for count, methods in (
        (SIZE, (index_peers.faiss_flat, index_peers.nmslib_tree, index_peers.usearch_exact)),
        (SMALL, (index_peers.ball_tree, index_peers.usearch_graph)),
    ):
        some = entries[:count]
        arrays = RunArrays.of(some)
        expected = [
            nearest(run_distances(q, arrays, normalized=False), 1)[0][0] for q in partitions
        ]
        with tempfile.TemporaryDirectory() as folder:
            index, seconds = _built(some, Path(folder, "peer"))
            ours, found = timed(lambda q, i=index: i.search(q, 1), partitions)
            table.rows.append(
                (
                    "hiersearch",
                    f"{count:,}",
                    shown(seconds),
                    shown(np.median(ours)),
                    shown(np.mean([r.work.exact_distances for r in found])),
                    "1",
                    f"{sum(r[0].rho == e for r, e in zip(found, expected, strict=True))} of "
                    f"{len(partitions)}",
                )
            )
            index.close()
        for method in methods:
            try:
                seconds, search, counted = method(some, arrays)
            except ImportError as error:
                table.notes.append(f"{method.__name__}: {error}.")
                continue
            took, found = timed(search, partitions)
            right = sum(f == e for f, e in zip(found, expected, strict=True))
            calls = "–" if counted is None else shown(counted() / (len(partitions) + 1))
            table.rows.append(
                (
                    method.__doc__.strip().rstrip("."),
                    f"{count:,}",
                    shown(seconds),
                    shown(np.median(took)),
                    calls,
                    shown(np.median(took) / np.median(ours)),
                    f"{right} of {len(partitions)}",
                )
            )
    return table


def _hostile(folder: Path) -> Table:
    """Where no bound helps: label maps of noise, all about equally far from each other."""
    from hiersearch.index.search.queries import index_query
    from hiersearch.partitions import Partition

    rng = np.random.default_rng(0)
    table = Table(
        "Where bounds cannot help: 2,000 label maps of noise",
        ("blocks of noise", "k", "search, ms", "scan of the index, ms", "search ÷ scan"),
    )
    for side in (2, 4, 8):
        shape = (GRID[0] // side, GRID[1] // side)
        ones = np.ones((side, side), int)
        maps = [
            Partition.from_labels(np.kron(rng.integers(0, 4, size=shape), ones))
            for _ in range(2_020)
        ]
        index, _ = _built(maps[:2000], folder / f"noise-{side}")
        (view,) = index._all_views()
        rows = np.arange(2000, dtype=np.int32)

        def scan(query, index=index, view=view, rows=rows):
            return index_query(query, index._frame).exact(view, rows)

        for k in (1, 10):
            found = {"search": [], "scan": []}
            for _ in range(3):
                found["search"] += timed(lambda q, k=k, i=index: i.search(q, k), maps[2000:])[
                    0
                ].tolist()
                found["scan"] += timed(scan, maps[2000:])[0].tolist()
            search, whole = np.median(found["search"]), np.median(found["scan"])
            table.rows.append(
                (f"{side} × {side}", str(k), shown(search), shown(whole), shown(search / whole))
            )
        index.close()
    return table


def _pairs_a_second(entries, partitions) -> Table:
    """Figure 4: exact distances in batches."""
    from hiersearch.metric import RunArrays, run_distances

    chosen = [p for p in entries if 600 <= p.n_runs <= 1000]
    arrays = RunArrays.of(chosen)
    asked = [p for p in partitions if 600 <= p.n_runs <= 1000][:10]
    table = Table(
        "Exact run-length distances in batches",
        ("threads", "pairs a second", "ns a run of both", "GB/s of runs read"),
    )
    for threads in (1, 2):
        took, _ = timed(
            lambda q, t=threads: run_distances(q, arrays, normalized=False, threads=t), 3 * asked
        )
        seconds = np.median(took) / 1e3
        runs = arrays.starts.size + len(chosen) * np.mean([p.n_runs for p in asked])
        table.rows.append(
            (
                str(threads),
                f"{len(chosen) / seconds:,.0f}",
                shown(1e9 * seconds / runs),
                shown(8 * arrays.starts.size / seconds / 1e9),
            )
        )
    copied = np.empty(2**26, np.uint8)
    source = np.ones(2**26, np.uint8)
    speeds = []
    for _ in range(5):
        begin = time.perf_counter()
        np.copyto(copied, source)
        speeds.append(2 * copied.size / (time.perf_counter() - begin) / 1e9)
    table.notes.append(
        f"{len(chosen):,} entries of {np.mean([p.n_runs for p in chosen]):.0f} runs, "
        f"{len(asked)} queries of {np.mean([p.n_runs for p in asked]):.0f}. Memory moves "
        f"{np.median(speeds):.1f} GB/s on one core (copy): the distance is bound by operations."
    )
    return table


def _growth(asked, folder: Path) -> Table:
    """Figures 3 and 5: time, size and rates from 10³ entries up."""
    from hiersearch.index.index import PartitionIndex

    sizes = [int(s) for s in os.environ.get("INDEX_SIZES", "1000,10000,100000").split(",")]
    keep = os.environ.get("INDEX_FOLDER")
    table = Table(
        "Growth",
        (
            "entries",
            "added a second",
            "opening, ms; first search, ms",
            "1-NN held-out cuts, ms: median (90th)",
            "10-NN",
            "1-NN other images",
            "10-NN",
            "exact distances: 1-NN; 10-NN (held-out)",
            "bytes an entry: bounds; runs; other",
        ),
    )
    medians = {}
    for size in sizes:
        path = Path(keep or folder) / f"growth-{size}"
        begin = time.perf_counter()
        if path.exists():
            rate = "kept"
        else:
            spent = 0.0
            with PartitionIndex.create(path, GRID) as index:
                # Only what the index does is timed, not the making of entries.
                for first in range(0, size, 50_000):
                    part = list(collection(min(50_000, size - first), seed=first))
                    begin = time.perf_counter()
                    index.add_many(part, memory=2**31)
                    spent += time.perf_counter() - begin
                index.compact(memory=2**33)
            rate = f"{size / spent:,.0f}"
        begin = time.perf_counter()
        index = PartitionIndex.open(path)
        opened = time.perf_counter() - begin
        begin = time.perf_counter()
        index.search(asked["held-out cuts"][0], 1)
        first_search = time.perf_counter() - begin
        cells, exact = [], []
        for name, partitions in asked.items():
            for k in (1, 10):
                some = partitions[: 100 if size < 10**6 else 40]
                took, found = timed(lambda q, k=k, i=index: i.search(q, k), some)
                cells.append(f"{shown(np.median(took))} ({shown(np.percentile(took, 90))})")
                medians.setdefault((name, k), {})[size] = np.median(took)
                if name == "held-out cuts":
                    exact.append(shown(np.mean([r.work.exact_distances for r in found])))
        share = index.info()["bytes_an_entry"]
        table.rows.append(
            (
                f"{size:,}",
                rate,
                f"{shown(1e3 * opened)}; {shown(1e3 * first_search)}",
                *cells,
                "; ".join(exact),
                f"{share['bounds']}; {share['runs']}; {share['other']}",
            )
        )
        index.close()
        if not keep:
            shutil.rmtree(path)
    if len(sizes) > 1:
        low, high = (10_000 if 10_000 in sizes else sizes[0]), sizes[-1]
        for (name, k), times in medians.items():
            exponent = np.log(times[high] / times[low]) / np.log(high / low)
            table.notes.append(
                f"{name}, {k}-NN: time grows with exponent {exponent:.2f} from {low:,} to {high:,}."
            )
    table.notes.append(f"Label maps as PNG: {_png_bytes():.0f} bytes an entry (Pillow, optimize).")
    return table


def _png_bytes() -> float:
    import io

    from PIL import Image

    sizes = []
    for partition in collection(500):
        buffer = io.BytesIO()
        kind = np.uint8 if partition.n_regions <= 256 else np.uint16
        Image.fromarray(partition.labels.astype(kind)).save(buffer, "png", optimize=True)
        sizes.append(buffer.tell())
    return float(np.mean(sizes))


def answer(tables: list[Table]) -> Answer:
    """Sum up the search for held-out cuts, the scans and peers, and the largest index of all."""
    needed, peers, _, _, growth = tables
    told_of = ("search, ms: median; mean", "exact distances, mean (share)")
    columns = [needed.column(name) for name in told_of]
    one, ten = ([needed.row(f"held-out cuts; {k}")[column] for column in columns] for k in (1, 10))
    (took, exact), (took_ten, exact_ten) = (
        (times.split(";")[0], figure(exact)) for times, exact in (one, ten)
    )
    bounds, runs, _ = growth.rows[-1][-1].split("; ")
    first = needed.row("held-out cuts; 1")
    scan = first[needed.column("scan ÷ search: medians; means")].split(";")[0]
    dense = first[needed.column("dense NumPy scan ÷ search")]
    told = [f"compiled scan of all runs {scan} times as long"]
    told.append(f"dense NumPy scan {dense} times")
    slower = peers.column("÷ ours at that size")
    others = [row for row in peers.rows if row[1] == peers.rows[0][1] and row[0] != "hiersearch"]
    told += [f"{row[0]} {row[slower]} times" for row in others]
    png = next(note for note in growth.notes if "PNG" in note).split(": ")[1].split(" ")[0]
    return Answer(
        f"{took} ms with {exact} exact distances, ten nearest {took_ten} ms with {exact_ten}; "
        f"{bounds} bytes of bounds, {runs} of runs",
        f"{'; '.join(told)}; PNG {png} bytes",
    )
