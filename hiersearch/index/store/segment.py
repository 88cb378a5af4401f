"""Reading segments: whatever is returned was compared with its checksum."""

from __future__ import annotations

import mmap
import os
import stat
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError, what_it_is
from hiersearch.index.store.segment_head import ArrayHead, Head, damaged, read_head
from hiersearch.index.store.segment_writer import CRC

SMALL = 2**18
"""Files up to this size are read whole: a mapping costs an open file, and these may be many."""

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes there are."""


@dataclass(slots=True, eq=False)
class _Stored:
    """One array of an open segment, with what is known of its chunks."""

    name: str
    values: NDArray[Any]
    """The array, read-only, over the file."""
    stored: memoryview
    """Its bytes in the file, padding included."""
    offset: int
    """Where they begin in the file."""
    chunk_bytes: int
    checksums: NDArray[np.uint32]
    """(chunks,) as written."""
    row_bytes: int
    checked: NDArray[np.bool_]
    """(chunks,) True where a chunk was compared with its checksum and found sound."""
    complete: bool
    """Whether all of ``checked`` is True."""

    def is_sound(self, chunk: int) -> bool:
        start = chunk * self.chunk_bytes
        found = zlib.crc32(self.stored[start : start + self.chunk_bytes])
        return found == int(self.checksums[chunk])

    def damage(self, file: Path, chunk: int) -> Damage:
        start = self.offset + chunk * self.chunk_bytes
        stop = min(start + self.chunk_bytes, self.offset + len(self.stored))
        return Damage(str(file), "checksum differs", self.name, chunk, start, stop)

    def check(self, file: Path, chunks: Iterable[int]) -> None:
        for chunk in chunks:
            if not self.checked[chunk]:
                if not self.is_sound(chunk):
                    raise DamageError(self.damage(file, chunk))
                self.checked[chunk] = True


class Segment:
    """An open segment file. Whatever it returns was compared with its checksum.

    Arrays are read-only views of the mapped file: they stay valid when the segment is closed and
    when the file is unlinked. Several threads may read one segment.
    """

    __slots__ = ("_arrays", "_buffer", "checksum", "facts", "n_bytes", "path")

    def __init__(
        self, path: Path, buffer: memoryview, head: Head, arrays: dict[str, _Stored]
    ) -> None:
        self.path = path
        self._buffer = buffer
        self._arrays = arrays
        self.checksum = head.checksum
        """What identifies the content: the CRC-32 of the table of all checksums."""
        self.facts = head.facts
        """JSON that the writer put into the header."""
        self.n_bytes = len(buffer)
        """Size of the file."""

    @classmethod
    def open(cls, path: Path, *, checksum: int | None = None) -> Segment:
        """Open a segment file and check its header and table. O(chunks), not O(bytes).

        Parameters
        ----------
        path : Path
            The file.
        checksum : int, optional
            What the content must be identified by, if it is known.

        Raises
        ------
        FormatError
            If the file is of a newer format.
        DamageError
            If it is not a segment, was cut short, or its header or table is damaged or not one
            that a writer makes.
        FileNotFoundError
            If there is no such file.
        """
        buffer = _file_bytes(path)
        head = read_head(path, buffer)
        if checksum is not None and head.checksum != checksum:
            raise damaged(path, "its content is not what the catalogue says", 0, len(buffer))
        return cls(path, buffer, head, {one.name: _stored(buffer, one) for one in head.arrays})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays, in the order of the file."""
        return tuple(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array, from the header alone."""
        return self._arrays[name].values.shape

    def array(self, name: str) -> NDArray[Any]:
        """Return a whole array, read-only; its chunks are checked when first asked for. O(bytes).

        Raises
        ------
        DamageError
            If a chunk is damaged.
        """
        stored = self._arrays[name]
        if not stored.complete:
            stored.check(self.path, range(len(stored.checksums)))
            stored.complete = True
        return stored.values

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start:stop`` of an array, read-only, checking only chunks they lie in.

        About a microsecond where the chunks are known to be sound.

        Raises
        ------
        IndexError
            If not 0 <= start <= stop <= rows.
        DamageError
            If a chunk that the rows lie in is damaged.
        """
        stored = self._arrays[name]
        if not 0 <= start <= stop <= len(stored.values):
            raise IndexError(
                f"rows of array {name!r} must lie within 0..{len(stored.values)}, "
                f"got {start}..{stop}"
            )
        if not stored.complete:
            first = start * stored.row_bytes // stored.chunk_bytes
            last = (stop * stored.row_bytes - 1) // stored.chunk_bytes
            if start < stop and not (first == last and stored.checked[first]):
                stored.check(self.path, range(first, last + 1))
        return stored.values[start:stop]

    def check_rows(self, name: str, rows: NDArray[np.integer[Any]]) -> None:
        """Check the chunks that rows lie in, so that they may be taken from a view of them all.

        O(rows · chunks a row lies in), each chunk being read at its first time only. Pair it with
        :meth:`unchecked`.

        Raises
        ------
        IndexError
            If a row is not within 0..rows - 1.
        DamageError
            If a chunk that one of the rows lies in is damaged.
        """
        stored = self._arrays[name]
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(stored.values):
            raise IndexError(
                f"rows of array {name!r} must be within 0..{len(stored.values) - 1}, "
                f"got {int(rows.min())} to {int(rows.max())}"
            )
        if stored.complete or not rows.size or not stored.row_bytes:
            return
        first = rows.astype(np.int64) * stored.row_bytes
        last = (first + (stored.row_bytes - 1)) // stored.chunk_bytes
        first //= stored.chunk_bytes
        for step in range(int((last - first).max()) + 1):
            chunks = np.minimum(first + step, last)
            pending = chunks[~stored.checked[chunks]]
            stored.check(self.path, np.unique(pending).tolist())

    def unchecked(self, name: str) -> NDArray[Any]:
        """Return a view of an array of which only rows given to :meth:`check_rows` may be used."""
        return self._arrays[name].values

    def sound_rows(
        self,
        name: str,
        starts: NDArray[np.integer[Any]] | None = None,
        stops: NDArray[np.integer[Any]] | None = None,
    ) -> NDArray[np.bool_]:
        """Return which rows, or ranges of rows, lie in sound chunks alone. O(bytes).

        Parameters
        ----------
        name : str
            The array.
        starts, stops : integer arrays, shape (ranges,), optional
            First row, and first row after, of each range. By default every row is its own range.

        Returns
        -------
        array, shape (ranges,), bool
            A range that is not within the array is not sound.
        """
        stored = self._arrays[name]
        count = len(stored.checksums)
        broken = np.array([not stored.is_sound(chunk) for chunk in range(count)], np.int64)
        before = np.concatenate([[0], np.cumsum(broken)])
        rows = len(stored.values)
        first = np.arange(rows) if starts is None else np.asarray(starts, np.int64)
        stop = first + 1 if stops is None else np.asarray(stops, np.int64)
        within = (first >= 0) & (first <= stop) & (stop <= rows)
        lowest = np.clip(first, 0, rows) * stored.row_bytes // stored.chunk_bytes
        highest = -(-np.clip(stop, 0, rows) * stored.row_bytes // stored.chunk_bytes)
        none_broken = before[np.maximum(lowest, highest)] == before[np.minimum(lowest, count)]
        sound: NDArray[np.bool_] = within & (none_broken | (first == stop))
        return sound

    def verify(self, progress: Progress | None = None) -> list[Damage]:
        """Read all of the segment and return its damaged chunks. O(bytes)."""
        found: list[Damage] = []
        done = self.n_bytes - sum(len(stored.stored) for stored in self._arrays.values())
        for stored in self._arrays.values():
            for chunk in range(len(stored.checksums)):
                if not stored.is_sound(chunk):
                    found.append(stored.damage(self.path, chunk))
                done += min(stored.chunk_bytes, len(stored.stored) - chunk * stored.chunk_bytes)
                if progress is not None:
                    progress(done, self.n_bytes)
        return found

    def piece(self, ends: str, name: str, number: int) -> bytes:
        """Return the bytes of an array between two consecutive values of an array of ends.

        Raises
        ------
        DamageError
            If a chunk that was read is damaged, or the ends are none of the array.
        """
        if not 0 <= number < len(self._arrays[ends].values) - 1:
            raise self.wrong(ends, f"has no piece {number}")
        start, stop = self.rows(ends, number, number + 2).tolist()
        if not 0 <= start <= stop <= len(self._arrays[name].values):
            raise self.wrong(ends, f"puts piece {number} at {start} to {stop} of array {name!r}")
        return self.rows(name, start, stop).tobytes()

    def wrong(self, name: str, what: str) -> DamageError:
        """Return the error that says of an array what is wrong with it."""
        return DamageError(Damage(str(self.path), what, name))

    def close(self) -> None:
        """Let go of the file; it is unmapped when the last view of it is gone."""
        self._arrays = {}
        self._buffer = memoryview(b"")


def _file_bytes(path: Path) -> memoryview:
    # Opening a pipe would wait for somebody to write to it.
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamageError(Damage(str(path), what_it_is(path)))
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= SMALL:
            return memoryview(file.read())
        return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))


def _stored(buffer: memoryview, head: ArrayHead) -> _Stored:
    """Map an array; its head says that it lies within the file."""
    values: NDArray[Any] = np.ndarray(head.shape, head.dtype, buffer, head.offset)
    return _Stored(
        name=head.name,
        values=values,
        stored=buffer[head.offset : head.offset + head.stored_bytes],
        offset=head.offset,
        chunk_bytes=head.chunk_bytes,
        checksums=np.frombuffer(buffer, CRC, head.n_chunks, head.checksums_at),
        row_bytes=values.nbytes // max(1, head.shape[0]),
        checked=np.zeros(head.n_chunks, np.bool_),
        complete=head.n_chunks == 0,
    )
