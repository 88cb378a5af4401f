"""From an image to a merge tree in one call."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._validate import (
    Grid,
    as_array,
    checked_choice,
    checked_finite,
    checked_grid,
    checked_labels,
)
from hiersearch.choices import LINKAGES, SUPERPIXELS, WATERSHED_LINKAGES
from hiersearch.hierarchy.agglomerate import agglomerate, pixel_tree
from hiersearch.hierarchy.graph import checked_channels, region_graph
from hiersearch.hierarchy.linkage import Linkage
from hiersearch.hierarchy.superpixels import grid_of_image
from hiersearch.hierarchy.superpixels import superpixels as make_superpixels
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.hierarchy.watershed import watershed_tree

_WATERSHED = "watershed-"


def build_hierarchy(
    image: ArrayLike | None = None,
    *,
    superpixels: str | ArrayLike = "slic",
    linkage: str | Linkage | Callable[..., float] = "average",
    boundary: ArrayLike | None = None,
    soft: ArrayLike | None = None,
    measure: ArrayLike | None = None,
    superpixel_count: int | None = None,
    grid: Grid | None = None,
    contrast: str = "max",
) -> MergeTree:
    """Build the merging hierarchy of an image or a volume.

    Parameters
    ----------
    image : array_like of finite numbers, shape ``grid`` or ``grid + (channels,)``, optional
        May be left out where superpixels and linkage need none.
    superpixels : str or array_like of integers, shape ``grid``
        Method of `superpixels`, or a label map of any integers.
    linkage : str, Linkage or callable
        A name of `Linkage` or a mix, a function (see `compiled_linkage`), or "watershed-area",
        "watershed-volume" or "watershed-dynamics" (see `watershed_tree`).
    boundary : array_like of finite numbers, shape ``grid``, optional
        Boundary map: gives the contrasts in place of the image, and the heights that
        "watershed" superpixels flood.
    soft : array_like of finite numbers, shape ``(k,) + grid``, optional
        Soft partition, for a mix with ``soft > 0`` or a function: its sums follow those of the
        image's channels.
    measure : array_like of finite non-negative numbers, shape ``grid``, optional
        Measure of each pixel; 1 if left out.
    superpixel_count : int, optional
        About how many superpixels, for methods that can aim at a number.
    grid : tuple of int, optional
        Shape of the grid. If left out it is that of the label map, boundary map or soft
        partition, whichever is given; with an image alone, a 3-D array is (H, W, channels).
    contrast : {"max", "euclidean"}
        Contrast of two pixels of the image, as in `region_graph`.

    Returns
    -------
    MergeTree

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If shapes differ, a value is not finite, or something is missing that the superpixels
        or the linkage need, or given without use.

    Notes
    -----
    O(pixels) for the graph, plus the superpixels and the merging; see `superpixels`,
    `region_graph`, `agglomerate` and `watershed_tree`. Single linkage of pixels takes a
    shorter way, `pixel_tree`.

    Examples
    --------
    >>> image = np.zeros((6, 8, 3), np.uint8)
    >>> image[:, 4:] = 90
    >>> tree = build_hierarchy(image, superpixels="pixels", linkage="single")
    >>> tree.labels_of(tree.cut_with_regions(2))[0].tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    >>> build_hierarchy(superpixels=[[0, 1]])
    Traceback (most recent call last):
        ...
    ValueError: linkage 'average' compares contrasts, but the graph has none: ...
    """
    shape = _common_grid(image, superpixels, boundary, soft, grid)
    watershed = isinstance(linkage, str) and linkage.startswith(_WATERSHED)
    if isinstance(linkage, str):
        checked_choice(linkage, (*LINKAGES, *WATERSHED_LINKAGES), "linkage")
    if soft is not None and (isinstance(linkage, str) or _ignores_soft(linkage)):
        raise ValueError(
            "soft is used by mix(soft=...) and by functions only, "
            f"but the linkage is {getattr(linkage, 'name', linkage)!r}"
        )
    labels = _leaves(image, superpixels, boundary, superpixel_count, shape)
    if labels is None and linkage in ("single", Linkage("single")):
        shown = image if boundary is None else boundary
        if shown is None:
            raise ValueError("superpixels 'pixels' need an image or a boundary map")
        return pixel_tree(
            shown, shape, measure=measure, contrast=contrast, boundary=boundary is not None
        )
    if labels is None:
        labels = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    features = None if soft is None else np.moveaxis(as_array(soft, "soft"), 0, -1)
    graph = region_graph(
        labels,
        image,
        boundary=boundary,
        features=features,
        measure=measure,
        contrast=contrast,
        colours=_needs_colours(linkage),
    )
    if isinstance(linkage, str) and watershed:
        return watershed_tree(graph, linkage.removeprefix(_WATERSHED))
    n_soft = 0 if features is None else features.shape[-1]
    return agglomerate(graph, linkage, colour_channels=graph.feature_sums.shape[1] - n_soft)


def _needs_colours(linkage: str | Linkage | Callable[..., float]) -> bool:
    if isinstance(linkage, str):
        return linkage in LINKAGES and Linkage(linkage).needs_colour
    return not isinstance(linkage, Linkage) or linkage.needs_colour


def _ignores_soft(linkage: Linkage | Callable[..., float]) -> bool:
    return isinstance(linkage, Linkage) and linkage.soft == 0


def _common_grid(
    image: ArrayLike | None,
    superpixels: str | ArrayLike,
    boundary: ArrayLike | None,
    soft: ArrayLike | None,
    grid: Grid | None,
) -> Grid:
    """Return the one grid that all arguments share, or raise."""
    found: list[tuple[str, Grid]] = []
    if grid is not None:
        found.append(("grid", checked_grid(grid, "grid")))
    if not isinstance(superpixels, str):
        label_map = checked_labels(superpixels, "superpixels")
        found.append(("superpixels", label_map.shape))
    if boundary is not None:
        found.append(("boundary", checked_grid(as_array(boundary, "boundary").shape, "boundary")))
    if soft is not None:
        values = checked_finite(soft, "soft")
        if values.ndim not in (3, 4) or values.shape[0] == 0:
            raise ValueError(f"soft must be (k, H, W) or (k, D, H, W), got shape {values.shape}")
        found.append(("soft", checked_grid(values.shape[1:], "soft")))
    for name, shape in found[1:]:
        if shape != found[0][1]:
            raise ValueError(
                f"{found[0][0]} and {name} must share one grid, got {found[0][1]} and {shape}"
            )
    if image is None:
        if not found:
            raise ValueError("an image, a boundary map or a label map is needed, got none")
        return found[0][1]
    shape = found[0][1] if found else grid_of_image(as_array(image, "image"))
    checked_channels(image, shape, "image")
    return shape


def _leaves(
    image: ArrayLike | None,
    superpixels: str | ArrayLike,
    boundary: ArrayLike | None,
    superpixel_count: int | None,
    shape: Grid,
) -> NDArray[Any] | None:
    """Return the label map of the leaves, or None where they are the pixels."""
    if not isinstance(superpixels, str):
        if superpixel_count is not None:
            raise ValueError("superpixel_count has no use where superpixels is a label map")
        return checked_labels(superpixels, "superpixels")
    checked_choice(superpixels, SUPERPIXELS, "superpixels")
    if superpixels == "pixels":
        if superpixel_count is not None:
            raise ValueError(f"superpixels 'pixels' cannot aim at {superpixel_count} regions")
        return None
    shown = boundary if image is None else image
    if shown is None:
        raise ValueError(
            f"superpixels {superpixels!r} need an image or a boundary map; "
            "give one of them, or a label map as superpixels"
        )
    flooded = boundary if superpixels == "watershed" else None
    return make_superpixels(
        shown, superpixels, superpixel_count=superpixel_count, grid=shape, boundary=flooded
    )
