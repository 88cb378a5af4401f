"""Queries prepared for an index: their bounds, and their exact distances in batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiersearch.hierarchy.costs import RegionCosts, region_costs
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.bounds import _search_kernels
from hiersearch.index.bounds._overlap_kernels import OverlapQuery, overlap_bounds
from hiersearch.index.bounds._tile_kernels import Masses, coarser_masses, pair_sums
from hiersearch.index.bounds.packing import FINEST, MIDDLE, Frame, tile_codes
from hiersearch.index.bounds.soft_masses import channel_masses
from hiersearch.index.segments.decoding import overlaps_with, unsound_bytes
from hiersearch.index.segments.view import View
from hiersearch.index.threads import in_slices
from hiersearch.metric.queries import Query, prepared_query
from hiersearch.partitions.one_measure import under
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.runs import square_sum
from hiersearch.partitions.soft import Affinities, Memberships, Merges, SoftPartition

BLOCKS_A_THREAD = 2**14
"""Blocks whose pivots are worth a thread."""
MOST_CELLS = 2**20
"""Largest table of overlaps that the overlap bound fills."""
KEPT_COSTS = 64
"""Hierarchies of which a query remembers what their nodes cost."""
EXACT_TOTAL = 2**25
"""Up to this measure of the grid all sums of squares are integers that float64 holds."""

Rows = NDArray[np.int32]
Bounds = NDArray[np.float64]


class IndexQuery(Protocol):
    """One side of a search: lower bounds of ρ, the cheapest first, and ρ itself.

    A bound never exceeds ρ by more than ``margin``, which is what rounding may do.
    """

    scale: float
    """What distances are divided by."""
    margin: float
    """How far rounding may lift a bound above ρ."""
    has_bounds: bool
    """Whether there are any: without them every entry is looked at."""

    embedded: NDArray[Any]
    """The pair sums of the middle level, in units of a byte: what a proposer embeds."""

    def blocks(self, view: View) -> tuple[NDArray[np.float32], Bounds]:
        """Return for each block how far its pivot seems, and a bound for all its members."""

    def members(
        self,
        view: View,
        blocks: Rows,
        live: NDArray[np.uint8],
        radius: float,
        counts: NDArray[np.int64],
    ) -> tuple[Rows, Bounds]:
        """Return the members of blocks whose tile bounds are within a radius, with those."""

    def overlap(self, view: View, rows: Rows) -> Bounds:
        """Return the overlap bounds of rows."""

    def exact(self, view: View, rows: Rows) -> NDArray[Any]:
        """Return ρ of rows, not divided."""


def index_query(query: Partition | SoftPartition, frame: Frame) -> IndexQuery:
    """Prepare a query on the index's grid, which is brought under the index's measure."""
    query = under(query, frame.measure)
    if isinstance(query, Partition):
        return BoundedHardQuery(query, frame)
    if isinstance(query, (Affinities, Merges)):
        return BareQuery(query, frame)
    assert isinstance(query, Memberships)
    return BoundedSoftQuery(query, frame)


class _Exact:
    """Exact distances of a query: of cuts by their hierarchy, else one row after the other."""

    def __init__(self, query: Partition | SoftPartition, frame: Frame) -> None:
        self.frame = frame
        self.query = query
        whole = isinstance(query, Partition) and frame.prefix.dtype.kind == "i"
        self.kind: type[np.int64] | type[np.float64] = np.int64 if whole else np.float64
        self.by_costs = not whole or frame.total <= EXACT_TOTAL
        self.costs: dict[tuple[int, int], tuple[MergeTree, RegionCosts]] = {}
        """Hierarchies seen lately with the costs of their nodes, by segment and number."""

    @cached_property
    def distance(self) -> Query:
        """The query as the metric prepares it."""
        return prepared_query(self.query, self.frame.measure, prefix=True)

    def forget(self) -> None:
        """Let go of what exact distances were prepared with; it is made again when needed."""
        self.__dict__.pop("distance", None)
        self.costs.clear()

    def exact(self, view: View, rows: Rows) -> NDArray[Any]:
        """Return ρ of rows, not divided.

        O(runs · k) each, for soft queries; O(nodes) for a cut, and O(k · (pixels + nodes)) once a
        hierarchy.
        """
        if not (self.by_costs and view.has_cuts):
            return self._from_codes(view, rows)
        out = np.empty(rows.size, self.kind)
        cuts = view.is_cut(rows)
        if not cuts.all():
            out[~cuts] = self._from_codes(view, rows[~cuts])
        for i in np.flatnonzero(cuts).tolist():
            out[i] = self._of_cut(view, int(rows[i]))
        return out

    def _from_codes(self, view: View, rows: Rows) -> NDArray[Any]:
        """Return ρ of rows one after the other."""
        found = [self.distance.rho(view.partition(row, labelled=False)) for row in rows.tolist()]
        return np.array(found, self.kind)

    def _of_cut(self, view: View, row: int) -> float:
        """Return ρ of a cut: a sum over its nodes."""
        key = (view.stored.number, int(view.arrays["tree"][row]))
        if key not in self.costs:
            if len(self.costs) == KEPT_COSTS:
                del self.costs[next(iter(self.costs))]
            tree = view.tree(key[1])
            self.costs[key] = tree, region_costs(tree, self.query)
        tree, found = self.costs[key]
        nodes = tree.horizontal_cut(float(view.arrays["altitude"][row]))
        return max(0.0, found.constant + float(found.costs[nodes].sum()))


class BareQuery(_Exact):
    """A query without bounds: affinities, which know only some pairs of pixels, and merges."""

    has_bounds = False
    margin = 0.0

    def __init__(self, query: Affinities | Merges, frame: Frame) -> None:
        super().__init__(query, frame)
        self.scale = self.distance.scale
        self.embedded: NDArray[Any] = np.empty(0)

    def blocks(self, view: View) -> tuple[NDArray[np.float32], Bounds]:
        """Return nothing that rules a block out."""
        n = view.arrays["block_ends"].size
        return np.zeros(n, np.float32), np.zeros(n)

    def members(
        self,
        view: View,
        blocks: Rows,
        live: NDArray[np.uint8],
        radius: float,
        counts: NDArray[np.int64],
    ) -> tuple[Rows, Bounds]:
        """Return all live members."""
        rows = np.flatnonzero(np.isin(view.block_of, blocks)).astype(np.int32)
        if live.size:
            rows = rows[live[rows] != 0]
        return rows, np.zeros(rows.size)

    def overlap(self, view: View, rows: Rows) -> Bounds:
        """Return nothing that rules a row out."""
        return np.zeros(rows.size)


class _Overlap(_Exact):
    """Tile and overlap bounds, for queries whose masses in tiles are known."""

    has_bounds = True
    tiles: _search_kernels.TileQuery | _search_kernels.SoftTileQuery
    """The pair sums of the query."""
    _block_bounds: Callable[..., None]
    _members_within: Callable[..., tuple[Rows, Bounds]]

    def __init__(
        self, query: Partition | SoftPartition, frame: Frame, masses: Masses, sizes: Bounds
    ) -> None:
        super().__init__(query, frame)
        self.in_tiles = OverlapQuery(
            masses,
            coarser_masses(masses, 4),
            sizes,
            float(sizes @ sizes),
            frame.totals,
            frame.units,
        )
        self.scale = float(query.total) ** 2
        self.margin = 1e-9 * self.scale

    def blocks(self, view: View) -> tuple[NDArray[np.float32], Bounds]:
        """Return for each block how far its pivot seems, and a bound for all its members."""
        pivots = view.pivots
        n = pivots.radii.size
        nearness, bounds = np.empty(n, np.float32), np.empty(n)

        def of_part(part: slice) -> None:
            middle, errors, radii = pivots
            some = _search_kernels.Pivots(middle[part], errors[part], radii[part])
            self._block_bounds(some, self.tiles, nearness[part], bounds[part])

        in_slices(of_part, n, BLOCKS_A_THREAD)
        return nearness, bounds

    def members(
        self,
        view: View,
        blocks: Rows,
        live: NDArray[np.uint8],
        radius: float,
        counts: NDArray[np.int64],
    ) -> tuple[Rows, Bounds]:
        """Return the members of blocks whose tile bounds are within a radius, with those."""
        found: tuple[Rows, Bounds] = self._members_within(
            view.tiles, blocks, live, self.tiles, radius, counts
        )
        return found

    def overlap(self, view: View, rows: Rows) -> Bounds:
        """Return the overlap bounds of rows. O(items · channels a tile) each.

        DamageError is raised where the masses of a row are no stream of masses.
        """
        out = np.empty(rows.size)
        unsound = overlap_bounds(view.masses, rows, self.in_tiles, MOST_CELLS, out)
        if unsound >= 0:
            raise unsound_bytes(view.file, f"the masses of entry {unsound}", "masses")
        return out


class BoundedHardQuery(_Overlap):
    """A hard partition: all bounds, and exact distances in batches."""

    _block_bounds = staticmethod(_search_kernels.block_bounds)
    _members_within = staticmethod(_search_kernels.members_within)

    def __init__(self, query: Partition, frame: Frame) -> None:
        masses = frame.masses(query)
        super().__init__(query, frame, masses, query.sizes.astype(np.float64))
        self.partition = query
        codes = tile_codes(frame, masses)
        self.tiles = _search_kernels.TileQuery(
            codes.coarse, codes.middle, codes.errors, frame.tile_counts, frame.pair_units
        )
        self.embedded: NDArray[Any] = codes.middle
        self.squares = square_sum(query)

    def _from_codes(self, view: View, rows: Rows) -> NDArray[Any]:
        """Return ρ of rows, decoded and compared in batches. O(runs) each."""
        if view.has_cuts and view.is_cut(rows).any():
            return super()._from_codes(view, rows)
        view.check_codes(rows)
        overlaps = overlaps_with(self.frame, view.arrays, rows, self.partition, view.file)
        distances: NDArray[Any] = self.squares + view.arrays["squares"][rows] - 2 * overlaps
        return distances if self.kind is np.int64 else np.maximum(distances, 0.0)


class BoundedSoftQuery(_Overlap):
    """Memberships: the same bounds from the channels' masses, distances from prefix sums."""

    _block_bounds = staticmethod(_search_kernels.soft_block_bounds)
    _members_within = staticmethod(_search_kernels.soft_members_within)

    def __init__(self, query: Memberships, frame: Frame) -> None:
        masses, squares = channel_masses(query, frame)
        sizes = np.bincount(masses.regions, weights=masses.masses, minlength=query.n_channels)
        super().__init__(query, frame, masses, sizes.astype(np.float64))
        self.margin += _rounding_of_sums(query)
        pairs = _triangle(pair_sums(coarser_masses(masses, 4 ** (FINEST - MIDDLE))))
        totals, unit = frame.level_totals(MIDDLE), frame.pair_units[1]
        self.embedded: NDArray[Any] = pairs / unit
        # Σ C (1 − C) over each tile pair; rounding must not lift it. Nothing is a bound, too.
        spread = np.zeros(pairs.size)
        if squares is not None:
            spread = np.maximum(pairs * (1 - 1e-9) - _triangle(squares), 0.0)
        self.tiles = _search_kernels.SoftTileQuery(
            pairs, _triangle(np.outer(totals, totals)), spread, totals.size, float(unit)
        )


def _triangle(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the diagonal, then the upper triangle by rows: the order of the codes."""
    rows, columns = np.triu_indices(len(pairs), 1)
    return np.concatenate([np.diagonal(pairs), pairs[rows, columns]])


def _rounding_of_sums(query: Memberships) -> float:
    """Return how far probabilities that sum to more than 1 may lift a bound above ρ.

    With δ the measure times what pixels have above 1, and E = M + δ, co-memberships above 1 make
    Σ |C − A| exceed ρ by at most 2 (E² − M²) ≤ 4 E δ; and regions share up to δ more with channels
    than their own measure, so that Σ n² exceeds what overlaps allow by at most 2 E δ. The triangle
    inequality adds one of each.
    """
    above = np.maximum(query.values.sum(axis=0, dtype=np.float64) - 1.0, 0.0)
    beyond = float(above.sum() if query.measure is None else above @ query.measure)
    return 8.0 * (query.total + beyond) * beyond
