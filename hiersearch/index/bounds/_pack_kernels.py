"""The kernel that makes all arrays of one entry: one call, so that adding is not Python's time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled
from hiersearch.index.bounds._codec_kernels import encode_runs
from hiersearch.index.bounds._overlap_kernels import encode_masses
from hiersearch.index.bounds._tile_kernels import tile_codes, tile_masses


@compiled
def pack_entry(
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
    n_regions: int,
    prefix: NDArray[Any],
    row_class: NDArray[np.int32],
    column_class: NDArray[np.int32],
    column_end: NDArray[np.int32],
    tile_table: NDArray[np.int32],
    tile_units: NDArray[np.float64],
    pair_units: NDArray[np.float64],
    n_coarse: int,
    code: NDArray[np.uint8],
    names: NDArray[np.int32],
    stream: NDArray[np.uint8],
    coarse: NDArray[np.uint8],
    middle: NDArray[np.uint8],
    errors: NDArray[np.float64],
) -> tuple[int, int]:
    """Write run code, stream of masses and tile codes of a run list; return the first two's bytes.

    See :func:`encode_runs` (``code``, ``names``; -1 where there is no room),
    :func:`encode_masses` (``stream``) and :func:`tile_codes`; ``code`` and ``stream`` are zero.
    """
    n_tiles = tile_units.size
    masses = tile_masses(
        starts, labels, prefix, row_class, column_class, column_end, tile_table, n_tiles
    )
    tile_codes(
        masses[0],
        masses[1],
        masses[2],
        n_regions,
        pair_units,
        n_coarse,
        coarse,
        middle,
        errors,
    )
    stream_bytes = encode_masses(masses[0], masses[1], masses[2], n_regions, tile_units, stream)
    code_bytes = encode_runs(
        starts, labels, n_regions, row_class.size, column_class.size, code, names
    )
    return code_bytes, stream_bytes
