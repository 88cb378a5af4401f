"""Tree voting on a device: the ballot of :mod:`hiersearch.refinement.voting` in few launches.

Sums up the tree are differences of prefix sums in fixed point
(:mod:`hiersearch.hierarchy.device_trees`). On the way down each region's sums, times what its worth
exceeds its parent's by, are added over all ancestors of a leaf. Differences of prefix sums would do
for that, too, but err by a share of the largest sum, where worths fall by ten orders of magnitude
within a tree. Instead each inner node takes over what its ancestor 1, 2, 4, ... levels up has
gathered: sums of positive terms, which lose nothing, in log₂(depth) rounds. Passing over nodes
keeps trees shallow: 71 levels, 7 rounds, where all merges of a photo's pixels have 22,053 levels,
15 rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hiersearch.device.batches import batch_size, halving, on_device
from hiersearch.device.choice import Device, DeviceWork
from hiersearch.hierarchy.device_trees import DeviceTree, exponent_for, from_steps, in_steps
from hiersearch.refinement.channels import Channels
from hiersearch.refinement.voting import LEAST_PROBABILITY, VotingTree

if TYPE_CHECKING:
    from torch import Tensor


class DeviceBallot:
    """A ballot whose probabilities stay on a device: (k, n) twice, and batches of channels."""

    def __init__(self, channels: Channels, trees: Sequence[VotingTree], device: Device) -> None:
        import torch

        self.device = device
        self.probabilities = on_device(channels.values, device)
        measure = channels.measure
        self.weights = None if measure is None else on_device(measure, device).to(torch.float64)
        total = float(self.probabilities.shape[1] if measure is None else measure.sum())
        self.exponent = exponent_for(total)
        self.voters = [_Voter(tree, self.weights, self.exponent, device) for tree in trees]

    def means(self) -> Tensor:
        """Return M, (k, n) float32 on the device.

        Within 2^-23 where no pixel's measure but zero is below 2^-36 of the total; the CPU's
        single-precision sums are further off. O(k · (pixels + nodes + inner nodes · log depth)).
        """
        import torch

        means = torch.zeros_like(self.probabilities)
        for voter in self.voters:

            def vote(begin: int, end: int, voter: _Voter = voter) -> None:
                steps = in_steps(self.probabilities[begin:end], self.weights, self.exponent)
                means[begin:end] += voter.means(steps)

            self._each(vote, means.shape[0], voter.bytes_a_channel)
        return means.mul_(1 / len(self.voters))

    def sampled(
        self, means: Tensor, every: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities and ``means`` of some pixels, on the CPU."""
        return self.probabilities[:, every].cpu().numpy(), means[:, every].cpu().numpy()

    def count(self, means: Tensor, weight: float, votes: NDArray[np.bool_]) -> None:
        """Change the probabilities as `hiersearch.refinement.voting.counted` does."""
        import torch

        voting = on_device(votes, self.device)
        changed = torch.empty_like(means)

        def work(begin: int, end: int) -> None:
            own = self.probabilities[:, begin:end].clamp(min=LEAST_PROBABILITY)
            piece = means[:, begin:end].sub(1).mul_(weight).exp_().mul_(own)
            if not votes.all():
                raised = piece[voting].amax(0) / own[voting].amax(0)
                piece = torch.where(voting[:, None], piece, own * raised)
            changed[:, begin:end] = piece.div_(piece.sum(0))

        self._each(work, means.shape[1], 24 * means.shape[0])
        self.probabilities = changed

    def winners(self) -> NDArray[np.int32]:
        """Return the most probable channel of each pixel, on the CPU."""
        import torch

        return self.probabilities.argmax(0).to(torch.int32).cpu().numpy()

    def values(self) -> NDArray[np.float32]:
        """Return the probabilities, on the CPU."""
        return self.probabilities.cpu().numpy()

    def _each(self, work: Callable[[int, int], None], count: int, bytes_each: int) -> None:
        for _ in halving(work, count, batch_size(self.device, bytes_each, count)):
            pass


class _Voter:
    """A tree on a device, with what does not change from step to step."""

    def __init__(
        self, tree: VotingTree, weights: Tensor | None, exponent: int, device: Device
    ) -> None:
        import torch

        n_leaves = tree.n_leaves
        n_pixels = n_leaves if tree.leaf_map is None else tree.leaf_map.size
        pixels = np.arange(n_pixels, dtype=np.int32) if tree.leaf_map is None else tree.leaf_map
        self.exponent = exponent
        self.tree = DeviceTree.of(tree.parents, pixels, n_leaves, device)
        n_inner = self.tree.n_nodes - n_leaves
        worths = on_device(tree.worths, device).to(torch.float64)
        parents = on_device(tree.parents, device)
        over = worths - worths.index_select(0, parents)
        over[-1] = worths[-1] if n_inner else 1.0
        self.shares = over[n_leaves:]
        """(inner,) what the worth of each inner node exceeds its parent's by."""
        # From here on leaves come by place. Row n_inner, of zeros, is above the root.
        places = self.tree.first[:n_leaves]
        self.leaf_shares = torch.empty_like(over[:n_leaves])
        self.leaf_shares[places] = over[:n_leaves].clamp(min=0.0)
        above = parents - n_leaves
        above[-1] = n_inner
        self.above = torch.empty_like(above[:n_leaves])
        self.above[places] = above[:n_leaves]
        self.jumps = _jumps(torch.cat([above[n_leaves:], above[-1:]]), n_inner)
        """Of each inner node its ancestor 1, 2, 4, ... levels up."""
        self.bytes_a_channel = 40 * n_pixels + 40 * n_leaves + 48 * (n_inner + 1)
        ones = torch.ones((1, n_pixels), device=device.torch)
        totals = self._gathered(in_steps(ones, weights, exponent))
        self.scales = torch.where(totals > 0, 1 / totals, 0.0)

    def means(self, steps: Tensor) -> Tensor:
        """Return the mean votes (c, n) in float32, of weighted votes (c, n) in steps."""
        import torch

        means = self._gathered(steps).mul_(self.scales).to(torch.float32)
        return means.index_select(1, self.tree.places)

    def _gathered(self, steps: Tensor) -> Tensor:
        """Sum over the regions of each leaf, weighted by their shares: (c, n_leaves), float64."""
        table = self.tree.sums_of_leaves(steps)
        own = from_steps(table[1:].view(-1, self.tree.n_leaves), self.exponent)
        sums = self.tree.sums_of_nodes(table, self.tree.n_leaves)
        shared = from_steps(sums, self.exponent).mul_(self.shares)
        rows = shared.new_zeros((self.shares.shape[0] + 1, shared.shape[0]))
        rows[:-1] = shared.T
        for jump in self.jumps:
            rows = rows + rows.index_select(0, jump)
        return own.mul_(self.leaf_shares).add_(rows.index_select(0, self.above).T)


def _jumps(above: Tensor, end: int) -> list[Tensor]:
    """Follow ``above`` 1, 2, 4, ... times, until all have come to ``end``."""
    jumps = []
    while bool((above != end).any()):
        jumps.append(above)
        above = above.index_select(0, above)
    return jumps


def work_of_votes(n_pixels: int, n_nodes: int, n_channels: int, steps: int) -> DeviceWork:
    """Count what voting takes, for `resolved`; ``n_nodes`` are those of all trees together.

    The CPU's rates are measured on two cores, without the layout, which stays there.
    """
    values, cells = n_pixels * n_channels, n_nodes * n_channels
    return DeviceWork(
        cpu_seconds=steps * (8e-9 * cells + 5e-9 * values) - 6e-9 * n_nodes,
        bytes_sent=8.0 * values + 32.0 * n_nodes,
        bytes_moved=steps * (200.0 * cells + 60.0 * values),
        launches=100 + 100 * steps,
    )
