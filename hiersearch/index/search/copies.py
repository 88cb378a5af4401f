"""Exact copies among entries: equal partitions, whatever their labels, found by hash."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.bounds.packing import run_code
from hiersearch.index.search.pair_distances import Entries, Numbers
from hiersearch.index.segments.view import View


def first_copies(entries: Entries) -> Numbers:
    """Return for each entry the least number of an entry that is the same partition.

    The run code of a partition numbers its regions in the order in which they appear, so equal
    partitions have equal codes. Hashes of the codes propose, their bytes decide. Cuts of stored
    hierarchies, which have no code, get one where their numbers of runs and regions are also those
    of another entry.

    Returns
    -------
    int64 array, shape (n,)
        Itself for an entry that is no copy, or was removed.

    Raises
    ------
    DamageError
        If bytes that were needed are damaged.

    Notes
    -----
    O(bytes of the codes + n log n); O(pixels) for a cut that may be a copy.
    """
    first = np.arange(entries.n)
    numbers = _with_equal_counts(entries)
    hashes = np.empty(numbers.size, np.int64)
    for view, rows, places in entries.by_view(numbers):
        view.check_codes(rows[~view.is_cut(rows)])
        hashes[places] = [hash(_code(view, row)) for row in rows.tolist()]
    again = repeated(hashes)
    numbers, hashes = numbers[again], hashes[again]
    order = np.argsort(hashes, kind="stable")
    edges = np.flatnonzero(np.diff(hashes[order])) + 1
    for alike in np.split(numbers[order], edges) if numbers.size else ():
        first[alike] = _first_of_equal(entries, alike)
    return first


def _with_equal_counts(entries: Entries) -> Numbers:
    """Return the entries, not removed, that share their numbers of runs and regions with others."""
    numbers = np.flatnonzero(entries.live)
    counts = entries.n_runs[numbers].astype(np.int64) << 32 | entries.n_regions[numbers]
    return numbers[repeated(counts)]


def repeated(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which values occur more than once. O(n log n)."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    several: NDArray[np.bool_] = times[place] > 1
    return several


def _first_of_equal(entries: Entries, numbers: Numbers) -> NDArray[np.int64]:
    """Return for each of some entries, whose numbers ascend, the first of the same code."""
    firsts: dict[bytes, int] = {}
    found = np.empty(numbers.size, np.int64)
    for view, rows, places in entries.by_view(numbers):
        found[places] = [
            firsts.setdefault(_code(view, row), number)
            for row, number in zip(rows.tolist(), numbers[places].tolist(), strict=True)
        ]
    return found


def _code(view: View, row: int) -> bytes:
    """Return the run code of a row, whose checksums were compared."""
    arrays = view.arrays
    if arrays["tree"][row] >= 0:
        return run_code(view.partition(row, labelled=False))[0].tobytes()
    ends = arrays["code_ends"]
    return arrays["code"][ends[row - 1] if row else 0 : ends[row]].tobytes()
