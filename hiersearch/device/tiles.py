"""Tile bounds of queries and entries on a device.

Entries are rows of bytes, as an index stores them: the co-membership of tile pairs in units, the
diagonal first, then the upper triangle, which counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.device.batches import batch_size, halving, on_device
from hiersearch.device.choice import Device

if TYPE_CHECKING:
    from torch import Tensor

ALIGNED = 16
"""Rows take a multiple of so many bytes on a device: what a thread reads at once."""


@dataclass(frozen=True, slots=True, eq=False)
class TileRows:
    """Rows of bytes on a device."""

    codes: Tensor
    """(n, width) uint8, zero beyond ``n_pairs``."""
    n_pairs: int
    """Bytes of a row that mean something."""
    n_diagonal: int
    """How many of them count once; the others count twice."""

    @classmethod
    def of(cls, codes: NDArray[np.uint8], n_diagonal: int, device: Device) -> TileRows:
        """Copy rows (n, n_pairs) to a device."""
        return cls.from_tensor(on_device(codes, device), n_diagonal)

    @classmethod
    def from_tensor(cls, codes: Tensor, n_diagonal: int) -> TileRows:
        """Take rows (n, n_pairs) that are on a device. O(bytes)."""
        import torch

        beyond = -codes.shape[1] % ALIGNED
        padded = torch.nn.functional.pad(codes, (0, beyond)) if beyond else codes
        return cls(padded.contiguous(), codes.shape[1], n_diagonal)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self.codes.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class SoftTiles:
    """What the bound of soft queries needs, all float64, shape (queries, n_pairs) or (n_pairs,)."""

    pairs: Tensor
    """(queries, n_pairs) co-membership of tile pairs."""
    spread: Tensor
    """(queries, n_pairs) Σ C (1 − C) over each tile pair."""
    sizes: Tensor
    """(n_pairs,) measure of each tile pair."""
    unit: float
    """What a byte of an entry counts."""

    @classmethod
    def of(
        cls,
        pairs: NDArray[np.float64],
        spread: NDArray[np.float64],
        sizes: NDArray[np.float64],
        unit: float,
        device: Device,
    ) -> SoftTiles:
        """Copy the numbers of some queries to a device."""
        return cls(
            on_device(pairs, device), on_device(spread, device), on_device(sizes, device), unit
        )

    def __len__(self) -> int:
        """Return how many queries there are."""
        return self.pairs.shape[0]


def tile_distances(
    rows: TileRows, queries: TileRows, device: Device, *, budget: int | None = None
) -> Tensor:
    """Return the L1 distances of queries' bytes to entries', exact, doubled off the diagonal.

    Parameters
    ----------
    rows, queries : TileRows
        Entries and queries, of one level.
    device : Device
        Where they are.
    budget : int, optional
        Most bytes that a batch of entries may take, besides the result.

    Returns
    -------
    int32 tensor, shape (queries, entries)
        In units: times the unit, less both sides' errors, it is the tile bound of ρ.

    Notes
    -----
    O(queries · entries · pairs). In a kernel of Triton's each byte is read once from memory for
    all queries of the call; torch's own operations write the bytes as float32 in between, in
    which sums below 2²⁴ are exact.
    """
    import torch

    if not 255 * 2 * rows.n_pairs < 2**24:
        raise ValueError(f"rows must have fewer than {2**24 // 510} pairs, got {rows.n_pairs}")
    if device.on_triton:
        from hiersearch.device._triton_kernels import byte_distances

        return byte_distances(rows, queries)
    weights = _weights(rows, torch.float32)
    wanted = queries.codes.float() * weights
    out = torch.empty((len(queries), len(rows)), dtype=torch.int32, device=device.torch)

    def work(begin: int, end: int) -> None:
        part = rows.codes[begin:end].float().mul_(weights)
        out[:, begin:end] = torch.cdist(wanted, part, p=1.0).int()

    _in_batches(work, rows, len(queries), 4 * rows.codes.shape[1], device, budget)
    return out


def soft_tile_bounds(
    rows: TileRows, queries: SoftTiles, device: Device, *, budget: int | None = None
) -> Tensor:
    """Return the tile bounds of soft queries and entries.

    For each tile pair of measure s, with a the entry's co-membership, known within half a unit,
    and C the query's, Σ |C − A| is at least off = |Σ C − a| less half a unit, and at least
    off² / s + Σ C (1 − C). The larger counts, twice off the diagonal.

    Parameters
    ----------
    rows : TileRows
        Entries.
    queries : SoftTiles
        Queries at the same level.
    device : Device
        Where they are.
    budget : int, optional
        Most bytes that a batch of entries may take, besides the result.

    Returns
    -------
    float64 tensor, shape (queries, entries)
        Within 2 · pairs · ε of the CPU's, relatively.

    Notes
    -----
    O(queries · entries · pairs).
    """
    import torch

    if device.on_triton:
        from hiersearch.device._triton_kernels import soft_bounds

        return soft_bounds(rows, queries)
    weights = _weights(rows, torch.float64)[: rows.n_pairs]
    inverse = _inverse(queries.sizes)
    some = queries.sizes > 0
    out = torch.empty((len(queries), len(rows)), dtype=torch.float64, device=device.torch)

    def work(begin: int, end: int) -> None:
        known = rows.codes[begin:end, : rows.n_pairs].double().mul_(queries.unit)
        for q in range(len(queries)):
            off = (queries.pairs[q] - known).abs_().sub_(0.5 * queries.unit).clamp_min_(0.0)
            squared = off.square().mul_(inverse).add_(queries.spread[q] * some)
            out[q, begin:end] = torch.maximum(off, squared) @ weights

    _in_batches(work, rows, len(queries), 32 * rows.n_pairs, device, budget)
    return out


def _in_batches(
    work: Any, rows: TileRows, n_queries: int, held: float, device: Device, budget: int | None
) -> None:
    size = batch_size(device, held, len(rows), budget)
    for _ in halving(work, len(rows), size):
        pass


def _weights(rows: TileRows, kind: Any) -> Tensor:
    """Return how often each byte counts."""
    import torch

    weights = torch.full((rows.codes.shape[1],), 2.0, dtype=kind, device=rows.codes.device)
    weights[: rows.n_diagonal] = 1.0
    return weights


def _inverse(sizes: Tensor) -> Tensor:
    """Return 1 / s, 0 where there is nothing: there nothing can disagree."""
    return (1.0 / sizes).where(sizes > 0, sizes.new_zeros(()))
