"""The partition metric: one to one, one to many, and pairwise.

For partitions α with region measures a_i and β with b_j, and overlaps n_ij,

    ρ(α, β) = Σ a_i² + Σ b_j² − 2 Σ n_ij²  =  Σ_pq μ_p μ_q |A_pq − B_pq|

where A and B are the co-membership matrices: the measure of ordered pairs of pixels on which the
two disagree (Mirkin's metric, with a measure). For a soft partition with channel sums s_j in place
of a_i it is the expected disagreement under independent draws of labels, and still that L1
distance, so the triangle inequality ρ(P, α) ≤ ρ(P, β) + ρ(β, α) holds for hard α and β.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.device.choice import resolved
from hiersearch.metric.device_matrix import matrix_on_device
from hiersearch.metric.properties import Properties, mean_property_difference
from hiersearch.metric.queries import HardQuery, Query, prepared_query
from hiersearch.partitions.inputs import PartitionLike, as_hard, as_partition
from hiersearch.partitions.one_measure import all_under, shared_measure, under, under_one_measure
from hiersearch.partitions.partition import Measure, Partition, as_measure
from hiersearch.partitions.runs import square_sum
from hiersearch.partitions.soft import Affinities, Memberships, Merges, SoftPartition


def distance(
    a: PartitionLike,
    b: PartitionLike,
    *,
    measure: ArrayLike | None = None,
    normalized: bool = True,
    properties: tuple[Properties, Properties] | None = None,
    property_weight: float = 0.0,
) -> float | int:
    """Distance ρ between two partitions, at most one of them soft.

    Parameters
    ----------
    a, b : Partition, SoftPartition or integer array
        On one grid. An integer array is taken as a label map; one of three axes is a volume, never
        a batch of images, which would be one partition.
    measure : array, shape of the grid, optional
        Weight of each pixel; replaces what the partitions carry. Where omitted, a measure carried
        by one of them (or the same by both) counts for both.
    normalized : bool
        Divide by M² (the squared measure of the grid): the result lies in [0, 1). For affinities,
        divide by the total weight of the pairs known.
    properties : pair of properties, optional
        Property vectors of the regions of ``a`` and of ``b``, see
        :mod:`hiersearch.metric.properties`. Adds ``property_weight`` times the mean difference.
    property_weight : float
        λ ≥ 0 of the property term.

    Returns
    -------
    float or int
        An exact int where both are hard, the measure is of integer type and ``normalized`` is
        false.

    Raises
    ------
    TypeError
        If both are soft: ρ is not a metric there (its value at (P, P) is positive); see
        :func:`comembership_distance`.
    ValueError
        If grids or measures differ, if properties are asked for without normalisation or do not
        fit, or if ``property_weight`` is given without them.

    Notes
    -----
    Hard–hard O(runs), soft–hard O(k · pixels) for the sums over pixels. A metric between hard
    partitions (on the support of the measure), with the property term a metric on partitions with
    properties. Source: Mirkin (1996), here with a measure.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])
    >>> distance(a, b, normalized=False), distance(a, b)
    (6, 0.375)
    """
    first, second = as_partition(a, "a"), as_partition(b, "b")
    if isinstance(second, SoftPartition) and isinstance(first, Partition):
        first, second = second, first
        properties = None if properties is None else (properties[1], properties[0])
    if isinstance(second, SoftPartition):
        raise _soft_soft_error()
    values = _distances(
        first,
        [second],
        measure,
        normalized,
        None if properties is None else (properties[0], [properties[1]]),
        property_weight,
        names=("a", "b"),
    )
    result: float | int = values[0]
    return result


def distances(
    query: PartitionLike,
    candidates: Sequence[PartitionLike],
    *,
    measure: ArrayLike | None = None,
    normalized: bool = True,
    properties: tuple[Properties, Sequence[Properties]] | None = None,
    property_weight: float = 0.0,
    device: str | None = None,
) -> NDArray[Any]:
    """Distances ρ from one partition, hard or soft, to many hard ones.

    Parameters
    ----------
    query : Partition, SoftPartition or integer array
        The one.
    candidates : sequence of Partition or integer array
        The many, on the query's grid.
    measure, normalized, properties, property_weight
        As in :func:`distance`; properties are those of the query and of each candidate.
    device : str, optional
        What computes: "cpu" (also where omitted), "cuda", "cuda:N", or "auto" for a GPU where one
        looks much faster; see :func:`hiersearch.device.choice.resolved`.

    Returns
    -------
    array, shape (len(candidates),)
        float64; int64 where :func:`distance` would return int.

    Raises
    ------
    TypeError, ValueError
        As :func:`distance`.

    Notes
    -----
    A soft query's prefix sums over pixels are made once, O(k · pixels); each candidate then costs
    O(runs · k). A hard query costs O(runs) each. A GPU gives the same integers, and floating-point
    numbers within :func:`hiersearch.device.runs.rounding`. Affinities, sparse memberships of more
    than 256 channels, property terms and candidates that carry different measures are always left
    to the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[0, 0, 1, 1]])
    >>> distances(a, [a, np.array([[0, 0, 0, 1]]), np.zeros((1, 4), int)]).tolist()
    [0.0, 0.375, 0.5]
    """
    first = as_partition(query, "query")
    hard = [as_hard(c, f"candidates[{i}]") for i, c in enumerate(candidates)]
    names = ("query", "candidates[{}]")
    resolved(device)
    if properties is None and property_weight == 0:
        found = matrix_on_device([first], hard, measure, normalized, device, names)
        if found is not None:
            row: NDArray[Any] = found[0]
            return row
    values = _distances(
        first,
        hard,
        measure,
        normalized,
        properties,
        property_weight,
        names=names,
    )
    exact = all(isinstance(value, int) for value in values) and not normalized
    return np.array(values, np.int64 if exact and values else np.float64)


def pairwise_distances(
    partitions: Sequence[PartitionLike],
    others: Sequence[PartitionLike] | None = None,
    *,
    measure: ArrayLike | None = None,
    normalized: bool = True,
    device: str | None = None,
) -> NDArray[Any]:
    """Matrix of distances ρ within one collection, or between two.

    Parameters
    ----------
    partitions : sequence of Partition or integer array; soft ones allowed if ``others`` is given
        The rows.
    others : sequence of Partition or integer array, optional
        The columns; ``partitions`` again where omitted, and then each pair is evaluated once.
    measure, normalized
        As in :func:`distance`.
    device : str, optional
        As in :func:`distances`.

    Returns
    -------
    array, shape (len(partitions), len(others))
        float64, or int64 where distances are exact integers.

    Raises
    ------
    TypeError, ValueError
        As :func:`distance`.

    Notes
    -----
    O(pairs · runs).

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])
    >>> pairwise_distances([a, b], normalized=False).tolist()
    [[0, 6], [6, 0]]
    """
    if others is None:
        hard = [as_hard(c, f"partitions[{i}]") for i, c in enumerate(partitions)]
        (hard,) = all_under(measure, partitions=hard)
        found = matrix_on_device(hard, hard, None, normalized, device, ("partitions[{}]",) * 2)
        if found is not None:
            np.fill_diagonal(found, 0)
            return found
        upper = [distances(q, hard[i:], normalized=normalized) for i, q in enumerate(hard)]
        matrix = np.zeros((len(hard), len(hard)), np.result_type(np.int64, *upper))
        for i, row in enumerate(upper):
            matrix[i, i:] = matrix[i:, i] = row
        np.fill_diagonal(matrix, 0)
        return matrix if upper else matrix.astype(np.float64)
    rows = [as_partition(q, f"partitions[{i}]") for i, q in enumerate(partitions)]
    columns = [as_hard(c, f"others[{i}]") for i, c in enumerate(others)]
    rows, columns = all_under(measure, partitions=rows, others=columns)
    if not rows:
        return np.empty((0, len(columns)))
    names = ("partitions[{}]", "others[{}]")
    found = matrix_on_device(rows, columns, None, normalized, device, names)
    if found is not None:
        return found
    return np.array([distances(q, columns, normalized=normalized) for q in rows])


def jaccard_distance(
    a: PartitionLike, b: PartitionLike, *, measure: ArrayLike | None = None
) -> float:
    """Jaccard form of the metric between two hard partitions.

    The pairs of pixels joined in one but not in both, over those joined in either:
    (Σa² + Σb² − 2Σn²) / (Σa² + Σb² − Σn²). A metric within [0, 1), as the Jaccard distance of any
    two sets is one; dividing by Σa² + Σb² would not be.

    Parameters
    ----------
    a, b : Partition or integer array
        On one grid.
    measure : array, shape of the grid, optional
        As in :func:`distance`.

    Raises
    ------
    TypeError
        If one is soft.
    ValueError
        If grids or measures differ.

    Examples
    --------
    >>> import numpy as np
    >>> jaccard_distance(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]]))
    0.5
    """
    first, second = as_hard(a, "a"), as_hard(b, "b")
    first, second, weights = under_one_measure(first, second, measure)
    both = HardQuery(first, weights).overlap(second)
    joined = square_sum(first) + square_sum(second)
    return max(0.0, float((joined - 2 * both) / (joined - both)))


def comembership_distance(
    a: PartitionLike, b: PartitionLike, *, measure: ArrayLike | None = None
) -> float:
    """Frobenius distance between co-membership matrices, hard or soft, divided by M.

    √(Σ_pq μ_p μ_q (C_pq − D_pq)²) / M: a metric between soft partitions (partitions with equal
    co-membership have distance 0), where ρ is none. Between hard ones it is √ρ / M.

    Parameters
    ----------
    a, b : Partition, SoftPartition with memberships, or integer array
        On one grid.
    measure : array, shape of the grid, optional
        As in :func:`distance`.

    Raises
    ------
    TypeError
        If one is known on pairs only (affinities).
    ValueError
        If grids or measures differ.

    Notes
    -----
    O(pixels · k²) dense, by the Gram matrices of the channels: no pixels × pixels matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from hiersearch.partitions import SoftPartition
    >>> soft = SoftPartition.from_regions(np.full((2, 1, 4), 0.5))
    >>> comembership_distance(soft, soft), comembership_distance(soft, np.zeros((1, 4), int))
    (0.0, 0.5)
    """
    first, second = as_partition(a, "a"), as_partition(b, "b")
    for name, soft in (("a", first), ("b", second)):
        if isinstance(soft, Affinities):
            raise TypeError(f"{name} must know every pair of pixels, got {soft!r}")
        if isinstance(soft, Merges):
            raise TypeError(f"{name} must be hard or have channels, got {soft!r}")
    first, second, weights = under_one_measure(first, second, measure)
    p, q = _channel_matrix(first), _channel_matrix(second)
    if weights is not None:
        scale = weights.astype(np.float64)[None]
        pm, qm = p.multiply(scale), q.multiply(scale)
    else:
        pm, qm = p, q
    squares = [np.square((x @ y.T).data).sum() for x, y in ((pm, p), (qm, q), (pm, q))]
    difference = max(0.0, float(squares[0] + squares[1] - 2 * squares[2]))
    return float(np.sqrt(difference)) / float(first.total)


def contingency_table(
    a: PartitionLike, b: PartitionLike, *, measure: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Overlaps n_ij of the regions of two hard partitions, as (i, j, n_ij) without zeros.

    Parameters
    ----------
    a, b : Partition or integer array
        On one grid.
    measure : array, shape of the grid, optional
        As in :func:`distance`.

    Returns
    -------
    rows, columns, overlaps : arrays of one length
        Region numbers of ``a`` and of ``b`` and the measure of their overlap, sorted by row and
        column. Overlaps of pixels with measure zero are kept.

    Raises
    ------
    TypeError, ValueError
        As :func:`distance`.

    Notes
    -----
    O(runs log runs).

    Examples
    --------
    >>> import numpy as np
    >>> i, j, n = contingency_table(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]]))
    >>> list(zip(i.tolist(), j.tolist(), n.tolist()))
    [(0, 0, 2), (1, 0, 1), (1, 1, 1)]
    """
    first, second = as_hard(a, "a"), as_hard(b, "b")
    first, second, weights = under_one_measure(first, second, measure)
    return HardQuery(first, weights).table(second)


def _soft_soft_error() -> TypeError:
    return TypeError(
        "a and b must not both be soft: ρ is no metric there (ρ(P, P) > 0); "
        "use comembership_distance, or a.hard()"
    )


def _distances(
    query: Partition | SoftPartition,
    candidates: Sequence[Partition],
    measure: ArrayLike | None,
    normalized: bool,
    properties: tuple[Properties, Sequence[Properties]] | None,
    property_weight: float,
    *,
    names: tuple[str, str],
) -> list[Any]:
    if not (math.isfinite(property_weight) and property_weight >= 0):
        raise ValueError(f"property_weight must be a number of at least 0, got {property_weight!r}")
    if properties is None and property_weight > 0:
        raise ValueError(f"properties must be given with property_weight={property_weight:g}")
    if properties is not None and not normalized:
        raise ValueError(
            "normalized must be true with properties, whose weight is relative to it, got False"
        )
    if properties is not None and len(properties[1]) != len(candidates):
        raise ValueError(
            f"properties must be given for each of the {len(candidates)} candidates, "
            f"got {len(properties[1])}"
        )
    given = None if measure is None else as_measure(measure, query.grid)
    weighted = query
    prepared: Query | None = None
    prepared_for: Measure | None = None
    values: list[Any] = []
    for i, candidate in enumerate(candidates):
        if candidate.grid != query.grid:
            other = names[1].format(i)
            _validate.checked_same_grid(query.grid, candidate.grid, names[0], other)
        weights = shared_measure(query, candidate, None) if given is None else given
        if prepared is None or prepared_for is not weights:
            weighted, prepared_for = under(query, weights), weights
            prepared = prepared_query(weighted, weights, len(candidates) > 1)
        candidate = under(candidate, weights)
        value: float | int = prepared.rho(candidate)
        if normalized:
            value = float(value / prepared.scale)
        if properties is not None:
            of_one, of_many = properties
            value += property_weight * mean_property_difference(
                weighted, of_one, candidate, of_many[i]
            )
        values.append(value)
    return values


def _channel_matrix(partition: Partition | Memberships) -> Any:
    """Return the probabilities as a sparse (k, n) float64 matrix."""
    from scipy import sparse

    n = partition.n_pixels
    pixels = np.arange(n)
    if isinstance(partition, Partition):
        labels = partition.labels.reshape(-1)
        shape = (partition.n_regions, n)
        return sparse.csr_array((np.ones(n), (labels, pixels)), shape=shape)
    values = partition.values.astype(np.float64)
    if partition.channels is None:
        return sparse.csr_array(values)
    columns = np.broadcast_to(pixels, values.shape).reshape(-1)
    entries = (values.reshape(-1), (partition.channels.reshape(-1), columns))
    return sparse.csr_array(entries, shape=(partition.n_channels, n))
