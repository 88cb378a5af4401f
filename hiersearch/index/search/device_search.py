"""The search on a device: many queries at once against all entries.

1. *Bounds.* The tile bounds of all queries and all entries, from the bytes of the middle level. A
   device reads them so fast that neither blocks nor the coarse level would spare anything.
2. *Propose.* The entries with the least bounds, or what FAISS finds on the GPU, are compared
   exactly: the k-th distance is each query's radius τ. Then more of them, within τ.
3. *Verify.* All others whose bound is within τ are compared exactly, as pairs of a query and an
   entry, whichever query they belong to.

Bounds are kept as float32 shares of M², and what that may do to them widens their margin: nothing
that might be an answer is ruled out. Integer distances are exact on the device; of others those
within twice the rounding of τ are computed again by the CPU's kernels. So the answers are those of
:mod:`hiersearch.index.search.search`, bit for bit.

The overlap bound is left out: counted in bytes it costs two thirds of an exact distance here, see
docs/index.md.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hiersearch.device.batches import batch_size, halving, on_device
from hiersearch.device.distances import pair_distances
from hiersearch.device.runs import device_queries, fits, rounding
from hiersearch.device.tiles import SoftTiles, TileRows, soft_tile_bounds, tile_distances
from hiersearch.index.bounds.packing import MIDDLE
from hiersearch.index.search.answering import Asked, Live
from hiersearch.index.search.found_pairs import FoundPairs
from hiersearch.index.search.proposals import FaissProposer
from hiersearch.index.search.queries import BoundedHardQuery, BoundedSoftQuery
from hiersearch.index.search.resident import HeldViews, stretches
from hiersearch.index.search.search import Search
from hiersearch.index.segments.view import View
from hiersearch.index.threads import CORES, pool
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Memberships

if TYPE_CHECKING:
    from torch import Tensor

MOST_QUERIES = 1024
"""Queries in one batch at most."""
BOUND_BYTES = 16
"""Bytes that a bound takes while the least ones are chosen."""
BOUNDS_AT_ONCE = 2**26
"""Bounds that are computed at once."""
PAIRS_AT_ONCE = 2**22
"""Pairs of a query and an entry that are verified at once, unless one query has more."""
PROPOSED = 64
"""Entries, and two for each neighbour, that are compared first."""
SECOND = 8
"""How many times as many are compared next, as far as they are within τ."""
WIDER = 2.0**-19
"""What float32 may do to a bound: shares of M², which are below 4, err by 2**-24 of that."""


class DeviceSearch:
    """Searches of the views of an index on a device, whose memory is held by the caller's lock."""

    def __init__(
        self,
        views: Sequence[View],
        live: Live,
        held: HeldViews,
        proposer: FaissProposer | None = None,
    ) -> None:
        held.hold(views)
        self.views = views
        self.frame = views[0].frame
        self.live = live
        self.held = held
        self.device = held.device
        self.begins = held.columns.begins
        self.n_rows = int(self.begins[-1])
        self.proposer = proposer
        """What proposes where there is a GPU index of FAISS."""
        dead = [
            np.zeros(view.n_entries, np.bool_) if number not in live else live[number] == 0
            for number, view in enumerate(views)
        ]
        self.dead = on_device(np.concatenate(dead), held.device) if live else None

    def run(self, asked: Sequence[Asked], approximate: bool = False) -> None:
        """Search for each of some queries; the answers are in their ``best``."""
        groups: dict[str, list[Asked]] = {"hard": [], "soft": [], "other": []}
        for one in asked:
            groups[_form(one)].append(one)
        for form in ("hard", "soft"):
            group = groups[form]

            def work(begin: int, end: int, group: list[Asked] = group) -> None:
                _Batch(self, group[begin:end]).run(approximate)

            for _ in halving(work, len(group), self._batch_size(group)):
                pass
        self._on_cpu(groups["other"], approximate)

    def _batch_size(self, group: Sequence[Asked]) -> int:
        """Return how many queries are searched at once: their bounds take half of the memory."""
        n_bytes = 2 * BOUND_BYTES * self.n_rows
        widest = max((_channels(one) for one in group), default=0)
        n_bytes += 80 * (widest + 4) * self.frame.prefix.size
        return batch_size(self.device, n_bytes, min(len(group), MOST_QUERIES))

    def _on_cpu(self, asked: Sequence[Asked], approximate: bool) -> None:
        """Search for queries that the device has no form for."""

        def search(one: Asked) -> None:
            Search(self.views, one.query, self.live, one.best, one.work).run(approximate)

        with ThreadPoolExecutor(CORES) as threads:
            list(threads.map(search, asked))


class _Batch:
    """Queries of one form that are searched together."""

    def __init__(self, search: DeviceSearch, asked: Sequence[Asked]) -> None:
        import torch

        self.sent_before = search.held.sent
        self.search = search
        self.asked = asked
        self.device = search.device
        self.hard = _form(asked[0]) == "hard"
        frame = search.frame
        sides: list[Any] = [one.query for one in asked]
        self.sides = sides
        self.scale: float = sides[0].scale
        self.whole = sides[0].kind is np.int64
        self.queries = device_queries([side.query for side in sides], frame.measure, self.device)
        # Everything below about bounds is a share of M².
        self.margins = np.array([side.margin for side in sides]) / self.scale + WIDER
        if self.hard:
            # An entry's error is part of its bound, the query's of its limit.
            self.margins += np.array([side.tiles.errors[1] for side in sides]) / self.scale
        radii = np.array([one.best.radius for one in asked])
        slack = 0.0 if self.whole else 2 * self._rounding()
        self.found = FoundPairs(radii, asked[0].best.k, self.whole, slack)
        self.compared = torch.zeros(len(asked), dtype=torch.int64, device=self.device.torch)
        self.code_bytes = torch.zeros_like(self.compared)
        self.bounds = self._tile_bounds()

    def run(self, approximate: bool) -> None:
        """Search; nothing is written to the queries before all is done."""
        if self.found.k is not None:
            count = PROPOSED + 2 * self.found.k
            self._propose(count)
            self._compare_least(SECOND * count)
        if not approximate:
            self._compare_rest()
        self._write()

    # --- bounds -------------------------------------------------------------------------------

    def _limits(self) -> Tensor:
        """Return the largest bound, as a share of M², with which an entry may be an answer."""
        within = self.found.highest / self.scale + self.margins
        highest = float(np.finfo(np.float32).max)
        # Below infinity, which is the bound of what must not be found.
        limits = np.minimum(within * (1 + 1e-6), highest).astype(np.float32)
        return on_device(limits, self.device)

    def _tile_bounds(self) -> Tensor:
        """Return (queries, rows) float32 bounds, as shares of M²; infinite: no answer."""
        import torch

        search, columns = self.search, self.search.held.columns
        shape = (len(self.asked), search.n_rows)
        out = torch.empty(shape, dtype=torch.float32, device=self.device.torch)
        size = max(1, BOUNDS_AT_ONCE // len(self.asked))
        of_part = self._hard_bounds() if self.hard else self._soft_bounds()
        for number, view in enumerate(search.views):
            for first, rows in search.held.tiles(view):
                begin = int(search.begins[number]) + first
                for at in range(0, len(rows), size):
                    part = TileRows(rows.codes[at : at + size], rows.n_pairs, rows.n_diagonal)
                    place = slice(begin + at, begin + at + len(part))
                    of_part(part, columns.errors[place], out[:, place])
        if search.dead is not None:
            out.masked_fill_(search.dead, math.inf)
        return out

    def _hard_bounds(self) -> Callable[[TileRows, Tensor, Tensor], None]:
        import torch

        frame = self.search.frame
        codes = np.stack([side.tiles.middle for side in self.sides])
        queries = TileRows.of(codes, frame.tiling.count(MIDDLE), self.device)
        unit = frame.pair_units[1] / self.scale

        def write(rows: TileRows, errors: Tensor, out: Tensor) -> None:
            steps = tile_distances(rows, queries, self.device)
            torch.add(-errors, steps, alpha=unit, out=out)

        return write

    def _soft_bounds(self) -> Callable[[TileRows, Tensor, Tensor], None]:
        frame = self.search.frame
        pairs = np.stack([side.tiles.pairs for side in self.sides])
        spread = np.stack([side.tiles.spread for side in self.sides])
        unit = float(frame.pair_units[1])
        queries = SoftTiles.of(pairs, spread, self.sides[0].tiles.sizes, unit, self.device)

        def write(rows: TileRows, errors: Tensor, out: Tensor) -> None:
            # A byte is known to be within half a unit, which the bound takes into account.
            out.copy_(soft_tile_bounds(rows, queries, self.device) / self.scale)

        return write

    # --- exact distances ----------------------------------------------------------------------

    def _propose(self, count: int) -> None:
        """Compare what FAISS proposes on the GPU, else the entries with the least bounds."""
        import torch

        proposer = self.search.proposer
        if proposer is None or not proposer.moved_to(self.device):
            self._compare_least(count)
            return
        embedded = np.stack([side.embedded for side in self.sides])
        found = on_device(proposer.propose_many(embedded, count, self.device), self.device)
        numbers, place = torch.nonzero(found >= 0, as_tuple=True)
        columns = found[numbers, place]
        alive = torch.isfinite(self.bounds[numbers, columns])
        self._compare(numbers[alive], columns[alive])

    def _compare_least(self, count: int) -> None:
        """Compare entries with the least bounds, as far as these allow an answer."""
        import torch

        least = torch.topk(self.bounds, min(count, self.search.n_rows), largest=False)
        within = least.values <= self._limits()[:, None]
        numbers, place = torch.nonzero(within, as_tuple=True)
        self._compare(numbers, least.indices[numbers, place])

    def _compare_rest(self) -> None:
        """Compare all whose bounds allow an answer, some queries at a time."""
        import torch

        limits = self._limits()
        counts = (self.bounds <= limits[:, None]).sum(1).cpu().numpy()
        for begin, end in stretches(counts, PAIRS_AT_ONCE):
            within = self.bounds[begin:end] <= limits[begin:end, None]
            numbers, columns = torch.nonzero(within, as_tuple=True)
            self._compare(numbers + begin, columns)

    def _compare(self, numbers: Tensor, columns: Tensor) -> None:
        """Compute the distances of pairs of a query and an entry, which are done with then."""
        import torch

        n = len(self.asked)
        distances = self._distances(numbers, columns)
        self.bounds[numbers, columns] = math.inf
        self.compared += torch.bincount(numbers, minlength=n)
        code_bytes = self.search.held.columns.code_bytes[columns].double()
        self.code_bytes += torch.bincount(numbers, code_bytes, minlength=n).long()
        highest = on_device(self.found.highest, self.device)
        near = torch.nonzero(distances <= highest[numbers]).reshape(-1)
        self.found.add(*(t[near].cpu().numpy() for t in (numbers, columns, distances)))

    def _distances(self, numbers: Tensor, columns: Tensor) -> Tensor:
        """Return ρ of pairs, view by view."""
        import torch

        begins = self.search.begins
        if len(begins) == 2:
            return self._distances_in(0, numbers, columns)
        out = self._no_distances(columns)
        for number, (begin, end) in enumerate(itertools.pairwise(begins.tolist())):
            mine = torch.nonzero((columns >= begin) & (columns < end)).reshape(-1)
            if mine.numel():
                out[mine] = self._distances_in(number, numbers[mine], columns[mine] - begin)
        return out

    def _distances_in(self, number: int, numbers: Tensor, rows: Tensor) -> Tensor:
        """Return ρ of pairs in a view: from runs there or sent there, of cuts from the CPU."""
        import torch

        view, held = self.search.views[number], self.search.held
        n_held, runs = held.held_runs(view, self.hard)
        if n_held == view.n_entries and not view.has_cuts:
            return self._held_distances(runs, numbers, rows)
        out = self._no_distances(rows)
        cuts = held.columns.cuts
        cut = torch.zeros_like(rows, dtype=torch.bool)
        if cuts is not None:
            cut = cuts[rows + int(self.search.begins[number])]
        for which, compute in (
            (~cut & (rows < n_held), functools.partial(self._held_distances, runs)),
            (~cut & (rows >= n_held), functools.partial(self._sent_distances, view)),
            (cut, functools.partial(self._cut_distances, view)),
        ):
            pairs = torch.nonzero(which).reshape(-1)
            if pairs.numel():
                out[pairs] = compute(numbers[pairs], rows[pairs])
        return out

    def _no_distances(self, like: Tensor) -> Tensor:
        """Return an array for as many distances."""
        import torch

        return torch.empty_like(like, dtype=torch.int64 if self.whole else torch.float64)

    def _held_distances(self, runs: Any, numbers: Tensor, rows: Tensor) -> Tensor:
        return pair_distances(self.queries, runs, numbers, rows, self.device)

    def _sent_distances(self, view: View, numbers: Tensor, rows: Tensor) -> Tensor:
        import torch

        distinct, place = torch.unique(rows, return_inverse=True)
        wanted = distinct.cpu().numpy().astype(np.int32)
        out = self._no_distances(rows)
        for begin, end, runs in self.search.held.runs(view, wanted, self.hard):
            some = torch.nonzero((place >= begin) & (place < end)).reshape(-1)
            out[some] = self._held_distances(runs, numbers[some], place[some] - begin)
        return out

    def _cut_distances(self, view: View, numbers: Tensor, rows: Tensor) -> Tensor:
        of_query, cuts = numbers.cpu().numpy(), rows.cpu().numpy().astype(np.int32)
        out = np.empty(cuts.size, np.int64 if self.whole else np.float64)

        def compute(number: int) -> None:
            mine = of_query == number
            out[mine] = self.sides[number].exact(view, cuts[mine])

        list(pool().map(compute, np.unique(of_query).tolist()))
        return on_device(out, self.device)

    # --- answers ------------------------------------------------------------------------------

    def _rounding(self) -> float:
        """Bound how far the device's distances may be from the CPU's."""
        search = self.search
        n_regions = max(int(view.arrays["n_regions"].max()) for view in search.views)
        widest = max(_channels(one) for one in self.asked)
        return rounding(search.frame.prefix.size - 1, n_regions, widest) * self.scale

    def _write(self) -> None:
        """Hand the answers to the queries, with the distances that the CPU gives them."""
        compared, code_bytes = self.compared.tolist(), self.code_bytes.tolist()
        n_tiles = self.search.n_rows * self.search.views[0].arrays["middle"].shape[1]
        sent = self.search.held.sent - self.sent_before

        def write(number: int) -> None:
            one, side = self.asked[number], self.sides[number]
            columns, distances = self.found.of(number)
            views = np.searchsorted(self.search.begins, columns, side="right") - 1
            for place in np.unique(views).tolist():
                mine = views == place
                rows = (columns[mine] - self.search.begins[place]).astype(np.int32)
                settled = distances[mine]
                if not self.whole:
                    settled = side.exact(self.search.views[place], rows)
                one.best.add(place, rows, settled)
            side.forget()
            work = one.work
            work.device, work.batch, work.bytes_sent = self.device.name, len(self.asked), sent
            work.exact_distances += compared[number]
            work.prune("middle tiles", work.entries - compared[number])
            work.bytes_read += n_tiles + code_bytes[number]

        list(pool().map(write, range(len(self.asked))))


def _form(one: Asked) -> str:
    """Return which form a query has on a device: hard, soft, or other, which is none."""
    if isinstance(one.query, BoundedHardQuery):
        return "hard"
    return "soft" if isinstance(one.query, BoundedSoftQuery) and fits(one.query.query) else "other"


def _channels(one: Asked) -> int:
    """Return how many channels or regions a query has."""
    query = cast(BoundedHardQuery | BoundedSoftQuery, one.query).query
    return query.n_regions if isinstance(query, Partition) else cast(Memberships, query).n_channels
