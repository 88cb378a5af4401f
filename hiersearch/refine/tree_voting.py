"""Tree voting: each pixel hears the pixels that the image's hierarchy puts in its regions.

Draw a horizontal cut of a hierarchy at random: the probability that pixels p and q share a region
depends on their lowest common ancestor alone, s(lca(p, q)) with s falling from small, quiet regions
to the whole grid. It is an expected co-membership, and refining is one multiplication of the soft
output by it, O(nodes · k). A class that does not fill regions (a thin seam between two others)
would be outvoted everywhere: it abstains, and keeps its pixels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.hierarchy._cost_kernels import dense_leaf_sums
from hiersearch.hierarchy.graph import checked_channels, sides_of
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions.soft import SoftPartition
from hiersearch.refine import _voting_kernels as kernels
from hiersearch.refine.channels import Channels, as_channels
from hiersearch.refine.refinement import Refinement, Step

STEPS_OF_A_LEVEL = 64
"""Whole steps that a grey level is divided into where images are not of uint8."""

BLURS = (0.0, 0.7)
"""σ in pixels of the copies of the image that the first and the second tree are made of."""

LEAST_PROBABILITY = 1e-7
"""What a probability is raised to before others vote: a zero could never be outvoted."""

MOST_WEIGHT = 50.0

SAMPLE = 2**14
"""Pixels, at even distances, by which classes are judged."""

PIECE = 2**16
"""Values that are worked on at a time: 256 kB."""


def tree_voting(
    image: ArrayLike | None,
    soft: SoftPartition | ArrayLike,
    *,
    reading: str | None = None,
    trees: int | Sequence[MergeTree] = 2,
    steps: int = 1,
    contrast: float | None = None,
    size: float = 30.0,
    exponent: float = 1.2,
    weight: float = 8.0,
    support: float = 0.5,
    tolerance: float = 0.2,
    measure: ArrayLike | None = None,
) -> Refinement:
    """Refine a soft output by the votes of the regions that pixels share.

    Parameters
    ----------
    image : array of finite numbers, shape of the grid, with or without a last axis of channels
        What the trees are made of; may be None where ``trees`` are given. uint8 counts as grey
        levels; the values of any other type are scaled so that they span the levels 0..255.
    soft : SoftPartition or float array (k, *grid)
        Region or class channels, or a boundary map (an array (1, *grid) or ``grid``).
    reading : {"regions", "classes", "boundaries"}, optional
        What the channels of an array mean; a soft partition knows.
    trees : {1, 2} or sequence of MergeTree
        1: single linkage of the image's pixels, by their largest channel difference. 2: that, and
        the same of the image blurred by 0.7 pixels. Or trees of your own, with any leaves.
    steps : int
        How many times the vote is repeated, each on the outcome of the one before.
    contrast : float, optional
        Difference, in grey levels, over which two pixels' say in each other falls by a factor e
        (for trees of your own: in their altitudes' unit). Where omitted, the root mean square
        difference of neighbouring pixels (their trees': of the merges), about 10 to 20 in
        photographs and 1 to 7 in micrographs.
    size : float
        Size of a region, in pixels, from which on the say of its pixels falls as a power.
    exponent : float
        That power. Above 1 small regions outvote large ones.
    weight : float, optional
        How much the vote counts against the pixel's own log-probability; within (0, 50].
    support : float
        Share of a class's own pixels at which the vote must favour it, within [0, 1] (pixels count
        by their odds for it, so that sure ones decide). Of three or more classes one with less
        abstains: its pixels stay its own, and it gains no others. With 0 all classes vote.
    tolerance : float
        Regions that pixels share hardly less than the next larger one are passed over: S below is
        exact at 0, else too small by this share of itself at most; at 0.2 most inner nodes go,
        and scores stay.
    measure : array, shape of the grid, optional
        Non-negative weight of each pixel's vote, with an array; 1 where omitted.

    Returns
    -------
    Refinement
        Probabilities P' ∝ P · exp(weight · M), where M_p is the mean of P over the pixels that
        vote at p; the trace has a step for each tree and each vote. Those of classes that abstain
        keep their proportion to the largest of the others.

    Raises
    ------
    TypeError, ValueError
        If image, soft output and trees don't share a grid, values are not finite or no
        probabilities, a parameter is out of range, or the channels are affinities.

    Notes
    -----
    M_p = Σ_q S_pq μ_q P_q / Σ_q S_pq μ_q with S_pq = s(lca(p, q)) and

        s(R) = exp(−altitude(R) / contrast) · (1 + |R| / size)^−exponent,   0 at the root.

    Where s rises again further up, as in trees with inversions, the largest s of a region that
    holds both pixels counts. One pass up and one down the tree in single precision:
    O(nodes · k) a tree and a step, and O(pixels · channels) for the trees of the image.
    A boundary map votes as the two channels 1 − b and b.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((20, 20), np.uint8); image[5:15, 5:15] = 100
    >>> inside = np.where(image > 0, 0.7, 0.3); inside[8, 8] = 0.2
    >>> found = tree_voting(image, np.stack([1 - inside, inside]), reading="classes")
    >>> int(found.labels[8, 8]), found.partition.n_regions
    (1, 2)
    """
    channels = as_channels(soft, reading, measure, "tree_voting")
    _validate.checked_count(steps, "steps", 1)
    _check_numbers(weight, support, size, exponent, tolerance)
    made: list[Step] = []
    voters = [
        _Voter.of(tree, _worths(tree, scale, size, exponent), tolerance, channels)
        for tree, scale in _trees(image, trees, contrast, channels.grid, made)
    ]
    before = channels.labels()
    votes = np.ones(channels.values.shape[0], np.bool_)
    for number in range(steps):
        begin = time.perf_counter()
        means = _mean_votes(channels, voters)
        if number == 0 and channels.reading == "classes" and votes.size > 2 and support > 0:
            votes = _supported(channels, before, means, support)
        channels = channels.changed_to(_voted(channels, means, weight, votes))
        after = channels.labels()
        figures = {
            "step": number + 1,
            "weight": float(weight),
            "abstaining": np.flatnonzero(~votes).tolist(),
            "trees": len(voters),
            "voting_nodes": sum(voter.parents.size for voter in voters),
            "size": size,
            "exponent": exponent,
            "changed_pixels": int(np.count_nonzero(after != before)),
        }
        made.append(Step("tree_voting", figures, time.perf_counter() - begin))
        before = after
    labels, partition = channels.result(before)
    return Refinement(channels.probabilities(), labels, partition, tuple(made))


def image_tree(
    image: ArrayLike, grid: tuple[int, ...], *, blur: float = 0.0
) -> tuple[MergeTree, float]:
    """Return the single-linkage tree of an image's pixels in grey levels, and their contrast.

    Parameters
    ----------
    image : array of finite numbers, shape ``grid`` or ``grid + (channels,)``
        As in :func:`tree_voting`.
    grid : tuple of int
        (H, W) or (D, H, W), of fewer than 2**29 pixels.
    blur : float
        σ in pixels of the Gaussian that the image is blurred with first.

    Returns
    -------
    tree : MergeTree
        Leaf p is pixel p of the flattened grid; altitudes in grey levels 0..255.
    contrast : float
        Root mean square of the largest channel differences of all neighbouring pixels.

    Raises
    ------
    TypeError, ValueError
        If the image does not fit the grid or is not finite.

    Notes
    -----
    O(pixels · channels): differences are whole numbers of 1/64 level, sorted by counting. Of
    uint8 images it is the tree of :func:`hiersearch.hierarchy.agglomerate.pixel_tree`.

    Examples
    --------
    >>> tree, contrast = image_tree(np.array([[1, 3, 3]], np.uint8), (1, 3))
    >>> tree.altitudes.tolist(), round(contrast, 3)
    ([0.0, 0.0, 0.0, 0.0, 2.0], 1.414)
    """
    values = checked_channels(image, grid, "image")
    n_pixels = values.shape[0]
    if n_pixels >= 2**29:
        raise ValueError(f"image must have fewer than 2**29 pixels, got grid {grid}")
    levels, unit = _levels(values, grid, blur)
    parents, altitudes, sizes, squares = kernels.grid_tree(levels, sides_of(grid))
    altitudes *= unit
    leaf_map = np.arange(n_pixels, dtype=np.int32).reshape(grid)
    pairs = sum(n_pixels // side * (side - 1) for side in grid)
    contrast = float(np.sqrt(squares / max(1, pairs))) * unit
    return MergeTree(parents, altitudes, sizes, leaf_map), contrast


def _levels(
    values: NDArray[Any], grid: tuple[int, ...], blur: float
) -> tuple[NDArray[np.uint16], float]:
    """Return whole numbers (n, channels) and the grey levels that a step of 1 stands for."""
    if values.dtype == np.uint8 and blur == 0:
        return values.astype(np.uint16), 1.0
    from scipy import ndimage

    field = values.astype(np.float32)
    if values.dtype != np.uint8:
        low, high = float(field.min()), float(field.max())
        field -= np.float32(low)
        field *= np.float32(255.0 / (high - low) if high > low else 0.0)
    if blur > 0:
        # Along the grid's axes only, one after the other.
        field = field.reshape(*grid, -1)
        for axis in range(len(grid)):
            field = ndimage.gaussian_filter1d(field, blur, axis=axis)
        field = field.reshape(values.shape)
    return np.rint(field * STEPS_OF_A_LEVEL).astype(np.uint16), 1.0 / STEPS_OF_A_LEVEL


def _trees(
    image: ArrayLike | None,
    trees: int | Sequence[MergeTree],
    contrast: float | None,
    grid: tuple[int, ...],
    made: list[Step],
) -> list[tuple[MergeTree, float]]:
    """Return the trees with the contrast of each; note what was done in ``made``."""
    if contrast is not None and not (np.isfinite(contrast) and contrast > 0):
        raise ValueError(f"contrast must be a positive number, got {contrast!r}")
    found = []
    if isinstance(trees, (int, np.integer)):
        _validate.checked_count(trees, "trees", 1, len(BLURS))
        if image is None:
            raise ValueError("image must be given where no trees are, got None")
        for blur in BLURS[:trees]:
            begin = time.perf_counter()
            tree, own = image_tree(image, grid, blur=blur)
            found.append((tree, _contrast(contrast, own)))
            figures = {"nodes": tree.n_nodes, "contrast": found[-1][1], "blur": blur}
            made.append(Step("image tree", figures, time.perf_counter() - begin, tree))
        return found
    if len(trees) == 0:
        raise ValueError("trees must hold a merge tree, got none")
    for number, tree in enumerate(trees):
        if not isinstance(tree, MergeTree):
            raise TypeError(f"trees must be merge trees or a number of trees, got {tree!r}")
        _validate.checked_same_grid(grid, tree.grid, "soft", f"trees[{number}]")
        merges = tree.altitudes[tree.n_leaves :]
        own = float(np.sqrt(np.square(merges).mean())) if merges.size else 0.0
        found.append((tree, _contrast(contrast, own)))
        figures = {"nodes": tree.n_nodes, "contrast": found[-1][1]}
        made.append(Step("given tree", figures, 0.0, tree))
    return found


def _contrast(given: float | None, own: float) -> float:
    # Without any difference all altitudes are 0, and any positive contrast does.
    return given if given is not None else own if own > 0 else 1.0


def _check_numbers(
    weight: float, support: float, size: float, exponent: float, tolerance: float
) -> None:
    if not 0 < weight <= MOST_WEIGHT:
        raise ValueError(f"weight must be within (0, {MOST_WEIGHT:g}], got {weight!r}")
    if not 0 <= support <= 1:
        raise ValueError(f"support must be within [0, 1], got {support!r}")
    if not (np.isfinite(size) and size > 0):
        raise ValueError(f"size must be a positive number, got {size!r}")
    for name, value in (("exponent", exponent), ("tolerance", tolerance)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number of at least 0, got {value!r}")


@dataclass(frozen=True, slots=True, eq=False)
class _Voter:
    """A tree with what does not change from step to step."""

    leaf_map: NDArray[np.int32] | None
    """(n,) leaf of each pixel, or None where leaf p is pixel p."""
    parents: NDArray[np.int64]
    """(nodes,) the tree without the nodes that were passed over."""
    worths: NDArray[np.float32]
    """(nodes,) s of each node, 0 at the root."""
    leaf_weights: NDArray[np.float32]
    """(n_leaves,) measure of each leaf."""

    @staticmethod
    def of(tree: MergeTree, worths: NDArray[np.float32], tolerance: float, own: Channels) -> _Voter:
        """Prune a tree and weigh its leaves."""
        leaf_map = None if tree.has_pixel_leaves else tree.leaf_map.reshape(-1)
        if own.measure is None and leaf_map is None:
            weights = np.ones(tree.leaf_map.size, np.float32)
        else:
            weights = np.bincount(tree.leaf_map.reshape(-1), own.measure).astype(np.float32)
        parents = tree.parents
        if tree.n_nodes > 1:
            parents, worths = kernels.pruned(parents, worths, weights.size, tolerance)
        return _Voter(leaf_map, parents, worths, weights)

    def means(self, channels: Channels) -> NDArray[np.float32]:
        """Return M, (k, n): the mean of the votes at each pixel."""
        if self.leaf_map is None:
            votes = kernels.as_rows(channels.values)
            if channels.measure is not None:
                votes *= self.leaf_weights[:, None]
        else:
            measure = np.empty(0) if channels.measure is None else channels.measure
            weights = measure.astype(np.float64, copy=False)
            n_leaves = self.leaf_weights.size
            sums = dense_leaf_sums(channels.values, self.leaf_map, weights, n_leaves)
            votes = np.ascontiguousarray(sums.T, dtype=np.float32)
        means: NDArray[Any]
        if self.parents.size == 1:
            # The only leaf is the root: its pixels hear each other.
            means = votes.T / np.maximum(self.leaf_weights, np.float32(1e-30))
        else:
            means = kernels.mean_votes(self.parents, self.worths, votes, self.leaf_weights)
        return np.ascontiguousarray(means if self.leaf_map is None else means[:, self.leaf_map])


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


def _mean_votes(channels: Channels, voters: list[_Voter]) -> NDArray[np.float32]:
    """Return M, (k, n): the mean over the trees."""
    means = voters[0].means(channels)
    for voter in voters[1:]:
        means += voter.means(channels)
    if len(voters) > 1:
        means *= np.float32(1 / len(voters))
    return means


def _supported(
    channels: Channels,
    labels: NDArray[np.int32],
    means: NDArray[np.float32],
    support: float,
) -> NDArray[np.bool_]:
    """Return which classes votes favour at this share of their own pixels, (k,).

    A class without pixels votes. O(k · pixels of the sample).
    """
    k, n = means.shape
    every = slice(None, None, max(1, n // SAMPLE))
    own = labels[every]
    surest = channels.values[:, every].max(axis=0).astype(np.float64)
    # Odds of 100 at most.
    weights = surest / (1.01 - np.minimum(surest, 1))
    if channels.measure is not None:
        weights *= channels.measure[every]
    favoured = means[:, every].argmax(axis=0) == own
    share = np.bincount(own, weights * favoured, minlength=k)
    found: NDArray[np.bool_] = share >= support * np.bincount(own, weights, minlength=k)
    return found if found.any() else ~found


def _voted(
    channels: Channels, means: NDArray[np.float32], weight: float, votes: NDArray[np.bool_]
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
        own = np.maximum(channels.values[:, start : start + width], np.float32(LEAST_PROBABILITY))
        piece *= own
        if abstain:
            largest = piece[votes].max(axis=0)
            piece[~votes] = own[~votes] * (largest / own[votes].max(axis=0))
        piece /= piece.sum(axis=0)
    return means
