"""Exact distances on a device: of pairs of queries and partitions there, or many to many."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.device.batches import batch_size, free_bytes, halving, streamed
from hiersearch.device.choice import Device, DeviceWork
from hiersearch.device.hard_overlaps import hard_overlaps
from hiersearch.device.runs import (
    GridRuns,
    HardQueries,
    RegionRuns,
    SoftQueries,
    device_queries,
    grid_part,
)
from hiersearch.device.soft_overlaps import Algorithm, soft_overlaps
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.runs import RunArrays

if TYPE_CHECKING:
    from torch import Tensor

HARD_SECONDS = 5e-9
"""What the CPU's kernels take for a run of either side, on one core, as measured."""
SOFT_SECONDS = 2e-9
"""What they take for a run and a channel, on one core: the lower end of what was measured."""
PREFIX_SECONDS = 1.5e-9
"""What they take for the prefix sum of a pixel and a channel, on one core, as measured."""
BYTES_A_RUN = 64
"""What a run takes on a device while runs are sorted by region."""
PAIRS_AT_ONCE = 2**22
"""Pairs that are numbered at once."""


def pair_distances(
    queries: HardQueries | SoftQueries,
    runs: GridRuns | RegionRuns,
    query_numbers: Tensor,
    rows: Tensor,
    device: Device,
    *,
    algorithm: Algorithm | None = None,
    budget: int | None = None,
) -> Tensor:
    """Return ρ of pairs of a query and a partition, not divided by M².

    Parameters
    ----------
    queries : HardQueries or SoftQueries
        From :func:`hiersearch.device.runs.device_queries`.
    runs : GridRuns or RegionRuns
        The partitions: grid runs for hard queries, region runs for soft ones.
    query_numbers, rows : int64 tensors, shape (pairs,)
        The query and the partition of each pair.
    device : Device
        Where all of these are.
    algorithm : str, optional
        For soft queries: the one with the fewest bytes where omitted.
    budget : int, optional
        Most bytes that a batch may take.

    Returns
    -------
    tensor, shape (pairs,)
        int64, exact, between hard partitions under a measure of integer type; else float64, within
        :func:`hiersearch.device.runs.rounding` of what the CPU's kernels give.

    Notes
    -----
    O(runs · k) a pair for soft queries, O(runs of both · log runs) for hard ones.
    """
    if isinstance(queries, HardQueries):
        assert isinstance(runs, GridRuns)
        overlaps = hard_overlaps(queries, runs, query_numbers, rows, device, budget=budget)
        squares = queries.runs.squares
    else:
        assert isinstance(runs, RegionRuns)
        overlaps = soft_overlaps(
            queries, runs, query_numbers, rows, device, algorithm=algorithm, budget=budget
        )
        squares = queries.squares
    distances = squares[query_numbers] + runs.squares[rows] - 2 * overlaps
    # A sum of squares below zero can only be rounding: integers make none.
    return distances.clamp_min(0.0) if distances.is_floating_point() else distances


def distance_matrix(
    queries: Sequence[Any], many: RunArrays, device: Device, *, budget: int | None = None
) -> NDArray[Any]:
    """Return ρ of each query to each partition, not divided by M².

    What does not fit into the device's memory at once is streamed through it.

    Parameters
    ----------
    queries : sequence of Partition, or of Memberships that fit a device
        All hard or all soft, on the grid and under the measure of ``many``.
    many : RunArrays
        The partitions.
    device : Device
        Not the CPU's own kernels.
    budget : int, optional
        Most bytes of the device's memory to take; as much as is free where omitted.

    Returns
    -------
    array, shape (queries, partitions)
        As :func:`pair_distances`.
    """
    free = free_bytes(device, budget)
    hard = isinstance(queries[0], Partition)
    whole = hard and many.squares.dtype.kind == "i"
    out = np.empty((len(queries), len(many)), np.int64 if whole else np.float64)

    def work(begin: int, end: int) -> None:
        prepared = device_queries(queries[begin:end], many.measure, device)
        for first, last, runs in _parts(many, hard, device, free // 8):
            found = _all_pairs(prepared, runs, device, max(1, free // 2))
            out[begin:end, first:last] = found.reshape(end - begin, last - first)

    size = batch_size(device, _query_bytes(queries[0]), len(queries), max(1, free // 4))
    for _ in halving(work, len(queries), size):
        pass
    return out


def distance_work(queries: Sequence[Any], n_runs: int, n: int) -> DeviceWork:
    """Count what the distances of queries to n partitions with so many runs in all take."""
    cores = os.cpu_count() or 1
    seconds, sent, moved = 0.0, 8.0 * n_runs, 0.0
    for query in queries:
        if isinstance(query, Partition):
            both = n_runs + query.n_runs * n
            seconds += both * HARD_SECONDS / cores
            sent += 8.0 * query.n_runs
            moved += 64.0 * both
        else:
            cells, values = n_runs * query.n_channels, query.n_pixels * query.n_channels
            # The CPU makes prefix sums, too, on one core.
            seconds += cells * SOFT_SECONDS / cores + values * PREFIX_SECONDS
            sent += 4.0 * values
            moved += 16.0 * cells + 48.0 * values
    return DeviceWork(seconds, sent, moved)


def _query_bytes(query: Any) -> float:
    """Return how many bytes a query takes on a device while it is prepared there."""
    if isinstance(query, Partition):
        return 24.0 * query.n_runs
    width: int = query.n_channels + 3
    return 40.0 * width * float(query.n_pixels)


def _parts(
    many: RunArrays, hard: bool, device: Device, share: int
) -> Iterator[tuple[int, int, GridRuns | RegionRuns]]:
    """Bring partitions to a device in parts of so many bytes: first, last + 1, and their runs."""
    n_pixels = math.prod(many.grid)
    edges = [0]
    while edges[-1] < len(many):
        done = int(many.ends[edges[-1] - 1]) if edges[-1] else 0
        last = int(np.searchsorted(many.ends, done + share // BYTES_A_RUN, side="right"))
        edges.append(max(edges[-1] + 1, last))
    ranges = list(itertools.pairwise(edges))
    parts = streamed((grid_part(many, *ends) for ends in ranges), device)
    for (first, last), part in zip(ranges, parts, strict=True):
        runs = GridRuns.from_part(n_pixels, part)
        yield first, last, runs if hard else RegionRuns.of(runs)


def _all_pairs(
    queries: HardQueries | SoftQueries,
    runs: GridRuns | RegionRuns,
    device: Device,
    budget: int,
) -> NDArray[Any]:
    """Return ρ of all pairs, query by query."""
    import torch

    n, total = len(runs), len(queries) * len(runs)
    found = []
    for begin in range(0, total, PAIRS_AT_ONCE):
        pairs = torch.arange(begin, min(total, begin + PAIRS_AT_ONCE), device=device.torch)
        distances = pair_distances(queries, runs, pairs // n, pairs % n, device, budget=budget)
        found.append(distances.cpu().numpy())
    return np.concatenate(found)
