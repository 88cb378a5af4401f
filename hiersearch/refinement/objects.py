"""Instances from channels that tell of objects: touching ones apart, small ones kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.hierarchy.agglomerate import agglomerate
from hiersearch.hierarchy.graph import compact_labels, region_graph
from hiersearch.hierarchy.matching import _changes, _checked_image
from hiersearch.hierarchy.watershed import watershed_tree
from hiersearch.partitions.checks import checked_probabilities, checked_unit_map, pair_slices
from hiersearch.partitions.output import SoftOutput, as_soft_output
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, SoftPartition
from hiersearch.refinement.calibration import break_even as calibrated_break_even
from hiersearch.refinement.metric_merging import metric_merging
from hiersearch.refinement.refinement import Refinement, Step

Field = NDArray[np.float64]

NARROWING = 0.14
"""How much narrower than its smaller object a neck is that alone parts two objects."""
DIP = 0.3
"""Fall of interior minus boundary that alone parts two objects."""
OUTLINES = (0.5, 0.7, 0.9)
"""Probabilities of the foreground at which its form is looked at."""
CLEAR = 0.6
"""Boundary from which on a pixel is an edge of the foreground's form."""
LARGEST_HOLE = 100
"""Pixels of a hole in the foreground that is taken for part of an object's form."""
SHARES = (0.5, 1.0, 1.5)
"""Depths of valleys, in multiples of the persistence, that vote on each pair of pixels."""
FINEST = 0.1
"""Depth of the valleys between the basins that are merged."""
PAIRS_BREAK_EVEN = 0.3
"""Where affinities break even: a network is unsure where a seam runs, and says "together" too often
of the pairs across it."""
PAIRS_BLUR = 1.5
"""Pixels by which the map of affinities is blurred before its basins are taken."""


def objects(
    image: ArrayLike | None,
    soft: SoftOutput | SoftPartition | ArrayLike,
    *,
    reading: str | None = None,
    offsets: Sequence[Sequence[int]] | None = None,
    superpixels: str | ArrayLike | None = None,
    foreground: ArrayLike | None = None,
    certainty: float | None = None,
    confidence: float = 0.5,
    minimum_size: int = 30,
    persistence: float = 1.0,
    break_even: float | None = None,
    must_link: ArrayLike | None = None,
    cannot_link: ArrayLike | None = None,
) -> Refinement:
    """Find the objects that a network's channels tell of.

    The channels give a soft co-membership of pairs of pixels; a hierarchy of fine regions and
    `metric_merging` give the partition near to it.

    Parameters
    ----------
    image : array, shape of the grid, with or without a last axis of channels; or None
        Used where ``superpixels`` of affinities name a method, only.
    soft : SoftOutput, SoftPartition or array
        An array comes with its reading: objects are (3, *grid), background, interior and boundary,
        summing to 1; affinities (d, *grid), or (1 + d, *grid) with the foreground first;
        boundaries (*grid) or (1, *grid), within [0, 1].
    reading : {"objects", "affinities", "boundaries"}, optional
        What the channels of an array mean, "objects" where omitted. In 3-D and in 2-D alike.
    offsets : sequence of d offsets
        Of an array of affinities, as in `SoftPartition.from_affinities`.
    superpixels : integer array or str, optional
        Fine regions to merge; the map's own basins where omitted. Of affinities a label map or a
        method of `metric_merging`, of a boundary map a label map. With background, interior and
        boundary there is no choice.
    foreground : array, shape of the grid, optional
        With a boundary map, or affinities that lack it: probability of an object; where it is below
        ``certainty`` there is background, but for holes of up to 100 pixels. Everything is an
        object where omitted. Affinities with an end on the background don't count.
    certainty : float, optional
        Interior plus boundary (or ``foreground``) from which on a pixel belongs to an object; 0.5
        with affinities where omitted, else 0.65.
    confidence : float
        Least peak of interior minus boundary (blurred by 1 pixel) of an object; others are
        background.
    minimum_size : int
        Least size of an object in pixels; smaller ones are background (with affinities and a
        boundary map only where ``foreground`` is given).
    persistence : float
        How deep valleys between two objects must be. 1 is a neck narrower by 14 % than the smaller
        object, a dip of interior minus boundary by 0.3, or half of both. Above 1 fewer objects are
        parted.
    break_even : float, optional
        Mean boundary within (0, 1) above which two regions are two objects. Calibrated on the
        map itself where omitted; see `hiersearch.refinement.calibration.break_even`. Affinities
        break even at 1 − ``break_even``, which is 0.3 where omitted: right for networks trained
        with `hiersearch.losses.AffinityMetricLoss`; ½ suits calibrated probabilities.
    must_link, cannot_link
        As in `metric_merging`.

    Returns
    -------
    Refinement
        ``labels`` are 0 on the background (where there can be one: see ``has_background``) and
        1.. on the objects; else 0.. . The channels are what the partition says: 0 or 1.

    Raises
    ------
    ValueError, TypeError
        If shapes or values do not fit, an argument is given that the channels have no use for, or
        constraints contradict one another.

    Notes
    -----
    Background, interior and boundary: the channels and the form of the foreground decide
    together. Each pixel has a height, log (1 + distance to the foreground's edge in pixels) plus
    interior minus boundary, each in units of what alone parts two objects; hills merge by the depth
    of the valley between them (dynamics). Two pixels belong together as likely as they share a hill
    at half, once and one and a half times the depth ``persistence``. Neighbouring pixels are asked,
    so without constraints the cut at ``persistence`` itself wins. O(pixels log pixels).

    Examples
    --------
    >>> import numpy as np
    >>> boundary = np.full((9, 20), 0.1)
    >>> boundary[:, 9:11] = 0.9
    >>> objects(None, boundary, reading="boundaries").labels[4].tolist()
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    began = time.perf_counter()
    if reading is None and not isinstance(soft, (SoftOutput, SoftPartition)):
        reading = "objects"
    output = as_soft_output(soft, reading, offsets=offsets)
    way = _WAYS.get(output.reading)
    if way is None:
        raise ValueError(
            f"objects needs one of the readings {', '.join(_WAYS)}, got {output.reading!r}"
        )
    if certainty is None:
        certainty = way.certainty
    _check_numbers(certainty, confidence, persistence, minimum_size, break_even)
    if not way.is_merged:
        unused = {"superpixels": superpixels, "foreground": foreground, "break_even": break_even}
        for name, value in unused.items():
            if value is not None:
                raise ValueError(f"reading {output.reading!r} has no use for {name}")
        pairs, basins, covered, peaks = _from_three(output.channels, certainty, persistence)
        if image is not None:
            _checked_image(image, output.grid)
        merged = metric_merging(
            None, pairs, superpixels=basins, must_link=must_link, cannot_link=cannot_link
        )
        labels = _kept(merged.labels, covered, minimum_size, peaks, confidence)
        return _result(output.with_channels(_three_of(labels)), labels, began, merged, {}, True)
    if foreground is not None and output.foreground_map is not None:
        raise ValueError("foreground must come with the affinities or beside them, got both")
    given = output.foreground_map if foreground is None else foreground
    inside: NDArray[np.bool_] | None = None
    if given is not None:
        sure = checked_unit_map(given, "foreground", output.grid) >= certainty
        inside = _without_small_holes(sure)
    chosen, pairs, figures = way.prepared(output, superpixels, inside, break_even)
    merged = metric_merging(
        image, pairs, superpixels=chosen, must_link=must_link, cannot_link=cannot_link
    )
    labels = merged.labels
    if inside is not None:
        labels = _kept(labels, inside, minimum_size, None, confidence)
    shown = way.shown(labels, merged)
    if output.foreground_map is not None:
        shown = np.concatenate([(labels > 0)[None].astype(np.float32), shown])
    found = output.with_channels(shown)
    return _result(found, labels, began, merged, figures, inside is not None)


def _result(
    output: SoftOutput,
    labels: NDArray[np.int32],
    began: float,
    merged: Refinement,
    figures: dict[str, Any],
    has_background: bool,
) -> Refinement:
    trace = _trace(labels, began, merged, figures)
    return Refinement(output, labels, Partition.from_labels(labels), trace, has_background)


def _check_numbers(
    certainty: float,
    confidence: float,
    persistence: float,
    minimum_size: int,
    break_even: float | None,
) -> None:
    _validate.checked_count(minimum_size, "minimum_size", 0)
    if not 0 <= certainty <= 1:
        raise ValueError(f"certainty must be within [0, 1], got {certainty!r}")
    if not np.isfinite(confidence):
        raise ValueError(f"confidence must be a number, got {confidence!r}")
    if not (np.isfinite(persistence) and persistence > 0):
        raise ValueError(f"persistence must be a positive number, got {persistence!r}")
    if break_even is not None and not 0 < break_even < 1:
        raise ValueError(f"break_even must be within (0, 1), got {break_even!r}")


def _check_two_pixels(grid: tuple[int, ...]) -> None:
    if np.prod(grid) < 2:
        raise ValueError(f"probabilities must have two pixels or more, got the grid {grid}")


def _trace(
    labels: NDArray[np.int32], began: float, merged: Refinement, figures: dict[str, Any]
) -> tuple[Step, ...]:
    told = {"objects": int(np.unique(labels[labels > 0]).size), **figures}
    seconds = time.perf_counter() - began - merged.trace[0].seconds
    return (*merged.trace, Step("objects", told, seconds))


# --- background, interior, boundary ---------------------------------------------------------


def _from_three(
    probabilities: ArrayLike, certainty: float, persistence: float
) -> tuple[Affinities, NDArray[np.int32], NDArray[np.bool_], Field]:
    """Return affinities, fine basins, the foreground and blurred interior minus boundary."""
    from scipy import ndimage

    flat, grid = checked_probabilities(probabilities)
    if flat.shape[0] != 3:
        raise ValueError(
            f"probabilities must have 3 channels (background, interior, boundary), "
            f"got {flat.shape[0]}"
        )
    _check_two_pixels(grid)
    background, interior, boundary = flat.astype(np.float64).reshape(3, *grid)
    inside = 1 - background >= certainty
    offsets = np.eye(len(grid), dtype=np.int64)[np.array(grid) > 1]
    peaks = ndimage.gaussian_filter(interior - boundary, 1.0)
    affinities = np.zeros((len(offsets), *grid), np.float32)
    finest = inside.astype(np.int32)
    if inside.any():
        depths = [persistence * share for share in SHARES]
        field = _landscape(interior, boundary)
        finest, *seen = _basins(field, inside, [min(FINEST, depths[0]), *depths])
        for labels in seen:
            _count_joined(affinities, labels, offsets)
        affinities /= len(seen)
    else:
        affinities += 1
    leaves = compact_labels(finest)[0]
    return SoftPartition.from_affinities(affinities, offsets.tolist()), leaves, inside, peaks


def _landscape(interior: Field, boundary: Field) -> Field:
    """Return a field with a hill an object: sure of its interior and far from its edge.

    A valley of depth 1 is a neck narrower by NARROWING, a dip of the interior by DIP, or half of
    both. The distance to the edge is the mean over outlines of the foreground; a clear boundary is
    an edge, too, so that the middle of what it divides is no hill.
    """
    from scipy import ndimage

    unclear = boundary < CLEAR
    outlines = [unclear & (interior + boundary >= level) for level in OUTLINES]
    radius = ndimage.gaussian_filter(np.mean([_distance(form) for form in outlines], axis=0), 1.0)
    narrowing = np.log1p(radius) / -np.log(1 - NARROWING)
    landscape: Field = narrowing + ndimage.gaussian_filter(interior - boundary, 1.5) / DIP
    return landscape


def _distance(mask: NDArray[np.bool_]) -> Field:
    """Distance in pixels to the outside of a mask whose small holes are filled."""
    from scipy import ndimage

    filled = _without_small_holes(mask)
    # Where all is inside there is no outside to be far from.
    return np.zeros(mask.shape) if filled.all() else ndimage.distance_transform_edt(filled)


def _without_small_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    holes, _ = ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)
    small = np.bincount(holes.reshape(-1)) <= LARGEST_HOLE
    small[0] = False
    filled: NDArray[np.bool_] = mask | small[holes]
    return filled


def _basins(
    field: Field, inside: NDArray[np.bool_], depths: Sequence[float]
) -> list[NDArray[np.int32]]:
    """Label the hills of the foreground that valleys of each depth part; 0 is background."""
    pixels = np.arange(field.size, dtype=np.int32).reshape(field.shape)
    top = float(field.max())
    wall = top - float(field.min()) + 10 * max(depths) + 1
    graph = region_graph(pixels, boundary=np.where(inside, top - field, wall), colours=False)
    tree = watershed_tree(graph, "dynamics")
    cuts = (tree.labels_of(tree.horizontal_cut(depth)) for depth in depths)
    return [np.where(inside, labels + 1, 0).astype(np.int32) for labels in cuts]


def _count_joined(
    affinities: NDArray[np.float32], labels: NDArray[np.int32], offsets: NDArray[np.int64]
) -> None:
    """Add 1 to each pair of pixels with one label."""
    for channel, offset in zip(affinities, offsets, strict=True):
        source, target = pair_slices(offset, labels.shape)
        channel[source] += labels[source] == labels[target]


def _kept(
    labels: NDArray[np.int32],
    inside: NDArray[np.bool_],
    minimum_size: int,
    peaks: Field | None,
    confidence: float,
) -> NDArray[np.int32]:
    """Return foreground objects that are large and sure enough, numbered from 1; 0 elsewhere."""
    from scipy import ndimage

    numbered = np.where(inside, labels + 1, 0)
    sizes = np.bincount(numbered.reshape(-1))
    good = sizes >= max(1, minimum_size)
    if peaks is not None:
        good &= ndimage.maximum(peaks, numbered, np.arange(sizes.size)) >= confidence
    good[0] = False
    numbers = np.cumsum(good, dtype=np.int32) * good
    return numbers.astype(np.int32)[numbered]


def _three_of(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return background, interior and boundary of objects."""
    edge = (_changes(labels) > 0) & (labels > 0)
    return np.stack([labels == 0, (labels > 0) & ~edge, edge]).astype(np.float32)


# --- boundary maps and affinities -----------------------------------------------------------


def boundary_affinities(boundary: Field, height: float) -> Affinities:
    """Affinities of neighbouring pixels, ½ where the larger boundary of the two is ``height``.

    Linear in the boundary, so that the mean over a common boundary breaks even at that height.
    """
    offsets = np.eye(boundary.ndim, dtype=np.int64)
    offsets = offsets[np.array(boundary.shape) > 1]
    slope = 0.5 / max(height, 1 - height)
    affinities = np.ones((len(offsets), *boundary.shape), np.float64)
    for channel, offset in zip(affinities, offsets, strict=True):
        source, target = pair_slices(offset, boundary.shape)
        channel[source] = 0.5 + slope * (height - np.maximum(boundary[source], boundary[target]))
    return SoftPartition.from_affinities(np.clip(affinities, 0, 1), offsets.tolist())


def _from_boundary(
    output: SoftOutput,
    superpixels: str | ArrayLike | None,
    inside: NDArray[np.bool_] | None,
    break_even: float | None,
) -> tuple[str | ArrayLike, Affinities, dict[str, Any]]:
    """Return the fragments, affinities, and what the calibration found."""
    grid = output.grid
    field = checked_unit_map(output.channels[0], "boundary")
    _check_two_pixels(grid)
    if isinstance(superpixels, str):
        raise TypeError(
            f"superpixels of a boundary map must be a label map, or None for its own basins, "
            f"got {superpixels!r}"
        )
    if superpixels is None:
        fragments = _own_basins(field)
    else:
        fragments = compact_labels(_validate.checked_labels(superpixels, "superpixels"))[0]
        _validate.checked_same_grid(fragments.shape, grid, "superpixels", "boundary")
    if break_even is not None:
        figures: dict[str, Any] = {"break_even": float(break_even), "calibrated": False}
    else:
        graph = region_graph(fragments, boundary=field, colours=False)
        found = calibrated_break_even(agglomerate(graph, "average"), graph)
        figures = {
            "break_even": found.height,
            "calibrated": found.calibrated,
            "separation": found.separation,
        }
    return fragments, boundary_affinities(field, figures["break_even"]), figures


def _from_pairs(
    output: SoftOutput,
    superpixels: str | ArrayLike | None,
    inside: NDArray[np.bool_] | None,
    break_even: float | None,
) -> tuple[str | ArrayLike, Affinities, dict[str, Any]]:
    """Return the fragments and the affinities, moved so that they break even at one half."""
    soft = output.partition()
    assert isinstance(soft, Affinities)
    fragments = _fragments(soft, inside) if superpixels is None else superpixels
    return fragments, _shifted(soft, inside, break_even or PAIRS_BREAK_EVEN), {}


def _own_basins(
    field: Field, blur: float = 1.0, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Watershed basins of the map blurred by some pixels, one a minimum; one for the outside."""
    from scipy import ndimage
    from skimage import measure, segmentation

    blurred = ndimage.gaussian_filter(field, [blur if side > 1 else 0.0 for side in field.shape])
    if inside is not None:
        blurred[~inside] = np.inf
    low = ndimage.minimum_filter(blurred, 3) == blurred
    if inside is not None:
        low &= inside
    seeds = measure.label(low, connectivity=field.ndim)
    basins: NDArray[Any] = segmentation.watershed(blurred, np.asarray(seeds), mask=inside)
    return compact_labels(basins)[0]


def _fragments(soft: Affinities, inside: NDArray[np.bool_] | None) -> NDArray[np.int32]:
    """Basins of how far a pixel is apart from its nearest partners, on average."""
    apart, count = np.zeros(soft.grid), np.zeros(soft.grid)
    reaches = np.abs(soft.offsets).max(axis=1)
    for row, offset in zip(soft.values, soft.offsets, strict=True):
        if np.abs(offset).max() == reaches.min():
            source, target = pair_slices(offset, soft.grid)
            values = 1 - row.reshape(soft.grid)[source]
            for end in (source, target):
                apart[end] += values
                count[end] += 1
    apart /= np.maximum(count, 1)
    if inside is not None:
        apart[~inside] = 1
    return _own_basins(apart, PAIRS_BLUR, inside)


def _shifted(soft: Affinities, inside: NDArray[np.bool_] | None, break_even: float) -> Affinities:
    """Move what breaks even to ½, and pairs that leave the inside, too: they don't count then."""
    slope = 0.5 / max(break_even, 1 - break_even)
    moved = np.clip(0.5 + slope * (soft.values - (1 - break_even)), 0, 1)
    moved = moved.reshape(-1, *soft.grid)
    if inside is not None:
        for channel, offset in zip(moved, soft.offsets, strict=True):
            source, target = pair_slices(offset, soft.grid)
            channel[source] = np.where(inside[source] & inside[target], channel[source], 0.5)
    return SoftPartition.from_affinities(moved, soft.offsets.tolist())


def _unprepared(*_: object) -> Any:
    raise AssertionError("background, interior and boundary are not merged as they are")


def _edges(labels: NDArray[np.int32], _: Refinement) -> NDArray[np.float32]:
    return _changes(labels)[None]


def _pairs(_: NDArray[np.int32], merged: Refinement) -> NDArray[np.float32]:
    return merged.output.channels


class _Way(NamedTuple):
    """How objects are found in channels of one reading."""

    certainty: float
    """Default of the foreground from which on a pixel belongs to an object."""
    is_merged: bool
    """Whether the channels are merged as they are, without a landscape of their own."""
    prepared: Callable[..., tuple[str | ArrayLike, Affinities, dict[str, Any]]] = _unprepared
    """From the output to fragments, affinities and figures."""
    shown: Callable[[NDArray[np.int32], Refinement], NDArray[np.float32]] = _edges
    """From what was found to channels."""


_WAYS: dict[str, _Way] = {
    "objects": _Way(0.65, False),
    "boundaries": _Way(0.65, True, _from_boundary, _edges),
    "affinities": _Way(0.5, True, _from_pairs, _pairs),
}
