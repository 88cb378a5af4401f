"""The store: named arrays, ids and metadata of entries, kept durably in a folder.

``catalogue.sqlite`` alone says what exists; ``segments/`` holds immutable files of arrays;
``writer.lock`` keeps to one writer. A commit writes and syncs a segment, then makes one SQLite
transaction. The store knows nothing of partitions.

A segment is created, never replaced, and the catalogue says within the transaction that nobody else
has committed meanwhile: where the lock fails, the second writer is refused and nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.errors import Damage, DamageError, IndexLockedError, OvertakenError
from hiersearch.index.store import catalogue, conditions
from hiersearch.index.store.batch import Arrays, Batch, checked_batch, write_batch
from hiersearch.index.store.catalogue import CatalogueState, Change, SegmentRow, segment_name
from hiersearch.index.store.files import fail, sync_folder
from hiersearch.index.store.folder import (
    SEGMENTS,
    check_is_index,
    delete_left_overs,
    make_index,
    withdraw,
)
from hiersearch.index.store.ids import Id, checked_id
from hiersearch.index.store.lock import WriterLock
from hiersearch.index.store.metadata import json_text
from hiersearch.index.store.recovery import Recovery, inspect, recover
from hiersearch.index.store.segment import Progress
from hiersearch.index.store.snapshot import (
    StoredPlace,
    StoredSegment,
    find_many,
    open_snapshot,
    opened,
)


class Store:
    """A folder of entries: an id, metadata, and rows of arrays that the caller understands.

    Make one with :meth:`create` or :meth:`open`. What was opened for reading stays as it was
    whatever a writer does meanwhile. Any thread may write: the others wait. A process that was
    forked from the one that opened a store may read it, and must open it again to write.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with Store.create(Path(folder.name, "store"), {"grid": [2, 3]}) as store:
    ...     segment = store.append(["a", None], [{"split": "train"}, None], {"x": np.arange(2)})
    ...     segment.all_ids(), segment.data.array("x").tolist(), store.find("a")
    (['a', 0], [0, 1], StoredPlace(segment=1, position=0))
    >>> store = Store.open(Path(folder.name, "store"))
    >>> len(store), store.settings, store.where({"split": "train"})[1].tolist()
    (2, {'grid': [2, 3]}, [True, False])
    >>> store.close()
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: Path,
        state: CatalogueState,
        segments: tuple[StoredSegment, ...],
        lock: WriterLock | None,
    ) -> None:
        self.path = path
        """The folder."""
        self._state = state
        self._segments = {segment.number: segment for segment in segments}
        self._lock = lock
        self._closed = False
        self._turn = threading.RLock()
        # True while a commit runs.
        self._committing = False
        # True while a commit runs, and after one whose end is not known.
        self._unsettled = False
        # What another writer's commit was noticed by: from then on this one knows too little.
        self._overtaken: OvertakenError | None = None

    @classmethod
    def create(cls, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> Store:
        """Make an empty store in a new or empty folder and open it for writing.

        Parameters
        ----------
        path : path
            The folder.
        settings : dict
            JSON that is kept with the store and never changes.

        Raises
        ------
        ValueError
            If the folder holds something already.
        IndexLockedError
            If another process is making a store there.
        OSError
            If it cannot be written. What was there before is left as it was.
        """
        folder = Path(path)
        json_text(settings, "settings")
        try:
            state, lock = make_index(folder, settings)
        except OSError as error:
            fail(error, "creating it", folder, "left the folder as it was")
        return cls(folder, state, (), lock)

    @classmethod
    def open(cls, path: str | os.PathLike[str], writable: bool = False) -> Store:
        """Open a store. O(segments): arrays are read when they are used.

        Raises
        ------
        FileNotFoundError, FormatError
            If there is no folder, or it is no store, or of a newer format.
        DamageError
            If the catalogue or the head of a segment is damaged: see :meth:`recover`.
        IndexLockedError
            If it is opened for writing while it is open for writing, here or in another process.
        OSError
            If it is opened for writing and the folder is read-only.
        """
        folder = Path(path)
        if not writable:
            return cls(folder, *open_snapshot(folder), None)
        check_is_index(folder)
        lock = WriterLock(folder)
        try:
            store = cls(folder, *open_snapshot(folder), lock)
            catalogue.renew_check(folder, store._state)
            # Copying tools leave empty folders out.
            (folder / SEGMENTS).mkdir(exist_ok=True)
            delete_left_overs(folder)
        except BaseException:
            lock.release()
            raise
        return store

    def close(self) -> None:
        """Let go of the files and the lock. Views that were handed out stay valid.

        Waits for a commit of another thread to end.

        Raises
        ------
        ValueError
            If it is called in the middle of a commit by what is being committed.
        """
        # A forked child must not wait for a thread that it does not have.
        with self._turn if self._is_ours else contextlib.nullcontext():
            if self._committing and self._is_ours:
                raise ValueError(
                    f"the store can't be closed in the middle of a commit: {self.path}"
                )
            self._closed = True
            self._segments = {}
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- reading ----------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """What the store was created with."""
        return dict(self._state.settings)

    @property
    def generation(self) -> int:
        """Number of commits that made what this store shows."""
        return self._state.generation

    @property
    def next_id(self) -> int:
        """What the next entry without an id will be called."""
        return self._state.next_id

    @property
    def closed(self) -> bool:
        """Whether its files were let go of."""
        return self._closed

    @property
    def writable(self) -> bool:
        """Whether the store was opened for writing, by this process."""
        return self._lock is not None and self._is_ours and not self._closed

    @property
    def _is_ours(self) -> bool:
        return self._lock is None or self._lock.pid == os.getpid()

    @property
    def segments(self) -> tuple[StoredSegment, ...]:
        """The segments, oldest first; the tuple stays as it is when the store changes."""
        self._check_open()
        return tuple(self._segments.values())

    def segment(self, number: int) -> StoredSegment:
        """Return the segment of a number.

        Raises
        ------
        KeyError
            If there is none.
        """
        self._check_open()
        return self._segments[number]

    def __len__(self) -> int:
        """Return the number of entries that are not removed. O(entries)."""
        return sum(segment.n_live for segment in self.segments)

    def find(self, id: Id) -> StoredPlace | None:
        """Return where the entry of an id is stored, or None."""
        return self.find_many([id])[0]

    def find_many(self, ids_: Sequence[Id]) -> list[StoredPlace | None]:
        """Return for each id where its entry is, or None. O((ids + segments) · log entries)."""
        return find_many(self.segments, [checked_id(value) for value in ids_])

    def id_at(self, number: int, position: int) -> Id:
        """Return the id of the entry at a place."""
        return self.segment(number).id_at(position)

    def metadata_at(self, number: int, position: int) -> dict[str, Any]:
        """Return the metadata of the entry at a place."""
        return self.segment(number).metadata_at(position)

    def ids(self) -> Iterator[Id]:
        """Yield the ids of all entries in the order of segments and positions."""
        for segment in self.segments:
            names = segment.all_ids()
            if segment.removed is None:
                yield from names
            else:
                yield from (names[i] for i in np.flatnonzero(~segment.removed).tolist())

    def where(self, condition: conditions.Condition) -> dict[int, NDArray[np.bool_]]:
        """Return for each segment number which of its live entries a condition holds for.

        See :mod:`hiersearch.index.store.conditions`. O(distinct metadata + entries).

        Raises
        ------
        TypeError, ValueError
            If the condition is malformed, or names a key that no entry has.
        """
        return conditions.selected(condition, self.segments)

    def verify(self, progress: Progress | None = None) -> list[Damage]:
        """Read everything on disk and return what is damaged. O(bytes).

        ``progress`` is called with the bytes read so far and the bytes there are. See
        :meth:`inspect` for a folder that can't be opened.
        """
        return inspect(self.path, progress)

    @staticmethod
    def inspect(path: str | os.PathLike[str], progress: Progress | None = None) -> list[Damage]:
        """Do what :meth:`verify` does with a folder that may not even open. O(bytes).

        Raises
        ------
        FileNotFoundError, FormatError
            If the folder is no store.
        """
        return inspect(Path(path), progress)

    @staticmethod
    def recover(path: str | os.PathLike[str]) -> Recovery:
        """Make a damaged store open again, from the segments whose head is sound.

        See :func:`hiersearch.index.store.recovery.recover` for what can't be known afterwards.
        """
        return recover(Path(path))

    # --- writing ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Let no other thread write meanwhile: for changes that depend on what there is.

        Raises
        ------
        ValueError
            If the store is closed, open for reading only, or in the middle of a commit.
        IndexLockedError
            If this is a forked child of the process that opened it, or somebody else wrote it.
        """
        # First: a forked child must not wait for a thread that it does not have.
        self._check_writable()
        with self._turn:
            self._check_writable()
            if self._committing:
                raise ValueError(
                    f"the store can't be written in the middle of a commit: {self.path}"
                )
            if self._unsettled:
                self._settle()
            try:
                yield
            finally:
                # Whatever interrupted a commit, at whatever line.
                self._committing = False

    def append(
        self,
        ids: Sequence[Id | None],
        metadata: Sequence[Mapping[str, Any] | None],
        arrays: Arrays,
        *,
        chunk_bytes: Mapping[str, int] | None = None,
        removing: Iterable[StoredPlace] = (),
    ) -> StoredSegment:
        """Add entries as one new segment, in one commit. O(bytes + entries · log entries).

        Parameters
        ----------
        ids : sequence of int, str or None
            At least one; None stands for the next automatic integer.
        metadata : sequence of dict or None, as long as ``ids``
            JSON objects.
        arrays : mapping from name to array or iterable of arrays
            What :func:`hiersearch.index.store.segment_writer.write_segment` takes.
        chunk_bytes : mapping from name to int, optional
            Bytes under one checksum.
        removing : iterable of StoredPlace, optional
            Entries that go in the same commit: an update. Their ids may come again.

        Returns
        -------
        StoredSegment
            The new segment.

        Raises
        ------
        TypeError, ValueError
            If an id, metadata or an array is not what it should be, or an id is there already.
            Nothing is written.
        IndexLockedError
            If this process may not write it (any more), see :meth:`writing`. Nothing was changed.
        OSError
            If there is no space left or the disk fails. The store is as it was.
        """
        with self.writing():
            gone = self._checked_places(removing)
            places = {
                StoredPlace(number, position)
                for number, positions in gone.items()
                for position in positions.tolist()
            }
            batch = checked_batch(self._state, self.segments, ids, metadata, places)
            added = self._change("adding", batch, arrays, chunk_bytes, removed=gone)
        assert added is not None
        return added

    def remove(self, places: Iterable[StoredPlace]) -> None:
        """Remove entries, in one commit. Their bytes go when their segment is replaced.

        Raises
        ------
        ValueError
            If a place holds no entry, or is named twice.
        OSError
            If there is no space left or the disk fails. The store is as it was.
        """
        with self.writing():
            gone = self._checked_places(places)
            if gone:
                self._change("removing", removed=gone)

    def replace(
        self,
        old: Sequence[StoredSegment],
        ids: Sequence[Id | None],
        metadata: Sequence[Mapping[str, Any] | None],
        arrays: Arrays,
        *,
        chunk_bytes: Mapping[str, int] | None = None,
    ) -> StoredSegment | None:
        """Put one new segment in the place of old ones, in one commit, and delete their files.

        Parameters and errors are those of :meth:`append`; without ``ids`` nothing comes in their
        place and None is returned. Readers that have the old segments open keep them.
        """
        with self.writing():
            dropped = tuple(self._number_of(segment) for segment in old)
            kept = [segment for segment in self.segments if segment.number not in dropped]
            batch = checked_batch(self._state, kept, ids, metadata) if len(ids) else None
            return self._change("compacting", batch, arrays, chunk_bytes, dropped=dropped)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the store is closed: {self.path}")

    def _check_writable(self) -> None:
        self._check_open()
        if self._lock is None:
            raise ValueError(f"the store is open for reading only: {self.path}")
        if self._overtaken is not None:
            raise OvertakenError(str(self._overtaken)) from self._overtaken
        self._lock.check()

    def _number_of(self, segment: StoredSegment) -> int:
        if segment.number not in self._segments:
            raise ValueError(f"old must hold segments of the store, got {segment.number}")
        return segment.number

    def _checked_places(self, places: Iterable[StoredPlace]) -> dict[int, NDArray[np.int64]]:
        gone: dict[int, set[int]] = {}
        for place in places:
            segment = self._segments.get(place.segment)
            is_entry = segment is not None and 0 <= place.position < segment.n_entries
            if segment is None or not is_entry or not segment.is_live(place.position):
                raise ValueError(f"places must hold entries, got {place}")
            positions = gone.setdefault(place.segment, set())
            if place.position in positions:
                raise ValueError(f"places must differ, got {place} twice")
            positions.add(place.position)
        return {number: np.array(sorted(found), np.int64) for number, found in gone.items()}

    def _change(
        self,
        action: str,
        batch: Batch | None = None,
        arrays: Arrays | None = None,
        chunk_bytes: Mapping[str, int] | None = None,
        *,
        dropped: tuple[int, ...] = (),
        removed: Mapping[int, NDArray[np.int64]] | None = None,
    ) -> StoredSegment | None:
        """Write the segment, commit, and show the new state."""
        generation = self._state.generation
        try:
            with self._settling():
                return self._committed(batch, arrays or {}, chunk_bytes, dropped, removed or {})
        except IndexLockedError:
            raise
        except OSError as error:
            if self._unsettled:
                outcome = "may have happened or not: open the index again to see"
            elif self._state.generation == generation:
                outcome = "left the index as it was"
            elif batch is None:
                return None
            else:
                # The device failed when all was done.
                return self._segments[self._state.segments[-1].number]
            fail(error, action, self.path, outcome)

    def _committed(
        self,
        batch: Batch | None,
        arrays: Arrays,
        chunk_bytes: Mapping[str, int] | None,
        dropped: tuple[int, ...],
        removed: Mapping[int, NDArray[np.int64]],
    ) -> StoredSegment | None:
        row = added = own = None
        if batch is not None:
            row = write_batch(self.path, self._state, batch, arrays, chunk_bytes, dropped)
            own = self._written(row)

        def last_look() -> None:
            nonlocal added
            assert self._lock is not None
            self._lock.check()
            if row is not None:
                added = self._opened(row)

        next_id = self._state.next_id if batch is None else batch.next_id
        change = Change(next_id, row, dropped, removed)
        try:
            state = catalogue.commit(self.path, self._state, change, last_look)
        except OvertakenError:
            if row is not None and own is not None:
                with contextlib.suppress(OSError, ValueError):
                    withdraw(self.path, row.number, own)
            raise
        # The state last: while it is the old one, settling after an interruption loads both.
        self._segments = self._segments_after(state, change, added)
        self._state = state
        for number in dropped:
            # A file that stays is deleted when a writer opens the store next.
            with contextlib.suppress(OSError):
                os.unlink(self.path / segment_name(number))
        return added

    def _written(self, row: SegmentRow) -> os.stat_result:
        """Return what tells the file of a segment that was just written from any other."""
        try:
            return (self.path / segment_name(row.number)).stat()
        except FileNotFoundError as error:
            raise self._meddled() from error

    def _opened(self, row: SegmentRow) -> StoredSegment:
        """Open a segment that is about to be committed; nobody may have touched it."""
        try:
            return StoredSegment.open(self.path, row, None)
        except (DamageError, FileNotFoundError) as error:
            raise self._meddled() from error

    def _meddled(self) -> OvertakenError:
        return OvertakenError(f"{self.path} is being changed by another writer: open it again")

    def _segments_after(
        self, state: CatalogueState, change: Change, added: StoredSegment | None
    ) -> dict[int, StoredSegment]:
        """Return the segments after a change; those that it left alone are the same objects."""
        segments = {n: old for n, old in self._segments.items() if n not in change.dropped}
        for number in change.removed:
            segments[number] = replace(segments[number], removed=state.removed[number])
        if added is not None:
            segments[added.number] = added
        return segments

    @contextlib.contextmanager
    def _settling(self) -> Iterator[None]:
        """Whatever interrupts a commit, show afterwards what the catalogue says came of it."""
        self._unsettled = self._committing = True
        try:
            yield
        except OvertakenError as error:
            # What lies there may be the other writer's.
            self._overtaken = error
            raise
        except BaseException:
            # Should this fail as well, the next change tries again.
            with contextlib.suppress(OSError, ValueError):
                self._settle()
            raise
        else:
            self._unsettled = False
        finally:
            self._committing = False

    def _settle(self) -> None:
        state = catalogue.load(self.path)
        if state.generation != self._state.generation:
            segments = opened(self.path, state.segments, state.removed)
            self._segments = {segment.number: segment for segment in segments}
            self._state = state
            # All of the commit is written, but the end of its journal may not be durable.
            sync_folder(self.path)
        delete_left_overs(self.path)
        self._unsettled = False
