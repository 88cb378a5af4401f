"""Superpixels: the small regions that become the leaves of a merge tree."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._validate import (
    Grid,
    as_array,
    checked_choice,
    checked_count,
    checked_finite,
    checked_grid,
)
from hiersearch.choices import SUPERPIXELS
from hiersearch.hierarchy.graph import checked_channels, compact_labels

PIXELS_PER_REGION = 75

# At scikit-image's 10, a photograph gets 15 to 40 per cent fewer regions than were asked for.
# The unit is that of CIELAB, where lightness reaches 100; scikit-image measures images that it does
# not take for RGB in [0, 1] instead, where the same compactness would give squares.
COMPACTNESS = 20.0
LIGHTNESS_RANGE = 100.0


def superpixels(
    image: ArrayLike,
    method: str = "slic",
    *,
    superpixel_count: int | None = None,
    grid: Grid | None = None,
    boundary: ArrayLike | None = None,
    **options: Any,
) -> NDArray[np.int32]:
    """Divide an image or a volume into small regions.

    Parameters
    ----------
    image : array_like of finite numbers, shape ``grid`` or ``grid + (channels,)``
        Image or volume, grey or with channels.
    method : {"slic", "felzenszwalb", "watershed", "pixels"}
        Compact clusters of colour and position; Felzenszwalb and Huttenlocher's components
        (images only); basins of the gradient around regularly spaced seeds; or each pixel.
    superpixel_count : int, optional
        About how many regions, for "slic" and "watershed"; one for every 75 pixels if left out.
    grid : tuple of int, optional
        Shape of the grid: tells a volume (D, H, W) from an image with channels. If left out, a
        3-D array is an image (H, W, channels).
    boundary : array_like of finite numbers, shape ``grid``, optional
        Boundary map that "watershed" floods in place of the image's gradient.
    **options
        Further arguments of scikit-image's function of that name, such as ``compactness`` (20 for
        three channels, else 0.2, if left out) for "slic", or ``scale`` and ``min_size`` for
        "felzenszwalb".

    Returns
    -------
    ndarray of int32, shape ``grid``
        Label map, labels 0 to n - 1.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or an option does not exist.
    ValueError
        If a shape or value does not fit, or the method has no use for an argument.

    Notes
    -----
    "slic" and "watershed" are O(pixels) and O(pixels log pixels).

    Examples
    --------
    >>> image = np.zeros((8, 8), np.uint8)
    >>> image[:, 4:] = 200
    >>> superpixels(image, "felzenszwalb", scale=1, sigma=0)[0].tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    >>> int(superpixels(image, "pixels").max())
    63
    """
    checked_choice(method, SUPERPIXELS, "method")
    array = as_array(image, "image")
    shape = grid_of_image(array) if grid is None else checked_grid(grid, "grid")
    values = checked_channels(array, shape, "image").reshape((*shape, -1))
    n_pixels = int(np.prod(shape))
    if boundary is not None and method != "watershed":
        raise ValueError(f"boundary is for method 'watershed', not for {method!r}")
    if method in ("felzenszwalb", "pixels") and superpixel_count is not None:
        raise ValueError(
            f"method {method!r} cannot aim at a number of regions, got {superpixel_count}"
        )
    if method == "pixels":
        if options:
            raise TypeError(f"method 'pixels' has no options, got {', '.join(options)}")
        return np.arange(n_pixels, dtype=np.int32).reshape(shape)
    if superpixel_count is None:
        wanted = max(1, n_pixels // PIXELS_PER_REGION)
    else:
        wanted = checked_count(superpixel_count, "superpixel_count", 1)
    if method == "felzenszwalb":
        labels = _felzenszwalb(values, options)
    elif wanted >= n_pixels:
        return np.arange(n_pixels, dtype=np.int32).reshape(shape)
    elif wanted == 1:
        return np.zeros(shape, dtype=np.int32)
    elif method == "slic":
        labels = _slic(values, wanted, options)
    else:
        labels = _watershed(values, boundary, wanted, options)
    return compact_labels(labels)[0]


def grid_of_image(image: NDArray[Any]) -> Grid:
    """Return the grid of an image whose channels, if any, come last.

    Parameters
    ----------
    image : ndarray
        2-D (H, W), 3-D (H, W, channels) or 4-D (D, H, W, channels).

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If the array has another number of dimensions or no pixel.

    Examples
    --------
    >>> grid_of_image(np.zeros((4, 5, 3)))
    (4, 5)
    """
    if image.ndim not in (2, 3, 4):
        raise ValueError(
            "image must be (H, W), (H, W, channels) or (D, H, W, channels); a volume without "
            f"channels needs grid=; got shape {image.shape}"
        )
    return checked_grid(image.shape[: max(2, image.ndim - 1)], "image")


def _slic(values: NDArray[Any], regions: int, options: dict[str, Any]) -> NDArray[Any]:
    from skimage.segmentation import slic

    compactness = COMPACTNESS if values.shape[-1] == 3 else COMPACTNESS / LIGHTNESS_RANGE
    settings = {"compactness": compactness, **options}
    labels: NDArray[Any] = slic(values, n_segments=regions, channel_axis=-1, **settings)
    return labels


def _felzenszwalb(values: NDArray[Any], options: dict[str, Any]) -> NDArray[Any]:
    from skimage.segmentation import felzenszwalb

    if values.ndim != 3:
        raise ValueError(
            f"method 'felzenszwalb' is for images, got a volume of shape {values.shape[:-1]}"
        )
    with warnings.catch_warnings():
        # It doubts whether any number of channels but three is meant; here it always is.
        warnings.filterwarnings("ignore", "Got image with third dimension", RuntimeWarning)
        labels: NDArray[Any] = felzenszwalb(values, channel_axis=-1, **options)
    return labels


def _watershed(
    values: NDArray[Any], boundary: ArrayLike | None, regions: int, options: dict[str, Any]
) -> NDArray[Any]:
    from skimage import filters, segmentation

    sobel: Any = filters.sobel
    watershed: Any = segmentation.watershed

    if boundary is None:
        channels = np.moveaxis(values, -1, 0).astype(np.float64)
        heights = np.max([sobel(channel) for channel in channels], axis=0)
    else:
        heights = checked_finite(boundary, "boundary")
        if heights.shape != values.shape[:-1]:
            raise ValueError(
                f"boundary must have the grid's shape {values.shape[:-1]}, got {heights.shape}"
            )
    seeds = _lowest_pixels(np.asarray(heights, dtype=np.float64), regions)
    labels: NDArray[Any] = watershed(heights, markers=seeds, **options)
    return labels


def _lowest_pixels(heights: NDArray[np.float64], regions: int) -> NDArray[np.int32]:
    """Mark with 1, 2, ... the lowest pixel of each cell of a grid of about ``regions`` cells.

    A seed on a ridge would be shut in by the basins on both sides and stay a region of one pixel.
    """
    side = max(1, round((heights.size / regions) ** (1 / heights.ndim)))
    counts = [max(1, round(length / side)) for length in heights.shape]
    # Cells of almost equal sides that end at the border: no thin rest on one side.
    edges = [
        np.linspace(0, length, count + 1).round().astype(np.int64)
        for length, count in zip(heights.shape, counts, strict=True)
    ]
    cells = np.zeros(heights.shape, np.int64)
    for axis, (edge, count) in enumerate(zip(edges, counts, strict=True)):
        place = np.searchsorted(edge, np.arange(heights.shape[axis]), side="right") - 1
        shape = [-1 if a == axis else 1 for a in range(heights.ndim)]
        cells = cells * count + place.reshape(shape)
    order = np.argsort(heights, axis=None, kind="stable")
    _, first = np.unique(cells.reshape(-1)[order], return_index=True)
    seeds = np.zeros(heights.size, np.int32)
    seeds[order[first]] = np.arange(1, first.size + 1, dtype=np.int32)
    return seeds.reshape(heights.shape)
