"""The main job in one call: image and soft output in, nearest partition of the hierarchy out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.choices import GUIDED, SOFT_MIX, SUPERPIXELS
from hiersearch.device.choice import resolved
from hiersearch.hierarchy import _merge_cost_kernels as merge_kernels
from hiersearch.hierarchy import _tree_kernels as tree_kernels
from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.hierarchy.costs import RegionCosts
from hiersearch.hierarchy.curve import RegionCurve, nearest_cuts_by_regions
from hiersearch.hierarchy.cut_result import Apart, CutResult, prepared_costs
from hiersearch.hierarchy.cuts import nearest_cut, nearest_horizontal_cut
from hiersearch.hierarchy.k_best import nearest_cuts
from hiersearch.hierarchy.linkage import Linkage, mix
from hiersearch.hierarchy.several import SeveralResult, nearest_of_hierarchies
from hiersearch.hierarchy.superpixels import PIXELS_PER_REGION
from hiersearch.hierarchy.superpixels import superpixels as make_superpixels
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.partitions.checks import pair_slices
from hiersearch.partitions.inputs import PartitionLike, as_partition
from hiersearch.partitions.output import Offsets
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, Memberships, Merges, SoftPartition

DEFAULT_SUPERPIXELS = GUIDED
DEFAULT_LINKAGE = SOFT_MIX


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """What :func:`match` found."""

    target: Partition | SoftPartition
    """What was to be come near to."""
    tree: MergeTree
    """The hierarchy that was searched."""
    costs: RegionCosts
    """The costs of its nodes."""
    best: CutResult
    """The nearest of all its cuts (under the constraints, if any)."""
    horizontal: CutResult | None
    """The nearest of its horizontal cuts; None where none meets the constraints."""
    nearest: tuple[CutResult, ...]
    """The nearest distinct cuts in order, as many as asked for; the first is as near as best."""
    seconds: dict[str, float]
    """Wall time of each step."""
    together: SeveralResult | None = None
    """Where several hierarchies were given: the nearest of all their horizontal cuts, and how
    many of those had to be looked at."""

    def __repr__(self) -> str:
        """Name the nearest cut, and what was searched."""
        leaves = f"{self.tree.n_leaves:,} leaves"
        return (
            f"<Match: distance {self.best.distance:.6g}, {self.best.n_regions} regions, best of "
            f"{self.best.candidates} cuts of {leaves}>"
        )

    def curve(self, most: int | None = None) -> RegionCurve:
        """Return the nearest cut for every number of regions up to ``most`` (all by default)."""
        return nearest_cuts_by_regions(self.tree, self.costs, most)


def match(
    image: ArrayLike | None,
    target: PartitionLike,
    *,
    reading: str | None = None,
    offsets: Offsets | None = None,
    superpixels: str | ArrayLike = DEFAULT_SUPERPIXELS,
    superpixel_count: int | None = None,
    linkage: str | Linkage | Callable[..., float] = DEFAULT_LINKAGE,
    tree: MergeTree | Sequence[MergeTree] | None = None,
    n_regions: int | None = None,
    minimum_size: float = 0.0,
    apart: Apart = None,
    class_weight: float = 0.0,
    k: int = 1,
    device: str | None = "cpu",
) -> Match:
    """Find the partition of the image's hierarchy that is nearest to a network's soft output.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels
        What the hierarchy is made of. May be None where ``tree`` is given, or where superpixels
        and linkage do without it.
    target : SoftOutput, SoftPartition, Partition, label map, or float array with its reading
        What to come near to.
    reading : {"regions", "classes", "boundaries", "affinities", "objects"}, optional
        What the channels of an array mean, (k, *grid).
    offsets : sequence of offsets, optional
        Of an array of affinities; see :class:`~hiersearch.partitions.SoftOutput`.
    superpixels : {"guided", "slic", "felzenszwalb", "watershed", "pixels"} or integer array
        The leaves. "guided", the default, are watershed basins of the gradients of the image
        and of the soft output together: no leaf then straddles an edge of either. For the
        others see :func:`hiersearch.hierarchy.superpixels.superpixels`; an array is a label map.
    superpixel_count : int, optional
        About how many; one for every 75 pixels where omitted. "felzenszwalb" and "pixels" take
        none.
    linkage : str, Linkage or function
        How unlike two regions are; see :func:`hiersearch.hierarchy.build.build_hierarchy`. The
        default, "soft-mix", weighs the contrast of the image, scaled to [0, 1], and the
        difference of the soft output alike; with boundaries and affinities it is "average" on
        the boundaries that they show, with a hard target "average" on the image. With neither
        superpixels nor linkage given, a target made of a hierarchy is matched on that one. A
        function sees
        the sums of the soft output behind those of the image's channels.
    tree : MergeTree or sequence of MergeTree, optional
        A hierarchy that is ready, or several of other superpixels or linkages, which are searched
        together; then superpixels and linkage are not used. The result is that of the hierarchy
        with the nearest cut, and says in ``together`` how few horizontal cuts were looked at.
    n_regions : int, optional
        The exact number of regions; any where omitted.
    minimum_size : float
        Smallest size of a region, in pixels (or the measure of the tree).
    apart : integer array on the grid, or pairs of pixels, optional
        Regions must not hold two different non-zero markers, or both pixels of a pair.
    class_weight : float
        λ of the class property term; see :func:`hiersearch.hierarchy.costs.region_costs`.
    k : int
        How many nearest distinct cuts to return (without ``n_regions``).
    device : {"cpu", "cuda", "cuda:N", "auto"}
        What does the costs of the hierarchy and the sweep over its horizontal cuts: see
        :func:`hiersearch.hierarchy.costs.region_costs`. All else is done on the CPU.

    Returns
    -------
    Match

    Raises
    ------
    ValueError, TypeError
        If shapes, values or constraints don't fit; the message names the argument.

    Notes
    -----
    The answer is exact: the nearest of all cuts of the hierarchy. O(k · pixels) and the time of
    the superpixels, which dominates.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((20, 20)); image[5:15, 5:15] = 1
    >>> inside = np.where(image > 0, 0.9, 0.1)
    >>> soft = np.stack([1 - inside, inside])
    >>> found = match(image, soft, reading="classes", superpixels="pixels")
    >>> found.best.n_regions, int(found.best.labels[10, 10] == found.best.labels[7, 7])
    (2, 1)
    """
    goal = as_partition(target, "target", reading=reading, offsets=offsets)
    _validate.checked_count(k, "k", 1)
    resolved(device)
    if n_regions is not None and k > 1:
        raise ValueError(f"k must be 1 where n_regions is given, got {k}")
    seconds: dict[str, float] = {}
    together: SeveralResult | None = None
    if tree is None and isinstance(goal, Merges) and (superpixels, linkage) == (GUIDED, SOFT_MIX):
        trees = [own_tree(goal)]
    elif tree is None:
        trees = [_hierarchy(image, goal, superpixels, superpixel_count, linkage, seconds)]
    elif isinstance(tree, MergeTree):
        trees = [tree]
    else:
        trees = list(tree)
        with _timed(seconds, "all hierarchies' horizontal cuts"):
            together = nearest_of_hierarchies(trees, goal)
    with _timed(seconds, "costs"):
        rules = class_weight, minimum_size, apart, device
        of_trees = [prepared_costs(t, goal, *rules) for t in trees]
    with _timed(seconds, "best cut"):
        cuts = [
            nearest_cut(t, c, n_regions=n_regions) for t, c in zip(trees, of_trees, strict=True)
        ]
        nearest_tree = min(range(len(cuts)), key=lambda i: cuts[i].distance)
    tree, costs, best = trees[nearest_tree], of_trees[nearest_tree], cuts[nearest_tree]
    with _timed(seconds, "horizontal cut"):
        horizontal = _horizontal(tree, costs, device)
    nearest: tuple[CutResult, ...] = (best,)
    if k > 1:
        with _timed(seconds, f"{k} nearest cuts"):
            nearest = tuple(nearest_cuts(tree, costs, k))
    return Match(goal, tree, costs, best, horizontal, nearest, seconds, together)


def _horizontal(tree: MergeTree, costs: RegionCosts, device: str | None) -> CutResult | None:
    try:
        return nearest_horizontal_cut(tree, costs, device=device)
    except ValueError:
        # The constraints allow a cut, but no horizontal one.
        return None


def _hierarchy(
    image: ArrayLike | None,
    goal: Partition | SoftPartition,
    superpixels: str | ArrayLike,
    count: int | None,
    linkage: str | Linkage | Callable[..., float],
    seconds: dict[str, float],
) -> MergeTree:
    """Make the tree, with superpixels and merging timed apart."""
    field: NDArray[Any] | None = None
    if image is not None:
        field = _checked_image(image, goal.grid)
    with _timed(seconds, "superpixels"):
        leaves = _leaves(field, goal, superpixels, count)
    soft, boundary = None, None
    if isinstance(linkage, str) and linkage == SOFT_MIX:
        soft = _soft_features(goal)
        if soft is None:
            linkage = "average"
            # A target that tells of boundaries says more of them than the image does.
            if field is None or isinstance(goal, SoftPartition):
                boundary = _boundary_evidence(goal)
        elif field is None:
            linkage = mix(soft=1.0)
        else:
            linkage, field = mix(soft=0.5, boundary=0.5), _unit_range(field)
    elif not isinstance(linkage, str) and getattr(linkage, "soft", 1.0) > 0:
        soft = _soft_features(goal)
    with _timed(seconds, "hierarchy"):
        return build_hierarchy(
            field,
            superpixels=leaves,
            linkage=linkage,
            boundary=boundary,
            soft=soft,
            grid=goal.grid,
        )


def _leaves(
    field: NDArray[Any] | None,
    goal: Partition | SoftPartition,
    superpixels: str | ArrayLike,
    count: int | None,
) -> str | ArrayLike:
    """Return the label map of the leaves, or "pixels" as it is."""
    if not isinstance(superpixels, str):
        return superpixels
    _validate.checked_choice(superpixels, (GUIDED, *SUPERPIXELS), "superpixels")
    if superpixels == "pixels" and count is None:
        return superpixels
    if count is None and superpixels != "felzenszwalb":
        count = max(1, int(np.prod(goal.grid)) // PIXELS_PER_REGION)
    if superpixels == GUIDED:
        heights = _guiding_heights(field, goal)
        return make_superpixels(
            heights, "watershed", superpixel_count=count, grid=goal.grid, boundary=heights
        )
    if field is None:
        raise ValueError(f"image must be given for superpixels={superpixels!r}, got None")
    return make_superpixels(field, superpixels, superpixel_count=count, grid=goal.grid)


def _guiding_heights(
    field: NDArray[Any] | None, goal: Partition | SoftPartition
) -> NDArray[np.float32]:
    """Gradient of the image plus that of the soft output, each of values within [0, 1]."""
    heights: NDArray[np.float32] = np.zeros(goal.grid, np.float32)
    if field is not None:
        channels = _unit_range(field).reshape(*goal.grid, -1)
        heights += _steepest(np.moveaxis(channels, -1, 0))
    if isinstance(goal, Memberships) and not goal.reads_boundaries:
        return heights + _steepest(goal.values.reshape(-1, *goal.grid))
    return heights + _boundary_evidence(goal)


def _boundary_evidence(goal: Partition | SoftPartition) -> NDArray[np.float32]:
    """Where a target without channels puts boundaries: a map within [0, 1]."""
    if isinstance(goal, Affinities):
        # A pixel that is likely to be apart from its partners, on either side, is near a boundary.
        apart = np.zeros(goal.grid, np.float32)
        known = np.zeros(goal.grid, np.float32)
        for affinities, offset in zip(goal.values, goal.offsets, strict=True):
            source, target = pair_slices(offset, goal.grid)
            for ends in (source, target):
                apart[ends] += 1 - affinities.reshape(goal.grid)[source]
                known[ends] += 1
        return (apart / np.maximum(known, 1)).astype(np.float32)
    if isinstance(goal, Merges):
        return contours_of(goal)
    if isinstance(goal, Memberships):
        # Boundaries lie where no region holds a pixel for certain.
        surest = goal.values.max(axis=0).reshape(goal.grid)
        doubt: NDArray[np.float32] = np.clip(2 - 2 * surest, 0, 1).astype(np.float32)
        return doubt
    assert isinstance(goal, Partition)
    return _changes(goal.labels)


def contours_of(goal: Merges) -> NDArray[np.float32]:
    """Return how likely each pixel is apart from a neighbour, the likeliest of them."""
    leaves = goal.leaf_map.reshape(goal.grid)
    heads = tree_kernels.path_heads(goal.parents)
    apart = np.zeros(goal.grid, np.float32)
    for axis in range(leaves.ndim):
        ends = [
            tuple(slice(*s) if a == axis else slice(None) for a in range(leaves.ndim))
            for s in ((None, -1), (1, None))
        ]
        one, other = (np.ascontiguousarray(leaves[end]).reshape(-1) for end in ends)
        joins = merge_kernels.ancestors_of_pairs(goal.parents, heads, one, other)
        likely = (1 - goal.joined[joins]).astype(np.float32).reshape(leaves[ends[0]].shape)
        for end in ends:
            np.maximum(apart[end], likely, out=apart[end])
    return apart


def own_tree(goal: Merges) -> MergeTree:
    """Return the hierarchy that a soft partition is of.

    A node's altitude is how likely its sides are apart, or what is under it if that is more: the
    horizontal cuts are thresholds of that. O(pixels + nodes).
    """
    apart = 1 - goal.joined
    altitudes = tree_kernels.running_maximum(goal.parents, apart)
    return MergeTree.from_parents(goal.parents, altitudes, goal.leaf_map.reshape(goal.grid))


def _changes(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return 1 at the pixels of a label map that have another label beside them, else 0."""
    from skimage.segmentation import find_boundaries

    changes: NDArray[np.float32] = find_boundaries(labels, mode="thick").astype(np.float32)
    return changes


def _steepest(channels: Iterable[NDArray[Any]]) -> NDArray[np.float32]:
    """Largest gradient over the channels: Sobel's, of a step of 1 about 1."""
    from scipy import ndimage

    steepest: NDArray[np.float32] | None = None
    for channel in channels:
        field = channel.astype(np.float32, copy=False)
        squares = sum(np.square(ndimage.sobel(field, axis)) for axis in range(field.ndim))
        steepest = squares if steepest is None else np.maximum(steepest, squares)
    assert steepest is not None
    # Sobel's weights add up to 4 for every axis across the step.
    gradient: NDArray[np.float32] = np.sqrt(steepest) * np.float32(4.0 ** (1 - steepest.ndim))
    return gradient


def _soft_features(goal: Partition | SoftPartition) -> NDArray[Any] | None:
    """Soft output as features of pixels, where it has any: rows of probabilities, (m, *grid)."""
    if not isinstance(goal, Memberships) or goal.reads_boundaries:
        return None
    # Rows, not channels: the class reading keeps one class a row, however many components.
    return goal.values.reshape(-1, *goal.grid)


def _checked_image(image: ArrayLike, grid: tuple[int, ...]) -> NDArray[Any]:
    array = _validate.as_array(image, "image")
    if array.size == 0:
        raise ValueError(f"image must not be empty, got shape {array.shape}")
    _validate.checked_finite(array, "image")
    if array.shape[: len(grid)] != grid or array.ndim not in (len(grid), len(grid) + 1):
        raise ValueError(
            f"image must have the target's grid {grid}, with or without a last axis of channels, "
            f"got shape {array.shape}"
        )
    return array


def _unit_range(image: NDArray[Any]) -> NDArray[np.float32]:
    """Image scaled so that its values span [0, 1]; a constant image becomes zeros."""
    low, high = float(image.min()), float(image.max())
    scaled: NDArray[np.float32] = (image.astype(np.float32) - low) / max(high - low, 1e-12)
    return scaled


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - begin
