"""Ids of entries, integers or strings, as arrays of a segment that can be searched by hash."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._validate import plain
from hiersearch.errors import DamageError
from hiersearch.index.store.columns import ID_ENDS as OFFSETS
from hiersearch.index.store.columns import ID_HASHES as HASHES
from hiersearch.index.store.columns import ID_PLACES as PLACES
from hiersearch.index.store.columns import ID_TEXTS as TEXTS
from hiersearch.index.store.columns import ID_VALUES as VALUES
from hiersearch.index.store.columns import IS_TEXT
from hiersearch.index.store.segment import Segment

Id = int | str

_LOW, _HIGH = -(2**63), 2**63 - 1


def checked_id(value: Any) -> Id:
    """Return an id as int or str, also one that is a scalar of NumPy.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If it is an empty string, not Unicode text, or an integer of more than 64 bits.
    """
    value = plain(value)
    if isinstance(value, str):
        if not value:
            raise ValueError("id must be an integer or a string that is not empty, got ''")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"id must be Unicode text, got {value!r}") from error
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"id must be an integer or a string, got {value!r}")
    if not _LOW <= value <= _HIGH:
        raise ValueError(f"id must be an integer of 64 bits, got {value}")
    return int(value)


def hashes_of(ids: Sequence[Id]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each id, the same in every process. O(characters)."""
    found = np.empty(len(ids), np.uint64)
    integers = [i for i, value in enumerate(ids) if isinstance(value, int)]
    if integers:
        values = np.array([ids[i] for i in integers], np.int64)
        found[integers] = _mixed(values.view(np.uint64))
    for i, value in enumerate(ids):
        if isinstance(value, str):
            found[i] = int.from_bytes(blake2b(value.encode(), digest_size=8).digest(), "little")
    return found


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter integers over 64 bits: the finaliser of SplitMix64, which is one to one."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def id_arrays(ids: Sequence[Id], hashes: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
    """Return the arrays that keep ``ids`` in a segment. O(n log n).

    A string's entry in the values is its number among the strings of the segment.
    """
    texts = [value.encode() for value in ids if isinstance(value, str)]
    is_text = np.array([isinstance(value, str) for value in ids], np.uint8)
    values = np.cumsum(is_text, dtype=np.int64) - is_text
    values[is_text == 0] = [value for value in ids if isinstance(value, int)]
    order = np.argsort(hashes, kind="stable")
    return {
        IS_TEXT: is_text,
        VALUES: values,
        OFFSETS: np.cumsum([0, *map(len, texts)], dtype=np.int64),
        TEXTS: np.frombuffer(b"".join(texts), np.uint8),
        HASHES: hashes[order],
        PLACES: order.astype(np.int32),
    }


class IdTable:
    """The ids of a segment, by position and by hash.

    Whatever is read is checked before it is used: what does not fit together is a DamageError.
    """

    __slots__ = ("_ascends", "_segment")

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        # Whether the hashes were found to ascend.
        self._ascends = False

    def __getitem__(self, position: int) -> Id:
        """Return the id at a position. O(1)."""
        rows = self._segment.rows
        value = int(rows(VALUES, position, position + 1)[0])
        if not rows(IS_TEXT, position, position + 1)[0]:
            return value
        return self._text(self._segment.piece(OFFSETS, TEXTS, value), position)

    def all(self) -> list[Id]:
        """Return the ids of all positions. O(n)."""
        segment = self._segment
        ids: list[Id] = segment.array(VALUES).tolist()
        positions = np.flatnonzero(segment.array(IS_TEXT)).tolist()
        if not positions:
            return ids
        ends, texts = segment.array(OFFSETS), segment.array(TEXTS).tobytes()
        ascends = ends.size and ends[0] >= 0 and bool((ends[1:] >= ends[:-1]).all())
        if not ascends or ends[-1] > len(texts):
            raise segment.wrong(OFFSETS, f"must ascend within 0..{len(texts)}")
        numbers = segment.array(VALUES)[positions]
        if int(numbers.min()) < 0 or int(numbers.max()) >= ends.size - 1:
            raise segment.wrong(VALUES, f"must number {ends.size - 1} texts where ids are text")
        offsets = ends.tolist()
        for position, number in zip(positions, numbers.tolist(), strict=True):
            ids[position] = self._text(texts[offsets[number] : offsets[number + 1]], position)
        return ids

    def _text(self, data: bytes, position: int) -> str:
        if not data:
            raise self._segment.wrong(OFFSETS, f"must leave an id in row {position}, got none")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self._segment.wrong(TEXTS, f"must be UTF-8 in row {position}") from None

    def candidates(self, wanted: NDArray[np.uint64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return all pairs (index into ``wanted``, position) of equal hashes.

        ``wanted`` ascends. The shorter of the two lists is searched for in the longer one.
        """
        hashes = self._hashes()
        if wanted.size <= hashes.size:
            index, found = _equal_pairs(wanted, hashes)
        else:
            found, index = _equal_pairs(hashes, wanted)
        if not index.size:
            return index, found
        self._segment.check_rows(PLACES, found)
        places = self._segment.unchecked(PLACES)[found]
        if int(places.min()) < 0 or int(places.max()) >= hashes.size:
            raise self._segment.wrong(PLACES, f"must be within 0..{hashes.size - 1}")
        return index, places

    def _hashes(self) -> NDArray[np.uint64]:
        hashes = self._segment.array(HASHES)
        if not self._ascends:
            if not bool((hashes[1:] >= hashes[:-1]).all()):
                raise self._segment.wrong(HASHES, "must ascend")
            self._ascends = True
        return hashes

    def check(self) -> None:
        """Raise DamageError unless every id can be read and is found by its hash. O(n log n)."""
        segment, ids = self._segment, self.all()
        if len(set(ids)) < len(ids):
            raise segment.wrong(VALUES, "must be different ids")
        places = segment.array(PLACES)
        if not np.array_equal(np.sort(places), np.arange(len(ids))):
            raise segment.wrong(PLACES, f"must hold each of 0..{len(ids) - 1} once")
        if not np.array_equal(hashes_of(ids)[places], self._hashes()):
            raise segment.wrong(HASHES, "must be the hashes of the ids")

    def sound(self) -> NDArray[np.bool_]:
        """Return which positions have an id that can be read from a damaged segment. O(n)."""
        segment = self._segment
        sound = segment.sound_rows(IS_TEXT) & segment.sound_rows(VALUES)
        texts = np.flatnonzero(sound & (segment.unchecked(IS_TEXT) != 0))
        for position in texts.tolist():
            try:
                self[position]
            except DamageError:
                sound[position] = False
        return sound


def _equal_pairs(
    few: NDArray[np.uint64], many: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all (index, index) of equal values of two ascending arrays. O(few · log many)."""
    first = np.searchsorted(many, few, side="left")
    hits = np.flatnonzero(many[np.minimum(first, max(0, many.size - 1))] == few)
    if not hits.size:
        return hits, hits
    first = first[hits]
    counts = np.searchsorted(many, few[hits], side="right") - first
    skipped = np.cumsum(counts) - counts
    within = np.arange(int(counts.sum())) - np.repeat(skipped, counts)
    return np.repeat(hits, counts), np.repeat(first, counts) + within
