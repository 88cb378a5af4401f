"""Kernels of the search: byte bounds of blocks and their members, and exact distances in batches.

All bounds are lower bounds of ρ itself, before it is divided by M².
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.index.bounds._codec_kernels import decode_runs
from hiersearch.index.bounds._tile_kernels import pair_distance
from hiersearch.metric._kernels import RunList, overlap_square_sum


class Pivots(NamedTuple):
    """Pivots of blocks, which the blocks' members lie around."""

    middle: NDArray[np.uint8]
    """(blocks, middle pairs) their pair sums."""
    errors: NDArray[np.float32]
    """(blocks,) how far those are off."""
    radii: NDArray[np.float32]
    """(blocks,) largest true tile distance of a block's members to its pivot."""


class EntryTiles(NamedTuple):
    """Pair sums of the entries of a segment, block by block."""

    coarse: NDArray[np.uint8]
    """(n, coarse pairs) those of the coarse level."""
    coarse_errors: NDArray[np.float32]
    """(n,) how far they are off."""
    middle: NDArray[np.uint8]
    """(n, middle pairs) those of the middle level."""
    middle_errors: NDArray[np.float32]
    """(n,) how far they are off."""
    block_ends: NDArray[np.int32]
    """(blocks,) where each block's rows end."""


class TileQuery(NamedTuple):
    """Pair sums of a hard query, in bytes like those of entries."""

    coarse: NDArray[np.uint8]
    """(coarse pairs,) those of the coarse level."""
    middle: NDArray[np.uint8]
    """(middle pairs,) those of the middle level."""
    errors: NDArray[np.float64]
    """(2,) how far they are off."""
    diagonals: NDArray[np.int64]
    """(2,) tiles of each level: so many pairs come first that count once."""
    units: NDArray[np.float64]
    """(2,) what a byte counts."""


class SoftTileQuery(NamedTuple):
    """Exact pair sums of a soft query at the middle level."""

    pairs: NDArray[np.float64]
    """(middle pairs,) Σ C."""
    sizes: NDArray[np.float64]
    """(middle pairs,) measure of the pairs of pixels."""
    spread: NDArray[np.float64]
    """(middle pairs,) Σ C (1 − C), or less."""
    n_diagonal: int
    """Tiles: so many pairs come first that count once."""
    unit: float
    """What a byte of the entries counts."""


class RunCodes(NamedTuple):
    """Run code of the entries of a segment, and the grid that it is of."""

    code: NDArray[np.uint8]
    """(bytes,) codes, one after the other, and 8 bytes that may be read."""
    ends: NDArray[np.int64]
    """(n,) where each entry's code ends."""
    n_runs: NDArray[np.int32]
    """(n,) number of runs of each."""
    n_regions: NDArray[np.int32]
    """(n,) number of regions of each."""
    grid_rows: int
    """Rows of the grid."""
    width: int
    """Pixels of a row."""


@compiled
def block_bounds(
    pivots: Pivots,
    query: TileQuery,
    nearness: NDArray[np.float32],
    bounds: NDArray[np.float64],
) -> None:
    """Write the tile distance of each pivot, and what the triangle inequality leaves of it."""
    middle, errors, radii, codes = pivots.middle, pivots.errors, pivots.radii, query.middle
    query_error, n_diagonal, unit = query.errors[1], query.diagonals[1], query.units[1]
    for b in range(radii.size):
        distance = pair_distance(middle[b], codes, n_diagonal) * unit
        nearness[b] = distance
        bounds[b] = distance - query_error - errors[b] - radii[b]


@compiled_part
def _members_of(blocks: NDArray[np.int32], block_ends: NDArray[np.int32]) -> int:
    """Return how many members some blocks have."""
    total = 0
    for block in blocks:
        total += block_ends[block] - (block_ends[block - 1] if block > 0 else 0)
    return total


@compiled
def members_within(
    entries: EntryTiles,
    blocks: NDArray[np.int32],
    live: NDArray[np.uint8],
    query: TileQuery,
    radius: float,
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the live members of some blocks whose tile bounds are within a radius, with those.

    ``live`` (n,) is 1 for entries that may be answers, or empty for all. ``counts`` (2,) grows by
    the members that the coarse and the middle level dropped.
    """
    # Fields are looked up once: a loop that does it again and again is many times slower.
    coarse, coarse_errors, query_coarse = entries.coarse, entries.coarse_errors, query.coarse
    middle, middle_errors, query_middle = entries.middle, entries.middle_errors, query.middle
    block_ends, query_errors = entries.block_ends, query.errors
    diagonals, units = query.diagonals, query.units
    most = _members_of(blocks, block_ends)
    rows = np.empty(most, np.int32)
    bounds = np.empty(most, np.float64)
    found = 0
    for b in range(blocks.size):
        block = blocks[b]
        first = block_ends[block - 1] if block > 0 else 0
        for row in range(first, block_ends[block]):
            if live.size > 0 and live[row] == 0:
                continue
            steps = pair_distance(coarse[row], query_coarse, diagonals[0])
            if steps * units[0] - query_errors[0] - coarse_errors[row] > radius:
                counts[0] += 1
                continue
            steps = pair_distance(middle[row], query_middle, diagonals[1])
            bound = steps * units[1] - query_errors[1] - middle_errors[row]
            if bound > radius:
                counts[1] += 1
                continue
            rows[found] = row
            bounds[found] = bound
            found += 1
    return rows[:found], bounds[:found]


@compiled_part
def _soft_bound(
    codes: NDArray[np.uint8],
    query: NDArray[np.float64],
    sizes: NDArray[np.float64],
    spread: NDArray[np.float64],
    n_diagonal: int,
    unit: float,
) -> float:
    """Sum over tile pairs the larger of two bounds of Σ |C − A|; see soft_members_within."""
    total = 0.0
    for d in range(query.size):
        off = max(0.0, abs(query[d] - unit * codes[d]) - 0.5 * unit)
        squared = off * off / sizes[d] + spread[d] if sizes[d] > 0.0 else 0.0
        bound = max(off, squared)
        total += bound if d < n_diagonal else 2.0 * bound
    return total


@compiled_part
def _soft_distance(
    codes: NDArray[np.uint8], query: NDArray[np.float64], n_diagonal: int, unit: float
) -> float:
    """L1 distance of codes to the exact pair sums of a query, doubled beyond the diagonal."""
    total = 0.0
    for d in range(query.size):
        off = abs(query[d] - unit * codes[d])
        total += off if d < n_diagonal else 2.0 * off
    return total


@compiled
def soft_block_bounds(
    pivots: Pivots,
    query: SoftTileQuery,
    nearness: NDArray[np.float32],
    bounds: NDArray[np.float64],
) -> None:
    """As block_bounds, for the exact pair sums of a soft query."""
    middle, errors, radii = pivots.middle, pivots.errors, pivots.radii
    pairs, n_diagonal, unit = query.pairs, query.n_diagonal, query.unit
    for b in range(radii.size):
        distance = _soft_distance(middle[b], pairs, n_diagonal, unit)
        nearness[b] = distance
        bounds[b] = distance - errors[b] - radii[b]


@compiled
def soft_members_within(
    entries: EntryTiles,
    blocks: NDArray[np.int32],
    live: NDArray[np.uint8],
    query: SoftTileQuery,
    radius: float,
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """As members_within, for a soft query.

    For each tile pair of measure ``sizes`` the sum of |C − A| is at least |Σ C − Σ A|, and since
    A is 0 or 1 also at least (Σ C − Σ A)² / size + Σ C (1 − C), which is ``spread``.
    """
    middle, block_ends = entries.middle, entries.block_ends
    pairs, sizes, spread = query.pairs, query.sizes, query.spread
    n_diagonal, unit = query.n_diagonal, query.unit
    most = _members_of(blocks, block_ends)
    rows = np.empty(most, np.int32)
    bounds = np.empty(most, np.float64)
    found = 0
    for b in range(blocks.size):
        block = blocks[b]
        first = block_ends[block - 1] if block > 0 else 0
        for row in range(first, block_ends[block]):
            if live.size > 0 and live[row] == 0:
                continue
            bound = _soft_bound(middle[row], pairs, sizes, spread, n_diagonal, unit)
            if bound > radius:
                counts[1] += 1
                continue
            rows[found] = row
            bounds[found] = bound
            found += 1
    return rows[:found], bounds[:found]


@compiled
def exact_overlaps(
    entries: RunCodes,
    rows: NDArray[np.int32],
    query: RunList,
    prefix: NDArray[Any] | None,
    table: NDArray[Any],
    out: NDArray[Any],
) -> int:
    """Write Σ n_ij² of a query with some rows, decoded on the way; return a row of unsound code.

    -1 is returned where all are sound. ``table`` has room for the largest contingency table.
    """
    code, ends, n_runs, n_regions = entries.code, entries.ends, entries.n_runs, entries.n_regions
    grid_rows, width = entries.grid_rows, entries.width
    most = 0
    for r in range(rows.size):
        most = max(most, int(np.int64(n_runs[rows[r]])))
    starts = np.empty(most, np.int32)
    labels = np.empty(most, np.int32)
    scratch = np.empty((4, width), np.int32)
    for r in range(rows.size):
        row = rows[r]
        first = ends[row - 1] if row > 0 else 0
        regions = int(np.int64(n_regions[row]))
        runs = decode_runs(
            code, first, ends[row], grid_rows, width, regions, starts, labels, scratch
        )
        if runs != n_runs[row]:
            return int(np.int64(row))
        for cell in range(query.n_regions * regions):
            table[cell] = 0
        out[r] = overlap_square_sum(
            query.starts,
            query.labels,
            starts[:runs],
            labels[:runs],
            grid_rows * width,
            regions,
            prefix,
            table,
        )
    return -1


@compiled
def bytes_between(ends: NDArray[np.int64], rows: NDArray[np.int32]) -> int:
    """Return how many bytes some rows have, where ``ends`` says where each row's bytes end."""
    total = 0
    for row in rows:
        total += ends[row] - (ends[row - 1] if row > 0 else 0)
    return total


@compiled
def decode_rows(
    entries: RunCodes,
    rows: NDArray[np.int32],
    begins: NDArray[np.int64],
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
) -> int:
    """Write the runs of some rows, each from its place in ``begins`` on; return an unsound row.

    -1 is returned where all are sound.
    """
    code, ends, n_runs, n_regions = entries.code, entries.ends, entries.n_runs, entries.n_regions
    grid_rows, width = entries.grid_rows, entries.width
    scratch = np.empty((4, width), np.int32)
    for r in range(rows.size):
        row = rows[r]
        first = ends[row - 1] if row > 0 else 0
        begin = begins[r]
        end = begin + n_runs[row]
        regions = int(np.int64(n_regions[row]))
        runs = decode_runs(
            code,
            first,
            ends[row],
            grid_rows,
            width,
            regions,
            starts[begin:end],
            labels[begin:end],
            scratch,
        )
        if runs != n_runs[row]:
            return int(np.int64(row))
    return -1
