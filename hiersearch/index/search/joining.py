"""The self-join: pairs of entries that may be within a distance of each other.

Every pair of blocks whose Σ a² come within the distance is looked at once: blocks are sorted by
their least Σ a², so that those which do follow each other. Of these pairs of blocks the triangle
inequality on the tile distance drops some, and of the pairs of their rows Σ a², the coarse and the
middle tile bound drop most. What is left comes in batches of bounded size, whatever the number of
pairs: other bounds may narrow them before exact distances decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.search._join_kernels import JoinLimit, JoinSide, close_rows
from hiersearch.index.search.pair_distances import Entries, Numbers
from hiersearch.index.segments.view import View
from hiersearch.index.threads import CORES, pool

BLOCKS_AT_ONCE = 64
"""Blocks of one segment that one task joins with those of another."""
TASKS_AT_ONCE = 4 * CORES
"""Tasks that are advanced side by side."""
ROOM = 2**15
"""Pairs that a task finds before it waits for them to be compared."""

Progress = Callable[[int], None]


@dataclass(slots=True)
class _Task:
    """Some blocks of one segment against all of another."""

    a: int
    """Number of the view whose blocks are joined."""
    b: int
    """Number of the view with which; not before ``a``."""
    stop: int
    """Where in the order of blocks of ``a`` to stop."""
    cursor: NDArray[np.int64]
    """(2,) how far it is: see :func:`close_rows`."""

    @property
    def finished(self) -> bool:
        return int(self.cursor[0]) == self.stop


@dataclass(slots=True, eq=False)
class TileJoin:
    """Pairs of entries whose cheap bounds are within a limit, each pair once."""

    entries: Entries
    """What is joined with itself."""
    taking_part: NDArray[np.bool_]
    """(n,) which of the entries are."""
    limit: float
    """Largest distance, before it is divided, that is of interest."""
    sides: list[JoinSide] = field(init=False)
    """What is looked at of each view."""
    reach: float = field(init=False)
    """The limit, and what rounding may lift a bound by."""

    def __post_init__(self) -> None:
        begins = self.entries.begins
        self.sides = [
            _side(view, self.taking_part[begin:end])
            for view, (begin, end) in zip(
                self.entries.views, itertools.pairwise(begins.tolist()), strict=True
            )
        ]
        self.reach = self.limit + 1e-9 * float(self.entries.frame.total) ** 2

    def candidates(self, progress: Progress | None = None) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield batches of pairs of numbers, at most ROOM pairs for each task at once.

        O(pairs of blocks) at most, on all cores. ``progress`` is called with how many of those
        taking part have been compared with all others.
        """
        tasks = self._tasks()
        current: list[_Task] = []
        done = 0
        while True:
            current += itertools.islice(tasks, TASKS_AT_ONCE - len(current))
            if not current:
                return
            found = list(pool().map(self._advanced, current))
            yield (
                np.concatenate([firsts for firsts, _ in found]),
                np.concatenate([seconds for _, seconds in found]),
            )
            done += sum(self._members(task) for task in current if task.finished)
            current = [task for task in current if not task.finished]
            if progress is not None:
                progress(done)

    def _tasks(self) -> Iterator[_Task]:
        for a, side in enumerate(self.sides):
            for begin in range(0, side.order.size, BLOCKS_AT_ONCE):
                stop = min(begin + BLOCKS_AT_ONCE, side.order.size)
                for b in range(a, len(self.sides)):
                    yield _Task(a, b, stop, np.array([begin, -1]))

    def _members(self, task: _Task) -> int:
        """Count the rows of a task, once for all tasks that share them."""
        if task.b != len(self.sides) - 1:
            return 0
        side = self.sides[task.a]
        ends = side.block_ends
        begin = (task.stop - 1) // BLOCKS_AT_ONCE * BLOCKS_AT_ONCE
        return sum(
            int(np.count_nonzero(side.taking_part[ends[block - 1] if block else 0 : ends[block]]))
            for block in side.order[begin : task.stop].tolist()
        )

    def _advanced(self, task: _Task) -> tuple[Numbers, Numbers]:
        """Return the next pairs of a task."""
        frame = self.entries.frame
        one, other = self.sides[task.a], self.sides[task.b]
        room = max(ROOM, _largest_block(one) * _largest_block(other))
        rows = np.empty(room, np.int32), np.empty(room, np.int32)
        count = close_rows(
            one,
            other,
            task.a == task.b,
            JoinLimit(self.reach, frame.tile_counts, frame.pair_units),
            task.stop,
            task.cursor,
            *rows,
        )
        begins = self.entries.begins
        return rows[0][:count] + begins[task.a], rows[1][:count] + begins[task.b]


def _largest_block(side: JoinSide) -> int:
    return int(np.diff(side.block_ends, prepend=0).max())


def _side(view: View, taking_part: NDArray[np.bool_]) -> JoinSide:
    """Prepare a view: its blocks with a row that takes part, sorted by Σ a². O(n)."""
    arrays = view.arrays
    squares = arrays["squares"].astype(np.float64)
    begins = np.concatenate([[0], arrays["block_ends"][:-1]])
    lows = np.minimum.reduceat(np.where(taking_part, squares, np.inf), begins)
    highs = np.maximum.reduceat(np.where(taking_part, squares, -np.inf), begins)
    order = np.argsort(lows, kind="stable")[: np.count_nonzero(np.isfinite(lows))]
    return JoinSide(
        squares,
        taking_part.astype(np.uint8),
        arrays["coarse"],
        arrays["coarse_errors"],
        arrays["middle"],
        arrays["middle_errors"],
        arrays["block_ends"],
        arrays["block_pivots"],
        arrays["block_radii"],
        order.astype(np.int32),
        lows[order],
        highs[order],
        np.maximum.accumulate(highs[order]),
    )
