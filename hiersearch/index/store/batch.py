"""Entries on their way into the store: checked at the edge, then written as a segment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hiersearch.errors import OvertakenError
from hiersearch.index.store import ids, metadata
from hiersearch.index.store.catalogue import CatalogueState, SegmentRow, segment_name
from hiersearch.index.store.columns import STORE_COLUMNS, chunks_of
from hiersearch.index.store.ids import Id
from hiersearch.index.store.segment_writer import write_segment
from hiersearch.index.store.snapshot import StoredPlace, StoredSegment, find_many

Arrays = Mapping[str, NDArray[Any] | Iterable[NDArray[Any]]]
"""Arrays by name; one that is made piece by piece may be an iterable of its pieces."""

RESERVED = "store/"
"""Names of arrays that begin with this are the store's own."""

FIRST_BEYOND = 2**63
"""The first integer that is no id."""
NO_IDS_LEFT = "there are no automatic ids left: the largest integer is an id"


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked entries that a commit will add."""

    ids: list[Id]
    """Their ids, automatic ones given."""
    arrays: dict[str, NDArray[Any]]
    """The store's own arrays: ids and metadata."""
    next_id: int
    """The next automatic id after them."""


def checked_batch(
    state: CatalogueState,
    segments: Sequence[StoredSegment],
    given: Sequence[Id | None],
    objects: Sequence[Mapping[str, Any] | None],
    leaving: Collection[StoredPlace] = (),
) -> Batch:
    """Check ids and metadata, and give automatic ids. O((entries + segments) · log stored).

    Parameters
    ----------
    state : CatalogueState
        What the store is now.
    segments : sequence
        Segments whose ids must not come again.
    given : sequence of int, str or None
        The ids.
    objects : sequence of dict or None
        The metadata.
    leaving : collection of StoredPlace
        Entries of ``segments`` whose ids may come again.

    Raises
    ------
    TypeError, ValueError
        If an id or metadata is not what it should be, or an id comes twice.
    """
    if not len(given):
        raise ValueError("ids must have at least one entry, got none")
    if len(objects) != len(given):
        raise ValueError(
            f"metadata must have one entry per id, got {len(objects)} for {len(given)} ids"
        )
    complete, next_id = _with_automatic(given, state.next_id)
    if len(set(complete)) < len(complete):
        raise ValueError(f"ids must differ, got {_first_repeated(complete)!r} twice")
    hashes = ids.hashes_of(complete)
    for value, place in zip(complete, find_many(segments, complete, hashes), strict=True):
        if place is not None and place not in leaving:
            raise ValueError(f"id {value!r} is in the index already")
    arrays = {
        **ids.id_arrays(complete, hashes),
        **metadata.metadata_arrays(objects, complete),
    }
    return Batch(complete, arrays, next_id)


def _with_automatic(given: Sequence[Id | None], next_id: int) -> tuple[list[Id], int]:
    """Give ids that are None a number, above all integers that are or were ids."""
    checked = [None if value is None else ids.checked_id(value) for value in given]
    next_id = max([next_id, *(value + 1 for value in checked if isinstance(value, int))])
    complete: list[Id] = []
    for value in checked:
        complete.append(next_id if value is None else value)
        next_id += value is None
    if next_id > FIRST_BEYOND:
        raise ValueError(NO_IDS_LEFT)
    return complete, next_id


def _first_repeated(values: Iterable[Id]) -> Id | None:
    seen: set[Id] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def write_batch(
    folder: Path,
    state: CatalogueState,
    batch: Batch,
    arrays: Arrays,
    chunk_bytes: Mapping[str, int] | None,
    dropped: Collection[int],
) -> SegmentRow:
    """Write the segment of a batch and return what the catalogue is to say of it.

    Its head says all that a recovery needs to know should the catalogue be lost.

    Raises
    ------
    OvertakenError
        If another writer has written a segment of its number.
    """
    for name in arrays:
        if name.startswith(RESERVED):
            raise ValueError(f"names of arrays must not begin with {RESERVED!r}, got {name!r}")
    number, generation = state.next_segment, state.generation + 1
    facts = {
        "number": number,
        "generation": generation,
        "entries": len(batch.ids),
        "next_id": batch.next_id,
        "segments": [r.number for r in state.segments if r.number not in dropped] + [number],
        "settings": dict(state.settings),
    }
    name = segment_name(number)
    try:
        checksum, n_bytes = write_segment(
            folder / name,
            {**batch.arrays, **arrays},
            chunk_bytes={**chunks_of(STORE_COLUMNS), **(chunk_bytes or {})},
            facts=facts,
        )
    except FileExistsError as error:
        raise OvertakenError(
            f"{folder} was changed by another writer, {name} is there already: open it again"
        ) from error
    return SegmentRow(number, len(batch.ids), n_bytes, checksum, generation)
