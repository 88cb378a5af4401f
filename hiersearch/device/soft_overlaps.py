"""Overlaps of soft queries with hard partitions on a device, by three algorithms.

Each gives Σ n_jR² over channels j and regions R, for pairs of a query and a partition:

- *gathers*: a run adds the difference of two prefix sums to its region;
- *products*: a matrix that says which pixel lies in which region is multiplied by the
  probabilities;
- *segments*: a region adds up its pixels, which stand one after the other once sorted. It is never
  chosen: a pixel costs what a run does in gathers. It is here to be measured.

Which one moves the fewest bytes depends on runs, regions, channels and pixels; see
:func:`chosen_algorithm` and docs/device.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hiersearch.device.batches import batch_size, halving
from hiersearch.device.choice import Device
from hiersearch.device.runs import RegionRuns, SoftQueries, expanded

if TYPE_CHECKING:
    from torch import Tensor

Algorithm = Literal["gathers", "segments", "products"]


def bytes_moved(
    algorithm: Algorithm,
    runs: float,
    regions: float,
    channels: float,
    pixels: float,
    *,
    fused: bool = False,
) -> float:
    """Count the bytes that an algorithm reads and writes for one partition.

    All read the bounds of runs, 8 bytes each, and 8 bytes a region. For each channel, *gathers*
    read two prefix sums of 8 bytes a run: in one kernel (``fused``) that is all. Torch's own
    operations number the runs (100 bytes each), gather prefix sums (read and write), subtract them
    (read two, write one) and add them to a table (read one, read and write another): 80 bytes a
    channel. *segments* are the same for each pixel. *products* number the pixels, write and read a
    matrix of 8 bytes for each pixel and region, and read values.

    Examples
    --------
    >>> bytes_moved("gathers", runs=785, regions=40, channels=21, pixels=128 * 192, fused=True)
    270360
    """
    bounds = 8 * runs + 8 * regions
    if algorithm == "products":
        return bounds + (16 * regions + 8 * channels + 100) * pixels
    if algorithm == "gathers":
        return bounds + (16 * channels if fused else 80 * channels + 100) * runs
    return bounds + (80 * channels + 100) * pixels


def chosen_algorithm(
    runs: float, regions: float, channels: float, pixels: float, *, fused: bool = False
) -> Algorithm:
    """Return the algorithm that moves the fewest bytes for such partitions.

    *products* pay where runs are about as short as pixels and regions are few: roughly where
    runs / pixels is above regions / channels + 1/2 in one kernel, else above a fifth of that.

    Examples
    --------
    >>> chosen_algorithm(runs=785, regions=40, channels=21, pixels=128 * 192)
    'gathers'
    >>> chosen_algorithm(runs=20_000, regions=2, channels=21, pixels=128 * 192)
    'products'
    """
    algorithms: tuple[Algorithm, ...] = ("gathers", "products", "segments")
    return min(
        algorithms, key=lambda a: bytes_moved(a, runs, regions, channels, pixels, fused=fused)
    )


def soft_overlaps(
    queries: SoftQueries,
    runs: RegionRuns,
    query_numbers: Tensor,
    rows: Tensor,
    device: Device,
    *,
    algorithm: Algorithm | None = None,
    budget: int | None = None,
) -> Tensor:
    """Return Σ n_jR² of pairs of a soft query and a partition.

    Parameters
    ----------
    queries, runs
        The two sides, on one device.
    query_numbers, rows : int64 tensors, shape (pairs,)
        The query and the partition of each pair.
    device : Device
        Where they are.
    algorithm : str, optional
        The one with the fewest bytes where omitted.
    budget : int, optional
        Most bytes that a batch may take.

    Returns
    -------
    float64 tensor, shape (pairs,)

    Notes
    -----
    O(runs · k) a pair by gathers, O(pixels · k) by segments, O(pixels · regions · k) by products.
    Gathers and segments give the same numbers bit for bit. Gathers run in one kernel of Triton's
    where it is used; torch's own operations write the gathered rows and read them again.
    """
    import torch

    if rows.numel() == 0:
        return torch.empty(0, dtype=torch.float64, device=device.torch)
    width = queries.sums.shape[2]
    partitions = len(runs)
    means = (
        runs.starts.numel() / partitions,
        (runs.region_edges.numel() - 1) / partitions,
        runs.n_pixels,
    )
    if algorithm is None:
        runs_of_one, regions, pixels = means
        algorithm = chosen_algorithm(runs_of_one, regions, width, pixels, fused=device.on_triton)
    compute: Any = {"gathers": _gathered, "segments": _segmented, "products": _products}[algorithm]
    if algorithm == "gathers" and device.on_triton:
        compute = _in_one_kernel
    size = batch_size(device, _bytes_held(compute, *means, width), rows.numel(), budget)

    def work(begin: int, end: int) -> Tensor:
        part = slice(begin, end)
        found: Tensor = compute(queries, runs, query_numbers[part], rows[part])
        return found

    return torch.cat(list(halving(work, rows.numel(), size)))


def _bytes_held(compute: Any, runs: float, regions: float, pixels: float, width: int) -> float:
    """Return how many bytes a pair takes while its overlaps are computed."""
    if compute is _in_one_kernel:
        return 64 * regions
    row = 24 * width + 64
    if compute is _gathered:
        return row * (runs + regions)
    if compute is _segmented:
        return row * (pixels + regions)
    return 8 * pixels * regions + 64 * pixels + row * regions


def _gathered(
    queries: SoftQueries, runs: RegionRuns, query_numbers: Tensor, rows: Tensor
) -> Tensor:
    pair, region = _regions(runs, rows)
    item, run = _runs(runs, region)
    table = _sums_between(
        queries, query_numbers[pair], item, runs.starts[run], runs.stops[run], region.numel()
    )
    return _squared(table.double() * queries.unit, runs, rows)


def _segmented(
    queries: SoftQueries, runs: RegionRuns, query_numbers: Tensor, rows: Tensor
) -> Tensor:
    pair, region = _regions(runs, rows)
    item, pixel = _pixels(runs, region)
    table = _sums_between(queries, query_numbers[pair], item, pixel, pixel + 1, region.numel())
    return _squared(table.double() * queries.unit, runs, rows)


def _products(
    queries: SoftQueries, runs: RegionRuns, query_numbers: Tensor, rows: Tensor
) -> Tensor:
    import torch

    pair, region = _regions(runs, rows)
    item, pixel = _pixels(runs, region)
    shape = (region.numel(), runs.n_pixels)
    members = torch.zeros(shape, dtype=torch.float64, device=rows.device)
    members[item, pixel] = 1.0
    table = members.new_empty(region.numel(), queries.sums.shape[2])
    of_item = query_numbers[pair]
    distinct = torch.unique(query_numbers).tolist()
    for number in distinct:
        values = queries.sums[number].diff(dim=0).double() * queries.unit
        mine: Any = slice(None) if len(distinct) == 1 else of_item == number
        table[mine] = members[mine] @ values
    return _squared(table, runs, rows)


def _in_one_kernel(
    queries: SoftQueries, runs: RegionRuns, query_numbers: Tensor, rows: Tensor
) -> Tensor:
    from hiersearch.device._triton_kernels import region_squares

    pair, region = _regions(runs, rows)
    squares = region_squares(queries.sums, runs, region, query_numbers[pair])
    return _by_pair(squares * queries.unit**2, runs, rows)


def _regions(runs: RegionRuns, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return all regions of some rows, and the place of each one's row in ``rows``."""
    begins = runs.edges[rows]
    return expanded(begins, runs.edges[rows + 1] - begins)


def _runs(runs: RegionRuns, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Return all runs of some regions, and the place of each one's region in ``regions``."""
    begins = runs.region_edges[regions]
    return expanded(begins, runs.region_edges[regions + 1] - begins)


def _pixels(runs: RegionRuns, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Return all pixels of some regions, and the place of each one's region in ``regions``."""
    item, run = _runs(runs, regions)
    starts = runs.starts[run].long()
    of_run, pixel = expanded(starts, runs.stops[run] - starts)
    return item[of_run], pixel


def _sums_between(
    queries: SoftQueries,
    query_of_item: Tensor,
    item: Tensor,
    starts: Tensor,
    stops: Tensor,
    n_items: int,
) -> Tensor:
    """Add up the measure between starts and stops by item and channel, in units."""
    width = queries.sums.shape[2]
    rows = queries.sums.view(-1, width)
    base = query_of_item[item] * queries.sums.shape[1]
    table = rows.new_zeros(n_items, width)
    return table.index_add_(0, item, rows[base + stops] - rows[base + starts])


def _squared(table: Tensor, runs: RegionRuns, rows: Tensor) -> Tensor:
    return _by_pair(table.square().sum(1), runs, rows)


def _by_pair(values: Tensor, runs: RegionRuns, rows: Tensor) -> Tensor:
    """Add up values of regions by pair, one after the other: the order is always the same."""
    import torch

    lengths = runs.edges[rows + 1] - runs.edges[rows]
    return torch.segment_reduce(values, "sum", lengths=lengths)
