"""The matrix of distances as one call to a device, where that is what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.device.choice import resolved
from hiersearch.metric.many_distances import run_distance_matrix
from hiersearch.partitions.one_measure import shared_measure, under
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.runs import RunArrays


def matrix_on_device(
    rows: Sequence[Any],
    columns: Sequence[Partition],
    measure: ArrayLike | None,
    normalized: bool,
    device: str | None,
    names: tuple[str, str],
) -> NDArray[Any] | None:
    """Return the matrix of distances if a device is to compute it, else None.

    Rows are queries, hard or soft, and columns hard; ``names`` with a place for their numbers are
    what errors call them. It is left to the CPU's way where each pair may have a measure of its
    own, where no query fits a device, and where "auto" finds that the CPU is as fast.
    """
    if resolved(device).on_kernels and device != "auto":
        return None
    from hiersearch.device.distances import distance_work
    from hiersearch.device.runs import fits

    fitting = [query for query in rows if fits(query)]
    one_measure = measure is not None or (_one_measure(rows) and _one_measure(columns))
    if not (fitting and columns and one_measure):
        return None
    work = distance_work(fitting, sum(column.n_runs for column in columns), len(columns))
    if resolved(device, work).on_kernels:
        return None
    for name, side in zip(names, (rows, columns), strict=True):
        for i, other in enumerate(side):
            first, second = names[0].format(0), name.format(i)
            _validate.checked_same_grid(rows[0].grid, other.grid, first, second)
    weights = shared_measure(rows[0], columns[0], measure)
    many = RunArrays.of([under(column, weights) for column in columns])
    return run_distance_matrix(rows, many, normalized=normalized, device=device)


def _one_measure(partitions: Sequence[Any]) -> bool:
    """Say whether all carry the same measure, or none does."""
    first = partitions[0].measure if partitions else None
    return all(
        p.measure is first
        or (first is not None and p.measure is not None and np.array_equal(p.measure, first))
        for p in partitions
    )
