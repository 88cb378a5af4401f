"""The search: proposals set a radius, bounds rule out the rest, survivors are verified.

1. *Propose*: members of the blocks whose pivots seem nearest give the first exact distances, and
   with them the radius τ that an answer must lie within.
2. *Certify*: blocks are dropped by the triangle inequality on the tile distance; members by the
   coarse and the middle tile bound; then, best first, by the overlap bound, and by the triangle
   inequality on ρ around pivots whose overlap bound is known.
3. *Verify*: exact distances of survivors, most promising first, while τ shrinks.

Entries at exactly τ are kept, so that ties are settled by id. Where a bound stops ruling anything
out it is given up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.bounds._search_kernels import bytes_between
from hiersearch.index.search.proposals import FaissProposer
from hiersearch.index.search.queries import IndexQuery, Rows
from hiersearch.index.search.results import SearchWork
from hiersearch.index.segments.view import View
from hiersearch.index.threads import in_slices

PROPOSING_BLOCKS = 6
"""Blocks whose members propose, and two more for every ten neighbours asked for."""
FIRST_CHUNK = 64
"""Candidates in the first chunk under the overlap bound; each further chunk is twice as large."""
FEW = 4
"""A pivot's bound is worth its while for so many candidates of its block."""
PROPOSED = 12
"""Entries, and two for each neighbour, that are compared by the overlap bound to propose."""
VERIFIED_AT_ONCE = 1
"""Exact distances before τ is looked at again; twice as many each time."""
LARGEST_BATCH = 64
"""Most exact distances between two looks at τ."""
PROBED = 16
"""Candidates of a large chunk on which the overlap bound is tried before it is used."""
PAYING = 0.4
"""Share of them that it must rule out."""
BLOCKS_A_THREAD = 2048
"""Blocks whose members are worth a thread."""
ROWS_A_THREAD = 128
"""Rows under the overlap bound that are worth a thread."""
APPROXIMATE_BLOCKS = 16
"""Blocks whose members an approximate search looks at, and one for every neighbour."""


class FoundRow(NamedTuple):
    """An entry whose distance a search has found."""

    view: int
    """Number of its segment's view among those searched."""
    row: int
    """Its row there."""


@dataclass(slots=True)
class Best:
    """The nearest entries so far, ties at the end included."""

    k: int | None
    """How many are asked for; None: all within the radius."""
    radius: float
    """What an answer's distance must not exceed: it shrinks once k are known."""
    distances: list[Any] = field(default_factory=list)
    """Distances that were found, not divided."""
    found: list[FoundRow] = field(default_factory=list)
    """The entry of each."""

    def add(self, view: int, rows: Rows, distances: NDArray[Any]) -> None:
        """Take exact distances into account."""
        near = distances <= self.radius
        self.distances += distances[near].tolist()
        self.found += [FoundRow(view, row) for row in rows[near].tolist()]
        if self.k is not None and len(self.distances) >= self.k:
            values = sorted(self.distances)
            self.radius = values[self.k - 1]
            if len(values) > 4 * self.k + 64:
                kept = [i for i, d in enumerate(self.distances) if d <= self.radius]
                self.distances = [self.distances[i] for i in kept]
                self.found = [self.found[i] for i in kept]


@dataclass(slots=True)
class Candidates:
    """Rows that tile bounds left over."""

    views: NDArray[np.int32]
    """Number of each one's view."""
    rows: Rows
    """Its row."""
    bounds: NDArray[np.float64]
    """Its bound."""

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, Rows, NDArray[np.float64]]]) -> Candidates:
        """Join what several views gave."""
        if not parts:
            return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))
        views = [np.full(rows.size, view, np.int32) for view, rows, _ in parts]
        return cls(
            np.concatenate(views),
            np.concatenate([rows for _, rows, _ in parts]),
            np.concatenate([bounds for _, _, bounds in parts]),
        )

    def taken(self, which: NDArray[Any] | slice) -> Candidates:
        """Return some of them."""
        return Candidates(self.views[which], self.rows[which], self.bounds[which])

    def by_view(self) -> list[tuple[int, NDArray[np.intp] | slice]]:
        """Return for each view the positions of its candidates."""
        if self.views.size == 0:
            return []
        low = int(self.views[0])
        if (self.views == low).all():
            return [(low, slice(None))]
        return [(int(v), np.flatnonzero(self.views == v)) for v in np.unique(self.views)]


class Search:
    """One query against the views of an index."""

    def __init__(
        self,
        views: Sequence[View],
        query: IndexQuery,
        live: Mapping[int, NDArray[np.uint8]],
        best: Best,
        work: SearchWork,
        proposer: FaissProposer | None = None,
    ) -> None:
        self.views = views
        self.query = query
        self.live = live
        """For a view's number, 1 for rows that may be answers; missing: all may."""
        self.best = best
        self.work = work
        self.proposer = proposer
        """What proposes in place of the tiles."""
        self.settled: dict[int, Rows] = {}
        """Rows that were proposed, by view: verified, or ruled out by their overlap bound."""

    def run(self, approximate: bool = False) -> None:
        """Search; the answers are in ``best``."""
        query = self.query
        for view in self.views:
            self.work.blocks += view.arrays["block_ends"].size
        if not query.has_bounds:
            self._scan()
            return
        maps = [query.blocks(view) for view in self.views]
        if approximate:
            near = self._members_near(maps, APPROXIMATE_BLOCKS + (self.best.k or 64))
            for number, which in near.by_view():
                self._verify(number, near.rows[which])
            return
        if self.best.k is not None:
            self._propose(maps, PROPOSING_BLOCKS + self.best.k // 5)
        self._certify(self._survivors(maps))

    def _live(self, view: int) -> NDArray[np.uint8]:
        return self.live.get(view, _ALL)

    def _unsettled(self, number: int) -> NDArray[np.uint8]:
        """Return 1 for the rows of a view that may be answers and were not proposed."""
        live = self._live(number)
        settled = self.settled.get(number)
        if settled is None:
            return live
        left = live.copy() if live.size else np.ones(self.views[number].n_entries, np.uint8)
        left[settled] = 0
        return left

    def _scan(self) -> None:
        """Compute every distance."""
        self.work.scanned = True
        for number, view in enumerate(self.views):
            live = self._live(number)
            rows = np.arange(view.n_entries) if live.size == 0 else np.flatnonzero(live)
            self._verify(number, rows.astype(np.int32))

    def _verify(self, number: int, rows: Rows) -> None:
        """Compute exact distances of rows of a view."""
        if rows.size == 0:
            return
        view = self.views[number]
        self.best.add(number, rows, self.query.exact(view, rows))
        self.work.exact_distances += rows.size
        self.work.bytes_read += bytes_between(view.arrays["code_ends"], rows)

    def _propose(
        self, maps: Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]], count: int
    ) -> None:
        """Verify the most promising of what the proposer or the nearest blocks give."""
        least = self.best.k or 1
        if self.proposer is not None:
            candidates = self._embedded_near(PROPOSED + 2 * least)
        else:
            candidates = self._members_near(maps, count)
            # The overlap bound is a far better guess than the tiles', but dearer.
            order = np.argsort(candidates.bounds, kind="stable")
            candidates = candidates.taken(order[: PROPOSED + 2 * least])
        self._verify_in_order(self._overlapping(candidates), least)
        # What is not verified is ruled out for good, since τ only shrinks.
        for number, which in candidates.by_view():
            self.settled[number] = candidates.rows[which]

    def _embedded_near(self, count: int) -> Candidates:
        """Return what the proposer gives, as far as it may be an answer."""
        assert self.proposer is not None
        parts = []
        for number, rows in self.proposer.propose(self.query.embedded, count):
            live = self._live(number)
            alive = rows if live.size == 0 else rows[live[rows] != 0]
            parts.append((number, alive, np.zeros(alive.size)))
        return Candidates.joined(parts)

    def _members_near(
        self, maps: Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]], count: int
    ) -> Candidates:
        """Return the live members of the blocks whose pivots seem nearest."""
        nearness = np.concatenate([near for near, _ in maps])
        count = min(count, nearness.size)
        chosen = np.argpartition(nearness, count - 1)[:count]
        begins = np.cumsum([0, *(near.size for near, _ in maps)])
        parts = []
        dropped = np.zeros(2, np.int64)
        for number, view in enumerate(self.views):
            mine = chosen[(begins[number] <= chosen) & (chosen < begins[number + 1])]
            blocks = (mine - begins[number]).astype(np.int32)
            rows, bounds = self.query.members(view, blocks, self._live(number), math.inf, dropped)
            self._read_tiles(view, rows.size)
            parts.append((number, rows, bounds))
        return Candidates.joined(parts)

    def _survivors(
        self, maps: Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]]
    ) -> Candidates:
        """Return what the bounds of blocks and tiles leave, without what was proposed."""
        work, limit = self.work, self.best.radius + self.query.margin
        parts = []
        for number, (view, (_, bounds)) in enumerate(zip(self.views, maps, strict=True)):
            blocks = np.flatnonzero(bounds <= limit).astype(np.int32)
            counts = np.zeros(2, np.int64)
            live = self._unsettled(number)
            rows, tile_bounds = self._members(view, blocks, live, limit, counts)
            work.blocks_pruned += bounds.size - blocks.size
            work.bytes_read += bounds.size * view.arrays["middle"].shape[1]
            self._read_tiles(view, int(counts.sum()) + rows.size)
            work.prune("coarse tiles", int(counts[0]))
            work.prune("middle tiles", int(counts[1]))
            alive = view.n_entries if live.size == 0 else int(np.count_nonzero(live))
            work.prune("blocks", alive - int(counts.sum()) - rows.size)
            parts.append((number, rows, tile_bounds))
        candidates = Candidates.joined(parts)
        return candidates.taken(np.argsort(candidates.bounds, kind="stable"))

    def _members(
        self,
        view: View,
        blocks: Rows,
        live: NDArray[np.uint8],
        limit: float,
        counts: NDArray[np.int64],
    ) -> tuple[Rows, NDArray[np.float64]]:
        """Ask the query for members of blocks, on several cores if there are many."""

        def of_part(part: slice) -> tuple[Rows, NDArray[np.float64], NDArray[np.int64]]:
            dropped = np.zeros(2, np.int64)
            return *self.query.members(view, blocks[part], live, limit, dropped), dropped

        found = in_slices(of_part, blocks.size, BLOCKS_A_THREAD)
        counts += sum(dropped for _, _, dropped in found)
        return (
            np.concatenate([rows for rows, _, _ in found]),
            np.concatenate([bounds for _, bounds, _ in found]),
        )

    def _read_tiles(self, view: View, rows: int) -> None:
        self.work.bytes_read += rows * (
            view.arrays["coarse"].shape[1] + view.arrays["middle"].shape[1]
        )

    def _certify(self, candidates: Candidates) -> None:
        """Rule out or verify candidates, most promising first."""
        begin, size = 0, FIRST_CHUNK
        total = candidates.rows.size
        while begin < total:
            limit = self.best.radius + self.query.margin
            if candidates.bounds[begin] > limit:
                self.work.prune("middle tiles", total - begin)
                break
            end = min(begin + size, total)
            stop = begin + int(np.searchsorted(candidates.bounds[begin:end], limit, side="right"))
            chunk = candidates.taken(slice(begin, stop))
            if self._overlap_pays(chunk):
                self._verify_in_order(self._overlapping(chunk))
            else:
                self.work.scanned = True
                self._verify_in_order(chunk, chunk.rows.size)
                size *= 4
            begin, size = stop, 2 * size

    def _overlap_pays(self, chunk: Candidates) -> bool:
        """Try the overlap bound on a few of a chunk: half an exact distance must save one."""
        if chunk.rows.size < 4 * PROBED:
            return True
        sample = chunk.taken(np.linspace(0, chunk.rows.size - 1, PROBED).astype(np.intp))
        limit = self.best.radius + self.query.margin
        ruled_out = 0
        for number, which in sample.by_view():
            bounds = self.query.overlap(self.views[number], sample.rows[which])
            ruled_out += int(np.count_nonzero(bounds > limit))
        return ruled_out >= PAYING * PROBED

    def _overlapping(self, chunk: Candidates) -> Candidates:
        """Return what the pivots' and the overlap bound leave of a chunk, with their bounds."""
        bounds = np.empty(chunk.rows.size)
        for number, which in chunk.by_view():
            view, rows = self.views[number], chunk.rows[which]
            bounds[which] = self._overlap_of(view, rows, chunk.bounds[which])
        limit = self.best.radius + self.query.margin
        left = chunk.taken(np.flatnonzero(bounds <= limit))
        left.bounds = bounds[bounds <= limit]
        self.work.prune("overlap", int((bounds > limit).sum() - np.isinf(bounds).sum()))
        return left.taken(np.argsort(left.bounds, kind="stable"))

    def _overlap_of(
        self, view: View, rows: Rows, tile_bounds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return bounds of rows, infinite where the triangle inequality rules them out.

        Pivots of blocks with several rows come first: ρ(q, x) ≥ ρ(q, pivot) − ρ(x, pivot).
        """
        arrays = view.arrays
        limit = self.best.radius + self.query.margin
        if rows.size < 4 * FEW:
            self._read_masses(view, rows)
            return np.maximum(self.query.overlap(view, rows), tile_bounds)
        blocks, block_of, count = np.unique(
            view.block_of[rows], return_inverse=True, return_counts=True
        )
        several = np.flatnonzero(count >= FEW)
        bounds = np.full(rows.size, -np.inf)
        if several.size:
            pivots = arrays["block_pivots"][blocks[several]]
            of_pivots = np.full(blocks.size, -np.inf)
            of_pivots[several] = self.query.overlap(view, pivots)
            self._read_masses(view, pivots)
            bounds = of_pivots[block_of] - arrays["ring"][rows]
        out = np.full(rows.size, np.inf)
        left = np.flatnonzero(bounds <= limit)
        self.work.prune("pivots", rows.size - left.size)
        if left.size:
            kept = rows[left]
            overlaps = in_slices(
                lambda part: self.query.overlap(view, kept[part]), kept.size, ROWS_A_THREAD
            )
            out[left] = np.maximum(np.concatenate(overlaps), tile_bounds[left])
            self._read_masses(view, kept)
        return out

    def _read_masses(self, view: View, rows: Rows) -> None:
        self.work.bytes_read += bytes_between(view.arrays["mass_ends"], rows)

    def _verify_in_order(self, left: Candidates, size: int = VERIFIED_AT_ONCE) -> None:
        """Verify while bounds allow an answer, in growing batches, the first of ``size``."""
        begin = 0
        while begin < left.rows.size:
            limit = self.best.radius + self.query.margin
            within = int(np.searchsorted(left.bounds, limit, side="right"))
            if begin >= within:
                self.work.prune("overlap", left.rows.size - begin)
                return
            stop = min(begin + size, within)
            batch = left.taken(slice(begin, stop))
            for number, which in batch.by_view():
                self._verify(number, batch.rows[which])
            begin, size = stop, min(2 * size, LARGEST_BATCH)


_ALL = np.empty(0, np.uint8)
