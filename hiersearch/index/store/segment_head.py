"""The head of a segment file: what arrays it has and where, checked before any is looked at.

Checksums tell whether a file is what was written, not whether it was written well: a head that
somebody else made is held against everything that a writer guarantees.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiersearch._json import stored_json
from hiersearch.errors import Damage, DamageError, FormatError
from hiersearch.index.store.segment_writer import (
    ALIGNMENT,
    CRC,
    DTYPES,
    FORMAT_VERSION,
    HEADER,
    MAGIC,
    SEALED,
)

MOST_AXES = 8
"""Axes that an array may have."""
MOST_ELEMENTS = 2**48
"""What the sides of an array, those of no length left out, may come to."""


@dataclass(frozen=True, slots=True)
class ArrayHead:
    """What the head of a segment says of one array."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    """Where in the file it begins."""
    stored_bytes: int
    """Its bytes there, padding included."""
    chunk_bytes: int
    """Bytes under one checksum."""
    checksums_at: int
    """Where in the file the checksums of its chunks begin."""

    @property
    def n_chunks(self) -> int:
        """Number of its chunks."""
        return -(-self.stored_bytes // self.chunk_bytes)


@dataclass(frozen=True, slots=True)
class Head:
    """What header and table of a segment file say."""

    arrays: tuple[ArrayHead, ...]
    facts: dict[str, Any]
    """JSON that the writer put in."""
    checksum: int
    """CRC-32 of the table."""


def read_head(path: Path, buffer: memoryview) -> Head:
    """Read the head of a segment file and check it. O(arrays + bytes of the table).

    Raises
    ------
    FormatError
        If the file is of a newer format.
    DamageError
        If it is no segment, cut short, damaged, or no head that a writer makes.
    """
    if len(buffer) < HEADER.size:
        raise damaged(path, f"too short for a segment file: {len(buffer)} bytes", 0, len(buffer))
    magic, version, _, table_at, json_bytes, table_bytes, n_bytes, checksum, sealed = (
        HEADER.unpack_from(buffer)
    )
    if magic != MAGIC:
        raise damaged(path, f"begins with {magic!r} instead of {MAGIC!r}", 0, len(MAGIC))
    if zlib.crc32(buffer[:SEALED]) != sealed:
        raise damaged(path, "checksum of the header differs", 0, HEADER.size)
    if version != FORMAT_VERSION:
        raise FormatError(
            f"{path} must have segment format version {FORMAT_VERSION}, got {version}: "
            "a newer hiersearch wrote it"
        )
    if len(buffer) != n_bytes:
        what = f"must have {n_bytes} bytes, has {len(buffer)}"
        raise damaged(path, what, min(n_bytes, len(buffer)), max(n_bytes, len(buffer)))
    if table_at + table_bytes != n_bytes or json_bytes > table_bytes:
        what = f"its table must end the file and hold {json_bytes} bytes of JSON"
        raise damaged(path, what, 0, HEADER.size)
    table = buffer[table_at:]
    if zlib.crc32(table) != checksum:
        raise damaged(path, "checksum of the table differs", table_at, n_bytes)
    try:
        content = stored_json(bytes(table[:json_bytes]))
        arrays = _array_heads(content, table_at, json_bytes, table_bytes)
    except (ValueError, KeyError) as error:
        missing = f"it has no {error} of an array"
        why = missing if isinstance(error, KeyError) else str(error)
        what = f"its table is not one that a writer makes: {why}"
        raise damaged(path, what, table_at, table_at + json_bytes) from None
    return Head(arrays, content["facts"], checksum)


def damaged(path: Path, what: str, start: int, stop: int) -> DamageError:
    """Return the error that says what is wrong with a range of a file's bytes."""
    return DamageError(Damage(str(path), what, start=start, stop=stop))


def _array_heads(
    content: Any, table_at: int, json_bytes: int, table_bytes: int
) -> tuple[ArrayHead, ...]:
    """Return the arrays that a table describes; together they make up the file.

    Raises ValueError or KeyError where they do not.
    """
    _demand(isinstance(content, dict), "a JSON object", content)
    _demand(isinstance(content.get("arrays"), list), "a list of arrays", content.get("arrays"))
    _demand(isinstance(content.get("facts"), dict), "an object of facts", content.get("facts"))
    heads: list[ArrayHead] = []
    position, checksums_at = HEADER.size, table_at + json_bytes
    for described in content["arrays"]:
        head = _array_head(described, position, checksums_at)
        heads.append(head)
        position += head.stored_bytes
        checksums_at += head.n_chunks * CRC.itemsize
    _demand(position == table_at, f"arrays that end at byte {table_at}", position)
    end = table_at + table_bytes
    _demand(checksums_at == end, f"checksums that end at byte {end}", checksums_at)
    names = [head.name for head in heads]
    _demand(len(set(names)) == len(names), "arrays of different names", names)
    return tuple(heads)


def _array_head(described: Any, position: int, checksums_at: int) -> ArrayHead:
    """Return what a table says of one array, which begins at a position of the file."""
    _demand(isinstance(described, dict), "an object for each array", described)
    name, text, shape = described["name"], described["dtype"], described["shape"]
    _demand(isinstance(name, str), "text as name of an array", name)
    # Types are written as Python writes them, in quotes.
    known = isinstance(text, str) and text[1:-1] in DTYPES and text == repr(text[1:-1])
    _demand(known, f"a type of booleans or numbers for array {name!r}", text)
    _demand(
        isinstance(shape, list)
        and 1 <= len(shape) <= MOST_AXES
        and all(type(side) is int and side >= 0 for side in shape)
        and math.prod(max(1, side) for side in shape) <= MOST_ELEMENTS,
        f"sides of array {name!r} that fit into a file",
        shape,
    )
    dtype = DTYPES[text[1:-1]]
    n_bytes = math.prod(shape) * dtype.itemsize
    stored_bytes = n_bytes + -n_bytes % ALIGNMENT
    for key, expected in (("offset", position), ("stored_bytes", stored_bytes)):
        found = described[key]
        _demand(
            type(found) is int and found == expected, f"{key} {expected} of array {name!r}", found
        )
    chunk_bytes = described["chunk_bytes"]
    _demand(
        type(chunk_bytes) is int and chunk_bytes >= ALIGNMENT,
        f"chunk_bytes of at least {ALIGNMENT} for array {name!r}",
        chunk_bytes,
    )
    return ArrayHead(name, dtype, tuple(shape), position, stored_bytes, chunk_bytes, checksums_at)


def _demand(holds: bool, expected: str, found: Any) -> None:
    if not holds:
        shown = repr(found)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise ValueError(f"it must have {expected}, got {shown}")
