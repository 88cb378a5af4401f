"""Recomputing what a segment keeps beside its runs: whatever searches trust, and can't see.

Checksums tell that bounds are what was written, not that they are right; with wrong ones a search
would be wrong and call itself exact. Here everything is made anew from the runs and compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError
from hiersearch.index.bounds.packing import packed
from hiersearch.index.segments.arranging import radii, rings
from hiersearch.index.segments.view import View
from hiersearch.index.store.columns import begins_of
from hiersearch.partitions.partition import Partition

ROWS_AT_ONCE = 256
"""About how many entries are in memory at once."""
MOST_NAMED = 100
"""Entries of a segment that are named one by one as having a wrong value in one array."""
ROUNDING = 1e-9
"""How far sums in floating point may be off, as a share of M²: as far as searches allow for."""
_FLOAT32 = 1e-6
"""How far 32-bit numbers may be off, as a share of themselves."""


def differences(view: View, progress: Callable[[int], None] | None = None) -> list[Damage]:
    """Decode all entries of a segment, recompute all that is kept of them, and compare.

    Parameters
    ----------
    view : View
        The segment, removed entries included: they may be pivots.
    progress : function, optional
        Called with the number of entries done so far.

    Returns
    -------
    list of Damage
        One for each array and entry (or block) that is not what the runs give; of more than
        :data:`MOST_NAMED` in an array the number is told.

    Notes
    -----
    O(pixels + runs) an entry, and one exact distance; about 256 entries are in memory at once.
    Integers and bytes must be equal. Sums under a measure of floating-point type may be off by
    :data:`ROUNDING`, and bytes that are rounded from them by one.
    """
    found = _Found(view)
    squares = view.arrays["squares"].copy()
    blocks = range(view.arrays["block_ends"].size)
    ends = view.arrays["block_ends"]
    begins = begins_of(ends)
    first = 0
    while first < len(blocks):
        stop = max(first + 1, int(np.searchsorted(ends, begins[first] + ROWS_AT_ONCE, "right")))
        rows = np.arange(begins[first], ends[stop - 1])
        undecoded = _compare_rows(view, rows, squares, found)
        for block in range(first, stop):
            members = np.arange(begins[block], ends[block])
            if undecoded.isdisjoint(members.tolist()):
                _compare_block(view, block, members, squares, found)
        first = stop
        if progress is not None:
            progress(int(rows[-1]) + 1)
    return found.damages()


class _Found:
    """What was found to differ, by array and row."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._rows: dict[tuple[str, str], list[int]] = {}
        self._unreadable: list[Damage] = []

    def unreadable(self, damage: Damage) -> None:
        self._unreadable.append(damage)

    def add(self, array: str, rows: NDArray[Any] | list[int], of: str = "entry") -> None:
        if len(rows):
            self._rows.setdefault((array, of), []).extend(int(row) for row in rows)

    def damages(self) -> list[Damage]:
        damages = self._unreadable
        file = self._view.file
        for (array, of), rows in self._rows.items():
            for row in rows[:MOST_NAMED]:
                name = f"entry {self._id(row)}in row {row}" if of == "entry" else f"{of} {row}"
                damages.append(Damage(file, f"is not what the runs of {name} give", array))
            more = len(rows) - MOST_NAMED
            if more > 0:
                damages.append(Damage(file, f"nor is it what {more:,} more give", array))
        return damages

    def _id(self, row: int) -> str:
        try:
            return f"{self._view.stored.id_at(row)!r} "
        except DamageError:
            return ""


def _compare_rows(
    view: View, rows: NDArray[np.int64], squares: NDArray[Any], found: _Found
) -> set[int]:
    """Compare what is kept of single entries; return those that can't be decoded.

    ``squares`` gets the Σ a² that was computed.
    """
    undecoded: set[int] = set()
    kept: list[int] = []
    partitions: list[Partition] = []
    for row in rows.tolist():
        try:
            partitions.append(view.partition(row))
            kept.append(row)
        except DamageError as error:
            undecoded.add(row)
            found.unreadable(error.damage)
    if not kept:
        return undecoded
    arrays, places = view.arrays, np.array(kept)
    anew = packed(view.frame, partitions)
    squares[places] = anew.squares
    slack = _slack(view)
    # Where sums are rounded, so may be the bytes that are made of them.
    step = 1 if slack else 0
    for name in ("n_runs", "n_regions"):
        found.add(name, places[arrays[name][places] != getattr(anew, name)])
    found.add("squares", places[_differ(arrays["squares"][places], anew.squares, slack)])
    for name in ("coarse", "middle"):
        off = np.abs(arrays[name][places].astype(np.int16) - getattr(anew, name))
        found.add(name, places[(off > step).any(axis=1)])
    for name in ("coarse_errors", "middle_errors"):
        computed = getattr(anew, name).astype(np.float64)
        near = slack + _FLOAT32 * computed
        found.add(name, places[_differ(arrays[name][places], computed, near)])
    ends = arrays["mass_ends"]
    for row, masses in zip(kept, anew.masses, strict=True):
        begin = int(ends[row - 1]) if row else 0
        if not np.array_equal(arrays["masses"][begin : int(ends[row])], masses):
            found.add("masses", [row])
    return undecoded


def _slack(view: View) -> float:
    """Return how far sums may be off: not at all where they are sums of integers."""
    return 0.0 if view.frame.prefix.dtype.kind == "i" else ROUNDING * float(view.frame.total) ** 2


def _differ(stored: NDArray[Any], computed: NDArray[Any], near: Any) -> NDArray[np.bool_]:
    """Return where numbers are neither equal, infinities included, nor near to each other."""
    with np.errstate(invalid="ignore"):
        different: NDArray[np.bool_] = (stored != computed) & ~(np.abs(stored - computed) <= near)
    return different


def _compare_block(
    view: View, block: int, members: NDArray[np.int64], squares: NDArray[Any], found: _Found
) -> None:
    """Compare what is kept of a block: distances to its pivot, and its radius."""
    arrays = view.arrays
    ends, pivots = (arrays[name][block : block + 1] for name in ("block_ends", "block_pivots"))
    if (arrays["tree"][members] != arrays["tree"][pivots[0]]).any():
        # Distances within a chain follow from Σ a², others do not.
        found.add("block_pivots", [block], "block")
        return
    first, slack = int(members[0]), _slack(view)
    ring = rings(view.frame, {**arrays, "squares": squares}, ends, pivots, first)
    found.add("ring", members[_differ(arrays["ring"][members], ring, slack)])
    radius = radii(view.frame, arrays, ends, pivots, first).astype(np.float64)
    if _differ(arrays["block_radii"][[block]], radius, slack + _FLOAT32 * radius).any():
        found.add("block_radii", [block], "block")
