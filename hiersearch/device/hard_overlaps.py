"""Overlaps of hard queries with hard partitions on a device.

The runs of two partitions cut each other into pieces. A piece begins where a run of either begins:
the run of the other that holds that pixel is found by bisection, so that all pieces of all pairs
are found at once. They are added up by the cell of the contingency table that they lie in, in whole
numbers: the order does not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiersearch.device.batches import batch_size, halving
from hiersearch.device.choice import Device
from hiersearch.device.runs import GridRuns, HardQueries, expanded

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_TABLE = 2**22
"""Most cells of a contingency table that is an array; larger ones are sorted keys."""


def hard_overlaps(
    queries: HardQueries,
    runs: GridRuns,
    query_numbers: Tensor,
    rows: Tensor,
    device: Device,
    *,
    budget: int | None = None,
) -> Tensor:
    """Return Σ n_ij² of pairs of a hard query and a partition.

    Parameters
    ----------
    queries, runs
        The two sides, on one device.
    query_numbers, rows : int64 tensors, shape (pairs,)
        The query and the partition of each pair.
    device : Device
        Where they are.
    budget : int, optional
        Most bytes that a batch may take.

    Returns
    -------
    tensor, shape (pairs,)
        int64, exact; float64 where the measure is in floating point.

    Notes
    -----
    O(runs of both · log runs) a pair. Torch's operations sort the pieces by cell; a kernel of
    Triton's adds them to a table of all cells.
    """
    import torch

    kind = torch.int64 if queries.unit is None else torch.float64
    if rows.numel() == 0:
        return torch.empty(0, dtype=kind, device=device.torch)
    largest = int((queries.runs.n_regions[query_numbers] * runs.n_regions[rows]).max())
    in_tables = device.on_triton and largest <= LARGEST_TABLE
    compute: Any = _in_tables if in_tables else _by_sorting
    n_runs = sum(side.starts.numel() / len(side) for side in (queries.runs, runs))
    held = 8 * largest + 64 if in_tables else 160 * n_runs
    size = batch_size(device, held, rows.numel(), budget)

    def work(begin: int, end: int) -> Tensor:
        part = slice(begin, end)
        found: Tensor = compute(queries, runs, query_numbers[part], rows[part])
        return found

    return torch.cat(list(halving(work, rows.numel(), size)))


def _by_sorting(
    queries: HardQueries, runs: GridRuns, query_numbers: Tensor, rows: Tensor
) -> Tensor:
    import torch

    cells = _table_edges(queries, runs, query_numbers, rows)
    one = _pieces(queries.runs, runs, query_numbers, rows)
    two = _pieces(runs, queries.runs, rows, query_numbers)
    # Where runs of both begin, the first side has the piece.
    fresh = ~two[5]
    pair, label, other_label, begin, end = (
        torch.cat([a, b[fresh]])
        for a, b in zip(
            (one[0], one[1], one[2], one[3], one[4]),
            (two[0], two[2], two[1], two[3], two[4]),
            strict=True,
        )
    )
    weights = end - begin if queries.prefix is None else queries.prefix[end] - queries.prefix[begin]
    keys = cells[pair] + label * runs.n_regions[rows][pair] + other_label
    distinct, place = torch.unique(keys, return_inverse=True)
    sums = torch.zeros_like(distinct).index_add_(0, place, weights)
    edges = torch.searchsorted(distinct, cells)
    return _square_sums(sums, edges, queries.unit)


def _in_tables(queries: HardQueries, runs: GridRuns, query_numbers: Tensor, rows: Tensor) -> Tensor:
    from hiersearch.device._triton_kernels import filled_tables, table_squares

    edges = _table_edges(queries, runs, query_numbers, rows)
    table = filled_tables(queries, runs, query_numbers, rows, edges)
    squares = table_squares(table, edges, whole=queries.unit is None)
    return squares if queries.unit is None else squares * queries.unit**2


def _table_edges(
    queries: HardQueries, runs: GridRuns, query_numbers: Tensor, rows: Tensor
) -> Tensor:
    """Return where the contingency table of each pair begins, and where the last one ends."""
    import torch

    cells = queries.runs.n_regions[query_numbers] * runs.n_regions[rows]
    return torch.nn.functional.pad(cells.cumsum(0), (1, 0))


def _pieces(
    first: GridRuns, second: GridRuns, of_first: Tensor, of_second: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the pieces that begin where runs of the first side do.

    Pair, label of the first and of the second side, first pixel and the one after, and whether a
    run of the second side begins there, too.
    """
    import torch

    begins = first.edges[of_first]
    pair, run = expanded(begins, first.edges[of_first + 1] - begins)
    at = first.starts[run].long()
    low = second.edges[of_second][pair]
    high = second.edges[of_second + 1][pair]
    for _ in range(_steps(second)):
        middle = (low + high) // 2
        within = second.starts[middle] <= at
        low = torch.where(within, middle, low)
        high = torch.where(within, high, middle)
    end = torch.minimum(first.stops[run], second.stops[low]).long()
    both = second.starts[low] == at
    return pair, first.labels[run].long(), second.labels[low].long(), at, end, both


def _steps(runs: GridRuns) -> int:
    """Return how often the runs of a partition are halved until one is left."""
    return int(runs.edges.diff().max()).bit_length()


def _square_sums(sums: Tensor, edges: Tensor, unit: float | None) -> Tensor:
    """Add up squares between edges."""
    import torch

    if unit is None:
        # Whole numbers of 64 bits: a difference is right even if the sum of all is beyond them.
        total = torch.nn.functional.pad(sums.square().cumsum(0), (1, 0))
        return total[edges[1:]] - total[edges[:-1]]
    return torch.segment_reduce((sums.double() * unit).square(), "sum", lengths=edges.diff())
