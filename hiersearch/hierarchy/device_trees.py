"""Sums over the regions of a merge tree on a device, whatever the tree's depth.

A sweep up the tree, one launch a level, would take 22,000 launches for the single-linkage tree of
a photo's 512 × 512 pixels. But with the leaves in depth-first order every node owns an interval of
them, so that its sums are differences of prefix sums: a handful of launches for any tree.

Differences of floating prefix sums would err by a share of the whole grid, not of the region. So
sums are taken in fixed point: every value becomes a whole number of steps of 2^-e, with e such that
the whole grid's total is below 2^61. Sums of whole numbers are exact in any order, hence the same
on every device and in every run; only the first rounding is left, of half a step a value.

What stays on the CPU: the layout, two passes over ``parents``, 6 ns a node; and the best of all
cuts, one pass over the costs, 3 ns a node. For the tree above, 524,287 nodes, that pass takes
1.6 ms, and the costs that it needs 0.4 ms to be copied. On a GPU it would take three launches a
level, 0.7 s, or about a thousand, 10 ms, along heavy paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiersearch.device.batches import batch_size, halving, on_device
from hiersearch.device.choice import Device, DeviceWork
from hiersearch.hierarchy._tree_kernels import leaf_intervals

if TYPE_CHECKING:
    from torch import Tensor

TOTAL_BITS = 61
"""The total of a grid in steps is below two to this power: prefix sums stay within int64."""


def exponent_for(total: float) -> int:
    """Return e such that ``total`` and what probabilities add to it are below 2^61 steps of 2^-e.

    Examples
    --------
    >>> exponent_for(2**18)
    42
    """
    # Probabilities may sum to a little more than 1, and roundings add up: hence the doubling.
    return TOTAL_BITS - math.frexp(2 * total)[1] + 1


def in_steps(values: Tensor, weights: Tensor | None, exponent: int) -> Tensor:
    """Return values, times weights where given, as whole numbers of steps of 2^-exponent."""
    import torch

    exact = values.to(torch.float64)
    if weights is not None:
        exact = exact * weights
    return torch.round(exact * 2.0**exponent).to(torch.int64)


def from_steps(sums: Tensor, exponent: int) -> Tensor:
    """Return whole numbers of steps as float64, rounded once."""
    import torch

    return sums.to(torch.float64).mul_(2.0**-exponent)


@dataclass(frozen=True, slots=True, eq=False)
class DeviceTree:
    """A merge tree on a device: its leaves in depth-first order, its nodes as intervals of them."""

    places: Tensor
    """(pixels,) int64: place in that order of the leaf of each pixel of the flattened grid."""
    first: Tensor
    """(nodes,) int64: place of the first leaf of each node; leaves' own places lead."""
    last: Tensor
    """(nodes,) int64: place of the last leaf of each node."""
    n_leaves: int
    """Number of leaves."""
    device: Device
    """Where it is."""

    @staticmethod
    def of(
        parents: NDArray[np.int64], leaf_map: NDArray[np.int32], n_leaves: int, device: Device
    ) -> DeviceTree:
        """Lay out a tree given as in `MergeTree`. O(nodes) on the CPU, O(pixels) copied."""
        first, last = (on_device(place, device) for place in leaf_intervals(parents, n_leaves))
        pixels = on_device(leaf_map.reshape(-1), device)
        return DeviceTree(first[:n_leaves].index_select(0, pixels), first, last, n_leaves, device)

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return int(self.first.shape[0])

    def sums_of_leaves(self, steps: Tensor) -> Tensor:
        """Sum rows over the pixels of each leaf: (rows, pixels) to a table (rows · leaves + 1,).

        Behind a zero, the table holds the leaves of each row by place: see `sums_of_nodes`.
        """
        table = self.empty_table(steps.shape[0])
        table[1:].view(-1, self.n_leaves).index_add_(1, self.places, steps)
        return table

    def empty_table(self, rows: int) -> Tensor:
        """Return a table of zeros for a number of rows."""
        import torch

        size = rows * self.n_leaves + 1
        return torch.zeros(size, dtype=torch.int64, device=self.first.device)

    def sums_of_nodes(self, table: Tensor, begin: int = 0) -> Tensor:
        """Sum the rows of a table over the leaves of the nodes from ``begin`` on: (rows, nodes).

        The table is overwritten with its prefix sums. They run on from row to row, which cancels
        in the differences and lets one scan serve all rows: O(rows · nodes).
        """
        table[1:].cumsum_(0)
        before = table[:-1].view(-1, self.n_leaves)
        through = table[1:].view(-1, self.n_leaves)
        sums = through.index_select(1, self.last[begin:])
        return sums.sub_(before.index_select(1, self.first[begin:]))


class Channels(Protocol):
    """The channels of a target on a device, in steps."""

    count: int
    """Number of channels."""
    bytes_each: int
    """Device memory that a channel needs while a table of it is made."""

    def table(self, tree: DeviceTree, begin: int, end: int) -> Tensor:
        """Sum channels begin..end over the leaves: a table, see `DeviceTree`."""


class DenseChannels:
    """Channels with a value at every pixel: (k, n), on the CPU or already on the device."""

    def __init__(
        self, values: NDArray[Any] | Tensor, weights: Tensor | None, exponent: int, device: Device
    ) -> None:
        self.values = values
        self.weights = weights
        self.exponent = exponent
        self.device = device
        self.count = int(values.shape[0])
        self.bytes_each = 32 * int(values.shape[1])

    def table(self, tree: DeviceTree, begin: int, end: int) -> Tensor:
        """Sum channels over the leaves; values on the CPU are copied a batch at a time."""
        rows = self.values[begin:end]
        values = on_device(rows, self.device) if isinstance(rows, np.ndarray) else rows
        return tree.sums_of_leaves(in_steps(values, self.weights, self.exponent))


class SparseChannels:
    """Channels that few pixels have: (m, n) values and the channel of each."""

    def __init__(
        self,
        values: NDArray[Any],
        channels: NDArray[np.int32],
        n_channels: int,
        weights: Tensor | None,
        exponent: int,
        device: Device,
    ) -> None:
        import torch

        # In ascending order of channels, a batch of channels is a piece of the entries.
        ordered = torch.sort(on_device(channels, device).reshape(-1), stable=True)
        self.channels = ordered.values.to(torch.int64)
        self.pixels = ordered.indices % channels.shape[1]
        steps = in_steps(on_device(values, device), weights, exponent)
        self.steps = steps.reshape(-1).index_select(0, ordered.indices)
        every = torch.arange(n_channels + 1, device=device.torch)
        self.begins = torch.searchsorted(self.channels, every).tolist()
        self.count = n_channels
        self.bytes_each = 32 * max(1, channels.size // n_channels)

    def table(self, tree: DeviceTree, begin: int, end: int) -> Tensor:
        """Sum channels over the leaves."""
        piece = slice(self.begins[begin], self.begins[end])
        table = tree.empty_table(end - begin)
        cells = (self.channels[piece] - begin) * tree.n_leaves
        cells += tree.places.index_select(0, self.pixels[piece])
        table[1:].index_add_(0, cells, self.steps[piece])
        return table


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What the regions of a tree are compared with, on a device."""

    channels: Channels
    """Its channels."""
    weights: Tensor | None
    """(n,) float64 measure of each pixel, or None for 1."""
    exponent: int
    """Sums are whole numbers of steps of two to minus this."""

    @staticmethod
    def of(
        values: NDArray[Any],
        channels: NDArray[np.int32] | None,
        n_channels: int,
        measure: NDArray[Any] | None,
        device: Device,
    ) -> Target:
        """Prepare values (m, n), of sparse ``channels`` (m, n) or dense (None)."""
        import torch

        total = float(values.shape[1] if measure is None else measure.sum())
        exponent = exponent_for(total)
        weights = None if measure is None else on_device(measure, device).to(torch.float64)
        rows: Channels = (
            DenseChannels(values, weights, exponent, device)
            if channels is None
            else SparseChannels(values, channels, n_channels, weights, exponent, device)
        )
        return Target(rows, weights, exponent)

    def sizes(self, tree: DeviceTree) -> Tensor:
        """Return the measure of each node, float64."""
        import torch

        ones = torch.ones((1, tree.places.shape[0]), device=tree.first.device)
        steps = in_steps(ones, self.weights, self.exponent)
        return from_steps(tree.sums_of_nodes(tree.sums_of_leaves(steps))[0], self.exponent)

    def each_batch(self, tree: DeviceTree, use: Callable[[int, Tensor], None]) -> None:
        """Call ``use`` with the first channel of each batch and its sums (c, nodes) in float64."""

        def work(begin: int, end: int) -> None:
            sums = tree.sums_of_nodes(self.channels.table(tree, begin, end))
            use(begin, from_steps(sums, self.exponent))

        # A table, its sums in three forms, and their squares.
        bytes_each = self.channels.bytes_each + 8 * tree.n_leaves + 40 * tree.n_nodes
        size = batch_size(tree.device, bytes_each, self.channels.count)
        for _ in halving(work, self.channels.count, size):
            pass


def metric_costs(tree: DeviceTree, target: Target) -> tuple[NDArray[np.float64], float]:
    """Cost a² − 2 Σ n² of each node, and Σ s² of the whole grid.

    Costs are those of the CPU bit for bit where all are whole numbers below 2^52: of hard targets
    whose measure is of integers. For others the distance of any cut, divided by M², errs by at most
    pixels · 2^-58, from half a step a value, and (channels + regions + 10) · 2^-52 from float64.
    That of the CPU errs by at most pixels · 2^-51 and the latter. O(channels · (pixels + nodes)).
    """
    import torch

    squares = torch.zeros(tree.n_nodes, dtype=torch.float64, device=tree.first.device)
    whole = torch.zeros(target.channels.count, dtype=torch.float64, device=tree.first.device)

    def add(begin: int, sums: Tensor) -> None:
        whole[begin : begin + sums.shape[0]] = sums[:, -1]
        squares.add_(sums.square_().sum(0))

    target.each_batch(tree, add)
    costs = target.sizes(tree).square_().sub_(squares.mul_(2.0))
    return costs.cpu().numpy(), float(whole.square_().sum())


def class_costs(tree: DeviceTree, target: Target) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Measure that each node's best channel misses, and that channel, of equals the first.

    O(channels · (pixels + nodes)).
    """
    import torch

    device = tree.first.device
    most = torch.full((tree.n_nodes,), -1.0, dtype=torch.float64, device=device)
    names = torch.zeros(tree.n_nodes, dtype=torch.int32, device=device)

    def compare(begin: int, sums: Tensor) -> None:
        channel = sums.argmax(0, keepdim=True)
        value = sums.gather(0, channel)[0]
        better = value > most
        names.copy_(torch.where(better, (channel[0] + begin).to(torch.int32), names))
        torch.maximum(most, value, out=most)

    target.each_batch(tree, compare)
    missed = target.sizes(tree).sub_(most).clamp_(min=0.0)
    return missed.cpu().numpy(), names.cpu().numpy()


def swept_levels(
    parents: NDArray[np.int64],
    heights: NDArray[np.float64],
    costs: NDArray[np.float64],
    n_leaves: int,
    device: Device,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Begin, regions, summed costs and forbidden regions of all horizontal cuts, the leaves first.

    ``heights`` (inner nodes,) don't fall towards the root. Each merge changes regions, costs and
    forbidden regions by fixed amounts: a sort and three scans, O(nodes log nodes). Sums of costs
    are in float64 and in another order than the CPU's: equal where costs are whole numbers, else
    within nodes · 2^-50 · M².
    """
    import torch

    above = on_device(parents[:-1], device) - n_leaves
    own = on_device(costs, device)
    levels, order = torch.sort(on_device(heights, device), stable=True)
    # Of the merges at one altitude only the last ends in a horizontal cut; all leaves are one, too.
    ends = torch.ones(levels.shape[0] + 1, dtype=torch.bool, device=device.torch)
    ends[1:-1] = levels[1:] != levels[:-1]
    begins = torch.cat([levels.new_full((1,), -torch.inf), levels])
    found = [begins[ends].cpu().numpy()]
    broken = torch.isinf(own)
    ones = torch.ones(own.shape[0], dtype=torch.int64, device=device.torch)
    for values in (ones, own.masked_fill(broken, 0.0), broken.to(torch.int64)):
        changes = values[n_leaves:].clone().index_add_(0, above, -values[:-1])
        first = values[:n_leaves].sum().reshape(1)
        found.append(torch.cat([first, changes[order]]).cumsum(0)[ends].cpu().numpy())
    return found[0], found[1], found[2], found[3]


def work_of_costs(
    n_pixels: int, n_nodes: int, n_rows: int, n_channels: int, *, sparse: bool
) -> DeviceWork:
    """Count what the costs of all nodes take, for `resolved`: ``n_rows`` values at each pixel.

    The CPU's rates are measured on two cores. What it does in either case is left out of them: the
    layout, 6 ns a node.
    """
    entries, cells = n_pixels * n_rows, n_nodes * n_channels
    seconds = 30e-9 * entries + 60e-9 * n_nodes if sparse else 2e-9 * entries + 5.5e-9 * cells
    return DeviceWork(
        cpu_seconds=seconds - 6e-9 * n_nodes,
        bytes_sent=(8 if sparse else 4) * entries + 4 * n_pixels + 24 * n_nodes,
        bytes_moved=60 * entries + 75 * cells,
        launches=60,
    )


def work_of_sweep(n_nodes: int) -> DeviceWork:
    """Count what the distances of all horizontal cuts take, given the costs: see `resolved`."""
    return DeviceWork(
        cpu_seconds=28e-9 * n_nodes,
        bytes_sent=40.0 * n_nodes,
        bytes_moved=300.0 * n_nodes,
        launches=60,
    )
