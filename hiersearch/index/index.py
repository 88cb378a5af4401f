"""The index: a collection of partitions that answers nearest-partition queries, exactly."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.choices import USUAL_K
from hiersearch.device.choice import Device, DeviceWork, resolved
from hiersearch.errors import Damage, MergingWarning
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.bounds.packing import Frame
from hiersearch.index.formats.entries import Entry
from hiersearch.index.resample import resampled_tree
from hiersearch.index.search.answering import Asked, Live
from hiersearch.index.search.device_search import DeviceSearch
from hiersearch.index.search.device_work import search_work
from hiersearch.index.search.duplicates import duplicate_groups, duplicate_pairs
from hiersearch.index.search.pair_distances import Entries
from hiersearch.index.search.proposals import FaissProposer, faiss_module
from hiersearch.index.search.resident import HeldViews
from hiersearch.index.search.results import DuplicateGroup, Pair, SearchResult, id_key
from hiersearch.index.search.search import Search
from hiersearch.index.segments import repairing, writing
from hiersearch.index.segments.columns import kind_of
from hiersearch.index.segments.repairing import Repair
from hiersearch.index.segments.settings import frame_of, settings_of
from hiersearch.index.segments.view import View
from hiersearch.index.store.conditions import Condition, selected
from hiersearch.index.store.ids import checked_id
from hiersearch.index.store.snapshot import StoredPlace, StoredSegment, find_many
from hiersearch.index.store.store import Store
from hiersearch.partitions.inputs import PartitionLike, as_hard, with_reading
from hiersearch.partitions.output import Offsets
from hiersearch.partitions.partition import Partition, as_measure

Id = int | str
Query = PartitionLike | ArrayLike
"""What is searched for; an array of channels comes with its reading."""
Proposals = Literal["tiles", "faiss"]
MEMORY = 2**28
"""Bytes that entries waiting to be written may take."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What an index held at one moment, whatever is written while somebody looks at it."""

    views: list[View]
    """Its segments."""
    live: Live
    """For a view's number, 1 for the rows that may be answers; missing: all may."""
    n_entries: int
    """Entries that are not removed."""


class PartitionIndex:
    """Partitions of one grid in a folder, searched exactly under the partition metric.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager. One process at a
    time may write, any number may read; a reader keeps seeing what it opened. Several threads may
    search one index at once, and write: each search sees the index as it was at one moment, and
    those that write wait for each other. A forked child may search, and opens the index again to
    write.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with PartitionIndex.create(Path(folder.name, "index"), (4, 6)) as index:
    ...     _ = index.add(np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0), "halves")
    ...     _ = index.add(np.repeat([[0, 0, 1, 1, 2, 2]], 4, axis=0), "thirds", {"k": 3})
    ...     found = index.search(np.repeat([[5, 5, 5, 5, 2, 2]], 4, axis=0), k=2)
    ...     [(one.id, one.rho) for one in found], found.exact
    ([('thirds', 128), ('halves', 160)], True)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        store: Store,
        proposals: Proposals = "tiles",
        device_bytes: int | None = None,
        frame: Frame | None = None,
    ) -> None:
        self._store = store
        self._proposals = proposals
        self._device_bytes = device_bytes
        self._held: dict[str, HeldViews] = {}
        self._proposer: FaissProposer | None = None
        self._frame = _frame(store) if frame is None else frame
        self._views: dict[int, View] = {}
        self._merging: str | None = None
        self._unmergeable: set[int] = set()

    # --- opening ------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        grid: Sequence[int],
        *,
        measure: ArrayLike | None = None,
    ) -> PartitionIndex:
        """Make an empty index in a new or empty folder, and open it for writing.

        Parameters
        ----------
        path : path
            The folder.
        grid : sequence of int
            Shape of all its partitions, (H, W) or (D, H, W).
        measure : array, shape ``grid``, optional
            Weight of each pixel in all distances; 1 where omitted. Integer types keep distances
            exact integers.

        Raises
        ------
        TypeError, ValueError
            If grid or measure do not fit, or the folder holds something already.
        IndexLockedError
            If another process is making an index there.
        MemoryError
            If there is not enough to work on such a grid.
        OSError
            If it cannot be written.
        """
        shape = _validate.checked_grid(tuple(grid), "grid")
        weights = None if measure is None else as_measure(measure, shape)
        settings = settings_of(shape, weights)
        # Made first: what there is no memory for is not created either.
        frame = Frame(shape, weights)
        return cls(Store.create(path, settings), frame=frame)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Literal["r", "r+"] = "r",
        *,
        proposals: Proposals = "tiles",
        device_bytes: int | None = None,
    ) -> PartitionIndex:
        """Open an index for reading, or with "r+" for reading and writing. O(segments).

        Parameters
        ----------
        path : path
            The folder.
        mode : {"r", "r+"}
            Whether it may be written.
        proposals : {"tiles", "faiss"}
            What proposes the first candidates of a search; the answers are the same. "faiss"
            needs the faiss extra, and embeds all entries at the first search. On a GPU it counts
            where the installed FAISS has a GPU index.
        device_bytes : int, optional
            How many bytes of entries stay in the memory of a device that searches, from its first
            search on; half of what is free there where omitted. The others are sent when needed.

        Raises
        ------
        TypeError, ValueError
            If ``mode``, ``proposals`` or ``device_bytes`` is not what it should be.
        FileNotFoundError, FormatError, DamageError
            If there is none, or it is of a newer format, or damaged: see :meth:`repair`.
        IndexLockedError
            If it is opened for writing while it is open for writing, here or in another process.
        OSError
            If it is opened for writing and the folder is read-only.
        """
        _validate.checked_choice(mode, ("r", "r+"), "mode")
        _validate.checked_choice(proposals, ("tiles", "faiss"), "proposals")
        if device_bytes is not None:
            device_bytes = _validate.checked_count(device_bytes, "device_bytes", 0)
        if proposals == "faiss":
            faiss_module()
        store = Store.open(path, writable=mode == "r+")
        try:
            return cls(store, proposals, device_bytes)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Let go of the files and the lock, once a commit of another thread is done."""
        self._store.close()
        self._views = {}
        self._held = {}

    def __enter__(self) -> PartitionIndex:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- what there is ------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The folder."""
        return self._store.path

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of all partitions."""
        return self._frame.grid

    @property
    def measure(self) -> NDArray[Any] | None:
        """Weight of each pixel, shape of the grid, or None for 1 everywhere."""
        weights = self._frame.measure
        return None if weights is None else weights.reshape(self.grid)

    def __repr__(self) -> str:
        """Name the folder, the number of entries and their grid."""
        size = "×".join(str(side) for side in self.grid)
        if self._store.closed:
            return f"<PartitionIndex {self.path}: closed, partitions of {size}>"
        count = "1 partition" if len(self) == 1 else f"{len(self):,} partitions"
        mode = "writable" if self._store.writable else "read-only"
        return f"<PartitionIndex {self.path}: {count} of {size}, {mode}>"

    def __len__(self) -> int:
        """Return the number of entries. O(entries that were removed)."""
        return len(self._store)

    def __contains__(self, id: object) -> bool:
        try:
            name = checked_id(id)
        except (TypeError, ValueError):
            return False  # what can be no id
        return self._store.find(name) is not None

    def ids(self) -> list[Id]:
        """Return all ids, integers before text, each in order. O(entries log entries)."""
        return sorted(self._store.ids(), key=id_key)

    def get(self, id: Id) -> NDArray[Any]:
        """Return the label map of an entry, shape of the grid, with the labels it was added with.

        Raises
        ------
        KeyError
            If there is no such entry.
        DamageError
            If its bytes are damaged.
        """
        return self.partition(id).original_labels

    def partition(self, id: Id) -> Partition:
        """Return an entry as a partition, under the measure of the index; errors as `get`."""
        segment, position = self._found(id)
        return self._view(segment).partition(position)

    def metadata(self, id: Id) -> dict[str, Any]:
        """Return the metadata of an entry; errors as `get`."""
        segment, position = self._found(id)
        return segment.metadata_at(position)

    @property
    def merging(self) -> str | None:
        """Why small segments were not merged, in a sentence, or None. O(segments).

        Searches are right all the same, and slower the more segments there are.
        """
        if self._merging is None and (waiting := writing.waiting(self._store.segments)):
            return f"{waiting} small segments wait to be merged: compact does it, or says why not"
        return self._merging

    def info(self) -> dict[str, Any]:
        """Return figures on the index, in JSON types. O(segments).

        "merging" is :attr:`merging`.
        """
        segments = self._store.segments
        entries = sum(segment.n_live for segment in segments)
        stored = sum(segment.n_entries for segment in segments)
        sizes = {"runs": 0, "bounds": 0, "other": 0}
        for segment in segments:
            for name in segment.data.names:
                sizes[kind_of(name)] += segment.data.unchecked(name).nbytes
        return {
            "path": str(self.path),
            "grid": list(self.grid),
            "measure": self._frame.measure is not None,
            "entries": entries,
            "removed_not_compacted": stored - entries,
            "segments": len(segments),
            "generation": self._store.generation,
            "bytes": {**sizes, "total": folder_bytes(self.path)},
            "bytes_an_entry": {k: round(v / max(1, stored), 1) for k, v in sizes.items()},
            "tiles": [list(split) for split in self._frame.tiling.splits],
            "merging": self.merging,
        }

    # --- changing -----------------------------------------------------------------------------

    def add(
        self,
        labels: PartitionLike,
        id: Id | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        resample: bool = False,
    ) -> Id:
        """Add one partition durably, and return its id.

        Parameters
        ----------
        labels : integer array or Partition
            On the grid of the index.
        id : int or str, optional
            What to call it; the next automatic integer where omitted.
        metadata : dict, optional
            JSON object kept with it.
        resample : bool
            Bring labels of another grid to that of the index, each pixel taking the label under
            its centre; else they are refused.

        Raises
        ------
        TypeError, ValueError
            If labels, id or metadata are not what they should be, or the id is there already.
        IndexLockedError
            If this process may not write: it was forked from the one that opened the index, or
            another one wrote it although this one has its lock. The index is as it was.
        OSError
            If it cannot be written. The index is as it was.

        Warns
        -----
        MergingWarning
            If it was added, but small segments could not be merged: see :attr:`merging`.

        Notes
        -----
        One commit with its synchronisation to disk: use :meth:`add_many` for more than a few.
        """
        entry = Entry(writing.checked_labels(labels, self.grid, "labels", resample), id, metadata)
        with self._store.writing():
            name = self._store.next_id if id is None else checked_id(id)
            writing.write(self._store, self._frame, [entry])
            self._merge_small()
        return name

    def add_many(
        self,
        entries: Iterable[Entry | PartitionLike],
        *,
        memory: int = MEMORY,
        resample: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Add partitions from an iterator, segment by segment, and return how many.

        Parameters
        ----------
        entries : iterable of Entry, label maps or Partitions
            Read as they are needed.
        memory : int
            About how many bytes may wait before they are written, at least 1 MiB. Larger segments
            are searched faster.
        resample : bool
            As in :meth:`add`.
        progress : function, optional
            Called with the number of entries written so far.

        Raises
        ------
        TypeError, ValueError, OSError
            As :meth:`add`. What was written before stays: each segment is one commit.

        Notes
        -----
        O(runs + rows · tiles across) an entry for its arrays, and one exact distance.
        """
        _validate.checked_count(memory, "memory", 2**20)
        done = 0
        for batch in writing.batches(entries, self.grid, memory, resample):
            writing.write(self._store, self._frame, batch)
            done += len(batch)
            if progress is not None:
                progress(done)
        if done:
            self._merge_small()
        return done

    def add_hierarchy(
        self,
        tree: MergeTree,
        id: Id,
        *,
        thresholds: Sequence[float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        resample: bool = False,
    ) -> list[Id]:
        """Add the horizontal cuts of a hierarchy, whose tree is stored once. Return their ids.

        Parameters
        ----------
        tree : MergeTree
            On the grid of the index.
        id : int or str
            Name of the hierarchy; a cut is called ``id@number of regions``.
        thresholds : sequence of float, optional
            Altitudes to cut at; all distinct ones where omitted. Equal cuts are added once.
        metadata : dict, optional
            JSON object kept with each cut, beside its "altitude" and "regions".
        resample : bool
            As in :meth:`add`, of the leaves.

        Raises
        ------
        TypeError, ValueError, OSError
            As :meth:`add`.

        Notes
        -----
        O(pixels) a cut for its bounds. The cuts become one segment, in one commit.
        """
        if isinstance(tree, MergeTree) and tree.grid != self.grid:
            if not resample:
                raise ValueError(writing.other_grid("tree", tree.grid, self.grid))
            tree = resampled_tree(tree, self.grid)
        ids = writing.write_hierarchy(self._store, self._frame, tree, id, thresholds, metadata)
        self._merge_small()
        return ids

    def remove(self, id: Id) -> None:
        """Remove an entry; KeyError if there is none. Its bytes go with :meth:`compact`."""
        self.remove_many([id])

    def remove_many(self, ids: Iterable[Id]) -> None:
        """Remove entries in one commit; KeyError if there is no such entry, ValueError if twice."""
        names = list(ids)
        with self._store.writing():
            found = [self._found(id) for id in names]
            self._store.remove([StoredPlace(segment.number, row) for segment, row in found])

    def update(
        self,
        id: Id,
        labels: PartitionLike,
        metadata: Mapping[str, Any] | None = None,
        *,
        resample: bool = False,
    ) -> None:
        """Replace an entry in one commit; its metadata stay where none are given.

        Raises
        ------
        KeyError
            If there is no such entry.
        TypeError, ValueError, OSError
            As :meth:`add`.
        """
        self._update([Entry(as_hard(labels, "labels"), id, metadata)], resample)

    def update_many(self, entries: Iterable[Entry], *, resample: bool = False) -> None:
        """Replace entries in one commit, as :meth:`update`; all are in memory at once."""
        self._update(list(entries), resample)

    def _update(self, listed: list[Entry], resample: bool) -> None:
        for entry in listed:
            if entry.id is None:
                raise ValueError("entries to update must have an id, got None")
        maps = [
            writing.checked_labels(entry.labels, self.grid, f"entry {entry.id!r}", resample)
            for entry in listed
        ]
        with self._store.writing():
            places, new = [], []
            for entry, labels in zip(listed, maps, strict=True):
                assert entry.id is not None
                segment, row = self._found(entry.id)
                kept = segment.metadata_at(row) if entry.metadata is None else entry.metadata
                places.append(StoredPlace(segment.number, row))
                new.append(Entry(labels, entry.id, kept))
            if new:
                writing.write(self._store, self._frame, new, removing=places)
                self._merge_small(stacklevel=4)

    def _merge_small(self, stacklevel: int = 3) -> None:
        """Merge small segments, as far as that can be done; warn where it can't.

        What was asked for has been committed: that stands whatever comes of this.
        """
        try:
            with self._store.writing():
                writing.merge_small(self._store, self._frame, self._view, self._unmergeable)
        except Exception as error:
            self._merging = f"small segments could not be merged: {error}"
            warnings.warn(
                f"what was asked for is done, but {self._merging}", MergingWarning, stacklevel
            )
        else:
            if not self._unmergeable:
                self._merging = None

    def compact(
        self, progress: Callable[[int], None] | None = None, *, memory: int = 2**30
    ) -> None:
        """Rewrite segments into few large ones, without removed entries.

        Parameters
        ----------
        progress : function, optional
            Called with the number of entries written so far.
        memory : int
            About how many bytes of segments may become one.
        """
        _validate.checked_count(memory, "memory", 2**20)
        writing.compact(self._store, self._frame, self._view, memory, progress)
        self._merging = None
        self._unmergeable.clear()

    # --- searching ----------------------------------------------------------------------------

    def search(
        self,
        query: Query,
        k: int = USUAL_K,
        *,
        reading: str | None = None,
        offsets: Offsets | None = None,
        where: Condition | None = None,
        approximate: bool = False,
        device: str = "cpu",
    ) -> SearchResult:
        """Find the k nearest entries, exactly.

        Parameters
        ----------
        query : integer or boolean array, Partition, SoftOutput or SoftPartition, or float array
            On another grid it is resampled, and the result says so. A float array, a network's
            channels, comes with its reading.
        k : int
            How many; where there are fewer, all are returned, and ``complete`` is False.
        reading : {"regions", "classes", "boundaries", "affinities", "objects"}, optional
            What the channels of an array mean, (k, *grid).
        offsets : sequence of offsets, optional
            Of an array of affinities; see :class:`~hiersearch.partitions.SoftOutput`.
        where : mapping, optional
            Metadata condition: the nearest *among those*. See
            :mod:`hiersearch.index.store.conditions`.
        approximate : bool
            Look only where the answer is likely to be; then ``exact`` is False.
        device : {"cpu", "cuda", "cuda:N", "auto"}
            What does the work; the answer is the same. "auto" takes the GPU where that looks
            faster. See :mod:`hiersearch.index.search.device_search`; :meth:`search_many` is what
            keeps a GPU busy.

        Returns
        -------
        SearchResult
            Nearest first, ties by id.

        Raises
        ------
        TypeError, ValueError
            If the query, ``k``, ``where`` or ``device`` is not what it should be, or the index is
            empty.
        MissingExtraError
            If the device needs torch, which is not installed.
        DamageError
            If bytes that were needed are damaged.

        Notes
        -----
        See :mod:`hiersearch.index.search.search`. A query of affinities has no bounds: it scans.
        """
        k = _validate.checked_count(k, "k", 1)
        moment = self._live(where)
        place = self._place_of(device, moment, 1)
        query = with_reading(query, "query", reading, offsets)
        return self._searched(moment, [query], k, None, approximate, place)[0]

    def search_radius(
        self,
        query: Query,
        radius: float,
        *,
        reading: str | None = None,
        offsets: Offsets | None = None,
        where: Condition | None = None,
        device: str = "cpu",
    ) -> SearchResult:
        """Find all entries within a normalised distance, ends included; else as `search`.

        Raises
        ------
        ValueError
            If ``radius`` is negative or not finite.
        """
        within = _checked_radius(radius)
        moment = self._live(where)
        place = self._place_of(device, moment, 1)
        query = with_reading(query, "query", reading, offsets)
        return self._searched(moment, [query], None, within, False, place)[0]

    def search_many(
        self,
        queries: Iterable[Query],
        k: int = USUAL_K,
        *,
        reading: str | None = None,
        offsets: Offsets | None = None,
        where: Condition | None = None,
        approximate: bool = False,
        threads: int | None = None,
        device: str = "cpu",
    ) -> list[SearchResult]:
        """Search for many queries together; each result is what `search` returns.

        Parameters
        ----------
        queries : iterable
            From one to ten thousand, and more where there is memory for them.
        k, reading, offsets, where, approximate
            As in `search`.
        threads : int, optional
            On the CPU, how many are searched for at once; as many as there are cores where omitted.
        device : {"cpu", "cuda", "cuda:N", "auto"}
            As in `search`. A GPU compares all of them with every entry in a few operations.
        """
        listed = [with_reading(query, "query", reading, offsets) for query in queries]
        k = _validate.checked_count(k, "k", 1)
        workers = os.cpu_count() or 1
        if threads is not None:
            workers = _validate.checked_count(threads, "threads", 1)
        if not listed:
            return []
        moment = self._live(where)
        place = self._place_of(device, moment, len(listed))
        if not place.on_kernels:
            return self._searched(moment, listed, k, None, approximate, place)
        with ThreadPoolExecutor(workers) as pool:
            return list(
                pool.map(
                    lambda query: self._searched(moment, [query], k, None, approximate, place)[0],
                    listed,
                )
            )

    def duplicates(
        self, radius: float, *, progress: Callable[[int], None] | None = None
    ) -> list[DuplicateGroup]:
        """Find the groups of entries that are near-duplicates of each other.

        Two entries within the radius are in one group, and so is whatever is within it of either:
        single linkage, so that two of a group may be farther apart.

        Parameters
        ----------
        radius : float
            Largest normalised distance of a pair, in [0, 1]; 0 finds equal partitions.
        progress : function, optional
            Called with the number of entries compared so far.

        Returns
        -------
        list of DuplicateGroup
            The largest first, then by their representatives, which are the first in the order of
            ids: integers before text.

        Raises
        ------
        TypeError, ValueError
            If ``radius`` is not a number of at least 0.
        DamageError
            If bytes that were needed are damaged.

        Notes
        -----
        Equal partitions are found by hash, in O(entries), and one of them stands for all. Of the
        others, pairs of blocks and pairs of entries are dropped by bounds; what these leave is
        compared, unless it is connected already. O(pairs of blocks) at most beside that; memory is
        bounded by a batch of pairs and a few dozen bytes an entry.

        Examples
        --------
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with PartitionIndex.create(Path(folder.name, "index"), (4, 6)) as index:
        ...     _ = index.add(np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0), "halves")
        ...     _ = index.add(np.repeat([[7, 7, 7, 5, 5, 5]], 4, axis=0), "again")
        ...     _ = index.add(np.repeat([[0, 0, 1, 1, 1, 1]], 4, axis=0), "thirds")
        ...     [(group.ids, group.rho.tolist()) for group in index.duplicates(0.3)]
        [(('again', 'halves', 'thirds'), [0, 0, 160])]
        >>> folder.cleanup()
        """
        return duplicate_groups(self._entries(), _checked_radius(radius), progress)

    def duplicate_pairs(
        self, radius: float, *, progress: Callable[[int], None] | None = None
    ) -> Iterator[Pair]:
        """Yield every pair of entries within a normalised distance, in no particular order.

        Parameters and errors are those of :meth:`duplicates`; ``radius`` is checked at once. Pairs
        are found while they are asked for, in bounded memory: n copies of one partition make
        n (n − 1) / 2 pairs, which :meth:`duplicates` spares.

        Examples
        --------
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with PartitionIndex.create(Path(folder.name, "index"), (4, 6)) as index:
        ...     _ = index.add_many([np.zeros((4, 6), int)] * 3)
        ...     [(pair.a, pair.b, pair.rho) for pair in index.duplicate_pairs(0)]
        [(0, 1, 0), (0, 2, 0), (1, 2, 0)]
        >>> folder.cleanup()
        """
        return duplicate_pairs(self._entries(), _checked_radius(radius), progress)

    def _entries(self) -> Entries:
        """Return the entries of one moment, for a join."""
        moment = self._live(None)
        return Entries(moment.views, self._frame, moment.live)

    def _searched(
        self,
        moment: Moment,
        queries: Sequence[Query],
        k: int | None,
        radius: float | None,
        approximate: bool,
        place: Device,
    ) -> list[SearchResult]:
        """Search for some queries: one after the other on the CPU, together on another device."""
        # Views first: that the grid is the entries' is known before a query is brought to it.
        views, live = moment.views, moment.live
        asked = Asked.all_of(queries, self._frame, k, radius)
        if not moment.n_entries:
            raise ValueError(
                f"index must hold an entry to be searched, got an empty one: {self.path}"
            )
        proposer = self._proposer_of(views)
        for one in asked:
            one.count_entries(views, live)
        if place.on_kernels:
            for one in asked:
                Search(views, one.query, live, one.best, one.work, proposer).run(approximate)
        else:
            held = self._held.get(place.name)
            if held is None:
                # Of threads that come here at once, one's is kept.
                held = HeldViews(place, self._device_bytes)
                held = self._held.setdefault(place.name, held)
            with held.lock:
                DeviceSearch(views, live, held, proposer).run(asked, approximate)
        return [one.result(views, not approximate) for one in asked]

    def _place_of(self, device: str, moment: Moment, n_queries: int) -> Device:
        """Return where a search is done."""
        return resolved(device, self._device_work(moment, n_queries) if device == "auto" else None)

    def _device_work(self, moment: Moment, n_queries: int) -> DeviceWork:
        """Count what a search on a device would have to do."""
        held = next(iter(self._held.values()), None)
        return search_work(moment.views, n_queries, held)

    # --- keeping ------------------------------------------------------------------------------

    def verify(
        self, progress: Callable[[int, int], None] | None = None, *, deep: bool = False
    ) -> list[Damage]:
        """Read everything on disk, decode every entry, and return what is damaged.

        Parameters
        ----------
        progress : function, optional
            Called with the bytes done so far and the bytes there are to do.
        deep : bool
            Also recompute from the runs of every entry all that searches go by (Σ a², tile
            bounds, masses, distances to pivots, radii of blocks), and compare: checksums tell
            only that it is as it was written.

        Returns
        -------
        list of Damage
            Each names the file, and where it is known the array and the entry.

        Notes
        -----
        O(bytes + runs); with ``deep`` as much as adding all entries again, in bounded memory.
        """
        damages = self._store.verify(repairing.first_half(progress) if deep else progress)
        return damages if damages else self._wrong(deep, progress)

    def _wrong(self, deep: bool, progress: Callable[[int, int], None] | None) -> list[Damage]:
        """Return what is wrong although all bytes are as they were written."""
        return repairing.wrong(self._store.segments, self._view, deep, progress)

    @staticmethod
    def inspect(
        path: str | os.PathLike[str],
        progress: Callable[[int, int], None] | None = None,
        *,
        deep: bool = False,
    ) -> list[Damage]:
        """Verify a folder that may be too damaged to be opened; else as :meth:`verify`."""
        damages = Store.inspect(path, repairing.first_half(progress) if deep else progress)
        if damages:
            return damages
        with PartitionIndex.open(path) as index:
            return index._wrong(deep, progress)

    @staticmethod
    def repair(path: str | os.PathLike[str], *, deep: bool = False) -> Repair:
        """Salvage what is sound of a damaged index; say what was kept and what was lost.

        Segments with any damage are made anew from the runs of their entries; with ``deep`` those
        are found, too, of which only :meth:`verify` with ``deep`` knows.

        Raises
        ------
        FileNotFoundError, FormatError
            If the folder is no index.
        IndexLockedError, OSError
            If it cannot be written.
        """
        return repairing.repair(Path(path), _frame, deep)

    # --- moments ------------------------------------------------------------------------------

    def _live(self, where: Condition | None) -> Moment:
        """Return what there is now, and which of it meets a condition.

        Whatever looks at the index takes this once: what is written later does not reach it.
        """
        segments = self._store.segments
        n_entries = sum(segment.n_live for segment in segments)
        live: dict[int, NDArray[np.uint8]] = {}
        if where is not None and n_entries:
            chosen = selected(where, segments)
            live = {i: chosen[s.number].astype(np.uint8) for i, s in enumerate(segments)}
        else:
            removed = [(i, s.removed) for i, s in enumerate(segments)]
            live = {i: (~mask).astype(np.uint8) for i, mask in removed if mask is not None}
        return Moment(self._views_of(segments), live, n_entries)

    def _all_views(self) -> list[View]:
        """Return the views of all segments."""
        return self._views_of(self._store.segments)

    def _views_of(self, segments: Sequence[StoredSegment]) -> list[View]:
        """Return the views of segments, letting go of those whose segments are gone."""
        for gone in set(self._views).difference(s.number for s in self._store.segments):
            self._views.pop(gone, None)
        return [self._view(segment) for segment in segments]

    def _view(self, segment: StoredSegment) -> View:
        view = self._views.get(segment.number)
        if view is None:
            # Of threads that come here at once, one's is kept.
            view = self._views.setdefault(segment.number, View.of(segment, self._frame))
        return view

    def _found(self, id: Id) -> tuple[StoredSegment, int]:
        """Return the segment and the row of an entry."""
        segments = self._store.segments
        (place,) = find_many(segments, [checked_id(id)])
        if place is None:
            raise KeyError(f"id must name an entry of {self.path}, got {id!r}")
        segment = next(one for one in segments if one.number == place.segment)
        return segment, place.position

    def _proposer_of(self, views: list[View]) -> FaissProposer | None:
        """Return what proposes, made anew when segments have changed; None: the tiles do."""
        if self._proposals == "tiles":
            return None
        # Another thread may look at another moment.
        proposer = self._proposer
        if proposer is None or proposer.views != tuple(views):
            proposer = self._proposer = FaissProposer(views)
        return proposer


def _checked_radius(radius: float) -> float:
    if isinstance(radius, bool) or not isinstance(radius, (int, float, np.number)):
        raise TypeError(f"radius must be a number, got {radius!r}")
    if not 0 <= float(radius) < np.inf:
        raise ValueError(f"radius must be a distance of at least 0, got {radius!r}")
    return float(radius)


def _frame(store: Store) -> Frame:
    """Return grid and measure of a store."""
    return frame_of(store.settings, store.path)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a folder; those that a writer deletes meanwhile don't count.

    O(files).
    """
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total
