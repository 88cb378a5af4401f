"""Tree voting: each pixel hears the pixels that the image's hierarchy puts in its regions.

Draw a horizontal cut of a hierarchy at random: the probability that pixels p and q share a region
depends on their lowest common ancestor alone, s(lca(p, q)) with s falling from small, quiet regions
to the whole grid. It is an expected co-membership, and refining is one multiplication of the soft
output by it, O(nodes · k). A class that does not fill regions (a thin seam between two others)
would be outvoted everywhere: it abstains, and keeps its pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.device.choice import resolved
from hiersearch.hierarchy.graph import checked_channels, sides_of
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions.output import SoftOutput, as_soft_output
from hiersearch.partitions.soft import SoftPartition
from hiersearch.refinement import _voting_kernels as kernels
from hiersearch.refinement import device_voting
from hiersearch.refinement.channels import Channels
from hiersearch.refinement.refinement import Refinement, Step
from hiersearch.refinement.voting import Ballot, KernelBallot, VotingTree

STEPS_OF_A_LEVEL = 64
"""Whole steps that a grey level is divided into where images are not of uint8."""

BLURS = (0.0, 0.7)
"""σ in pixels of the copies of the image that the first and the second tree are made of."""

MOST_WEIGHT = 50.0

SAMPLE = 2**14
"""Pixels, at even distances, by which classes are judged."""


def tree_voting(
    image: ArrayLike | None,
    soft: SoftOutput | SoftPartition | ArrayLike,
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
    device: str | None = "cpu",
) -> Refinement:
    """Refine a soft output by the votes of the regions that pixels share.

    Parameters
    ----------
    image : array of finite numbers, shape of the grid, with or without a last axis of channels
        What the trees are made of; may be None where ``trees`` are given. uint8 counts as grey
        levels; the values of any other type are scaled so that they span the levels 0..255.
    soft : SoftOutput, SoftPartition or float array (k, *grid)
        Region or class channels, or a boundary map (an array (1, *grid) or ``grid``).
    reading : {"regions", "classes", "boundaries"}, optional
        What the channels of an array mean; a soft output knows.
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
    device : {"cpu", "cuda", "cuda:N", "auto"}
        What counts the votes; trees are made on the CPU. A GPU's means are those of exact sums,
        rounded to single precision (:mod:`hiersearch.refinement.device_voting`); the CPU sums in
        single precision: probabilities of a photo of 512 × 512 pixels differ by 2e-6 at most.

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
        probabilities, a parameter is out of range, the channels are affinities, or there is no
        such device.

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
    output = as_soft_output(soft, reading, measure=measure)
    channels = Channels.of(output)
    _validate.checked_count(steps, "steps", 1)
    _check_numbers(weight, support, size, exponent, tolerance)
    resolved(device)
    made: list[Step] = []
    voting = [
        VotingTree.of(tree, scale, size, exponent, tolerance)
        for tree, scale in _trees(image, trees, contrast, output.grid, made)
    ]
    ballot = _ballot(channels, voting, steps, device)
    before = ballot.winners()
    votes = np.ones(channels.values.shape[0], np.bool_)
    for number in range(steps):
        begin = time.perf_counter()
        means = ballot.means()
        if number == 0 and output.rows_are_classes and votes.size > 2 and support > 0:
            every = slice(None, None, max(1, before.size // SAMPLE))
            weights = None if channels.measure is None else channels.measure[every]
            votes = _supported(*ballot.sampled(means, every), before[every], weights, support)
        ballot.count(means, weight, votes)
        after = ballot.winners()
        figures = {
            "step": number + 1,
            "weight": float(weight),
            "abstaining": np.flatnonzero(~votes).tolist(),
            "trees": len(voting),
            "voting_nodes": sum(tree.parents.size for tree in voting),
            "size": size,
            "exponent": exponent,
            "changed_pixels": int(np.count_nonzero(after != before)),
        }
        made.append(Step("tree_voting", figures, time.perf_counter() - begin))
        before = after
    found = channels.changed_to(ballot.values()).refined()
    return Refinement(found, *found.outcome(), tuple(made))


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
    n_pixels = math.prod(grid)
    if n_pixels >= 2**29:
        raise ValueError(f"image must have fewer than 2**29 pixels, got grid {grid}")
    values = checked_channels(image, grid, "image")
    levels, unit = _levels(values, grid, blur)
    parents, altitudes, sizes, squares = kernels.grid_tree(levels, sides_of(grid))
    altitudes *= unit
    leaf_map = np.arange(n_pixels, dtype=np.int32).reshape(grid)
    pairs = sum(n_pixels // side * (side - 1) for side in grid)
    contrast = float(np.sqrt(squares / max(1, pairs))) * unit
    return MergeTree._unchecked(parents, altitudes, sizes, leaf_map), contrast


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


def _ballot(
    channels: Channels, trees: Sequence[VotingTree], steps: int, device: str | None
) -> Ballot:
    k, n = channels.values.shape
    nodes = sum(tree.parents.size for tree in trees)
    where = resolved(device, device_voting.work_of_votes(n, nodes, k, steps))
    if where.on_kernels:
        return KernelBallot(channels, trees)
    return device_voting.DeviceBallot(channels, trees, where)


def _supported(
    values: NDArray[np.float32],
    means: NDArray[np.float32],
    labels: NDArray[np.int32],
    measure: NDArray[Any] | None,
    support: float,
) -> NDArray[np.bool_]:
    """Return which classes votes favour at this share of their own pixels, (k,).

    Of a sample of pixels: probabilities and mean votes (k, pixels), labels and measure (pixels,).
    A class without pixels votes. O(k · pixels).
    """
    k = values.shape[0]
    surest = values.max(axis=0).astype(np.float64)
    # Odds of 100 at most.
    weights = surest / (1.01 - np.minimum(surest, 1))
    if measure is not None:
        weights *= measure
    favoured = means.argmax(axis=0) == labels
    share = np.bincount(labels, weights * favoured, minlength=k)
    found: NDArray[np.bool_] = share >= support * np.bincount(labels, weights, minlength=k)
    return found if found.any() else ~found
