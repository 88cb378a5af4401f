"""Pairs of pixels at given offsets: which to take, whether they share a region, what they weigh."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from hiersearch._validate import checked_count
from hiersearch.losses._checks import check_label, check_labels, checked_weight
from hiersearch.partitions.checks import checked_offsets

Offsets = Sequence[Sequence[int]]


def affinity_offsets(size: float, ndim: int = 2) -> list[tuple[int, ...]]:
    """Offsets for objects about ``size`` pixels across: neighbours, and reaches of 1/6 and 1/3.

    Parameters
    ----------
    size : float
        Typical diameter of an object in pixels, at least 2.
    ndim : int
        Axes of the grid, 1 to 3.

    Returns
    -------
    list of tuple of int
        Along each axis and each diagonal of two axes, once up to sign, each reach in turn: 12
        offsets in an image, 27 in a volume (fewer where the reaches of small objects coincide).

    Raises
    ------
    TypeError, ValueError
        If ``size`` is not a number of at least 2 or ``ndim`` is not 1, 2 or 3.

    Examples
    --------
    >>> affinity_offsets(20)[:6]
    [(0, 1), (1, 0), (1, 1), (1, -1), (0, 3), (3, 0)]
    """
    checked_count(ndim, "ndim", 1, 3)
    if checked_weight(size, "size") < 2:
        raise ValueError(f"size must be at least 2 pixels, got {size!r}")
    axes = [tuple(int(i == axis) for i in range(ndim)) for axis in reversed(range(ndim))]
    diagonals = [
        tuple(int(i == one) + sign * int(i == other) for i in range(ndim))
        for one, other in combinations(range(ndim), 2)
        for sign in (1, -1)
    ]
    reaches = sorted({1, max(1, round(size / 6)), max(1, round(size / 3))})
    return [tuple(r * step for step in way) for r in reaches for way in (*axes, *diagonals)]


def affinity_targets(
    target: Tensor,
    offsets: Offsets,
    *,
    background: int | None = None,
    background_pairs: bool = False,
    ignore_index: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Return which pairs of pixels share a region, and which pairs count.

    Parameters
    ----------
    target : Tensor
        Integer labels of regions, (N, \*grid).
    offsets : sequence of d offsets
        As in `affinity_metric_loss`.
    background, background_pairs, ignore_index
        As in `affinity_metric_loss`.

    Returns
    -------
    same, known : Tensor
        Boolean, (N, d, \*grid), at pixel p of the pair p and p + offset; ``same`` is false where
        ``known`` is.

    Raises
    ------
    TypeError, ValueError
        If the target or the offsets are not as described.

    Notes
    -----
    O(d · pixels).

    Examples
    --------
    >>> same, known = affinity_targets(torch.tensor([[5, 5, 7, 7]]), [(1,), (-2,)])
    >>> same.int().tolist()
    [[[1, 0, 1, 0], [0, 0, 0, 0]]]
    >>> known.int().tolist()
    [[[1, 1, 1, 0], [0, 0, 1, 1]]]
    """
    if not torch.compiler.is_compiling():
        check_labels(target, getattr(target, "shape", ()))
        check_offsets(offsets, target.shape[1:])
        check_label(background, "background")
        check_label(ignore_index, "ignore_index")
    target = target.long()
    grid = target.shape[1:]
    valid = None if ignore_index is None else target != ignore_index
    empty = None if background is None or background_pairs else target == background
    same = target.new_zeros((len(target), len(offsets), *grid), dtype=torch.bool)
    known = torch.zeros_like(same)
    for channel, offset in enumerate(offsets):
        here, there = _pair_slices(offset, grid)
        counts = torch.ones_like(target[here], dtype=torch.bool)
        if valid is not None:
            counts = counts & valid[here] & valid[there]
        if empty is not None:
            counts = counts & ~(empty[here] & empty[there])
        known[:, channel][here] = counts
        same[:, channel][here] = counts & (target[here] == target[there])
    return same, known


def pair_weights(
    same: Tensor,
    known: Tensor,
    offset_weights: Sequence[float] | None,
    balance: float | None,
    per: str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Weights of the pairs that sum to 1 over the images or the batch, and whether there are any.

    One rate for all pairs within regions and one for all others, times the offset's weight.
    """
    each = torch.ones(same.shape[1], dtype=dtype, device=same.device)
    if offset_weights is not None:
        each = torch.tensor(list(offset_weights), dtype=dtype, device=same.device)
    joined = (each * same.flatten(2).sum(2)).sum(1)
    apart = (each * (known & ~same).flatten(2).sum(2)).sum(1)
    if per == "batch":
        joined, apart = joined.sum(0, keepdim=True), apart.sum(0, keepdim=True)
    if balance is None:
        within = between = _inverse(joined + apart)
    else:
        of_joined = balance * (joined > 0).to(dtype)
        of_apart = (1 - balance) * (apart > 0).to(dtype)
        scale = _inverse(of_joined + of_apart)
        within = of_joined * scale * _inverse(joined)
        between = of_apart * scale * _inverse(apart)
    shape = (-1, same.shape[1], *[1] * (same.dim() - 2))
    of_same = (within[:, None] * each).reshape(shape)
    of_others = (between[:, None] * each).reshape(shape)
    return torch.where(same, of_same, of_others) * known, joined + apart > 0


def pixel_shares(valid: Tensor, per: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Equal weights of valid pixels that sum to 1, and whether there are any."""
    counts = valid.flatten(1).sum(1)
    if per == "batch":
        counts = counts.sum(0, keepdim=True)
    shares = _inverse(counts.to(dtype)).reshape(-1, *[1] * (valid.dim() - 1))
    return shares * valid, counts > 0


def check_offsets(offsets: Offsets, grid: Sequence[int]) -> None:
    """Raise unless offsets are distinct, of the grid's dimension and shorter than its sides."""
    steps = checked_offsets(offsets, len(offsets), tuple(grid))
    for step in steps.tolist():
        if any(abs(s) >= side for s, side in zip(step, grid, strict=True)):
            raise ValueError(
                f"offsets must be shorter than the grid {tuple(grid)}, got {tuple(step)}"
            )


def _pair_slices(offset: Sequence[int], grid: Sequence[int]) -> tuple[tuple[slice, ...], ...]:
    """Slices of (N, *grid) that line up each pixel with its partner."""
    here, there = [slice(None)], [slice(None)]
    for step, side in zip(offset, grid, strict=True):
        here.append(slice(max(0, -step), side - max(0, step)))
        there.append(slice(max(0, step), side - max(0, -step)))
    return tuple(here), tuple(there)


def _inverse(total: Tensor) -> Tensor:
    """1 / total, and 0 where the total is 0."""
    return torch.where(total > 0, 1 / torch.where(total > 0, total, 1.0), 0.0)
