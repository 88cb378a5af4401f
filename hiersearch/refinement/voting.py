"""One round of tree voting after another: the trees as voters, the means, the count of the votes.

A `Ballot` holds the probabilities between rounds; this module has that of the CPU's kernels,
:mod:`hiersearch.refinement.device_voting` the same on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiersearch.hierarchy._cost_kernels import dense_leaf_sums
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.refinement import _voting_kernels as kernels
from hiersearch.refinement.channels import Channels

LEAST_PROBABILITY = 1e-7
"""What a probability is raised to before others vote: a zero could never be outvoted."""

PIECE = 2**16
"""Values that are worked on at a time: 256 kB."""


@dataclass(frozen=True, slots=True, eq=False)
class VotingTree:
    """What of a tree has a part in votes."""

    leaf_map: NDArray[np.int32] | None
    """(n,) leaf of each pixel, or None where leaf p is pixel p."""
    parents: NDArray[np.int64]
    """(nodes,) the tree without the nodes that were passed over."""
    worths: NDArray[np.float32]
    """(nodes,) s of each node, 0 at the root unless it is the only node."""
    n_leaves: int
    """Number of leaves."""

    @staticmethod
    def of(
        tree: MergeTree, contrast: float, size: float, exponent: float, tolerance: float
    ) -> VotingTree:
        """Rate the nodes and pass over those that hardly count. O(nodes)."""
        worths = _worths(tree, contrast, size, exponent)
        leaf_map = None if tree.has_pixel_leaves else tree.leaf_map.reshape(-1)
        parents, n_leaves = tree.parents, tree.n_leaves
        if tree.n_nodes > 1:
            parents, worths = kernels.pruned(parents, worths, n_leaves, tolerance)
        return VotingTree(leaf_map, parents, worths, n_leaves)


def _worths(tree: MergeTree, contrast: float, size: float, exponent: float) -> NDArray[np.float32]:
    """Return s of each node: exp(−altitude / contrast) (1 + size / size₀)^−exponent."""
    # Single precision: a third of the time, and as exact as the votes.
    worths = tree.sizes.astype(np.float32)
    worths *= np.float32(1 / size)
    worths += np.float32(1)
    np.log(worths, out=worths)
    worths *= np.float32(-exponent)
    worths -= (tree.altitudes / contrast).astype(np.float32)
    np.exp(worths, out=worths)
    if tree.n_nodes > 1:
        worths[tree.root] = 0.0
    return worths


class Ballot(Protocol):
    """The probabilities between rounds, wherever they are."""

    def means(self) -> Any:
        """Return M, (k, n): the mean over the trees of the votes at each pixel."""

    def sampled(self, means: Any, every: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities and ``means`` of some pixels, (k, pixels) each."""

    def count(self, means: Any, weight: float, votes: NDArray[np.bool_]) -> None:
        """Change the probabilities: see `counted`."""

    def winners(self) -> NDArray[np.int32]:
        """Return the most probable channel of each pixel, (n,), of equals the first."""

    def values(self) -> NDArray[np.float32]:
        """Return the probabilities, (k, n)."""


class KernelBallot:
    """A ballot on the CPU."""

    def __init__(self, channels: Channels, trees: Sequence[VotingTree]) -> None:
        self.channels = channels
        self.voters = [_Voter(tree, channels) for tree in trees]

    def means(self) -> NDArray[np.float32]:
        """Return M. O(nodes · k) a tree."""
        means = self.voters[0].means(self.channels)
        for voter in self.voters[1:]:
            means += voter.means(self.channels)
        if len(self.voters) > 1:
            means *= np.float32(1 / len(self.voters))
        return means

    def sampled(
        self, means: NDArray[np.float32], every: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities and ``means`` of some pixels."""
        return self.channels.values[:, every], means[:, every]

    def count(self, means: NDArray[np.float32], weight: float, votes: NDArray[np.bool_]) -> None:
        """Change the probabilities; those of ``means`` are lost."""
        values = counted(self.channels.values, means, weight, votes)
        self.channels = self.channels.changed_to(values)

    def winners(self) -> NDArray[np.int32]:
        """Return the most probable channel of each pixel."""
        return self.channels.winners()

    def values(self) -> NDArray[np.float32]:
        """Return the probabilities."""
        return self.channels.values


class _Voter:
    """A tree with what does not change from step to step."""

    def __init__(self, tree: VotingTree, own: Channels) -> None:
        self.tree = tree
        weights: NDArray[Any]
        if tree.leaf_map is not None:
            weights = np.bincount(tree.leaf_map, own.measure)
        elif own.measure is not None:
            weights = own.measure
        else:
            weights = np.ones(tree.n_leaves)
        self.leaf_weights = weights.astype(np.float32)

    def means(self, channels: Channels) -> NDArray[np.float32]:
        """Return M of this tree, (k, n)."""
        leaf_map, parents = self.tree.leaf_map, self.tree.parents
        if leaf_map is None:
            votes = kernels.as_rows(channels.values)
            if channels.measure is not None:
                votes *= self.leaf_weights[:, None]
        else:
            measure = np.empty(0) if channels.measure is None else channels.measure
            weights = measure.astype(np.float64, copy=False)
            sums = dense_leaf_sums(channels.values, leaf_map, weights, self.tree.n_leaves)
            votes = np.ascontiguousarray(sums.T, dtype=np.float32)
        means: NDArray[Any]
        if parents.size == 1:
            # The only leaf is the root: its pixels hear each other.
            means = votes.T / np.maximum(self.leaf_weights, np.float32(1e-30))
        else:
            means = kernels.mean_votes(parents, self.tree.worths, votes, self.leaf_weights)
        return np.ascontiguousarray(means if leaf_map is None else means[:, leaf_map])


def counted(
    values: NDArray[np.float32],
    means: NDArray[np.float32],
    weight: float,
    votes: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """P · exp(weight · M), normalised, in the place of M; classes without a vote keep their rank.

    Their P is raised by what the largest of the others is: they win where they have won before.
    """
    abstain = not votes.all()
    # Pieces that stay in the cache from one operation to the next.
    width = max(1, PIECE // means.shape[0])
    for start in range(0, means.shape[1], width):
        piece = means[:, start : start + width]
        # Up to rounding M is at most 1: taking 1 off keeps the exponential from overflowing.
        piece -= np.float32(1)
        piece *= np.float32(weight)
        np.exp(piece, out=piece)
        own = np.maximum(values[:, start : start + width], np.float32(LEAST_PROBABILITY))
        piece *= own
        if abstain:
            largest = piece[votes].max(axis=0)
            piece[~votes] = own[~votes] * (largest / own[votes].max(axis=0))
        piece /= piece.sum(axis=0)
    return means
