"""The schema of a segment: every array that it has, and what each must be.

Writing, opening, repair and figures all follow this table. Types and lengths are told from the
head of a file alone (:func:`check_heads`), order and ranges from the values, before a kernel sees
them (:func:`check_values`): a segment may come from somebody else, with sound checksums.

An array's rows are counted by a *count*: all arrays of one count have the same length. An array
of *ends* says where the pieces of another array end, an array of *sizes* how many rows each has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import DamageError
from hiersearch.index.store.segment import Segment

PIECEWISE = 2**14
"""Bytes under one checksum of arrays that are read piecewise."""

Bound = str | float
"""A number, or the name of one, or of an array of as many rows, among what is known."""
Known = dict[str, Any]
"""Numbers and arrays by name, which conditions refer to."""


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a segment."""

    name: str
    dtypes: tuple[str, ...]
    """The types that it may have."""
    rows: str
    """The count that its length is."""
    kind: str = "other"
    """What its bytes are counted as."""
    width: str | None = None
    """The number of its columns, where it has rows of numbers."""
    chunk_bytes: int | None = None
    """Bytes under one checksum, where it is read piecewise: it is checked where it is read."""
    padding: int = 0
    """Rows at its end that belong to no piece."""
    ends_of: str | None = None
    """The count whose pieces end at its values: they ascend, and the last is all of it."""
    every_piece: bool = False
    """Whether each piece has something in it; then where pieces begin and end is known by name."""
    sizes_of: str | None = None
    """The count that its values add up to."""
    low: Bound | None = None
    """What no value is below; nor is it NaN."""
    high: Bound | None = None
    """What no value is above."""
    decodes: str | None = None
    """What can't be decoded without it."""


IS_TEXT, ID_VALUES, ID_ENDS, ID_TEXTS = (
    "store/id_kinds",
    "store/ids",
    "store/id_ends",
    "store/id_texts",
)
ID_HASHES, ID_PLACES = "store/id_hashes", "store/id_places"
METADATA_CODES, METADATA_ENDS, METADATA_TEXTS = (
    "store/metadata_codes",
    "store/metadata_ends",
    "store/metadata_texts",
)

# Their order and ranges are checked where they are read: to open an index reads none of them.
STORE_COLUMNS = (
    Column(IS_TEXT, ("|u1",), "entries", chunk_bytes=PIECEWISE),
    Column(ID_VALUES, ("<i8",), "entries", chunk_bytes=PIECEWISE),
    Column(ID_ENDS, ("<i8",), "ends of ids", chunk_bytes=PIECEWISE),
    Column(ID_TEXTS, ("|u1",), "bytes of ids", chunk_bytes=PIECEWISE),
    Column(ID_HASHES, ("<u8",), "entries", chunk_bytes=2**20),
    Column(ID_PLACES, ("<i4",), "entries", chunk_bytes=PIECEWISE),
    Column(METADATA_CODES, ("<i4",), "entries", chunk_bytes=PIECEWISE),
    Column(METADATA_ENDS, ("<i8",), "ends of metadata", chunk_bytes=PIECEWISE),
    Column(METADATA_TEXTS, ("|u1",), "bytes of metadata", chunk_bytes=PIECEWISE),
)
"""What the store keeps of ids and metadata; the names of all others are its caller's."""


def chunks_of(columns: Iterable[Column]) -> dict[str, int]:
    """Return the bytes under one checksum of the arrays that are read piecewise."""
    return {column.name: column.chunk_bytes for column in columns if column.chunk_bytes}


def check_heads(data: Segment, columns: Iterable[Column], counts: Mapping[str, int]) -> Known:
    """Hold the types and shapes of a segment's arrays against the schema. O(columns).

    Parameters
    ----------
    data : Segment
        The segment.
    columns : iterable of Column
        The arrays that it must have.
    counts : mapping from name to int
        Counts and widths that are known beforehand.

    Returns
    -------
    dict from name to number
        All counts: those given and those that lengths of arrays tell.

    Raises
    ------
    DamageError
        Naming the first array that is missing, or of another type or shape.
    """
    known: Known = dict(counts)
    names = set(data.names)
    for column in columns:
        if column.name not in names:
            raise data.wrong(column.name, "is missing")
        array = data.unchecked(column.name)
        if array.dtype.str not in column.dtypes:
            expected = " or ".join(column.dtypes)
            raise data.wrong(column.name, f"must be of type {expected}, is {array.dtype.str}")
        rows = known.setdefault(column.rows, len(array) - column.padding)
        shape = (rows + column.padding, *(() if column.width is None else (known[column.width],)))
        if rows < 0:
            what = f"must have at least {column.padding} rows, has {len(array)}"
            raise data.wrong(column.name, what)
        if array.shape != shape:
            raise data.wrong(column.name, f"must be of shape {shape}, is {array.shape}")
    return known


def check_values(
    data: Segment,
    columns: Iterable[Column],
    arrays: Mapping[str, NDArray[Any]],
    known: Known,
) -> None:
    """Hold the values of arrays against the schema: order, ranges, sums. O(values).

    Parameters
    ----------
    data : Segment
        What the arrays are from.
    columns : iterable of Column
        Columns that were checked by :func:`check_heads`; those read piecewise are left out.
    arrays : mapping from name to array
        Their values.
    known : dict
        What :func:`check_heads` returned, with the numbers that ranges refer to.

    Raises
    ------
    DamageError
        Naming the first array that breaks a condition, and where.
    """
    for column in columns:
        if column.chunk_bytes is not None:
            continue
        values = arrays[column.name]
        # Most arrays are sound, which the least and the largest value tell.
        if not _is_within(column, values, known):
            raise _broken(data, column, values, known)
        if column.ends_of is not None:
            last = int(values[-1]) if values.size else 0
            if not _ascends(values, column.every_piece) or last != known[column.ends_of]:
                raise _broken(data, column, values, known)
            if column.every_piece:
                known[f"begins of {column.name}"] = begins_of(values)
                known[f"lasts of {column.name}"] = values - 1
        if column.sizes_of is not None:
            total = int(values.sum(dtype=np.int64))
            if total != known[column.sizes_of]:
                what = f"must add up to {known[column.sizes_of]}, adds up to {total}"
                raise data.wrong(column.name, what)
        known[column.name] = values


def begins_of(ends: NDArray[Any]) -> NDArray[Any]:
    """Return where pieces begin, given where each ends."""
    begins = np.empty_like(ends)
    begins[:1] = 0
    begins[1:] = ends[:-1]
    return begins


def sound_rows(column: Column, values: NDArray[Any], known: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which rows of an array meet what the schema says of single rows. O(values)."""
    sound = np.ones(len(values), np.bool_)
    if column.low is not None:
        sound &= values >= _bound(column.low, known)
    if column.high is not None:
        sound &= values <= _bound(column.high, known)
    if column.ends_of is not None:
        begins = begins_of(values)
        sound &= (begins >= 0) & (_sizes(values, begins) >= int(column.every_piece))
        sound &= values <= known[column.ends_of]
        # Where one piece ends wrongly, the next begins wrongly.
        sound[1:] &= sound[:-1].copy()
    return sound


def _ascends(ends: NDArray[Any], strictly: bool) -> bool:
    """Return whether ends ascend from zero, each above the one before where that is asked for."""
    if not ends.size:
        return True
    later, earlier = ends[1:], ends[:-1]
    pairs = later > earlier if strictly else later >= earlier
    return bool(ends[0] >= int(strictly) and pairs.all())


def _sizes(ends: NDArray[Any], begins: NDArray[Any]) -> NDArray[Any]:
    """Return the sizes of pieces; those of ends that don't ascend are negative."""
    with np.errstate(over="ignore"):
        return np.where(ends >= begins, ends - begins, -1)


def _is_within(column: Column, values: NDArray[Any], known: Known) -> bool:
    if (column.low is None and column.high is None) or not values.size:
        return True
    low = -math.inf if column.low is None else _bound(column.low, known)
    high = math.inf if column.high is None else _bound(column.high, known)
    # NaN is neither above nor below anything.
    above = values >= low if isinstance(low, np.ndarray) else values.min() >= low
    below = values <= high if isinstance(high, np.ndarray) else values.max() <= high
    return bool(above.all() and below.all())


def _bound(bound: Bound, known: Mapping[str, Any]) -> Any:
    return known[bound] if isinstance(bound, str) else bound


def _broken(
    data: Segment, column: Column, values: NDArray[Any], known: Mapping[str, Any]
) -> DamageError:
    """Return the error that names the first row that breaks a condition."""
    sound = sound_rows(column, values, known)
    if sound.all():
        assert column.ends_of is not None
        last = int(values[-1]) if values.size else 0
        what = f"must end at {known[column.ends_of]}, ends at {last}"
        return data.wrong(column.name, what)
    row = int(np.argmin(sound))
    limits = []
    if values[row] != values[row]:
        limits.append("must be a number")
    if column.ends_of is not None:
        limits.append(f"must ascend up to {known[column.ends_of]}")
    for word, bound in (("below", column.low), ("above", column.high)):
        if bound is not None:
            limit = _bound(bound, known)
            limit = limit[row] if isinstance(limit, np.ndarray) else limit
            limits.append(f"must not be {word} {limit}")
    return data.wrong(column.name, f"{' and '.join(limits)}, is {values[row]} in row {row}")
