"""What searches of an index return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry that was found."""

    id: int | str
    """What it is called."""
    distance: float
    """ρ / M² to the query, in [0, 1); for affinities the disagreement over all weights."""
    rho: int | float
    """The same before it is divided: an exact integer between hard partitions."""
    metadata: dict[str, Any]
    """JSON object that was stored with it."""


@dataclass(slots=True)
class SearchWork:
    """What a search had to do."""

    entries: int = 0
    """Entries that might have been answers: live, and meeting the condition."""
    exact_distances: int = 0
    """Entries whose exact distance was computed."""
    pruned: dict[str, int] = field(default_factory=dict)
    """Entries that each bound ruled out: "blocks" (triangle inequality on the tile distance),
    "coarse tiles", "middle tiles", "pivots" (triangle inequality on ρ), "overlap"."""
    blocks: int = 0
    """Blocks of the metric tree."""
    blocks_pruned: int = 0
    """Blocks ruled out as a whole."""
    bytes_read: int = 0
    """Bytes of bounds and codes that were looked at."""
    scanned: bool = False
    """Whether bounds were given up for a scan."""
    device: str = "cpu"
    """What did the work; for queries that a device has no form for, the CPU."""
    batch: int = 1
    """Queries that a device searched for together."""
    bytes_sent: int = 0
    """Bytes of tiles and runs that were copied to the device for the batch."""
    seconds: float = 0.0
    """Wall time; on a device, of all queries that were given together."""

    def prune(self, bound: str, count: int) -> None:
        """Count entries that a bound ruled out."""
        if count:
            self.pruned[bound] = self.pruned.get(bound, 0) + int(count)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The nearest entries, nearest first, ties by id: integers before text.

    The answer is arrays; iterating gives the same as objects.

    Examples
    --------
    >>> result = SearchResult.of([(0.5, 4, 7, {}), (0.5, 4, "a", {})], exact=True)
    >>> result
    <SearchResult: 2 entries, exact; nearest 7 at 0.5>
    >>> result.ids.tolist(), result.distances.tolist(), [one.rho for one in result]
    ([7, 'a'], [0.5, 0.5], [4, 4])
    """

    ids: NDArray[Any]
    """(k,) what they are called: int64 where all are integers, else objects, int or str."""
    distances: NDArray[np.float64]
    """(k,) ρ / M² to the query, in [0, 1); for affinities the disagreement over all weights."""
    rho: NDArray[Any]
    """(k,) the same before it is divided: int64 between hard partitions, where it is exact."""
    metadata: tuple[dict[str, Any], ...]
    """(k) the JSON object that was stored with each."""
    exact: bool
    """Whether these are certainly the nearest, with exact distances."""
    complete: bool
    """False where fewer than k entries were there to be found."""
    work: SearchWork
    """What it took."""
    resampled_from: tuple[int, ...] | None = None
    """Grid of the query where it was not the index's: it was resampled."""

    @classmethod
    def of(
        cls,
        found: Sequence[tuple[float, int | float, int | str, dict[str, Any]]],
        *,
        exact: bool,
        complete: bool = True,
        work: SearchWork | None = None,
        resampled_from: tuple[int, ...] | None = None,
    ) -> SearchResult:
        """Make a result of (distance, ρ, id, metadata), in the order of the answer."""
        distances, rho, ids, metadata = zip(*found, strict=True) if found else ((),) * 4
        arrays = (_ids_of(ids), np.array(distances, np.float64), np.array(rho))
        for array in arrays:
            array.setflags(write=False)
        work = SearchWork() if work is None else work
        return cls(*arrays, tuple(metadata), exact, complete, work, resampled_from)

    @property
    def neighbours(self) -> tuple[Neighbour, ...]:
        """The entries as objects."""
        columns = (self.ids.tolist(), self.distances.tolist(), self.rho.tolist(), self.metadata)
        return tuple(Neighbour(*row) for row in zip(*columns, strict=True))

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self.neighbours)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Neighbour:
        return self.neighbours[i]

    def __repr__(self) -> str:
        """Name how many, whether exact, and the nearest."""
        count = "1 entry" if len(self) == 1 else f"{len(self)} entries"
        how = "exact" if self.exact else "approximate"
        if not len(self):
            return f"<SearchResult: {count}, {how}>"
        nearest = self[0]
        return f"<SearchResult: {count}, {how}; nearest {nearest.id!r} at {nearest.distance:.6g}>"


def _ids_of(ids: Sequence[int | str]) -> NDArray[Any]:
    """Return ids as an array; NumPy's own text would drop zeros at the end."""
    if all(isinstance(one, int) for one in ids):
        return np.array(ids, np.int64)
    array = np.empty(len(ids), object)
    array[:] = ids
    return array


@dataclass(frozen=True, slots=True)
class Pair:
    """Two entries that lie close together."""

    a: int | str
    """One of them; before ``b`` in the order of ids."""
    b: int | str
    """The other."""
    distance: float
    """ρ / M² between them."""
    rho: int | float
    """The same before it is divided: an exact integer under a measure of integer type."""


@dataclass(frozen=True, slots=True, eq=False)
class DuplicateGroup:
    """Entries that near-duplicates connect: each is near another one of them (single linkage).

    Two of a group may be farther apart than any of them is from its nearest.
    """

    ids: tuple[int | str, ...]
    """The members, at least two: the representative, then the nearest to it first, ties by id."""
    distances: NDArray[np.float64]
    """(members,) exact ρ / M² of each to the representative; read-only."""
    rho: NDArray[Any]
    """(members,) the same before it is divided: int64 under a measure of integer type."""

    @property
    def representative(self) -> int | str:
        """The member that comes first in the order of ids: integers before text."""
        return self.ids[0]

    @property
    def others(self) -> tuple[int | str, ...]:
        """The members besides the representative."""
        return self.ids[1:]

    def __len__(self) -> int:
        return len(self.ids)


def id_key(value: int | str) -> tuple[bool, int | str]:
    """Order of ids: integers before text."""
    return (isinstance(value, str), value)
