# mypy: ignore-errors
"""Kernels in Triton for what torch's own operations would write to memory and read again.

Functions below the kernels start them, on the device of their tensors, which they return more of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

    from hiersearch.device.runs import GridRuns, HardQueries, RegionRuns
    from hiersearch.device.tiles import SoftTiles, TileRows

ROWS = 64
"""Entries that a program compares at once."""
SOFT_ROWS = 16
"""Entries that a program compares with a soft query at once."""
WORDS = 16
"""Words of four bytes of a row that it reads at once."""
RUNS = 8
"""Runs of a region that are added up at once."""
REGIONS = 4
"""Regions of a program."""
PIECES = 128
"""Pieces that are put into a table at once."""


@triton.jit
def _differences(ours, theirs, total, FUSED: tl.constexpr):
    """Add the absolute differences of four bytes each to a total."""
    if FUSED:
        total = tl.inline_asm_elementwise(
            "vabsdiff4.u32.u32.u32.add $0, $1, $2, $3;",
            "=r,r,r,r",
            [ours, theirs, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        for shift in tl.static_range(0, 32, 8):
            total += tl.abs(((ours >> shift) & 255) - ((theirs >> shift) & 255))
    return total


@triton.jit
def _byte_distances(
    codes,
    queries,
    diagonal,
    out,
    n_rows,
    n_queries,
    WIDTH: tl.constexpr,
    DIAGONAL: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    FUSED: tl.constexpr,
):
    """Add up the differences of rows to all queries, in words of four bytes.

    A program reads its rows from memory for the first query, then from the nearest cache. The sum
    is twice that of all bytes less that of the diagonal's, which ``diagonal`` has a mask for.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    known = (row < n_rows)[:, None]
    place = out + row
    for query in range(n_queries):
        total = tl.zeros([ROWS, WORDS], tl.int32)
        once = tl.zeros([ROWS, WORDS], tl.int32)
        for begin in range(0, WIDTH, WORDS):
            at = begin + tl.arange(0, WORDS)
            inside = (at < WIDTH)[None, :]
            ours = tl.load(codes + row[:, None] * WIDTH + at[None, :], mask=known & inside, other=0)
            theirs = tl.load(queries + query * WIDTH + at[None, :], mask=inside, other=0)
            theirs = theirs + tl.zeros([ROWS, WORDS], tl.int32)
            total = _differences(ours, theirs, total, FUSED)
            if begin < DIAGONAL:
                kept = tl.load(diagonal + at[None, :], mask=inside, other=0)
                once = _differences(ours & kept, theirs & kept, once, FUSED)
        tl.store(place, tl.sum(2 * total - once, 1), mask=row < n_rows)
        place += n_rows


@triton.jit
def _soft_bounds(
    codes,
    pairs,
    spread,
    inverse,
    weights,
    units,
    out,
    n_rows,
    n_queries,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Add up the larger bound of each tile pair; ``units`` are the unit and half of it."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    unit = tl.load(units)
    half = tl.load(units + 1)
    place = out + row
    for query in range(n_queries):
        total = tl.zeros([ROWS, BYTES], tl.float64)
        for begin in range(0, WIDTH, BYTES):
            at = begin + tl.arange(0, BYTES)
            inside = at < WIDTH
            known = tl.load(
                codes + row[:, None] * WIDTH + at[None, :],
                mask=(row < n_rows)[:, None] & inside[None, :],
                other=0,
            ).to(tl.float64)
            mine = tl.load(pairs + query * WIDTH + at, mask=inside, other=0.0)
            more = tl.load(spread + query * WIDTH + at, mask=inside, other=0.0)
            scale = tl.load(inverse + at, mask=inside, other=0.0)
            weight = tl.load(weights + at, mask=inside, other=0.0)
            off = tl.maximum(tl.abs(mine[None, :] - unit * known) - half, 0.0)
            squared = off * off * scale[None, :] + more[None, :]
            total += tl.maximum(off, squared) * weight[None, :]
        tl.store(place, tl.sum(total, 1), mask=row < n_rows)
        place += n_rows


@triton.jit
def _region_squares(
    sums,
    starts,
    stops,
    region_edges,
    regions,
    query_numbers,
    out,
    n_items,
    query_stride,
    WIDTH: tl.constexpr,
    REGIONS: tl.constexpr,
    RUNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Add up a query's measure in each region, from prefix sums, and square it by channel."""
    first = tl.program_id(0).to(tl.int64) * REGIONS
    for item in range(first, tl.minimum(first + REGIONS, n_items)):
        region = tl.load(regions + item)
        base = sums + tl.load(query_numbers + item) * query_stride
        begin = tl.load(region_edges + region)
        end = tl.load(region_edges + region + 1)
        squares = tl.zeros([CHANNELS], tl.float64)
        for channel in range(0, WIDTH, CHANNELS):
            column = channel + tl.arange(0, CHANNELS)
            total = tl.zeros([RUNS, CHANNELS], tl.int64)
            for run in range(begin, end, RUNS):
                at = run + tl.arange(0, RUNS)
                start = tl.load(starts + at, mask=at < end, other=0).to(tl.int64)
                stop = tl.load(stops + at, mask=at < end, other=0).to(tl.int64)
                kept = (at < end)[:, None] & (column < WIDTH)[None, :]
                above = tl.load(base + stop[:, None] * WIDTH + column[None, :], mask=kept, other=0)
                below = tl.load(base + start[:, None] * WIDTH + column[None, :], mask=kept, other=0)
                total += above - below
            measure = tl.sum(total, 0).to(tl.float64)
            squares += measure * measure
        tl.store(out + item, tl.sum(squares, 0))


@triton.jit
def _holding(starts, low, high, at, steps):
    """Return the run, of those from low to high, that holds each pixel."""
    for _ in range(steps):
        middle = (low + high) // 2
        within = tl.load(starts + middle) <= at
        low = tl.where(within, middle, low)
        high = tl.where(within, high, middle)
    return low


@triton.jit
def _add_pieces(
    first_starts,
    first_stops,
    first_labels,
    first_begin,
    first_end,
    second_starts,
    second_stops,
    second_labels,
    second_begin,
    second_end,
    first_stride,
    second_stride,
    table,
    prefix,
    steps,
    WEIGHTED: tl.constexpr,
    ONLY: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Add the pieces that begin with runs of the first side, with ONLY those of no other run."""
    for begin in range(first_begin, first_end, PIECES):
        run = begin + tl.arange(0, PIECES)
        kept = run < first_end
        at = tl.load(first_starts + run, mask=kept, other=0)
        low = tl.zeros([PIECES], tl.int64) + second_begin
        other = _holding(second_starts, low, low + (second_end - second_begin), at, steps)
        if ONLY:
            kept = kept & (tl.load(second_starts + other) != at)
        end = tl.minimum(
            tl.load(first_stops + run, mask=kept, other=0), tl.load(second_stops + other)
        )
        cell = tl.load(first_labels + run, mask=kept, other=0).to(tl.int64) * first_stride
        cell += tl.load(second_labels + other).to(tl.int64) * second_stride
        if WEIGHTED:
            weight = tl.load(prefix + end, mask=kept, other=0)
            weight -= tl.load(prefix + at, mask=kept, other=0)
        else:
            weight = (end - at).to(tl.int64)
        tl.atomic_add(table + cell, weight, mask=kept, sem="relaxed")


@triton.jit
def _filled_tables(
    query_starts,
    query_stops,
    query_labels,
    query_edges,
    starts,
    stops,
    labels,
    edges,
    n_regions,
    query_numbers,
    rows,
    table_edges,
    table,
    prefix,
    query_steps,
    steps,
    WEIGHTED: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Fill the contingency table of one pair."""
    pair = tl.program_id(0)
    query = tl.load(query_numbers + pair)
    row = tl.load(rows + pair)
    mine = table + tl.load(table_edges + pair)
    width = tl.load(n_regions + row)
    query_begin = tl.load(query_edges + query)
    query_end = tl.load(query_edges + query + 1)
    begin = tl.load(edges + row)
    end = tl.load(edges + row + 1)
    _add_pieces(
        starts,
        stops,
        labels,
        begin,
        end,
        query_starts,
        query_stops,
        query_labels,
        query_begin,
        query_end,
        1,
        width,
        mine,
        prefix,
        query_steps,
        WEIGHTED,
        False,
        PIECES,
    )
    _add_pieces(
        query_starts,
        query_stops,
        query_labels,
        query_begin,
        query_end,
        starts,
        stops,
        labels,
        begin,
        end,
        width,
        1,
        mine,
        prefix,
        steps,
        WEIGHTED,
        True,
        PIECES,
    )


@triton.jit
def _table_squares(table, edges, out, WHOLE: tl.constexpr, PIECES: tl.constexpr):
    """Add up the squares of a pair's cells."""
    pair = tl.program_id(0)
    kind = tl.int64 if WHOLE else tl.float64
    begin = tl.load(edges + pair)
    end = tl.load(edges + pair + 1)
    total = tl.zeros([PIECES], kind)
    for first in range(begin, end, PIECES):
        cell = first + tl.arange(0, PIECES)
        measure = tl.load(table + cell, mask=cell < end, other=0).to(kind)
        total += measure * measure
    tl.store(out + pair, tl.sum(total, 0))


def byte_distances(rows: TileRows, queries: TileRows) -> Tensor:
    """Return the L1 distances of queries to rows, (queries, rows) int32."""
    n, width = rows.codes.shape
    out = torch.empty((len(queries), n), dtype=torch.int32, device=rows.codes.device)
    if out.numel() == 0:
        return out
    diagonal = torch.zeros(width, dtype=torch.uint8, device=rows.codes.device)
    diagonal[: rows.n_diagonal] = 255
    with torch.cuda.device_of(out):
        _byte_distances[(triton.cdiv(n, ROWS),)](
            rows.codes.view(torch.int32),
            queries.codes.view(torch.int32),
            diagonal.view(torch.int32),
            out,
            n,
            len(queries),
            WIDTH=width // 4,
            DIAGONAL=triton.cdiv(rows.n_diagonal, 4),
            ROWS=ROWS,
            WORDS=min(WORDS, triton.next_power_of_2(width // 4)),
            # An instruction of NVIDIA's, which the interpreter does not have.
            FUSED=rows.codes.is_cuda and torch.version.hip is None,
        )
    return out


def soft_bounds(rows: TileRows, queries: SoftTiles) -> Tensor:
    """Return the tile bounds of soft queries and rows, (queries, rows) float64."""
    n, width = rows.codes.shape
    beyond = (0, width - rows.n_pairs)
    pad = torch.nn.functional.pad
    sizes = queries.sizes
    weights = torch.full_like(sizes, 2.0)
    weights[: rows.n_diagonal] = 1.0
    units = sizes.new_tensor([queries.unit, 0.5 * queries.unit])
    out = torch.empty((len(queries), n), dtype=torch.float64, device=rows.codes.device)
    if out.numel() == 0:
        return out
    with torch.cuda.device_of(out):
        _soft_bounds[(triton.cdiv(n, SOFT_ROWS),)](
            rows.codes,
            pad(queries.pairs, beyond),
            pad(queries.spread * (sizes > 0), beyond),
            pad((1.0 / sizes).where(sizes > 0, sizes.new_zeros(())), beyond),
            pad(weights, beyond),
            units,
            out,
            n,
            len(queries),
            WIDTH=width,
            ROWS=SOFT_ROWS,
            BYTES=min(4 * WORDS, triton.next_power_of_2(width)),
        )
    return out


def region_squares(
    sums: Tensor, runs: RegionRuns, regions: Tensor, query_numbers: Tensor
) -> Tensor:
    """Return Σ n² over channels for pairs of a region and a query, in squared units, float64."""
    _, rows, width = sums.shape
    out = torch.empty(regions.numel(), dtype=torch.float64, device=sums.device)
    with torch.cuda.device_of(out):
        _region_squares[(triton.cdiv(regions.numel(), REGIONS),)](
            sums,
            runs.starts,
            runs.stops,
            runs.region_edges,
            regions,
            query_numbers,
            out,
            regions.numel(),
            rows * width,
            WIDTH=width,
            REGIONS=REGIONS,
            RUNS=RUNS,
            CHANNELS=min(32, triton.next_power_of_2(width)),
            num_warps=1,
        )
    return out


def filled_tables(
    queries: HardQueries, runs: GridRuns, query_numbers: Tensor, rows: Tensor, edges: Tensor
) -> Tensor:
    """Return the contingency tables of pairs, one after the other, int64."""
    side = queries.runs
    table = torch.zeros(int(edges[-1]), dtype=torch.int64, device=edges.device)
    weighted = queries.prefix is not None
    with torch.cuda.device_of(table):
        _filled_tables[(rows.numel(),)](
            side.starts,
            side.stops,
            side.labels,
            side.edges,
            runs.starts,
            runs.stops,
            runs.labels,
            runs.edges,
            runs.n_regions,
            query_numbers,
            rows,
            edges,
            table,
            queries.prefix if weighted else table,
            int(side.edges.diff().max()).bit_length(),
            int(runs.edges.diff().max()).bit_length(),
            WEIGHTED=weighted,
            PIECES=PIECES,
        )
    return table


def table_squares(table: Tensor, edges: Tensor, whole: bool) -> Tensor:
    """Return the sum of squares of each table, int64 where ``whole``, else float64."""
    kind = torch.int64 if whole else torch.float64
    out = torch.empty(edges.numel() - 1, dtype=kind, device=table.device)
    with torch.cuda.device_of(out):
        _table_squares[(out.numel(),)](table, edges, out, WHOLE=whole, PIECES=PIECES)
    return out
