"""From partitions to the arrays that an index keeps of them: run code, tile codes, masses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.bounds import _codec_kernels, _pack_kernels, _tile_kernels
from hiersearch.index.bounds._tile_kernels import Masses, TileGrid, tile_masses
from hiersearch.index.bounds.tiling import Tiling, tiling_of
from hiersearch.metric._kernels import RunList, prefix_sums
from hiersearch.partitions.partition import Measure, Partition
from hiersearch.partitions.runs import square_sum

PADDING = 8
"""Bytes that a decoder may read behind the last code."""
COARSE, MIDDLE, FINE, FINEST = range(4)
"""Levels of the tiling."""


class Frame:
    """Grid, measure and tiles of an index, and what follows from them."""

    def __init__(self, grid: tuple[int, ...], measure: Measure | None) -> None:
        self.grid = grid
        self.measure = measure
        """(n,) flat, or None for 1 everywhere."""
        self.tiling: Tiling = tiling_of(grid)
        n = math.prod(grid)
        self.prefix: NDArray[Any] = np.arange(n + 1) if measure is None else prefix_sums(measure)
        """(n + 1,) prefix sums of the measure."""
        self.total: int | float = self.prefix[-1].item()
        self.width = grid[-1]
        self.rows = n // grid[-1]
        self.totals: NDArray[np.float64] = _tile_totals(self.tiling, measure)
        """(finest tiles,) measure of each."""
        whole = measure is None or measure.dtype.kind == "i"
        exact = whole & (self.totals <= 255)
        # A unit of 1 says that bytes are exact: where they aren't it is something else.
        inexact = np.where(self.totals == 255, np.nextafter(1.0, 2.0), self.totals / 255)
        self.units: NDArray[np.float64] = np.where(exact, 1.0, inexact)
        """(finest tiles,) what a byte of their masses counts."""

    def level_totals(self, level: int) -> NDArray[np.float64]:
        """Return the measure of each tile of a level."""
        totals: NDArray[np.float64] = self.totals.reshape(-1, 4 ** (FINEST - level)).sum(axis=1)
        return totals

    @cached_property
    def pair_units(self) -> NDArray[np.float64]:
        """(2,) what a byte of the pair sums counts, at the coarse and the middle level."""
        most = [self.level_totals(level).max() for level in (COARSE, MIDDLE)]
        return np.square(np.array(most, np.float64)) / 255

    @cached_property
    def tile_counts(self) -> NDArray[np.int64]:
        """(2,) number of tiles of the coarse and of the middle level."""
        return np.array([self.tiling.count(COARSE), self.tiling.count(MIDDLE)])

    @cached_property
    def tiles(self) -> TileGrid:
        """Pixels and tiles as compiled functions take them."""
        return TileGrid(
            self.prefix,
            self.tiling.row_class,
            self.tiling.column_class,
            self.tiling.column_end,
            self.tiling.tile_table,
            self.units,
            self.pair_units,
            self.tiling.count(COARSE),
        )

    def n_pairs(self, level: int) -> int:
        """Return how many numbers the pair sums of a level are."""
        tiles = self.tiling.count(level)
        return tiles * (tiles + 1) // 2

    def masses(self, partition: Partition) -> Masses:
        """Return the masses of a partition in the finest tiles. O(runs + rows · tiles across)."""
        return tile_masses(_runs_of(partition), self.tiles)


def _tile_totals(tiling: Tiling, measure: Measure | None) -> NDArray[np.float64]:
    """Return the measure of each finest tile. O(pixels), or O(rows) where it is 1 everywhere."""
    if measure is not None:
        flat = tiling.tile_map(FINEST).reshape(-1)
        weights = measure.astype(np.float64)
        return np.bincount(flat, weights=weights, minlength=tiling.n_tiles).astype(np.float64)
    rows, columns = tiling.tile_table.shape
    totals = np.zeros(tiling.n_tiles)
    totals[tiling.tile_table] = np.outer(
        np.bincount(tiling.row_class, minlength=rows),
        np.bincount(tiling.column_class, minlength=columns),
    )
    return totals


@dataclass(frozen=True, slots=True, eq=False)
class TileCodes:
    """Pair sums of one partition at the coarse and the middle level, in bytes."""

    coarse: NDArray[np.uint8]
    """(coarse pairs,) diagonal first."""
    middle: NDArray[np.uint8]
    """(middle pairs,) diagonal first."""
    errors: NDArray[np.float64]
    """(2,) how far each is off the pair sums, L1, off-diagonal doubled."""


def tile_codes(frame: Frame, masses: Masses) -> TileCodes:
    """Quantise the pair sums of a partition's masses. O(items + regions · tiles²) at most."""
    codes = TileCodes(
        np.empty(frame.n_pairs(COARSE), np.uint8),
        np.empty(frame.n_pairs(MIDDLE), np.uint8),
        np.empty(2),
    )
    _tile_kernels.tile_codes(
        masses,
        frame.pair_units,
        frame.tiling.count(COARSE),
        codes.coarse,
        codes.middle,
        codes.errors,
    )
    return codes


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Arrays of some entries, in one order."""

    code: list[NDArray[np.uint8]]
    """Run code of each entry; empty for the cut of a stored hierarchy."""
    values: list[NDArray[Any]]
    """Label that each region had, in the order in which the code numbers the regions."""
    masses: list[NDArray[np.uint8]]
    """Stream of masses of each entry."""
    n_runs: NDArray[np.int32]
    n_regions: NDArray[np.int32]
    squares: NDArray[Any]
    """(n,) Σ a², int64, or float64 under a measure of floating-point type."""
    coarse: NDArray[np.uint8]
    middle: NDArray[np.uint8]
    coarse_errors: NDArray[np.float32]
    middle_errors: NDArray[np.float32]


def packed(frame: Frame, partitions: Sequence[Partition], threads: int = 1) -> Packed:
    """Encode partitions. O(runs + rows · tiles across) each."""
    n = len(partitions)
    squares = np.empty(n, np.int64 if frame.prefix.dtype.kind == "i" else np.float64)
    coarse = np.empty((n, frame.n_pairs(COARSE)), np.uint8)
    middle = np.empty((n, frame.n_pairs(MIDDLE)), np.uint8)
    errors = np.empty((n, 2))

    across = frame.tiling.splits[FINEST][-1]

    def one(i: int) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.uint8]]:
        partition = partitions[i]
        squares[i] = square_sum(partition)
        names = np.empty(partition.n_regions, np.int32)
        code = np.zeros(_code_room(partition.n_runs + frame.rows), np.uint8)
        # A run begins a mass, and so does a tile within a row.
        most = partition.n_runs + frame.rows * across
        stream = np.zeros(frame.tiling.n_tiles * 6 + most * 5 + 16, np.uint8)
        out = _pack_kernels.EntryArrays(code, names, stream, coarse[i], middle[i], errors[i])
        code_bytes, stream_bytes = _pack_kernels.pack_entry(_runs_of(partition), frame.tiles, out)
        if code_bytes < 0:
            code, names = run_code(partition)
        else:
            code = code[:code_bytes].copy()
        return code, partition.label_values[names], stream[:stream_bytes].copy()

    if threads > 1 and n > 4 * threads:
        with ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(one, range(n), chunksize=-(-n // (4 * threads))))
    else:
        done = [one(i) for i in range(n)]
    rounded = _rounded_up(errors)
    return Packed(
        [code for code, _, _ in done],
        [values for _, values, _ in done],
        [stream for _, _, stream in done],
        np.array([p.n_runs for p in partitions], np.int32),
        np.array([p.n_regions for p in partitions], np.int32),
        squares,
        coarse,
        middle,
        np.ascontiguousarray(rounded[:, 0]),
        np.ascontiguousarray(rounded[:, 1]),
    )


def _runs_of(partition: Partition) -> RunList:
    return RunList(partition.run_starts, partition.run_labels, partition.n_regions)


def run_code(partition: Partition) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the run code of a partition, and the region that each number of the code is.

    O(runs + rows); about 5 bits a run for real label maps.
    """
    width = partition.grid[-1]
    rows = partition.n_pixels // width
    order = np.empty(partition.n_regions, np.int32)
    room = _code_room(partition.n_runs + rows)
    while True:
        out = np.zeros(room, np.uint8)
        size = _codec_kernels.encode_runs(
            partition.run_starts, partition.run_labels, partition.n_regions, rows, width, out, order
        )
        if size >= 0:
            return out[:size], order
        room *= 2


def _code_room(runs: int) -> int:
    """Return how many bytes are enough for most codes of so many runs."""
    return 64 + 4 * runs


def decoded(
    code: NDArray[np.uint8], n_runs: int, n_regions: int, grid: tuple[int, ...]
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Return the run starts and labels of a code, or None if it is unsound. O(runs + rows)."""
    width = grid[-1]
    rows = math.prod(grid) // width
    starts, labels = np.empty(n_runs, np.int32), np.empty(n_runs, np.int32)
    padded = np.concatenate([code, np.zeros(PADDING, np.uint8)])
    # As stored arrays are, for which the kernel is compiled.
    padded.flags.writeable = False
    found = _codec_kernels.decode_runs(
        padded, 0, code.size, rows, width, n_regions, starts, labels, np.empty((4, width), np.int32)
    )
    return (starts, labels) if found == n_runs else None


def _rounded_up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float32 numbers that are not below."""
    near = values.astype(np.float32)
    above: NDArray[np.float32] = np.nextafter(near, np.float32(np.inf))
    return above


def ends_of(parts: Iterable[NDArray[Any]]) -> NDArray[np.int64]:
    """Return where each of some arrays ends once they stand one after the other."""
    return np.cumsum(np.fromiter((part.size for part in parts), np.int64))
