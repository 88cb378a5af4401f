"""Kernels of the overlap bound: masses of regions in tiles as bytes, and what they allow.

Regions i of a query and j of an entry share at most m_ij = Σ_tiles min(mass of i, mass of j), and
all of i's shares add up to its size. So Σ_j n_ij² is at most what filling the largest m_ij first
gives, and ρ = Σ a² + Σ b² − 2 Σ n² is at least what remains. The same holds with sides changed.

An entry's masses are one stream of bytes, tile by tile of the last level but one, four quarters
each:

- one bit a tile, in ``ceil(tiles / 8)`` bytes ahead: 1 where one region fills the tile
- for such a tile: the region
- for another: two bytes with the number of regions of each quarter, four bits each (15: four bytes
  follow with the number), and for each quarter its regions, the largest last, then the masses of
  all but the last, each in one byte: in units of the quarter's unit, rounded up

A region takes 1, 2 or 4 bytes, by the number of regions. The unit of a quarter is its measure over
255, but 1 where all its masses are integers up to 255: then the bytes are exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.index.bounds._tile_kernels import Masses


class StoredMasses(NamedTuple):
    """Masses of the entries of a segment."""

    stream: NDArray[np.uint8]
    """(bytes,) streams of masses, one after the other, and 8 bytes that may be read."""
    ends: NDArray[np.int64]
    """(n,) where each entry's stream ends."""
    n_regions: NDArray[np.int32]
    """(n,) number of regions of each."""
    squares: NDArray[Any]
    """(n,) Σ a² of each."""


class OverlapQuery(NamedTuple):
    """What the overlap bound looks at of a query, and of the tiles."""

    finest: Masses
    """Its masses in the finest tiles."""
    parents: Masses
    """Its masses in the tiles of the level above."""
    sizes: NDArray[np.float64]
    """(regions,) measure of each region."""
    squares: float
    """Σ of their squares."""
    totals: NDArray[np.float64]
    """(finest tiles,) measure of each."""
    units: NDArray[np.float64]
    """(finest tiles,) what a byte of the entries' masses counts."""


@compiled_part
def region_width(n_regions: int) -> int:
    """Return how many bytes the number of a region takes."""
    if n_regions <= 256:
        return 1
    return 2 if n_regions <= 65536 else 4


_COUNT_BYTES = 4
"""Bytes of an escaped number of regions."""


@compiled_part
def _write(out: NDArray[np.uint8], at: int, value: int, width: int) -> int:
    for b in range(width):
        out[at + b] = np.uint8((value >> (8 * b)) & 255)
    return at + width


@compiled_part
def _read(code: NDArray[np.uint8], at: int, width: int) -> Any:
    value = np.int64(code[at])
    if width > 1:
        value |= np.int64(code[at + 1]) << 8
        if width > 2:
            value |= (np.int64(code[at + 2]) << 16) | (np.int64(code[at + 3]) << 24)
    return value


@compiled
def encode_masses(
    found: Masses,
    units: NDArray[np.float64],
    out: NDArray[np.uint8],
) -> int:
    """Write the stream of a partition's masses to ``out``, which is zero; return its length.

    ``out`` needs ``tiles * 6 + masses * 5`` bytes at most. The masses are reordered within tiles.
    """
    ends, regions, masses = found.ends, found.regions, found.masses
    width = region_width(found.n_regions)
    n_parents = ends.size // 4
    at = (n_parents + 7) >> 3
    for parent in range(n_parents):
        begin = ends[4 * parent - 1] if parent > 0 else 0
        end = ends[4 * parent + 3]
        pure = end > begin
        for i in range(begin + 1, end):
            if regions[i] != regions[begin]:
                pure = False
                break
        if pure:
            out[parent >> 3] |= np.uint8(1 << (parent & 7))
            at = _write(out, at, regions[begin], width)
            continue
        counts_at = at
        at += 2
        first = begin
        for quarter in range(4):
            last = ends[4 * parent + quarter]
            count = last - first
            nibble = min(count, 15)
            out[counts_at + (quarter >> 1)] |= np.uint8(nibble << (4 * (quarter & 1)))
            if nibble == 15:
                at = _write(out, at, count, _COUNT_BYTES)
            first = last
        first = begin
        for quarter in range(4):
            tile = 4 * parent + quarter
            last = ends[tile]
            if last > first:
                largest = first
                for i in range(first, last):
                    if masses[i] > masses[largest]:
                        largest = i
                region, mass = regions[largest], masses[largest]
                regions[largest], masses[largest] = regions[last - 1], masses[last - 1]
                regions[last - 1], masses[last - 1] = region, mass
                for i in range(first, last):
                    at = _write(out, at, regions[i], width)
                for i in range(first, last - 1):
                    out[at] = np.uint8(min(255.0, np.ceil(masses[i] / units[tile])))
                    at += 1
            first = last
    return at


@compiled
def overlap_bounds(
    entries: StoredMasses,
    rows: NDArray[np.int32],
    query: OverlapQuery,
    most_cells: int,
    out: NDArray[np.float64],
) -> int:
    """Write a lower bound of ρ for some rows of a collection; return a row of unsound masses.

    -1 is returned where all are sound. Where the table of overlaps would have more than
    ``most_cells``, the bound is 0. Nothing outside of a row's own stream is read or counted,
    whatever its bytes are.
    """
    ends, n_regions, sizes = entries.ends, entries.n_regions, query.sizes
    k = sizes.size
    most = 0
    for r in range(rows.size):
        if n_regions[rows[r]] * k <= most_cells:
            most = max(most, int(np.int64(n_regions[rows[r]])))
    table = np.zeros(k * most, np.float64)
    touched = np.empty(k * most, np.int64)
    # Size of a region, then its three largest overlaps: of the entry's regions, of the query's.
    entry_side = np.zeros((most, 4), np.float64)
    query_side = np.zeros((k, 4), np.float64)
    for r in range(rows.size):
        row = rows[r]
        n = int(np.int64(n_regions[row]))
        if k * n > most_cells:
            out[r] = 0.0
            continue
        n_touched = _overlaps(
            entries.stream,
            int(np.int64(ends[row - 1])) if row > 0 else 0,
            int(np.int64(ends[row])),
            n,
            query,
            table,
            touched,
            entry_side,
        )
        if n_touched < 0:
            return int(np.int64(row))
        for t in range(n_touched):
            cell = touched[t]
            i = cell // n
            _keep_largest(query_side[i], table[cell])
            _keep_largest(entry_side[cell - i * n], table[cell])
            table[cell] = 0.0
        by_query = 0.0
        for i in range(k):
            query_side[i, 0] = sizes[i]
            by_query += _filled(query_side[i])
        by_entry = 0.0
        for j in range(n):
            by_entry += _filled(entry_side[j])
        out[r] = query.squares + entries.squares[row] - 2 * min(by_query, by_entry)
    return -1


@compiled_part
def _overlaps(
    code: NDArray[np.uint8],
    at: int,
    end: int,
    n: int,
    query: OverlapQuery,
    table: NDArray[np.float64],
    touched: NDArray[np.int64],
    entry_side: NDArray[np.float64],
) -> int:
    """Add up what overlaps an entry's masses allow in ``table`` (k · n,), and its regions' sizes.

    Return how many cells are not zero any more; their numbers are in ``touched``. -1 is returned
    where ``code[at:end]`` is no stream of n regions.
    """
    # Fields are looked up once: a loop that does it again and again is many times slower.
    totals, units = query.totals, query.units
    query_ends, query_regions = query.finest.ends, query.finest.regions
    query_masses = query.finest.masses
    parent_ends, parent_regions = query.parents.ends, query.parents.regions
    parent_masses = query.parents.masses
    n_parents = totals.size // 4
    width = region_width(n)
    n_touched = 0
    flags = at
    at += (n_parents + 7) >> 3
    if at > end:
        return -1
    for parent in range(n_parents):
        if (code[flags + (parent >> 3)] >> (parent & 7)) & 1:
            # A region's number may be read from the bytes behind the last stream, no further.
            region = _read(code, at, width)
            at += width
            if at > end or region >= n:
                return -1
            first = parent_ends[parent - 1] if parent > 0 else 0
            for q in range(first, parent_ends[parent]):
                cell = parent_regions[q] * n + region
                if table[cell] == 0.0:
                    if n_touched == touched.size:
                        return -1
                    touched[n_touched] = cell
                    n_touched += 1
                table[cell] += parent_masses[q]
            for tile in range(4 * parent, 4 * parent + 4):
                entry_side[region, 0] += totals[tile]
            continue
        two = _read(code, at, 2)
        at += 2
        escapes = at
        for quarter in range(4):
            if (two >> (4 * quarter)) & 15 == 15:
                at += _COUNT_BYTES
        if at > end:
            return -1
        for quarter in range(4):
            count = (two >> (4 * quarter)) & 15
            if count == 0:
                continue
            if count == 15:
                count = _read(code, escapes, _COUNT_BYTES)
                escapes += _COUNT_BYTES
            tile = 4 * parent + quarter
            first = query_ends[tile - 1] if tile > 0 else 0
            last = query_ends[tile]
            masses_at = at + count * width
            if masses_at + count - 1 > end:
                return -1
            left = totals[tile]
            unit = units[tile]
            for i in range(count):
                region = _read(code, at, width)
                at += width
                if region >= n:
                    return -1
                if i + 1 < count:
                    byte = np.int64(code[masses_at])
                    masses_at += 1
                    mass = byte * unit
                    # In units of 1 the mass is exact, else it may be almost a unit less.
                    left -= mass if unit == 1.0 else max(0.0, (byte - 1) * unit)
                else:
                    # Rounding must not leave the largest nothing: cells are told by being zero.
                    mass = max(left, unit)
                entry_side[region, 0] += mass
                for q in range(first, last):
                    cell = query_regions[q] * n + region
                    if table[cell] == 0.0:
                        # A mass of zero would come here again and again.
                        if n_touched == touched.size:
                            return -1
                        touched[n_touched] = cell
                        n_touched += 1
                    table[cell] += min(query_masses[q], mass)
            at = masses_at
    return n_touched


@compiled_part
def _keep_largest(side: NDArray[np.float64], m: Any) -> None:
    """Put an overlap among the three largest of a region, behind its size."""
    if m > side[3]:
        if m > side[2]:
            side[3] = side[2]
            if m > side[1]:
                side[2] = side[1]
                side[1] = m
            else:
                side[2] = m
        else:
            side[3] = m


@compiled_part
def _filled(side: NDArray[np.float64]) -> Any:
    """Return the most that a region's Σ n² can be, given its size and largest overlaps; clear them.

    Overlaps beyond the three largest are at most the third, and add up to what is left.
    """
    left = side[0]
    first = min(side[1], left)
    left -= first
    second = min(side[2], left)
    left -= second
    most = first * first + second * second + left * min(side[3], left)
    for t in range(4):
        side[t] = 0.0
    return most
