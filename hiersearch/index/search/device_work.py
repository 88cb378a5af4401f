"""What a search on a device has to do, counted: what "auto" decides by."""

from __future__ import annotations

from collections.abc import Sequence

from hiersearch.device.choice import DeviceWork
from hiersearch.index.search.resident import GRID_BYTES, HeldViews
from hiersearch.index.segments.view import View

QUERY_SECONDS, ENTRY_SECONDS = 1e-3, 4e-8
"""What a search takes on the CPU, and more for each entry: the lower end of what was measured."""
SURVIVING = 0.03
"""Share of the entries that are compared exactly."""
RUN_BYTES = 128
"""Bytes that are read and written on the device for a run of an entry, and one of the query."""
DECODED = 64
"""Bytes that could be sent in the time that the CPU takes to decode a run."""
LAUNCHES = 200
"""Operations that a batch starts on the device."""
BOUND_BYTES = 16
"""Bytes that are read and written there for a bound."""


def search_work(views: Sequence[View], n_queries: int, held: HeldViews | None) -> DeviceWork:
    """Count what a search has to do; ``held``: what the device has already."""
    n_rows = sum(view.n_entries for view in views)
    n_runs = sum(int(view.arrays["n_runs"].sum()) for view in views)
    n_pairs = views[0].arrays["middle"].shape[1] if views else 0
    kept = 0 if held is None else held.kept.n_bytes
    cpu = n_queries * (QUERY_SECONDS + ENTRY_SECONDS * n_rows)
    sent = max(0, n_rows * n_pairs + GRID_BYTES * n_runs - kept) * DECODED / GRID_BYTES
    pairs = n_queries * (BOUND_BYTES * n_rows + SURVIVING * RUN_BYTES * n_runs)
    return DeviceWork(cpu, sent, pairs + n_rows * n_pairs, LAUNCHES)
