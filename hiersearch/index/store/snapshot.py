"""A snapshot: the segments that an index had at one generation, open for reading."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError
from hiersearch.index.store import catalogue
from hiersearch.index.store.catalogue import CatalogueState, SegmentRow
from hiersearch.index.store.columns import STORE_COLUMNS, check_heads
from hiersearch.index.store.folder import check_is_index
from hiersearch.index.store.ids import Id, IdTable, hashes_of
from hiersearch.index.store.metadata import MetadataTable
from hiersearch.index.store.segment import Segment

ATTEMPTS = 50
"""How often a reader starts again whose segments a writer replaced before it opened them."""


class StoredPlace(NamedTuple):
    """Where an entry is stored."""

    segment: int
    """Number of its segment."""
    position: int
    """Its position there."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegment:
    """One segment of a snapshot. It never changes: a commit makes new ones."""

    number: int
    """Its number in the index."""
    n_entries: int
    """Entries in it, removed ones included."""
    data: Segment
    """Its arrays."""
    removed: NDArray[np.bool_] | None
    """(n_entries,) which entries are removed, or None where none is."""
    ids: IdTable
    """Ids of its entries."""
    metadata: MetadataTable
    """Metadata of its entries."""

    @classmethod
    def open(
        cls, folder: Path, row: SegmentRow, removed: NDArray[np.bool_] | None
    ) -> StoredSegment:
        """Open the segment that a row of the catalogue names. O(chunks).

        Raises
        ------
        FormatError, DamageError, FileNotFoundError
            As :func:`open_file`; if the file has another size than the row says; or if the
            arrays that the store keeps are not of the types and lengths that they must have.
        """
        data = open_file(folder / catalogue.segment_name(row.number), row.checksum)
        if data.n_bytes != row.n_bytes:
            what = f"must have {row.n_bytes} bytes as the catalogue says, has {data.n_bytes}"
            raise DamageError(Damage(str(data.path), what))
        check_heads(data, STORE_COLUMNS, {"entries": row.entries})
        return cls(row.number, row.entries, data, removed, IdTable(data), MetadataTable(data))

    @property
    def live(self) -> NDArray[np.bool_]:
        """(n_entries,) which entries are not removed."""
        return np.ones(self.n_entries, np.bool_) if self.removed is None else ~self.removed

    @property
    def n_live(self) -> int:
        """How many entries are not removed."""
        return self.n_entries - (0 if self.removed is None else int(self.removed.sum()))

    def is_live(self, position: int) -> bool:
        """Return whether the entry at a position is not removed."""
        return self.removed is None or not self.removed[position]

    def id_at(self, position: int) -> Id:
        """Return the id of the entry at a position, removed or not."""
        return self.ids[position]

    def all_ids(self) -> list[Id]:
        """Return the ids of all positions, removed entries included."""
        return self.ids.all()

    def metadata_at(self, position: int) -> dict[str, Any]:
        """Return the metadata of the entry at a position, removed or not."""
        return self.metadata[position]

    def check_tables(self) -> list[Damage]:
        """Read all ids and metadata; return what does not fit together. O(n log n + characters)."""
        damages = []
        for check in (self.ids.check, self.metadata.check):
            try:
                check()
            except DamageError as error:
                damages.append(error.damage)
        return damages

    def sound_entries(self) -> NDArray[np.bool_]:
        """Return for which positions id and metadata can be read, should the file be damaged."""
        return self.ids.sound() & self.metadata.sound()


def open_file(path: Path, checksum: int | None) -> Segment:
    """Open a segment file; a folder in its place, or a device that fails, is damage, too.

    Raises
    ------
    FormatError, DamageError, FileNotFoundError
        As :meth:`Segment.open` does.
    """
    try:
        return Segment.open(path, checksum=checksum)
    except NotADirectoryError as error:
        raise DamageError(Damage(str(path), "is missing")) from error
    except OSError as error:
        if path.is_dir():
            raise DamageError(Damage(str(path), "is a folder")) from error
        if error.errno != errno.EIO:
            raise
        raise DamageError(Damage(str(path), f"can't be read: {error.strerror}")) from error


def open_snapshot(folder: Path) -> tuple[CatalogueState, tuple[StoredSegment, ...]]:
    """Read the catalogue and open the segments that it names.

    Raises
    ------
    FormatError
        If the folder is no index, or of a newer format.
    DamageError
        If the catalogue, the head of a segment, or a file that should be there is not sound.
    TimeoutError
        If a writer replaces segments faster than they can be opened.
    """
    generation = -1
    for _ in range(ATTEMPTS):
        check_is_index(folder)
        state = catalogue.load(folder)
        try:
            return state, opened(folder, state.segments, state.removed)
        except FileNotFoundError as error:
            # Either a writer replaced the segment since the catalogue was read, or it is lost.
            if state.generation == generation:
                raise DamageError(Damage(str(error.filename), "is missing")) from error
            generation = state.generation
    raise TimeoutError(f"{folder}: its segments are replaced faster than they can be opened")


def opened(
    folder: Path, rows: Iterable[SegmentRow], removed: Mapping[int, NDArray[np.bool_]]
) -> tuple[StoredSegment, ...]:
    """Open the segments that rows of the catalogue name."""
    return tuple(StoredSegment.open(folder, row, removed.get(row.number)) for row in rows)


def find_many(
    segments: Sequence[StoredSegment], ids: Sequence[Id], hashes: NDArray[np.uint64] | None = None
) -> list[StoredPlace | None]:
    """Return the place of the live entry of each id, or None. O((ids + segments) · log entries).

    Hashes propose, ids decide: two ids of one hash are told apart.
    """
    found: list[StoredPlace | None] = [None] * len(ids)
    if not ids:
        return found
    if hashes is None:
        hashes = hashes_of(ids)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    for segment in segments:
        index, positions = segment.ids.candidates(ordered)
        for i, position in zip(order[index].tolist(), positions.tolist(), strict=True):
            if segment.is_live(position) and segment.id_at(position) == ids[i]:
                found[i] = StoredPlace(segment.number, position)
    return found
