"""Bringing partitions that are compared with each other under one measure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hiersearch import _validate
from hiersearch.partitions.partition import Measure, Partition, as_measure
from hiersearch.partitions.soft import SoftPartition


def under_one_measure(a: Any, b: Any, measure: ArrayLike | None) -> tuple[Any, Any, Measure | None]:
    """Bring two partitions of one grid under one measure."""
    _validate.checked_same_grid(a.grid, b.grid, "a", "b")
    weights = shared_measure(a, b, measure)
    return under(a, weights), under(b, weights), weights


def all_under(measure: ArrayLike | None, **collections: list[Any]) -> list[list[Any]]:
    """Bring collections of partitions under one measure, validated once; None: as they are."""
    named = [(f"{key}[{i}]", p) for key, c in collections.items() for i, p in enumerate(c)]
    if measure is None or not named:
        return list(collections.values())
    for name, partition in named[1:]:
        _validate.checked_same_grid(named[0][1].grid, partition.grid, named[0][0], name)
    weights = as_measure(measure, named[0][1].grid)
    return [[under(partition, weights) for partition in c] for c in collections.values()]


def shared_measure(
    a: Partition | SoftPartition, b: Partition | SoftPartition, measure: ArrayLike | None
) -> Measure | None:
    """Return the measure under which two partitions are compared, flat, or None for 1."""
    if measure is not None:
        return as_measure(measure, a.grid)
    if a.measure is None or b.measure is None or a.measure is b.measure:
        return b.measure if a.measure is None else a.measure
    if np.array_equal(a.measure, b.measure):
        return a.measure
    raise ValueError(
        "a and b must carry the same measure, or one of them none, got two different ones: "
        "pass measure=..."
    )


def under(partition: Any, weights: Measure | None) -> Any:
    """Return the partition under a flat measure, itself if it carries that very array."""
    if partition.measure is weights:
        return partition
    return partition._under(weights)
