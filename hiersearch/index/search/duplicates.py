"""Near-duplicates: entries within a distance of each other, as groups or as pairs.

1. *Copies.* Entries that are the same partition are found by hash; of each set of them one takes
   part in what follows, so that n copies cost O(n).
2. *Join.* Pairs within the radius among those, see :mod:`hiersearch.index.search.joining`.
3. *Groups* are what pairs connect (single linkage): of two entries that are connected already no
   distance is computed. *Pairs* are yielded as they are found, those of copies one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.search._join_kernels import connect, roots_of
from hiersearch.index.search.answering import raised
from hiersearch.index.search.copies import first_copies, repeated
from hiersearch.index.search.joining import Progress, TileJoin
from hiersearch.index.search.pair_distances import Entries, Numbers
from hiersearch.index.search.results import DuplicateGroup, Pair, id_key
from hiersearch.index.store.ids import Id

PAIRS_AT_ONCE = 2**12
"""Pairs that are compared before it is looked again at what is connected."""


def duplicate_groups(
    entries: Entries, radius: float, progress: Progress | None = None
) -> list[DuplicateGroup]:
    """Return the groups of entries that pairs within a normalised radius connect.

    The largest come first, then those whose representative comes first in the order of ids.
    """
    search = _Search(entries, radius, progress)
    parents = np.arange(entries.n)
    for firsts, seconds in search.candidates():
        apart = roots_of(parents, firsts) != roots_of(parents, seconds)
        connect(parents, *search.within(firsts[apart], seconds[apart])[:2])
    alive = np.flatnonzero(entries.live)
    roots = roots_of(parents, search.first[alive])
    grouped = repeated(roots)
    groups = _named(search, alive[grouped], roots[grouped])
    return sorted(groups, key=lambda group: (-len(group), id_key(group.representative)))


def _named(search: _Search, members: Numbers, roots: Numbers) -> Iterator[DuplicateGroup]:
    """Yield groups, given their members, which ascend, and whom each is connected to.

    The representative is the member that comes first in the order of ids.
    """
    entries = search.entries
    ids = entries.ids(members)
    sets = [
        sorted(places.tolist(), key=lambda i: id_key(ids[i]))
        for places in _sets(np.arange(members.size), roots)
    ]
    # Of copies one is compared.
    compared = search.first[members]
    against = np.empty(members.size, np.int64)
    for places in sets:
        against[places] = compared[places[0]]
    distinct, place = np.unique(compared, return_index=True)
    rho = np.zeros(entries.n, entries.squares.dtype)
    other = distinct != against[place]
    rho[distinct[other]] = entries.distances(against[place][other], distinct[other])
    rho = rho[compared]
    for places in sets:
        # Stable: of equally near ones the first in the order of ids comes first.
        order = [places[0], *sorted(places[1:], key=lambda i: rho[i])]
        yield _group([ids[i] for i in order], rho[order], search.scale)


def _group(ids: list[Id], rho: NDArray[Any], scale: float) -> DuplicateGroup:
    distances = rho / scale
    for array in (rho, distances):
        array.flags.writeable = False
    return DuplicateGroup(tuple(ids), distances, rho)


def duplicate_pairs(
    entries: Entries, radius: float, progress: Progress | None = None
) -> Iterator[Pair]:
    """Yield the pairs of entries within a normalised radius, in no particular order.

    Memory stays bounded: by a batch of pairs, and the ids of entries that are copies.
    """
    search = _Search(entries, radius, progress)
    alive = np.flatnonzero(entries.live)
    first = search.first[alive]
    alive, first = alive[repeated(first)], first[repeated(first)]
    copies: dict[int, list[Id]] = {}
    zero = entries.squares.dtype.type(0).item()
    for members in _sets(alive, first):
        ids = copies[int(members[0])] = sorted(entries.ids(members), key=id_key)
        for a, b in itertools.combinations(ids, 2):
            yield Pair(a, b, 0.0, zero)
    for candidates in search.candidates():
        firsts, seconds, rho = search.within(*candidates)
        joined = np.unique(np.concatenate([firsts, seconds]))
        ids_of = {
            number: copies.get(number, [id])
            for number, id in zip(joined.tolist(), entries.ids(joined), strict=True)
        }
        for one, other, value in zip(firsts.tolist(), seconds.tolist(), rho.tolist(), strict=True):
            for pair in itertools.product(ids_of[one], ids_of[other]):
                a, b = sorted(pair, key=id_key)
                yield Pair(a, b, value / search.scale, value)


class _Search:
    """What groups and pairs share: copies, and the join of one of each."""

    def __init__(self, entries: Entries, radius: float, progress: Progress | None) -> None:
        self.entries = entries
        self.radius = radius
        self.scale = float(entries.frame.total) ** 2
        self.first: Numbers = first_copies(entries)
        self.taking_part = entries.live & (self.first == np.arange(entries.n))
        self.progress = progress

    def candidates(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield batches of pairs that may be within the radius."""
        join = TileJoin(self.entries, self.taking_part, raised(self.radius * self.scale))
        for firsts, seconds in join.candidates(self._report):
            for begin in range(0, firsts.size, PAIRS_AT_ONCE):
                part = slice(begin, begin + PAIRS_AT_ONCE)
                yield firsts[part], seconds[part]

    def _report(self, joined: int) -> None:
        if self.progress is not None:
            # Copies are done with before the join.
            taking_part = int(np.count_nonzero(self.taking_part))
            self.progress(int(np.count_nonzero(self.entries.live)) - taking_part + joined)

    def within(self, firsts: Numbers, seconds: Numbers) -> tuple[Numbers, Numbers, NDArray[Any]]:
        """Return those of some pairs that are within the radius, with their ρ, not divided."""
        rho = self.entries.distances(firsts, seconds)
        near = rho / self.scale <= self.radius
        return firsts[near], seconds[near], rho[near]


def _sets(numbers: Numbers, names: Numbers) -> list[Numbers]:
    """Return the sets of numbers, which ascend, that have one name; names occur several times."""
    if not numbers.size:
        return []
    order = np.argsort(names, kind="stable")
    return np.split(numbers[order], np.flatnonzero(np.diff(names[order])) + 1)
