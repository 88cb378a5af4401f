"""Distances of partitions, hard or soft, to many that are packed as `RunArrays`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.metric import _kernels
from hiersearch.metric.queries import HardQuery, Query, SoftQuery, prepared_query
from hiersearch.partitions.inputs import PartitionLike, as_partition
from hiersearch.partitions.one_measure import under
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.runs import RunArrays

LARGEST_TABLE = 2**22
"""Most cells of a contingency table that is an array; larger ones are sorted keys."""
ROWS_FOR_THREADS = 64
"""How many partitions are worth threads."""


def run_distances(
    query: PartitionLike,
    runs: RunArrays,
    *,
    normalized: bool = True,
    threads: int | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Return the distances ρ of one partition, hard or soft, to packed ones.

    As :func:`hiersearch.metric.distances`, where the same candidates are asked for again and again.

    Parameters
    ----------
    query : Partition, SoftPartition, SoftOutput or integer array
        On the grid of ``runs``; it is taken under their measure.
    runs : RunArrays
        The many.
    normalized : bool
        Divide by M²; else ρ, int64 between hard partitions under measures of integer type.
    threads : int, optional
        How many threads share the work; as many as there are cores where omitted.
    device : str, optional
        What computes: "cpu", "cuda", "cuda:N" or "auto", see
        :func:`hiersearch.device.choice.resolved`.

    Returns
    -------
    array, shape (len(runs),)
        As :func:`run_distance_matrix`.

    Raises
    ------
    TypeError, ValueError
        If the query is no partition or on another grid, or the device is none.

    Notes
    -----
    O(runs of both) for each, for soft queries O(runs · k) after O(pixels · k). A GPU gives the same
    integers, and floating-point numbers within :func:`hiersearch.device.runs.rounding` · M².
    Affinities, and sparse memberships of more than 256 channels, are always left to the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> runs = RunArrays.of([np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])])
    >>> run_distances(np.array([[0, 0, 0, 0]]), runs, normalized=False)
    array([8, 6])
    """
    ready = [_taken(query, runs, "query")]
    found: NDArray[Any] = _matrix(ready, runs, normalized, threads, device)[0]
    return found


def run_distance_matrix(
    queries: Sequence[PartitionLike],
    runs: RunArrays,
    *,
    normalized: bool = True,
    threads: int | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Return the distances ρ of many partitions to packed ones: all at once on a GPU.

    Parameters
    ----------
    queries : sequence of Partition, SoftPartition, SoftOutput or integer array
        On the grid of ``runs``; taken under their measure.
    runs, normalized, threads, device
        As in :func:`run_distances`.

    Returns
    -------
    array, shape (len(queries), len(runs))
        int64 if all distances are exact integers and are not divided, else float64.

    Raises
    ------
    TypeError, ValueError
        As :func:`run_distances`.

    Notes
    -----
    As :func:`run_distances`, for each query.

    Examples
    --------
    >>> import numpy as np
    >>> runs = RunArrays.of([np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])])
    >>> run_distance_matrix([np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]])], runs)
    array([[0.5  , 0.375],
           [0.375, 0.5  ]])
    """
    ready = [_taken(query, runs, f"queries[{i}]") for i, query in enumerate(queries)]
    return _matrix(ready, runs, normalized, threads, device)


def _taken(query: PartitionLike, runs: RunArrays, name: str) -> Any:
    """Return a query under the measure of packed partitions."""
    partition = as_partition(query, name)
    _validate.checked_same_grid(partition.grid, runs.grid, name, "runs")
    return under(partition, runs.measure)


def _matrix(
    queries: list[Any],
    runs: RunArrays,
    normalized: bool,
    threads: int | None,
    device: str | None,
) -> NDArray[Any]:
    """Return the distances of queries that were brought under the measure."""
    rows = _raw_on_device(queries, runs, device)
    for i, query in enumerate(queries):
        if i in rows:
            scale = float(query.total) ** 2
        else:
            prepared = prepared_query(query, runs.measure, prefix=True)
            scale = prepared.scale
            rows[i] = _raw_on_cpu(prepared, runs, threads or os.cpu_count() or 1)
        if normalized:
            rows[i] = rows[i] / scale
    kind = np.result_type(*rows.values()) if rows else np.float64
    matrix = np.empty((len(queries), len(runs)), kind)
    for i, row in rows.items():
        matrix[i] = row
    return matrix


def _raw_on_device(
    queries: list[Any], runs: RunArrays, device: str | None
) -> dict[int, NDArray[Any]]:
    """Return ρ to each partition, of those queries that a device takes."""
    from hiersearch.device.choice import resolved

    rows: dict[int, NDArray[Any]] = {}
    if resolved(device).on_kernels and device != "auto":
        return rows
    from hiersearch.device.distances import distance_matrix, distance_work
    from hiersearch.device.runs import fits

    for hard in (True, False):
        mine = [i for i, q in enumerate(queries) if fits(q) and isinstance(q, Partition) == hard]
        group = [queries[i] for i in mine]
        if not group:
            continue
        chosen = resolved(device, distance_work(group, runs.starts.size, len(runs)))
        if not chosen.on_kernels:
            rows.update(zip(mine, distance_matrix(group, runs, chosen), strict=True))
    return rows


def _raw_on_cpu(query: Query, runs: RunArrays, threads: int) -> NDArray[Any]:
    """Return ρ to each partition, by compiled functions where there is one for the query."""
    if not isinstance(query, (HardQuery, SoftQuery)) or (
        isinstance(query, SoftQuery) and query.prefix is None
    ):
        return np.array([query.rho(runs.partition(i)) for i in range(len(runs))], np.float64)
    overlaps = np.empty(len(runs), runs.squares.dtype)
    if isinstance(query, SoftQuery):
        overlaps = np.empty(len(runs), np.float64)
    threads = threads if len(runs) >= ROWS_FOR_THREADS else 1
    edges = np.linspace(0, len(runs), threads + 1).astype(np.int64).tolist()

    def write(part: tuple[int, int]) -> None:
        if isinstance(query, SoftQuery):
            _soft_overlaps(query, runs, *part, overlaps)
        else:
            _hard_overlaps(query, runs, *part, overlaps)

    if threads == 1:
        write((0, len(runs)))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, itertools.pairwise(edges)))
    distances: NDArray[Any] = query.squares + runs.squares - 2 * overlaps
    return np.maximum(distances, 0.0) if distances.dtype.kind == "f" else distances


def _soft_overlaps(
    query: SoftQuery, runs: RunArrays, first: int, last: int, out: NDArray[Any]
) -> None:
    """Write Σ n_jR² of partitions first..last − 1."""
    if first == last:
        return
    assert query.prefix is not None
    _kernels.dense_overlap_square_sums(
        query.prefix,
        _kernels.ManyRuns(runs.starts, runs.labels, runs.ends, runs.n_regions),
        first,
        last,
        np.empty((int(runs.n_regions[first:last].max()), query.query.n_channels)),
        out,
    )


def _hard_overlaps(
    query: HardQuery, runs: RunArrays, first: int, last: int, out: NDArray[Any]
) -> None:
    """Write Σ n_ij² of partitions first..last − 1."""
    if first == last:
        return
    cells = int(runs.n_regions[first:last].max()) * query.query.n_regions
    if cells > LARGEST_TABLE:
        for i in range(first, last):
            out[i] = query.overlap(runs.partition(i))
        return
    _kernels.overlap_square_sums(
        _kernels.RunList(query.query.run_starts, query.query.run_labels, query.query.n_regions),
        _kernels.ManyRuns(runs.starts, runs.labels, runs.ends, runs.n_regions),
        first,
        last,
        query.query.n_pixels,
        query.prefix,
        np.zeros(cells, query.kind),
        out,
    )
