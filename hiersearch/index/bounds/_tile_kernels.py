"""Kernels of the bounds: masses in tiles, co-membership of tile pairs, overlap of masses.

Tiles are numbered as in :mod:`hiersearch.index.bounds.tiling`: four consecutive ones make a tile of
the level above.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.metric._kernels import RunList


class TileGrid(NamedTuple):
    """The pixels of an index, its tiles, and what bytes count there."""

    prefix: NDArray[Any]
    """(n + 1,) prefix sums of the measure."""
    row_class: NDArray[np.int32]
    """(rows,) which row of ``tile_table`` each row of the grid uses."""
    column_class: NDArray[np.int32]
    """(width,) which column of ``tile_table`` each pixel of a row uses."""
    column_end: NDArray[np.int32]
    """(width,) where the tile of a pixel ends within its row."""
    tile_table: NDArray[np.int32]
    """(row classes, column classes) number of the finest tile."""
    units: NDArray[np.float64]
    """(tiles,) what a byte of the masses in a finest tile counts."""
    pair_units: NDArray[np.float64]
    """(2,) what a byte of the pair sums counts, at the coarse and the middle level."""
    n_coarse: int
    """Number of tiles of the coarse level; the middle one has four times as many."""


class Masses(NamedTuple):
    """Measure of regions (or channels) within tiles, tile by tile."""

    ends: NDArray[np.int64]
    """(tiles,) where each tile's list ends."""
    regions: NDArray[np.int32]
    """(items,) region of each item."""
    masses: NDArray[np.float64]
    """(items,) its measure, positive."""
    n_regions: int
    """Number of regions."""


@compiled
def tile_masses(runs: RunList, grid: TileGrid) -> Masses:
    """Return the masses of a partition in the finest tiles. O(runs + rows · tiles across)."""
    # Fields are looked up once: a loop that does it again and again is many times slower.
    starts, labels, prefix = runs.starts, runs.labels, grid.prefix
    row_class, column_class, column_end = grid.row_class, grid.column_class, grid.column_end
    tile_table, n_tiles = grid.tile_table, grid.units.size
    width = column_class.size
    n_pixels = prefix.size - 1
    # A run begins a piece, and so does a tile within a row.
    capacity = starts.size + row_class.size * tile_table.shape[1]
    head = np.full(n_tiles, -1, np.int32)
    # Pieces below each other are mostly of one region: the last one is looked at first.
    recent = np.zeros(n_tiles, np.int32)
    following = np.empty(capacity, np.int32)
    region = np.empty(capacity, np.int32)
    mass = np.empty(capacity, np.float64)
    count = 0
    row = 0
    first = 0
    for run in range(starts.size):
        label = labels[run]
        begin = starts[run]
        end = starts[run + 1] if run + 1 < starts.size else n_pixels
        while begin < end:
            if begin - first >= width:
                row += 1
                first += width
            stop = min(end, first + column_end[begin - first])
            tile = tile_table[row_class[row], column_class[begin - first]]
            node = recent[tile]
            if head[tile] < 0 or region[node] != label:
                node = head[tile]
                while node >= 0 and region[node] != label:
                    node = following[node]
                if node < 0:
                    node = count
                    count += 1
                    following[node] = head[tile]
                    head[tile] = node
                    region[node] = label
                    mass[node] = 0.0
                recent[tile] = node
            mass[node] += prefix[stop] - prefix[begin]
            begin = stop
    ends = np.empty(n_tiles, np.int64)
    regions = np.empty(count, np.int32)
    masses = np.empty(count, np.float64)
    kept = 0
    for tile in range(n_tiles):
        node = head[tile]
        while node >= 0:
            if mass[node] > 0:
                regions[kept] = region[node]
                masses[kept] = mass[node]
                kept += 1
            node = following[node]
        ends[tile] = kept
    return Masses(ends, regions[:kept], masses[:kept], runs.n_regions)


@compiled
def coarser_masses(fine: Masses, factor: int) -> Masses:
    """Return the masses of tiles that each hold ``factor`` consecutive ones. O(items)."""
    ends, regions, masses, n_regions = fine.ends, fine.regions, fine.masses, fine.n_regions
    n_tiles = ends.size // factor
    new_ends = np.empty(n_tiles, np.int64)
    new_regions = np.empty(regions.size, np.int32)
    new_masses = np.empty(regions.size, np.float64)
    place = np.full(n_regions, -1, np.int64)
    count = 0
    begin = 0
    for tile in range(n_tiles):
        first = count
        end = ends[(tile + 1) * factor - 1]
        for i in range(begin, end):
            region = regions[i]
            if place[region] < first:
                place[region] = count
                new_regions[count] = region
                new_masses[count] = 0.0
                count += 1
            new_masses[place[region]] += masses[i]
        begin = end
        new_ends[tile] = count
    return Masses(new_ends, new_regions[:count], new_masses[:count], n_regions)


@compiled
def pair_sums(found: Masses) -> NDArray[np.float64]:
    """Return the co-membership summed over tile pairs, (tiles, tiles)."""
    ends, regions, masses, n_regions = found.ends, found.regions, found.masses, found.n_regions
    n_tiles = ends.size
    out = np.zeros((n_tiles, n_tiles))
    counts = np.zeros(n_regions + 1, np.int64)
    for i in range(regions.size):
        counts[regions[i] + 1] += 1
    for r in range(n_regions):
        counts[r + 1] += counts[r]
    filled = np.zeros(n_regions, np.int64)
    tiles = np.empty(regions.size, np.int64)
    values = np.empty(regions.size, np.float64)
    begin = 0
    for tile in range(n_tiles):
        for i in range(begin, ends[tile]):
            at = counts[regions[i]] + filled[regions[i]]
            filled[regions[i]] += 1
            tiles[at] = tile
            values[at] = masses[i]
        begin = ends[tile]
    for r in range(n_regions):
        for i in range(counts[r], counts[r + 1]):
            for j in range(counts[r], counts[r + 1]):
                out[tiles[i], tiles[j]] += values[i] * values[j]
    return out


@compiled_part
def _quantised_pairs(pairs: NDArray[np.float64], unit: float, out: NDArray[np.uint8]) -> float:
    """Write pair sums in units, in one byte each; return the L1 error, off-diagonal doubled.

    ``out``: first the diagonal, then the upper triangle by rows.
    """
    n = pairs.shape[0]
    error = 0.0
    at = n
    for i in range(n):
        code = min(np.floor(pairs[i, i] / unit + 0.5), 255.0)
        out[i] = np.uint8(code)
        error += abs(pairs[i, i] - code * unit)
        for j in range(i + 1, n):
            code = min(np.floor(pairs[i, j] / unit + 0.5), 255.0)
            out[at] = np.uint8(code)
            error += 2 * abs(pairs[i, j] - code * unit)
            at += 1
    return error


@compiled
def tile_codes(
    masses: Masses,
    units: NDArray[np.float64],
    n_coarse: int,
    coarse: NDArray[np.uint8],
    middle: NDArray[np.uint8],
    errors: NDArray[np.float64],
) -> None:
    """Write the pair sums of ``n_coarse`` tiles and of their quarters, in bytes, and the errors.

    ``units`` (2,) of the coarse and the middle level, ``errors`` (2,) L1, off-diagonal doubled.
    """
    n_middle = 4 * n_coarse
    pairs = pair_sums(coarser_masses(masses, masses.ends.size // n_middle))
    wide = np.zeros((n_coarse, n_coarse))
    for i in range(n_middle):
        for j in range(n_middle):
            wide[i // 4, j // 4] += pairs[i, j]
    errors[0] = _quantised_pairs(wide, units[0], coarse)
    errors[1] = _quantised_pairs(pairs, units[1], middle)


@compiled_part
def byte_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Any:
    """L1 distance of two rows of codes, in the types that LLVM has an instruction for."""
    total = np.uint32(0)
    for d in range(a.size):
        total = np.uint32(total + np.uint32(abs(np.int32(np.int32(a[d]) - np.int32(b[d])))))
    return np.int64(total)


@compiled_part
def pair_distance(a: NDArray[np.uint8], b: NDArray[np.uint8], n_diagonal: int) -> int:
    """L1 distance of the pair sums of two entries, in steps: doubled beyond the diagonal."""
    once: int = byte_distance(a[:n_diagonal], b[:n_diagonal])
    twice: int = byte_distance(a[n_diagonal:], b[n_diagonal:])
    return once + 2 * twice


@compiled
def byte_distances(
    codes: NDArray[np.uint8],
    query: NDArray[np.uint8],
    n_diagonal: int,
    rows: NDArray[np.int32],
    out: NDArray[np.int32],
) -> None:
    """L1 distance of some rows of ``codes`` to a query, doubled beyond the diagonal."""
    for i in range(rows.size):
        out[i] = pair_distance(codes[rows[i]], query, n_diagonal)
