"""Metadata of entries: JSON objects, each distinct text kept once in a segment."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiersearch._json import stored_json
from hiersearch._validate import plain
from hiersearch.errors import DamageError
from hiersearch.index.store.columns import METADATA_CODES as CODES
from hiersearch.index.store.columns import METADATA_ENDS as ENDS
from hiersearch.index.store.columns import METADATA_TEXTS as TEXTS
from hiersearch.index.store.segment import Segment

BLOCK = 2**13
"""Texts that are parsed at a time."""
LONGEST = 2**13
"""Bits of the largest number; Python reads no text of more than 4,300 digits."""


class Special:
    """Stands for what is no single value."""


MISSING: Final = Special()
COMPOUND: Final = Special()


def json_text(value: Any, what: str) -> str:
    """Return a JSON object as its one canonical text: keys sorted, no spaces.

    Parameters
    ----------
    value : mapping with strings as keys
        Its values: None, bool, int, float, str, scalars of NumPy, lists and mappings of these.
    what : str
        What the message calls it.

    Raises
    ------
    TypeError
        If it is not a mapping, or holds what JSON does not have.
    ValueError
        If it holds a number that is not finite or has thousands of digits, text that is not
        Unicode, or itself.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a JSON object (a dict), got {type(value).__name__}")
    try:
        text = json.dumps(
            _as_json(value, what), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        text.encode()
    except RecursionError as error:
        raise ValueError(f"{what} must be a JSON object, got one nested too deep") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} must be Unicode text, got {error.object[:60]!r}") from error
    return text


def _as_json(value: Any, what: str) -> Any:
    """Return a value with Python's own types alone."""
    value = plain(value)
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > LONGEST:
            raise ValueError(f"{what} must be a number of at most {LONGEST} bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{what} must be a finite number, got {value}")
        return value
    if isinstance(value, list):
        return [_as_json(item, f"{what}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{what} must have strings as keys, got {key!r}")
        return {str(key): _as_json(item, f"{what}[{key!r}]") for key, item in value.items()}
    way = ": list(...) or .tolist() makes one" * isinstance(value, tuple | np.ndarray)
    raise TypeError(
        f"{what} must be JSON (null, bool, number, string, list or dict), "
        f"got {type(value).__name__}{way}"
    )


def metadata_arrays(
    metadata: Sequence[Mapping[str, Any] | None], ids: Sequence[int | str]
) -> dict[str, NDArray[Any]]:
    """Return the arrays that keep the metadata of entries in a segment. O(characters).

    Each text is followed by a comma, so that a row of them is the inside of a JSON list.

    Raises
    ------
    TypeError, ValueError
        As :func:`json_text`, naming the entry.
    """
    numbers: dict[str, int] = {}
    codes = np.empty(len(metadata), np.int32)
    for i, (value, name) in enumerate(zip(metadata, ids, strict=True)):
        text = "{}" if value is None else json_text(value, f"metadata of {name!r}")
        codes[i] = numbers.setdefault(text, len(numbers))
    texts = [text.encode() + b"," for text in numbers]
    return {
        CODES: codes,
        ENDS: np.cumsum([0, *map(len, texts)], dtype=np.int64),
        TEXTS: np.frombuffer(b"".join(texts), np.uint8),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The values at one key of the distinct texts of a segment."""

    values: tuple[Any, ...]
    """The distinct values; MISSING stands for none, COMPOUND for lists and objects."""
    codes: NDArray[np.int32]
    """(texts,) which of the values each text has."""


class _ColumnBuilder:
    def __init__(self) -> None:
        self._numbers: dict[tuple[bool, Any], int] = {}
        self._codes: list[int] = []

    def add(self, value: Any) -> None:
        if isinstance(value, list | dict):
            value = COMPOUND
        # In Python, but not in JSON, true is 1.
        key = isinstance(value, bool), value
        self._codes.append(self._numbers.setdefault(key, len(self._numbers)))

    def column(self) -> Column:
        values = tuple(value for _, value in self._numbers)
        return Column(values, np.array(self._codes, np.int32))


class MetadataTable:
    """The metadata of a segment, by position and by key.

    Whatever is read is checked before it is used: what does not fit together is a DamageError.
    """

    __slots__ = ("_are_codes", "_columns", "_segment")

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._columns: dict[str, Column] = {}
        # Whether the codes were found to number texts.
        self._are_codes = False

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return the metadata at a position, a new dict. O(its characters)."""
        code = int(self._segment.rows(CODES, position, position + 1)[0])
        (value,) = self._objects(self._segment.piece(ENDS, TEXTS, code), code, 1)
        return value

    def _objects(self, texts: bytes, first: int, count: int) -> list[dict[str, Any]]:
        """Return the objects of some texts, each of which has a comma behind it."""
        try:
            found = stored_json(b"[" + texts[:-1] + b"]")
        except ValueError as error:
            what = f"must be JSON from text {first} on: {error}"
            raise self._segment.wrong(TEXTS, what) from None
        if len(found) != count or not all(isinstance(value, dict) for value in found):
            raise self._segment.wrong(TEXTS, f"must be {count} JSON objects from text {first} on")
        return list(found)

    def codes(self) -> NDArray[np.int32]:
        """Return for each position the number of its text."""
        codes, n_texts = self._segment.array(CODES), len(self._segment.unchecked(ENDS)) - 1
        if not self._are_codes:
            if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < n_texts:
                raise self._segment.wrong(CODES, f"must number {n_texts} texts")
            self._are_codes = True
        return codes

    def distinct(self) -> Iterator[dict[str, Any]]:
        """Yield the object of each distinct text. O(characters), a block in memory at a time."""
        ends, texts = self._segment.array(ENDS), self._segment.array(TEXTS)
        ascends = ends.size and ends[0] == 0 and bool((ends[1:] >= ends[:-1]).all())
        if not ascends or ends[-1] != len(texts):
            raise self._segment.wrong(ENDS, f"must ascend from 0 to {len(texts)}")
        for first in range(0, len(ends) - 1, BLOCK):
            last = min(first + BLOCK, len(ends) - 1)
            yield from self._objects(texts[ends[first] : ends[last]].tobytes(), first, last - first)

    def check(self) -> None:
        """Raise DamageError unless all metadata can be read, and written again. O(characters)."""
        self.codes()
        for value in self.distinct():
            self._check_written(value)

    def _check_written(self, value: dict[str, Any]) -> None:
        """Raise DamageError if a writer would not have taken what was read."""
        try:
            json_text(value, "it")
        except ValueError as error:
            raise self._segment.wrong(TEXTS, f"holds no metadata: {error}") from None

    def columns(self, keys: Collection[str]) -> dict[str, Column]:
        """Return the values that the distinct texts have at keys.

        O(characters) for the first condition on a key, then O(1).
        """
        unread = [key for key in keys if key not in self._columns]
        if unread:
            found = {key: _ColumnBuilder() for key in unread}
            for item in self.distinct():
                for key, builder in found.items():
                    builder.add(value_at(item, key))
            columns = {key: builder.column() for key, builder in found.items()}
            # Columns of keys that no entry has, misspelt ones, are not worth keeping.
            self._columns.update({k: c for k, c in columns.items() if c.values != (MISSING,)})
            return {**columns, **{key: self._columns[key] for key in keys if key in self._columns}}
        return {key: self._columns[key] for key in keys}

    def sound(self) -> NDArray[np.bool_]:
        """Return which positions have metadata that can be read from a damaged segment.

        O(n + characters).
        """
        sound = self._segment.sound_rows(CODES)
        codes = self._segment.unchecked(CODES)
        readable: dict[int, bool] = {}
        for position in np.flatnonzero(sound).tolist():
            code = int(codes[position])
            if code not in readable:
                try:
                    self._check_written(self[position])
                    readable[code] = True
                except DamageError:
                    readable[code] = False
            sound[position] = readable[code]
        return sound


def value_at(item: Mapping[str, Any], key: str) -> Any:
    """Return the value at a key, nested keys being joined by dots; MISSING if there is none.

    Examples
    --------
    >>> value_at({"scan": {"z": 3}, "a.b": 1}, "scan.z"), value_at({"a.b": 1}, "a.b")
    (3, 1)
    """
    if key in item:
        return item[key]
    first, dot, rest = key.partition(".")
    inner = item.get(first)
    return value_at(inner, rest) if dot and isinstance(inner, Mapping) else MISSING
