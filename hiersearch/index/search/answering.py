"""From a query to a result: what searches share, wherever they run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.bounds.packing import Frame
from hiersearch.index.resample import resampled
from hiersearch.index.search.queries import IndexQuery, index_query
from hiersearch.index.search.results import SearchResult, SearchWork, id_key
from hiersearch.index.search.search import Best
from hiersearch.index.segments.view import View
from hiersearch.index.threads import pool
from hiersearch.partitions.inputs import as_partition

Live = Mapping[int, NDArray[np.uint8]]
"""For a view's number, 1 for rows that may be answers; missing: all may."""


@dataclass(slots=True, eq=False)
class Asked:
    """One query on its way through a search."""

    query: IndexQuery
    """The query, prepared."""
    best: Best
    """The nearest so far."""
    work: SearchWork
    """What was done so far."""
    radius: float | None
    """Largest normalised distance that is asked for, or None."""
    source: tuple[int, ...] | None
    """Grid that the query was resampled from, or None."""
    begin: float = field(default_factory=time.perf_counter)
    """When work on it began."""

    @classmethod
    def of(cls, query: Any, frame: Frame, k: int | None, radius: float | None = None) -> Asked:
        """Prepare a query: for its ``k`` nearest entries, or for all within a radius."""
        begin = time.perf_counter()
        goal = as_partition(query, "query")
        source = None
        if goal.grid != frame.grid:
            source = goal.grid
            goal = resampled(goal, frame.grid)
        prepared = index_query(goal, frame)
        best = Best(k, np.inf if radius is None else raised(radius * prepared.scale))
        return cls(prepared, best, SearchWork(), radius, source, begin)

    @classmethod
    def all_of(
        cls,
        queries: Sequence[Any],
        frame: Frame,
        k: int | None,
        radius: float | None = None,
    ) -> list[Asked]:
        """Prepare queries, on several cores if there are many."""
        if len(queries) == 1:
            return [cls.of(queries[0], frame, k, radius)]
        return list(pool().map(lambda query: cls.of(query, frame, k, radius), queries))

    def count_entries(self, views: Sequence[View], live: Live) -> None:
        """Count the entries that might be answers."""
        for number, view in enumerate(views):
            mask = live.get(number)
            self.work.entries += view.n_entries if mask is None else int(np.count_nonzero(mask))

    def result(self, views: Sequence[View], exact: bool) -> SearchResult:
        """Return what was found, nearest first, ties by id."""
        found = []
        scale, best, radius = self.query.scale, self.best, self.radius
        for distance, entry in zip(best.distances, best.found, strict=True):
            within = radius is None or float(distance) / scale <= radius
            if within and distance <= best.radius:
                segment = views[entry.view].stored
                found.append((distance, segment.id_at(entry.row), segment, entry.row))
        found.sort(key=lambda item: (item[0], id_key(item[1])))
        answer = [
            (float(distance) / scale, distance, id, segment.metadata_at(row))
            for distance, id, segment, row in found[: best.k]
        ]
        self.work.seconds = time.perf_counter() - self.begin
        return SearchResult.of(
            answer,
            exact=exact,
            complete=best.k is None or len(answer) == best.k,
            work=self.work,
            resampled_from=self.source,
        )


def raised(radius: float) -> float:
    """Return a radius that no rounding makes miss a distance which divided is within it."""
    return radius * (1 + 1e-15) + 1e-300
