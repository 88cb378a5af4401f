"""What a device keeps of an index: tiles and runs of the first rows of its views, up to a budget.

Tiles go first, since every search reads all of them; then runs. What the budget leaves out is
streamed: tiles in parts, and of the runs those that a search asks for, decoded on the CPU while the
device works on the part before. Rows that stay are the first ones of a view, not those used last:
a search reads all tiles in one order, of which the least lately used are always needed next.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.device.batches import Resident, free_bytes, on_device, streamed
from hiersearch.device.choice import Device
from hiersearch.device.runs import GridRuns, RegionRuns, grid_part
from hiersearch.device.tiles import ALIGNED, TileRows
from hiersearch.index.bounds.packing import MIDDLE
from hiersearch.index.search.queries import Rows
from hiersearch.index.segments.view import View

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 0.5
"""How much of a device's free memory is kept filled where no budget is given."""
PART_BYTES = 2**26
"""About how many bytes are sent at once."""
GRID_BYTES, REGION_BYTES = 12, 8
"""Bytes that a run takes in the order of the grid, and in that of regions."""
ROW_BYTES = 24
"""Bytes that a row takes besides its runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Numbers of all rows of all views, one view after the other, on a device: 9 bytes a row."""

    begins: NDArray[np.int64]
    """(views + 1,) where each view's rows begin, on the CPU."""
    errors: Tensor
    """(rows,) float32 error of each row's tiles, as a share of M²."""
    code_bytes: Tensor
    """(rows,) int32 bytes of each row's code."""
    cuts: Tensor | None
    """(rows,) bool which rows are cuts of hierarchies, or None where none is."""


class HeldViews:
    """Views of an index on a device. One search at a time may use them: take :attr:`lock`."""

    def __init__(self, device: Device, budget: int | None) -> None:
        self.device = device
        self.lock = threading.Lock()
        share = int(SHARE * free_bytes(device)) if budget is None else budget
        self.kept = Resident(share)
        """Tiles and runs, by view and kind."""
        self.n_held: dict[tuple[View, str], int] = {}
        """How many rows of a view are kept of a kind."""
        self.sent = 0
        """Bytes of tiles and runs that were copied to the device so far."""
        self.views: tuple[View, ...] = ()
        self.columns: Columns

    def hold(self, views: Sequence[View]) -> None:
        """Turn to some views, and let go of all others. O(rows) where they have changed."""
        if self.views == tuple(views):
            return
        for key in [key for key in self.n_held if key[0] not in views]:
            self.kept.drop(key)
            del self.n_held[key]
        self.views = ()
        arrays = [view.arrays for view in views]
        scale = float(views[0].frame.total) ** 2
        errors = np.concatenate([a["middle_errors"] / scale for a in arrays]).astype(np.float32)
        code_bytes = np.concatenate([np.diff(a["code_ends"], prepend=0) for a in arrays])
        cuts = np.concatenate([a["tree"] >= 0 for a in arrays])
        self.columns = Columns(
            np.cumsum([0, *(view.n_entries for view in views)]),
            on_device(errors, self.device),
            on_device(code_bytes.astype(np.int32), self.device),
            on_device(cuts, self.device) if cuts.any() else None,
        )
        self.views = tuple(views)

    # --- tiles --------------------------------------------------------------------------------

    def tiles(self, view: View) -> Iterator[tuple[int, TileRows]]:
        """Yield the tiles of a view in parts, and the first row of each."""
        import torch

        codes = view.arrays["middle"]
        n_diagonal = view.frame.tiling.count(MIDDLE)
        width = codes.shape[1] + -codes.shape[1] % ALIGNED

        def parts(begin: int, end: int) -> Iterator[tuple[int, TileRows]]:
            size = max(1, PART_BYTES // width)
            edges = range(begin, end, size)
            pieces = ({"codes": codes[a : min(end, a + size)]} for a in edges)
            for first, part in zip(edges, self._streamed(pieces), strict=True):
                yield first, TileRows.from_tensor(part["codes"], n_diagonal)

        def made(n_held: int) -> dict[str, Tensor]:
            kept = torch.empty((n_held, width), dtype=torch.uint8, device=self.device.torch)
            for first, rows in parts(0, n_held):
                kept[first : first + len(rows)] = rows.codes
            return {"codes": kept}

        n_rows = view.n_entries
        held, tensors = self._held(view, "tiles", lambda: np.full(n_rows, width), made)
        if held:
            yield 0, TileRows(tensors["codes"], codes.shape[1], n_diagonal)
        if held < n_rows:
            yield from parts(held, n_rows)

    # --- runs ---------------------------------------------------------------------------------

    def held_runs(self, view: View, hard: bool) -> tuple[int, GridRuns | RegionRuns | None]:
        """Return how many of a view's first rows have their runs on the device, and those."""
        kind: type[GridRuns] | type[RegionRuns] = GridRuns if hard else RegionRuns

        def row_bytes() -> NDArray[np.int64]:
            n_runs, n_regions = view.run_counts(slice(None))
            if hard:
                return ROW_BYTES + GRID_BYTES * n_runs
            return ROW_BYTES + REGION_BYTES * (n_runs + n_regions)

        def made(n_held: int) -> dict[str, Tensor]:
            n_runs, n_regions = (int(c.sum()) for c in view.run_counts(slice(n_held)))
            parts = self.runs(view, np.arange(n_held, dtype=np.int32), hard)
            return _joined((runs for _, _, runs in parts), n_held, n_runs, n_regions)

        held, tensors = self._held(view, kind.__name__, row_bytes, made)
        return held, kind(math.prod(view.frame.grid), **tensors) if held else None

    def runs(
        self, view: View, rows: Rows, hard: bool
    ) -> Iterator[tuple[int, int, GridRuns | RegionRuns]]:
        """Yield the runs of some rows in parts, with where in ``rows`` each begins and ends."""
        edges = stretches(view.run_counts(rows)[0], PART_BYTES // 8)

        def pieces() -> Iterator[dict[str, NDArray[Any]]]:
            for begin, end in edges:
                yield grid_part(view.run_arrays(rows[begin:end]), 0, end - begin)

        for (begin, end), part in zip(edges, self._streamed(pieces()), strict=True):
            found = GridRuns.from_part(math.prod(view.frame.grid), part)
            yield begin, end, found if hard else RegionRuns.of(found)

    # --- keeping ------------------------------------------------------------------------------

    def _held(
        self,
        view: View,
        kind: str,
        row_bytes: Callable[[], NDArray[Any]],
        made: Callable[[int], dict[str, Tensor]],
    ) -> tuple[int, dict[str, Tensor]]:
        """Return how many first rows of a view are kept of a kind, and their tensors.

        At the first time they are chosen and made: as many as the rest of the budget holds.
        """
        key = (view, kind)
        if key not in self.n_held:
            self.n_held[key] = self._made(key, np.cumsum(row_bytes()), made)
        n_held = self.n_held[key]
        if n_held == 0:
            return 0, {}
        tensors: dict[str, Tensor] | None = self.kept.get(key, 0, dict)
        assert tensors is not None
        return n_held, tensors

    def _made(
        self, key: Hashable, ends: NDArray[Any], made: Callable[[int], dict[str, Tensor]]
    ) -> int:
        """Keep as many rows as there is room for, and return how many; ``ends``: their bytes."""
        import torch

        room = self.kept.budget - self.kept.n_bytes
        while n_held := int(np.searchsorted(ends, room, side="right")):
            n_bytes = int(ends[n_held - 1])
            try:
                self.kept.get(key, n_bytes, functools.partial(made, n_held))
            except torch.cuda.OutOfMemoryError:
                # Less memory is free than the budget says.
                room = n_bytes // 2
            else:
                return n_held
        return 0

    def _streamed(self, parts: Iterator[Mapping[str, NDArray[Any]]]) -> Iterator[dict[str, Tensor]]:
        """Send parts to the device, counting their bytes."""

        def counted() -> Iterator[Mapping[str, NDArray[Any]]]:
            for part in parts:
                self.sent += sum(array.nbytes for array in part.values())
                yield part

        return streamed(counted(), self.device)


def stretches(counts: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Cut a sequence of counts into stretches of at most so much together, or of one."""
    ends = np.cumsum(counts)
    edges = [0]
    while edges[-1] < counts.size:
        done = int(ends[edges[-1] - 1]) if edges[-1] else 0
        last = int(np.searchsorted(ends, done + most, side="right"))
        edges.append(max(edges[-1] + 1, last))
    return list(itertools.pairwise(edges))


def _joined(
    parts: Iterator[GridRuns | RegionRuns], n_rows: int, n_runs: int, n_regions: int
) -> dict[str, Tensor]:
    """Put the tensors of parts one after the other, each part being let go of once it is there."""
    import torch

    sizes = {"starts": n_runs, "stops": n_runs, "labels": n_runs, "region_edges": n_regions + 1}
    sizes |= {"edges": n_rows + 1, "n_regions": n_rows, "squares": n_rows}
    out: dict[str, Tensor] = {}
    filled = dict.fromkeys(sizes, 0)
    for runs in parts:
        for name in [field.name for field in fields(runs) if field.name in sizes]:
            piece: Tensor = getattr(runs, name)
            begin = filled[name]
            if name not in out:
                out[name] = torch.zeros(sizes[name], dtype=piece.dtype, device=piece.device)
            if name.endswith("edges"):
                # The first edge of a part is the last one of the part before.
                piece = piece + out[name][begin]
            out[name][begin : begin + piece.numel()] = piece
            filled[name] += piece.numel() - name.endswith("edges")
    return out
