"""Kernels of the self-join: pairs that cheap bounds leave, their exact overlaps, who is connected.

All bounds are lower bounds of ρ itself, before it is divided by M².
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part
from hiersearch.index.bounds._tile_kernels import pair_distance
from hiersearch.metric._kernels import ManyRuns, overlap_square_sum


class JoinSide(NamedTuple):
    """What a join looks at of one segment: n rows, and the m blocks with one that takes part."""

    squares: NDArray[np.float64]
    """(n,) Σ a²."""
    taking_part: NDArray[np.uint8]
    """(n,) 1 for rows that take part."""
    coarse: NDArray[np.uint8]
    """(n, coarse pairs) pair sums of the coarse level."""
    coarse_errors: NDArray[np.float32]
    """(n,) how far those are off."""
    middle: NDArray[np.uint8]
    """(n, middle pairs) pair sums of the middle level."""
    middle_errors: NDArray[np.float32]
    """(n,) how far those are off."""
    block_ends: NDArray[np.int32]
    """(blocks,) where each block's rows end."""
    block_pivots: NDArray[np.int32]
    """(blocks,) row that each block lies around."""
    block_radii: NDArray[np.float32]
    """(blocks,) largest tile distance of a block's rows to its pivot."""
    order: NDArray[np.int32]
    """(m,) blocks in ascending order of the least Σ a² of their rows that take part."""
    lows: NDArray[np.float64]
    """(m,) that least Σ a²."""
    highs: NDArray[np.float64]
    """(m,) the largest Σ a² of those rows."""
    reaches: NDArray[np.float64]
    """(m,) the largest of ``highs`` up to each block: ascending."""


class JoinLimit(NamedTuple):
    """How far apart pairs may be, and how tile bounds tell."""

    reach: float
    """Largest bound of a pair that is found."""
    diagonals: NDArray[np.int64]
    """(2,) tiles of the coarse and of the middle level."""
    units: NDArray[np.float64]
    """(2,) what a step of their pair sums counts."""


@compiled
def close_rows(
    one: JoinSide,
    other: JoinSide,
    same: bool,
    limits: JoinLimit,
    stop: int,
    cursor: NDArray[np.int64],
    rows_a: NDArray[np.int32],
    rows_b: NDArray[np.int32],
) -> int:
    """Write pairs of rows of two segments whose bounds are within a limit; return their number.

    Blocks of the first are taken from ``cursor[0]`` of its ``order`` on, up to ``stop``, each with
    those of the second whose Σ a² come near enough, from ``cursor[1]`` on (-1: from the first of
    them). Where there is no room for all pairs of two blocks, the cursor says where to go on;
    ``cursor[0] == stop`` once all is done. With ``same`` both are one segment, and each pair is
    found once.
    """
    # Fields are looked up once: a loop that does it again and again is many times slower.
    limit, diagonals, units = limits.reach, limits.diagonals, limits.units
    squares_a, squares_b = one.squares, other.squares
    taking_part_a, taking_part_b = one.taking_part, other.taking_part
    coarse_a, coarse_b = one.coarse, other.coarse
    coarse_errors_a, coarse_errors_b = one.coarse_errors, other.coarse_errors
    middle_a, middle_b = one.middle, other.middle
    middle_errors_a, middle_errors_b = one.middle_errors, other.middle_errors
    ends_b, pivots_b, radii_b = other.block_ends, other.block_pivots, other.block_radii
    order_b, lows_b, highs_b = other.order, other.lows, other.highs
    found = 0
    p = cursor[0]
    q = cursor[1]
    while p < stop:
        block = one.order[p]
        begin = one.block_ends[block - 1] if block > 0 else 0
        end = one.block_ends[block]
        pivot = one.block_pivots[block]
        reach = limit + one.block_radii[block] + middle_errors_a[pivot]
        low, high = one.lows[p] - limit, one.highs[p] + limit
        if q < 0:
            q = p if same else np.searchsorted(other.reaches, low)
        while q < order_b.size and lows_b[q] <= high:
            facing = order_b[q]
            first = ends_b[facing - 1] if facing > 0 else 0
            last = ends_b[facing]
            if rows_a.size - found < (end - begin) * (last - first):
                cursor[0] = p
                cursor[1] = q
                return found
            within_one = same and p == q
            q += 1
            if highs_b[q - 1] < low:
                continue
            away = pivots_b[facing]
            steps = pair_distance(middle_a[pivot], middle_b[away], diagonals[1])
            if steps * units[1] - middle_errors_b[away] - radii_b[facing] > reach:
                continue
            for i in range(begin, end):
                if taking_part_a[i] == 0:
                    continue
                for j in range(i + 1 if within_one else first, last):
                    # The cheapest first.
                    if abs(squares_a[i] - squares_b[j]) > limit or taking_part_b[j] == 0:
                        continue
                    steps = pair_distance(coarse_a[i], coarse_b[j], diagonals[0])
                    if steps * units[0] - coarse_errors_a[i] - coarse_errors_b[j] > limit:
                        continue
                    steps = pair_distance(middle_a[i], middle_b[j], diagonals[1])
                    if steps * units[1] - middle_errors_a[i] - middle_errors_b[j] > limit:
                        continue
                    rows_a[found] = i
                    rows_b[found] = j
                    found += 1
        p += 1
        q = -1
    cursor[0] = p
    cursor[1] = q
    return found


@compiled
def pair_overlaps(
    many: ManyRuns,
    firsts: NDArray[np.int64],
    seconds: NDArray[np.int64],
    n_pixels: int,
    prefix: NDArray[Any] | None,
    table: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Write Σ n_ij² of pairs of some partitions.

    ``table`` has room for the largest contingency table.
    """
    starts, labels, ends, n_regions = many.starts, many.labels, many.ends, many.n_regions
    for p in range(firsts.size):
        a, b = firsts[p], seconds[p]
        begin_a = ends[a - 1] if a > 0 else 0
        begin_b = ends[b - 1] if b > 0 else 0
        regions = int(np.int64(n_regions[b]))
        for cell in range(np.int64(n_regions[a]) * regions):
            table[cell] = 0
        out[p] = overlap_square_sum(
            starts[begin_a : ends[a]],
            labels[begin_a : ends[a]],
            starts[begin_b : ends[b]],
            labels[begin_b : ends[b]],
            n_pixels,
            regions,
            prefix,
            table,
        )


@compiled_part
def _root(parents: NDArray[np.int64], i: int) -> int:
    """Return the root of a tree of parents, halving the path to it."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled
def roots_of(parents: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the root of each of some numbers: one for all that are connected."""
    found = np.empty(numbers.size, np.int64)
    for n in range(numbers.size):
        found[n] = _root(parents, numbers[n])
    return found


@compiled
def connect(
    parents: NDArray[np.int64], firsts: NDArray[np.int64], seconds: NDArray[np.int64]
) -> None:
    """Connect pairs of numbers; the least number of all that are connected is their root."""
    for p in range(firsts.size):
        a = _root(parents, firsts[p])
        b = _root(parents, seconds[p])
        if a < b:
            parents[b] = a
        else:
            parents[a] = b
