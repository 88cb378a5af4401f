"""Other ways to the nearest partition, as :mod:`benchmarks.questions.index_search` compares them.

Each function takes the entries and their run arrays, and returns the seconds that building took, a
search for the distance of the nearest, and a function that counts the distances (or None).
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.index_windows import GRID


def _tile_vectors(partitions):
    """Pair sums of the middle level as float32 vectors, whose L1 distance is below ρ."""
    from hiersearch.index.bounds.packing import FINEST, MIDDLE, Frame
    from hiersearch.index.search.queries import _triangle

    frame = Frame(GRID, None)
    vectors = []
    for partition in partitions:
        masses = frame.masses(partition).coarser(4 ** (FINEST - MIDDLE))
        pairs = _triangle(masses.pair_sums())
        pairs[frame.tiling.count(MIDDLE) :] *= 2
        vectors.append(pairs)
    return np.array(vectors, np.float32)


def _certified(ask, arrays):
    """Search by tile vectors, asking for more until the next one's bound exceeds the best."""
    from hiersearch.metric import distance

    calls = [0]

    def search(query):
        vector = _tile_vectors([query])
        best, done, wanted = None, 0, 32
        while True:
            bounds, rows = ask(vector, min(wanted, len(arrays)))
            for bound, row in zip(bounds[done:], rows[done:], strict=True):
                # float32 sums of numbers up to 2^20: a relative 1e-4 is ample.
                if best is not None and bound * (1 - 1e-4) - 1000 > best:
                    return best
                calls[0] += 1
                value = distance(query, arrays.partition(int(row)), normalized=False)
                best = value if best is None else min(best, value)
            done, wanted = len(rows), 4 * wanted
            if done == len(arrays):
                return best

    return search, lambda: calls[0]


def faiss_flat(entries, arrays):
    """FAISS Flat L1 on the tile vectors, re-ranked until certified."""
    import faiss

    begin = time.perf_counter()
    flat = faiss.IndexFlat(300, faiss.METRIC_L1)
    flat.add(_tile_vectors(entries))
    seconds = time.perf_counter() - begin

    def ask(vector, k):
        bounds, rows = flat.search(vector, k)
        return bounds[0], rows[0]

    return seconds, *_certified(ask, arrays)


def nmslib_tree(entries, arrays):
    """VP-tree of nmslib, L1 on the tile vectors, re-ranked until certified."""
    import nmslib

    begin = time.perf_counter()
    tree = nmslib.init(method="vptree", space="l1")
    tree.addDataPointBatch(_tile_vectors(entries))
    tree.createIndex({"bucketSize": 50}, print_progress=False)
    seconds = time.perf_counter() - begin

    def ask(vector, k):
        rows, bounds = tree.knnQuery(vector[0], k=k)
        return bounds, rows

    return seconds, *_certified(ask, arrays)


def ball_tree(entries, arrays):
    """BallTree of scikit-learn with ρ as its metric."""
    from sklearn.neighbors import BallTree

    from hiersearch.metric import distance

    calls = [0]
    every = list(entries)

    def metric(x, y):
        calls[0] += 1
        return float(distance(every[int(x[0])], every[int(y[0])], normalized=False))

    begin = time.perf_counter()
    tree = BallTree(np.arange(len(entries), dtype=float)[:, None], metric=metric, leaf_size=10)
    seconds = time.perf_counter() - begin
    calls[0] = 0
    every.append(None)

    def search(query):
        every[-1] = query
        found = tree.query([[len(entries)]], k=1)
        return int(found[0][0, 0])

    return seconds, search, lambda: calls[0]


def _dense_metric():
    """Compile ρ of two label maps of at most 256 regions as a C function for usearch."""
    from numba import carray, cfunc, types

    n = GRID[0] * GRID[1]
    signature = types.float32(types.CPointer(types.int8), types.CPointer(types.int8))

    @cfunc(signature)
    def metric(a, b):
        x, y = carray(a, n), carray(b, n)
        table = np.zeros(65536, np.int32)
        left, right = np.zeros(256, np.int64), np.zeros(256, np.int64)
        joined = 0
        for p in range(n):
            i, j = np.uint8(x[p]), np.uint8(y[p])
            cell = np.int64(i) * 256 + j
            joined += 2 * table[cell] + 1
            table[cell] += 1
            left[i] += 1
            right[j] += 1
        total = 0
        for i in range(256):
            total += left[i] * left[i] + right[i] * right[i]
        return np.float32(total - 2 * joined)

    return metric


def _usearch(entries):
    from usearch.index import CompiledMetric, Index, MetricKind, MetricSignature

    metric = _dense_metric()
    compiled = CompiledMetric(
        pointer=metric.address, kind=MetricKind.Unknown, signature=MetricSignature.ArrayArray
    )
    index = Index(ndim=GRID[0] * GRID[1], metric=compiled, dtype="i8")
    maps = np.array([p.labels.reshape(-1).astype(np.uint8).view(np.int8) for p in entries])
    begin = time.perf_counter()
    index.add(np.arange(len(maps)), maps)
    # The C function must outlive the index.
    return index, metric, maps, time.perf_counter() - begin


def usearch_graph(entries, arrays):
    """HNSW of usearch (approximate) with ρ compiled as its metric."""
    from hiersearch.metric import distance

    index, metric, _, seconds = _usearch(entries)

    def search(query, kept=metric):
        labels = query.labels.reshape(-1).astype(np.uint8).view(np.int8)
        row = int(index.search(labels, 1).keys[0])
        return distance(query, arrays.partition(row), normalized=False)

    return seconds, search, None


def usearch_exact(entries, arrays):
    """Exact scan of usearch with ρ compiled as its metric."""
    from usearch.index import CompiledMetric, MetricKind, MetricSignature
    from usearch.index import search as scan

    from hiersearch.metric import distance

    metric = _dense_metric()
    compiled = CompiledMetric(
        pointer=metric.address, kind=MetricKind.Unknown, signature=MetricSignature.ArrayArray
    )
    maps = np.array([p.labels.reshape(-1).astype(np.uint8).view(np.int8) for p in entries])

    def search(query, kept=metric):
        labels = query.labels.reshape(1, -1).astype(np.uint8).view(np.int8)
        row = int(np.ravel(scan(maps, labels, 1, compiled, exact=True).keys)[0])
        return distance(query, arrays.partition(row), normalized=False)

    return 0.0, search, lambda: 41 * len(entries)
