"""Writing a segment: one immutable file of named arrays, in chunks that each carry a checksum.

Layout, all numbers little-endian::

    0        header, 64 bytes: magic, format version, where the table lies, its CRC-32, its own
    64       the arrays, in C order, each padded with zeros to a multiple of 64 bytes
    table    JSON (names, types, shapes, places, chunk sizes, facts), then a CRC-32 per chunk

The chunks of an array cover its padding too, so every byte of the file is under a checksum.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.index.store.files import new_file, write_all

FORMAT_VERSION = 1
MAGIC = b"HIERSEG\x1a"
ALIGNMENT = 64
CHUNK_BYTES = 2**16
"""Chunk size of arrays for which the writer names none."""
_NUMBERS = ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
DTYPES = {dtype.str: dtype for order in "<>" for dtype in (np.dtype(order + n) for n in _NUMBERS)}
"""The types that arrays may have, booleans and numbers, by their names."""

# magic, version, reserved, table at, bytes of JSON, bytes of table, bytes of file, 8 reserved,
# CRC-32 of the table, CRC-32 of the header up to here
HEADER = struct.Struct("<8sIIQQQQ8xII")
SEALED = HEADER.size - 4
CRC = np.dtype("<u4")


def write_segment(
    path: Path,
    arrays: Mapping[str, NDArray[Any] | Iterable[NDArray[Any]]],
    *,
    chunk_bytes: Mapping[str, int] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> tuple[int, int]:
    """Write a new segment file durably. O(bytes). Until it is whole it has no header.

    Parameters
    ----------
    path : Path
        The file to write.
    arrays : mapping from name to array or to an iterable of arrays
        At least 1-D, of booleans or real numbers. Pieces of an iterable are joined along axis 0,
        one in memory at a time.
    chunk_bytes : mapping from name to int, optional
        Bytes under one checksum, at least 64: small for arrays that are read piecewise, large for
        those scanned whole. Default :data:`CHUNK_BYTES`.
    facts : mapping, optional
        JSON that the header of the file keeps.

    Returns
    -------
    checksum, n_bytes : int, int
        What identifies the content, and the size of the file.

    Raises
    ------
    TypeError, ValueError
        If an array has no dimension, is of another type, or its pieces do not fit.
    FileExistsError
        If the file is there already; it stays as it is.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from hiersearch.index.store.segment import Segment
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "example.seg")
    >>> checksum, n_bytes = write_segment(path, {"tiles": np.arange(6).reshape(3, 2)})
    >>> Segment.open(path).rows("tiles", 1, 3).tolist()
    [[2, 3], [4, 5]]
    >>> folder.cleanup()
    """
    sizes = dict(chunk_bytes or {})
    for name, size in sizes.items():
        if name not in arrays:
            raise ValueError(f"chunk_bytes must name arrays, got {name!r}, which is none of them")
        if size < ALIGNMENT:
            raise ValueError(f"chunk_bytes of {name!r} must be at least {ALIGNMENT}, got {size}")
    with new_file(path) as descriptor:
        write_all(descriptor, bytes(HEADER.size))
        position, described, tables = HEADER.size, [], []
        for name, value in arrays.items():
            writer = _ArrayWriter(descriptor, name, sizes.get(name, CHUNK_BYTES))
            for piece in [value] if isinstance(value, np.ndarray) else value:
                writer.add(piece)
            described.append(writer.finish(position))
            tables.append(np.array(writer.checksums, CRC).tobytes())
            position += writer.n_bytes
        text = json.dumps({"arrays": described, "facts": dict(facts or {})}).encode()
        table = text + b"".join(tables)
        write_all(descriptor, table)
        checksum = zlib.crc32(table)
        n_bytes = position + len(table)
        header = HEADER.pack(
            MAGIC, FORMAT_VERSION, 0, position, len(text), len(table), n_bytes, checksum, 0
        )[:SEALED]
        os.lseek(descriptor, 0, os.SEEK_SET)
        write_all(descriptor, header + struct.pack("<I", zlib.crc32(header)))
    return checksum, n_bytes


class _ArrayWriter:
    """Writes the pieces of one array and takes the checksums of its chunks on the way."""

    def __init__(self, descriptor: int, name: str, chunk_bytes: int) -> None:
        self.checksums: list[int] = []
        self.n_bytes = 0
        self._descriptor, self._name, self._chunk_bytes = descriptor, name, chunk_bytes
        self._crc, self._filled, self._rows = 0, 0, 0
        self._dtype: np.dtype[Any] | None = None
        self._row_shape: tuple[int, ...] = ()

    def add(self, piece: NDArray[Any]) -> None:
        given = np.asarray(piece)
        array = np.ascontiguousarray(given)
        if given.ndim == 0 or array.dtype.str not in DTYPES:
            raise TypeError(
                f"array {self._name!r} must have at least one dimension and hold booleans or real "
                f"numbers, got shape {given.shape} of {given.dtype}"
            )
        if self._dtype is None:
            self._dtype, self._row_shape = array.dtype, array.shape[1:]
        elif (array.dtype, array.shape[1:]) != (self._dtype, self._row_shape):
            raise ValueError(
                f"pieces of array {self._name!r} must all be rows of shape {self._row_shape} and "
                f"{self._dtype}, got {array.shape[1:]} and {array.dtype}"
            )
        self._rows += len(array)
        if array.nbytes:
            self._write(array.reshape(-1).view(np.uint8).data)

    def finish(self, offset: int) -> dict[str, Any]:
        """Pad the array, close its last chunk and return its description."""
        if self._dtype is None:
            raise ValueError(f"array {self._name!r} must have at least one piece, got none")
        self._write(memoryview(bytes(-self.n_bytes % ALIGNMENT)))
        if self._filled:
            self.checksums.append(self._crc)
        return {
            "name": self._name,
            "dtype": repr(self._dtype.str),
            "shape": [self._rows, *self._row_shape],
            "offset": offset,
            "stored_bytes": self.n_bytes,
            "chunk_bytes": self._chunk_bytes,
        }

    def _write(self, data: memoryview) -> None:
        position = 0
        while position < len(data):
            taken = data[position : position + self._chunk_bytes - self._filled]
            write_all(self._descriptor, taken)
            self._crc = zlib.crc32(taken, self._crc)
            self._filled += len(taken)
            position += len(taken)
            if self._filled == self._chunk_bytes:
                self.checksums.append(self._crc)
                self._crc, self._filled = 0, 0
        self.n_bytes += len(data)
