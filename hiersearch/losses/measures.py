"""The measure of the pixels of a target: what each counts for in the loss.

The bare metric counts a region by the square of its measure and hardly sees small ones; a measure
that gives each class, or each region, the same total restores them.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from hiersearch._validate import checked_choice, checked_count
from hiersearch.losses._checks import (
    SETS,
    check_label,
    check_label_range,
    check_labels,
    check_probabilities,
    checked_weight,
)

MEASURES = ("class-balanced", "region-balanced", "boundary", "tempered")
"""The measures that a target gives by itself."""


def target_measure(
    target: Tensor,
    kind: str | None,
    n_classes: int,
    *,
    per: str = "image",
    ignore_index: int | None = None,
    radius: int = 2,
    boundary_weight: float = 5.0,
    dtype: torch.dtype = torch.float32,
    checks: bool = True,
) -> Tensor:
    r"""Weight of each pixel of a target.

    Parameters
    ----------
    target : Tensor
        Integer labels (N, \*grid) within 0..n_classes − 1, or soft probabilities
        (N, n_classes, \*grid), for None and "class-balanced" only.
    kind : str or None
        None: 1 for every pixel.
        "class-balanced": 1 / measure of the pixel's class, so that each class present has the same
        total. Of a soft target the expected value of that, with the expected measure of a class.
        "region-balanced": 1 / pixels of the pixel's region, so that each has the same total; the
        regions are the connected components of the classes, pixels that share a face connected.
        "boundary": ``boundary_weight`` for pixels from which another label is within ``radius``
        pixels along every axis (a square or cube window), 1 for the others.
        "tempered": "boundary" times the square root of "class-balanced", by ``per``: small classes
        are raised, but not all the way, which would paint them too large.
    n_classes : int
        Number of labels.
    per : {"image", "batch"}
        Whether a class is balanced within each image or within the batch. Regions belong to one
        image either way.
    ignore_index : int, optional
        Label of pixels that get weight 0; they belong to no class and make no boundary.
    radius : int
        Of "boundary" and "tempered", at least 1.
    boundary_weight : float
        Of "boundary" and "tempered", at least 0.
    dtype : torch.dtype
        Of the result.
    checks : bool
        Look whether labels and probabilities are in range, too.

    Returns
    -------
    Tensor
        ``dtype``, (N, \*grid), on the target's device; not scaled to any total.

    Raises
    ------
    TypeError
        If the target is soft and the measure needs labels.
    ValueError
        If a setting, the shape, a label or a probability is out of range.

    Notes
    -----
    O(n) time, O(n · channels) for soft targets. "region-balanced" labels components on the CPU:
    a target on another device makes a round trip, which waits for the device.

    Examples
    --------
    >>> import torch
    >>> target_measure(torch.tensor([[[0, 0, 0, 1]]]), "class-balanced", 2)
    tensor([[[0.3333, 0.3333, 0.3333, 1.0000]]])
    """
    if kind is not None:
        checked_choice(kind, MEASURES, "measure")
    checked_choice(per, SETS, "per")
    check_label(ignore_index, "ignore_index")
    soft = target.is_floating_point()
    if soft and ignore_index is not None:
        raise TypeError("ignore_index needs integer targets; give a measure that is 0 instead")
    if soft and kind in ("region-balanced", "boundary", "tempered"):
        raise TypeError(f"measure {kind!r} needs integer targets, got {target.dtype}")
    read = checks and not torch.compiler.is_compiling()
    if soft:
        if target.dim() < 3 or target.shape[1] != n_classes:
            raise ValueError(
                f"target must have shape (N, {n_classes}, *grid), got {tuple(target.shape)}"
            )
        if read:
            check_probabilities(target, "target")
        return _of_probabilities(target.detach().to(dtype), kind, per)
    if target.dim() not in (2, 3, 4):
        raise ValueError(f"target must have shape (N, *grid), got {tuple(target.shape)}")
    check_labels(target, target.shape)
    target = target.long()
    if read:
        check_label_range(target, n_classes, ignore_index)
    valid = torch.ones_like(target, dtype=torch.bool)
    if ignore_index is not None:
        valid = target != ignore_index
    labels = torch.where(valid, target, 0)
    if kind is None:
        weights = torch.ones_like(labels, dtype=dtype)
    elif kind == "class-balanced":
        weights = _class_shares(labels, valid, n_classes, per, dtype)
    elif kind == "region-balanced":
        sizes = cast(Tensor, region_sizes(torch.where(valid, labels, -1)))
        weights = _inverse(sizes, dtype)
    else:
        radius = checked_count(radius, "radius", 1)
        heavy = checked_weight(boundary_weight, "boundary_weight")
        near = _near_boundary(labels, valid, n_classes, radius)
        weights = torch.where(near, heavy, 1.0).to(dtype)
        if kind == "tempered":
            weights = weights * _class_shares(labels, valid, n_classes, per, dtype).sqrt()
    return weights * valid


def _of_probabilities(target: Tensor, kind: str | None, per: str) -> Tensor:
    """Weights for a soft target: Σ_j Y_jp / (expected measure of class j)."""
    if kind is None:
        return torch.ones_like(target[:, 0])
    axes = tuple(range(2, target.dim())) + ((0,) if per == "batch" else ())
    sums = target.sum(axes, keepdim=True)
    # A class of no measure has only zeros to divide.
    return (target / torch.where(sums > 0, sums, 1)).sum(1)


def _class_shares(
    labels: Tensor, valid: Tensor, n_classes: int, per: str, dtype: torch.dtype
) -> Tensor:
    """1 / number of valid pixels of the pixel's class."""
    flat = labels.flatten(1)
    counts = flat.new_zeros(len(flat), n_classes).scatter_add_(1, flat, valid.flatten(1).long())
    if per == "batch":
        counts = counts.sum(0, keepdim=True).expand(len(flat), -1)
    return _inverse(counts, dtype).gather(1, flat).reshape(labels.shape)


def _inverse(counts: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / counts, which half precision may not hold, or not exactly."""
    wide = torch.promote_types(dtype, torch.float32)
    return (1 / counts.clamp(min=1).to(wide)).to(dtype)


def _near_boundary(labels: Tensor, valid: Tensor, n_classes: int, radius: int) -> Tensor:
    """Whether the window of ``radius`` around a pixel holds two labels of valid pixels."""
    # Half the bytes where the labels allow it. Nothing is added, so that nothing can overflow.
    kind = torch.int32 if n_classes <= 2**31 else torch.int64
    least = torch.iinfo(kind).min
    values = labels.to(kind)
    largest = _largest_near(values.masked_fill(~valid, least), radius)
    # The complement turns the order round: the largest is that of the smallest. Where no pixel of
    # the window is valid, ``least`` is not above its complement.
    smallest = ~_largest_near((~values).masked_fill(~valid, least), radius)
    return largest > smallest


def _largest_near(values: Tensor, radius: int) -> Tensor:
    r"""Largest value of (N, \*grid) within ``radius`` pixels along every axis."""
    for axis in range(1, values.dim()):
        found, side = values.clone(), values.shape[axis]
        for step in range(1, min(radius, side - 1) + 1):
            for here, there in ((0, step), (step, 0)):
                part = found.narrow(axis, here, side - step)
                part.copy_(torch.maximum(part, values.narrow(axis, there, side - step)))
        values = found
    return values


@torch.library.custom_op(
    "hiersearch::region_sizes", mutates_args=(), schema="(Tensor labels) -> Tensor"
)
def region_sizes(labels: Tensor) -> Tensor:
    r"""Pixels of the connected component that each pixel belongs to; 0 for negative labels.

    An operator of its own, so that compiled losses can call it: (N, \*grid) integers in, int64 of
    the same shape out. Pixels that share a face are connected.
    """
    from skimage import measure

    images = labels.cpu().numpy()
    sizes = np.empty(images.shape, np.int64)
    for image, size in zip(images, sizes, strict=True):
        components = measure.label(np.maximum(image, -1), background=-1, connectivity=1)
        counts = np.bincount(components.reshape(-1))
        counts[0] = 0
        size[...] = counts[components]
    return torch.from_numpy(sizes).to(labels.device)


@region_sizes.register_fake
def _(labels: Tensor) -> Tensor:
    return labels.new_empty(labels.shape, dtype=torch.int64)
