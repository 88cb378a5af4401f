"""From a background / interior / boundary network's output to a soft partition of objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hiersearch.partitions.partition import as_measure
from hiersearch.partitions.soft import Memberships, checked_probabilities


def nuclei_target(probabilities: ArrayLike, *, measure: ArrayLike | None = None) -> Memberships:
    """Read background, interior and boundary channels as one background and many objects.

    Interior is what the boundary channel keeps apart: each connected component of the pixels
    where interior is most probable seeds one object. At every pixel, interior and boundary
    together are the probability of an object, and it goes to the nearest seed (Euclidean).

    Parameters
    ----------
    probabilities : float array, shape (3, H, W) or (3, D, H, W)
        Background, interior and boundary; non-negative, summing to 1 over the first axis.
    measure : array, shape of the grid, optional
        Non-negative weight of each pixel; 1 where omitted.

    Returns
    -------
    Memberships
        Sparse, two probabilities a pixel: channel 0 is the background, channel i the i-th object.
        Without any seed there is one object channel.

    Raises
    ------
    ValueError, TypeError
        As :meth:`SoftPartition.from_regions`; also if there are not three channels.

    Notes
    -----
    O(pixels): one labelling of components and one distance transform.

    Examples
    --------
    >>> interior = np.array([[0.9, 0.8, 0.1, 0.8, 0.9]])
    >>> boundary = np.array([[0.1, 0.2, 0.9, 0.2, 0.1]])
    >>> target = nuclei_target(np.stack([np.zeros((1, 5)), interior, boundary]))
    >>> target.n_channels, target.hard().labels().tolist()
    (3, [[0, 0, 0, 1, 1]])
    """
    from scipy import ndimage

    flat, grid = checked_probabilities(probabilities)
    if flat.shape[0] != 3:
        raise ValueError(
            f"probabilities must have 3 channels (background, interior, boundary), "
            f"got {flat.shape[0]}"
        )
    weights = None if measure is None else as_measure(measure, grid)
    seeds, n_seeds = ndimage.label((flat.argmax(axis=0) == 1).reshape(grid))
    channels = np.zeros((2, flat.shape[1]), np.int32)
    if n_seeds == 0:
        channels[1] = 1
    else:
        nearest = ndimage.distance_transform_edt(
            seeds == 0, return_distances=False, return_indices=True
        )
        channels[1] = seeds[tuple(nearest)].reshape(-1)
    values = np.stack([flat[0], flat[1] + flat[2]])
    return Memberships._of_table(grid, weights, "regions", values, channels, max(1, n_seeds) + 1)
