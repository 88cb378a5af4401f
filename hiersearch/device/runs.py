"""Run-length arrays on a device, and queries beside them: what exact distances are made from.

A measure is counted in whole numbers: pixels, or an integer measure, or, where numbers are in
floating point, multiples of a unit of 2⁻ˢ that is so fine that the measure of the grid still fits
into 61 bits. Sums of whole numbers do not depend on their order, so that results are the same
whatever the algorithm, the size of a batch or the device, and equal partitions have equal
distances. Only the squares are in floating point, and only where the measure or the query is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.device.batches import on_device
from hiersearch.device.choice import Device
from hiersearch.partitions.checks import SUM_TOLERANCE
from hiersearch.partitions.partition import Measure, Partition
from hiersearch.partitions.runs import RunArrays
from hiersearch.partitions.soft import Memberships

if TYPE_CHECKING:
    from torch import Tensor

BITS = 61
"""Bits that the measure of the whole grid takes at most, counted in units."""
MOST_CHANNELS = 256
"""Channels up to which a sparse soft partition is made dense on a device."""


@dataclass(frozen=True, slots=True, eq=False)
class GridRuns:
    """Partitions of one grid, their runs in the order of the grid: what hard queries need."""

    n_pixels: int
    """Pixels of the grid."""
    starts: Tensor
    """(runs,) int32 first pixel of each run."""
    stops: Tensor
    """(runs,) int32 first pixel after each run."""
    labels: Tensor
    """(runs,) int32 region of each run."""
    edges: Tensor
    """(n + 1,) int64 where each partition's runs begin, and where the last one's end."""
    n_regions: Tensor
    """(n,) int64 number of regions of each."""
    squares: Tensor
    """(n,) Σ a², int64 or float64."""

    @classmethod
    def of(
        cls, many: RunArrays, device: Device, first: int = 0, last: int | None = None
    ) -> GridRuns:
        """Copy partitions first..last − 1 to a device. O(runs)."""
        part = grid_part(many, first, len(many) if last is None else last)
        n_pixels = math.prod(many.grid)
        return cls.from_part(n_pixels, {k: on_device(a, device) for k, a in part.items()})

    @classmethod
    def from_part(cls, n_pixels: int, part: dict[str, Tensor]) -> GridRuns:
        """Take what :func:`grid_part` gave, once it is on a device. O(runs)."""
        import torch

        starts, edges = part["starts"], part["edges"]
        stops = torch.empty_like(starts)
        stops[:-1] = starts[1:]
        stops[edges[1:] - 1] = n_pixels
        return cls(
            n_pixels, starts, stops, part["labels"], edges, part["n_regions"], part["squares"]
        )

    def __len__(self) -> int:
        """Return how many partitions there are."""
        return self.squares.numel()


def grid_part(many: RunArrays, first: int, last: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of partitions first..last − 1, from which a device makes the rest."""
    edges = np.concatenate([many.ends[first - 1 : first] if first else [0], many.ends[first:last]])
    runs = slice(int(edges[0]), int(edges[-1]))
    return {
        "starts": many.starts[runs],
        "labels": many.labels[runs],
        "edges": (edges - edges[0]).astype(np.int64),
        "n_regions": many.n_regions[first:last].astype(np.int64),
        "squares": many.squares[first:last],
    }


@dataclass(frozen=True, slots=True, eq=False)
class RegionRuns:
    """Partitions of one grid, their runs region by region: what soft queries need."""

    n_pixels: int
    """Pixels of the grid."""
    starts: Tensor
    """(runs,) int32 first pixel of each run."""
    stops: Tensor
    """(runs,) int32 first pixel after each run."""
    region_edges: Tensor
    """(regions + 1,) int64 where each region's runs begin, and where the last one's end."""
    edges: Tensor
    """(n + 1,) int64 where each partition's regions begin, and where the last one's end."""
    squares: Tensor
    """(n,) Σ a², int64 or float64."""

    @classmethod
    def of(cls, runs: GridRuns) -> RegionRuns:
        """Sort runs by their region. O(runs log runs), once a collection."""
        import torch

        edges = torch.nn.functional.pad(runs.n_regions.cumsum(0), (1, 0))
        owner = torch.repeat_interleave(edges[:-1], runs.edges.diff())
        region = owner + runs.labels
        order = torch.argsort(region, stable=True)
        counts = torch.bincount(region, minlength=int(edges[-1]))
        return cls(
            runs.n_pixels,
            runs.starts[order],
            runs.stops[order],
            torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
            edges,
            runs.squares,
        )

    def __len__(self) -> int:
        """Return how many partitions there are."""
        return self.squares.numel()


@dataclass(frozen=True, slots=True, eq=False)
class HardQueries:
    """Hard partitions on a device, to be compared with many."""

    runs: GridRuns
    """Their runs."""
    prefix: Tensor | None
    """(pixels + 1,) int64 prefix sums of the measure, in units; None: pixels are counted."""
    unit: float | None
    """The unit; None: sums are whole numbers, and so are distances."""

    def __len__(self) -> int:
        """Return how many queries there are."""
        return len(self.runs)


@dataclass(frozen=True, slots=True, eq=False)
class SoftQueries:
    """Dense soft partitions on a device, to be compared with many hard ones."""

    sums: Tensor
    """(queries, pixels + 1, width) int64 prefix sums of measure times probability, in units.

    ``width`` is the number of channels, rounded up to a multiple of 4: 32 bytes.
    """
    unit: float
    """The unit."""
    squares: Tensor
    """(queries,) float64 Σ s²."""

    def __len__(self) -> int:
        """Return how many queries there are."""
        return self.squares.numel()


def fits(query: Any) -> bool:
    """Say whether a device computes a query's distances: else the CPU does.

    Affinities are known on pairs of pixels only, and sparse memberships of many channels would
    take more than their share of memory if they were dense.
    """
    if isinstance(query, Memberships):
        return query.channels is None or query.n_channels <= MOST_CHANNELS
    return isinstance(query, Partition)


def device_queries(
    queries: Sequence[Any], measure: Measure | None, device: Device
) -> HardQueries | SoftQueries:
    """Bring queries of one kind, under one flat measure, to a device.

    O(runs), for soft ones O(k · pixels).
    """
    if isinstance(queries[0], Partition):
        packed = RunArrays.of(queries)
        prefix, unit = _measure_sums(measure, device)
        return HardQueries(GridRuns.of(packed, device), prefix, unit)
    return _soft_queries(queries, measure, device)


def unit_of(total: float) -> float:
    """Return the unit in which a measure of so much is counted, a power of two.

    Examples
    --------
    >>> unit_of(2.0**18) == 2.0**-42
    True
    """
    bits = math.frexp(total * (1 + 2 * SUM_TOLERANCE))[1]
    return 2.0 ** (bits - BITS)


def rounding(n_pixels: int, n_regions: int, n_channels: int) -> float:
    """Bound what rounding does to a distance in floating point, as a share of M².

    ε (4 n + R · k), for n pixels, R regions and k channels or regions of the query: distances of a
    device and of the CPU's kernels differ by no more. On the CPU, adding up prefix sums errs by at
    most ε/2 of a channel's total at each pixel, which changes Σ n² by ε n M² at most; adding R · k
    squares errs by ε/2 of their sum each time. A device rounds each pixel to half a unit, less
    than ε/200 of M, and adds up fewer squares at a time.

    Examples
    --------
    >>> f"{rounding(512 * 512, 100, 21):.1e}"
    '2.3e-10'
    """
    return float(np.finfo(np.float64).eps) * (4 * n_pixels + n_regions * n_channels)


def _measure_sums(measure: Measure | None, device: Device) -> tuple[Tensor | None, float | None]:
    """Return prefix sums of a measure in units, and the unit where there is one."""
    if measure is None:
        return None, None
    unit = None
    counted = measure
    if measure.dtype.kind == "f":
        unit = unit_of(float(measure.sum()))
        counted = np.rint(measure / unit).astype(np.int64)
    sums = np.zeros(measure.size + 1, np.int64)
    np.cumsum(counted, out=sums[1:])
    return on_device(sums, device), unit


def _soft_queries(
    queries: Sequence[Memberships], measure: Measure | None, device: Device
) -> SoftQueries:
    import torch

    n_pixels = queries[0].n_pixels
    width = -(-max(query.n_channels for query in queries) // 4) * 4
    unit = unit_of(float(n_pixels if measure is None else measure.sum()))
    shape = (len(queries), n_pixels + 1, width)
    sums = torch.zeros(shape, dtype=torch.int64, device=device.torch)
    weights = None if measure is None else on_device(measure, device).double()
    for i, query in enumerate(queries):
        dense = query.probabilities().reshape(query.n_channels, -1)
        values = on_device(dense, device).double()
        counted = (values if weights is None else values * weights).div_(unit).round_().long()
        sums[i, 1:, : query.n_channels] = counted.cumsum(1).T
    totals = sums[:, -1].double() * unit
    return SoftQueries(sums, unit, totals.square().sum(1))


def expanded(begins: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """List the items of ranges: the range of each, and begins[range] + 0, 1, ... in it.

    Examples
    --------
    >>> import torch
    >>> expanded(torch.tensor([5, 9]), torch.tensor([2, 3]))
    (tensor([0, 0, 1, 1, 1]), tensor([ 5,  6,  9, 10, 11]))
    """
    import torch

    ranges = torch.arange(counts.numel(), device=counts.device)
    owner = torch.repeat_interleave(ranges, counts)
    shift = begins - (counts.cumsum(0) - counts)
    return owner, shift[owner] + torch.arange(owner.numel(), device=counts.device)
