"""The kernel that makes all arrays of one entry: one call, so that adding is not Python's time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled
from hiersearch.index.bounds._codec_kernels import encode_runs
from hiersearch.index.bounds._overlap_kernels import encode_masses
from hiersearch.index.bounds._tile_kernels import TileGrid, tile_codes, tile_masses
from hiersearch.metric._kernels import RunList


class EntryArrays(NamedTuple):
    """Where the arrays of one entry are written."""

    code: NDArray[np.uint8]
    """Room for its run code; zero."""
    names: NDArray[np.int32]
    """(n_regions,) the region that each number of the code is."""
    stream: NDArray[np.uint8]
    """Room for the stream of its masses; zero."""
    coarse: NDArray[np.uint8]
    """(coarse pairs,) its pair sums, diagonal first."""
    middle: NDArray[np.uint8]
    """(middle pairs,) its pair sums, diagonal first."""
    errors: NDArray[np.float64]
    """(2,) how far each is off the pair sums, L1, off-diagonal doubled."""


@compiled
def pack_entry(runs: RunList, grid: TileGrid, out: EntryArrays) -> tuple[int, int]:
    """Write run code, stream of masses and tile codes of a run list; return the first two's bytes.

    See :func:`encode_runs` (-1 bytes where there is no room), :func:`encode_masses` and
    :func:`tile_codes`.
    """
    masses = tile_masses(runs, grid)
    tile_codes(masses, grid.pair_units, grid.n_coarse, out.coarse, out.middle, out.errors)
    stream_bytes = encode_masses(masses, grid.units, out.stream)
    code_bytes = encode_runs(
        runs.starts,
        runs.labels,
        runs.n_regions,
        grid.row_class.size,
        grid.column_class.size,
        out.code,
        out.names,
    )
    return code_bytes, stream_bytes
