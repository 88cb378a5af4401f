"""Reading what stands in a segment's code: partitions, their overlaps with a query, hierarchies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.bounds._search_kernels import RunCodes, decode_rows, exact_overlaps
from hiersearch.index.bounds.packing import Frame, decoded
from hiersearch.index.threads import in_slices
from hiersearch.metric._kernels import RunList
from hiersearch.metric.queries import HardQuery
from hiersearch.partitions.partition import Partition

LARGEST_TABLE = 2**19
"""Cells of a contingency table that are cleared for each row; larger tables are made singly."""
ROWS_A_THREAD = 256
"""Rows to decode that are worth a thread."""
_UNWRITTEN = "a segment that is being written"


def codes_of(frame: Frame, arrays: Mapping[str, NDArray[Any]]) -> RunCodes:
    """Return the run code of a segment's entries as compiled functions take it."""
    return RunCodes(
        arrays["code"],
        arrays["code_ends"],
        arrays["n_runs"],
        arrays["n_regions"],
        frame.rows,
        frame.width,
    )


def overlaps_with(
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    rows: NDArray[np.int32],
    query: Partition,
    file: str = _UNWRITTEN,
) -> NDArray[Any]:
    """Return Σ n_ij² of a partition with rows that have a code of their own.

    O(runs + cells of the contingency table) each; where it has too many, O(runs log runs).
    """
    out = np.empty(rows.size, frame.prefix.dtype)
    cells = arrays["n_regions"][rows].astype(np.int64) * query.n_regions
    large = cells > LARGEST_TABLE
    if large.any():
        single = HardQuery(query, frame.measure)
        for i in np.flatnonzero(large).tolist():
            out[i] = single.overlap(numbered_partition(frame, arrays, int(rows[i]), file))
        if not large.all():
            out[~large] = overlaps_with(frame, arrays, rows[~large], query, file)
        return out
    weighted = frame.measure is not None
    unsound = exact_overlaps(
        codes_of(frame, arrays),
        rows,
        RunList(query.run_starts, query.run_labels, query.n_regions),
        frame.prefix if weighted else None,
        np.empty(int(cells.max()), frame.prefix.dtype if weighted else np.int32),
        out,
    )
    if unsound >= 0:
        raise unsound_bytes(file, f"the code of entry {unsound}", "code")
    return out


def numbered_partition(
    frame: Frame, arrays: Mapping[str, NDArray[Any]], row: int, file: str = _UNWRITTEN
) -> Partition:
    """Return the partition of a row's code, its regions in the order in which they appear."""
    begin = int(arrays["code_ends"][row - 1]) if row else 0
    n_regions = int(arrays["n_regions"][row])
    code = arrays["code"][begin : int(arrays["code_ends"][row])]
    runs = decoded(code, int(arrays["n_runs"][row]), n_regions, frame.grid)
    if runs is None:
        raise unsound_bytes(file, f"the code of entry {row}", "code")
    return Partition._of_runs(frame.grid, *runs, np.arange(n_regions), frame.measure)


def decoded_runs(
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    rows: NDArray[np.int32],
    begins: NDArray[np.int64],
    n_runs: int,
    file: str,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return starts and labels (n_runs,) with the runs of rows that have a code of their own.

    Each row's runs stand from its place in ``begins`` on; what no row fills is zero. O(runs), on
    several cores if there are many rows.

    Raises
    ------
    DamageError
        If the code of a row means nothing.
    """
    starts, labels = np.zeros(n_runs, np.int32), np.zeros(n_runs, np.int32)
    codes = codes_of(frame, arrays)

    def decode(part: slice) -> int:
        return decode_rows(codes, rows[part], begins[part], starts, labels)

    bad = max(in_slices(decode, rows.size, ROWS_A_THREAD))
    if bad >= 0:
        raise unsound_bytes(file, f"the code of entry {bad}", "code")
    return starts, labels


def decoded_tree(
    grid: tuple[int, ...],
    arrays: Mapping[str, NDArray[Any]],
    number: int,
    code: NDArray[np.uint8],
    file: str,
) -> MergeTree:
    """Return a stored hierarchy, whose leaves' code was read. O(nodes + pixels).

    Raises
    ------
    DamageError
        If its code means nothing, or its nodes are no hierarchy.
    """
    n_leaves = int(arrays["tree_leaves"][number])
    runs = decoded(code, int(arrays["tree_runs"][number]), n_leaves, grid)
    if runs is None:
        raise unsound_bytes(file, f"the code of hierarchy {number}", "tree_code")
    first = int(arrays["tree_leaves"][:number].sum(dtype=np.int64))
    leaf_of = arrays["tree_order"][first : first + n_leaves]
    if not np.array_equal(np.sort(leaf_of), np.arange(n_leaves)):
        raise unsound_bytes(file, f"the order of the leaves of hierarchy {number}", "tree_order")
    numbered = Partition._of_runs(grid, runs[0], leaf_of[runs[1]], np.arange(n_leaves), None)
    node = int(arrays["tree_node_ends"][number - 1]) if number else 0
    nodes = slice(node, int(arrays["tree_node_ends"][number]))
    try:
        return MergeTree.from_parents(
            arrays["tree_parents"][nodes], arrays["tree_altitudes"][nodes], numbered.labels
        )
    except ValueError as error:
        what = f"hierarchy {number} is none: {error}"
        raise DamageError(Damage(file, what, "tree_parents")) from None


def unsound_bytes(file: str, what: str, array: str) -> DamageError:
    """Return the error of bytes that were written and checked, but mean nothing."""
    return DamageError(Damage(file, f"{what} can't be decoded", array))
