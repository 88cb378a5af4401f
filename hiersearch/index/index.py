"""The index: a collection of partitions that answers nearest-partition queries, exactly."""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.device.choice import Work as DeviceWork
from hiersearch.device.choice import resolved
from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index import repairing, writing
from hiersearch.index.answering import Asked
from hiersearch.index.conditions import Condition
from hiersearch.index.device_search import DeviceSearch
from hiersearch.index.device_work import search_work
from hiersearch.index.duplicates import duplicate_groups, duplicate_pairs
from hiersearch.index.entries import Entry
from hiersearch.index.errors import Damage, FormatError
from hiersearch.index.layout import View
from hiersearch.index.packing import Frame
from hiersearch.index.pair_distances import Entries
from hiersearch.index.proposals import FaissProposer, faiss_module
from hiersearch.index.repairing import Repair
from hiersearch.index.resident import HeldViews
from hiersearch.index.results import DuplicateGroup, Pair, SearchResult, id_key
from hiersearch.index.search import Search
from hiersearch.index.snapshot import Place, StoredSegment
from hiersearch.index.store import Store
from hiersearch.metric.queries import PartitionLike, as_hard
from hiersearch.partitions.partition import Measure, Partition, as_measure

Id = int | str
Proposals = Literal["tiles", "faiss"]
MEMORY = 2**28
"""Bytes that entries waiting to be written may take."""


class PartitionIndex:
    """Partitions of one grid in a folder, searched exactly under the partition metric.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager. One process at a
    time may write, any number may read; a reader keeps seeing what it opened. Several threads may
    search one index at once; only one may write.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with PartitionIndex.create(Path(folder.name, "index"), (4, 6)) as index:
    ...     _ = index.add(np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0), "halves")
    ...     _ = index.add(np.repeat([[0, 0, 1, 1, 2, 2]], 4, axis=0), "thirds", {"k": 3})
    ...     found = index.search(np.repeat([[5, 5, 5, 5, 2, 2]], 4, axis=0), k=2)
    ...     [(one.id, one.raw) for one in found], found.exact
    ([('thirds', 128), ('halves', 160)], True)
    >>> folder.cleanup()
    """

    def __init__(
        self, store: Store, proposals: Proposals = "tiles", device_bytes: int | None = None
    ) -> None:
        self._store = store
        self._proposals = proposals
        self._device_bytes = device_bytes
        self._held: dict[str, HeldViews] = {}
        self._proposer: FaissProposer | None = None
        self._frame = _frame(store)
        self._views: dict[int, View] = {}

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
        OSError
            If it cannot be written.
        """
        shape = _validate.checked_grid(tuple(grid), "grid")
        weights = None if measure is None else as_measure(measure, shape)
        settings = {"grid": list(shape), "measure": _text_of(weights)}
        return cls(Store.create(path, settings))

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
            If another process is writing.
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
        """Let go of the files and the lock."""
        self._views = {}
        self._held = {}
        self._store.close()

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

    def __len__(self) -> int:
        """Return the number of entries. O(entries that were removed)."""
        return len(self._store)

    @property
    def count(self) -> int:
        """The number of entries."""
        return len(self._store)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, (int, str)) and self._store.find(id) is not None

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
        return self.partition(id).original_labels()

    def partition(self, id: Id) -> Partition:
        """Return an entry as a partition, under the measure of the index; errors as `get`."""
        number, position = self._place(id)
        return self._view(number).partition(position)

    def metadata(self, id: Id) -> dict[str, Any]:
        """Return the metadata of an entry; errors as `get`."""
        return self._store.metadata_at(*self._place(id))

    def info(self) -> dict[str, Any]:
        """Return figures on the index, in JSON types. O(segments)."""
        segments = self._store.segments
        stored = sum(segment.n_entries for segment in segments)
        sizes = {"runs": 0, "bounds": 0, "other": 0}
        for segment in segments:
            for name in segment.data.names:
                shape = segment.data.shape(name)
                n_bytes = int(np.prod(shape)) * segment.data.unchecked(name).dtype.itemsize
                sizes[writing.kind_of(name)] += n_bytes
        return {
            "path": str(self.path),
            "grid": list(self.grid),
            "measure": self._frame.measure is not None,
            "entries": len(self),
            "removed_not_compacted": stored - len(self),
            "segments": len(segments),
            "generation": self._store.generation,
            "bytes": {**sizes, "total": _folder_bytes(self.path)},
            "bytes_an_entry": {k: round(v / max(1, stored), 1) for k, v in sizes.items()},
            "tiles": [list(split) for split in self._frame.tiling.splits],
        }

    # --- changing -----------------------------------------------------------------------------

    def add(
        self,
        labels: PartitionLike,
        id: Id | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Id:
        """Add one partition durably, and return its id.

        Parameters
        ----------
        labels : integer array or Partition
            On another grid it is resampled, each pixel taking the label under its centre.
        id : int or str, optional
            What to call it; the next automatic integer where omitted.
        metadata : dict, optional
            JSON object kept with it.

        Raises
        ------
        TypeError, ValueError
            If labels, id or metadata are not what they should be, or the id is there already.
        OSError
            If it cannot be written. The index is as it was.

        Notes
        -----
        One commit with its synchronisation to disk: use :meth:`add_many` for more than a few.
        """
        entry = Entry(writing.checked_labels(labels, self.grid, "labels"), id, metadata)
        name = self._store.next_id if id is None else id
        writing.write(self._store, self._frame, [entry])
        writing.merge_small(self._store, self._frame, self._view)
        return name

    def add_many(
        self,
        entries: Iterable[Entry | PartitionLike],
        *,
        memory: int = MEMORY,
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
        for batch in writing.batches(entries, self.grid, memory):
            writing.write(self._store, self._frame, batch)
            done += len(batch)
            if progress is not None:
                progress(done)
        writing.merge_small(self._store, self._frame, self._view)
        return done

    def add_hierarchy(
        self,
        tree: MergeTree,
        id: Id,
        *,
        thresholds: Sequence[float] | None = None,
        metadata: Mapping[str, Any] | None = None,
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

        Raises
        ------
        TypeError, ValueError, OSError
            As :meth:`add`.

        Notes
        -----
        O(pixels) a cut for its bounds. The cuts become one segment, in one commit.
        """
        return writing.write_hierarchy(self._store, self._frame, tree, id, thresholds, metadata)

    def remove(self, id: Id) -> None:
        """Remove an entry; KeyError if there is none. Its bytes go with :meth:`compact`."""
        self.remove_many([id])

    def remove_many(self, ids: Iterable[Id]) -> None:
        """Remove entries in one commit; KeyError if there is no such entry, ValueError if twice."""
        self._store.remove([self._place(id) for id in ids])

    def update(
        self, id: Id, labels: PartitionLike, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Replace an entry in one commit; its metadata stay where none are given.

        Raises
        ------
        KeyError
            If there is no such entry.
        TypeError, ValueError, OSError
            As :meth:`add`.
        """
        self.update_many([Entry(as_hard(labels, "labels"), id, metadata)])

    def update_many(self, entries: Iterable[Entry]) -> None:
        """Replace entries in one commit, as :meth:`update`; all are in memory at once."""
        places, new = [], []
        for entry in entries:
            if entry.id is None:
                raise ValueError("entries to update must have an id, got None")
            place = self._place(entry.id)
            kept = entry.metadata
            kept = self._store.metadata_at(*place) if kept is None else kept
            places.append(place)
            labels = writing.checked_labels(entry.labels, self.grid, f"entry {entry.id!r}")
            new.append(Entry(labels, entry.id, kept))
        if new:
            writing.write(self._store, self._frame, new, removing=places)
            writing.merge_small(self._store, self._frame, self._view)

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

    # --- searching ----------------------------------------------------------------------------

    def search(
        self,
        query: PartitionLike,
        k: int = 1,
        *,
        where: Condition | None = None,
        approximate: bool = False,
        device: str = "cpu",
    ) -> SearchResult:
        """Find the k nearest entries, exactly.

        Parameters
        ----------
        query : integer or boolean array, Partition or SoftPartition
            On another grid it is resampled, and the result says so.
        k : int
            How many; where there are fewer, all are returned, and ``complete`` is False.
        where : mapping, optional
            Metadata condition: the nearest *among those*. See
            :mod:`hiersearch.index.conditions`.
        approximate : bool
            Look only where the answer is likely to be; then ``exact`` is False.
        device : {"cpu", "cuda", "cuda:N", "auto"}
            What does the work; the answer is the same. "auto" takes the GPU where that looks
            faster. See :mod:`hiersearch.index.device_search`; :meth:`search_many` is what keeps a
            GPU busy.

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
        See :mod:`hiersearch.index.search`. A query of affinities has no bounds: it scans.
        """
        k = _validate.checked_count(k, "k", 1)
        return self._searched([query], k, None, where, approximate, device)[0]

    def search_radius(
        self,
        query: PartitionLike,
        radius: float,
        *,
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
        return self._searched([query], None, within, where, False, device)[0]

    def search_many(
        self,
        queries: Iterable[PartitionLike],
        k: int = 1,
        *,
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
        k, where, approximate
            As in `search`.
        threads : int, optional
            On the CPU, how many are searched for at once; as many as there are cores where omitted.
        device : {"cpu", "cuda", "cuda:N", "auto"}
            As in `search`. A GPU compares all of them with every entry in a few operations.
        """
        listed = list(queries)
        k = _validate.checked_count(k, "k", 1)
        workers = os.cpu_count() or 1
        if threads is not None:
            workers = _validate.checked_count(threads, "threads", 1)
        # Before threads ask for them.
        self._all_views()
        place = resolved(device, self._device_work(len(listed)) if device == "auto" else None)
        if listed and not place.on_kernels:
            return self._searched(listed, k, None, where, approximate, place.name)
        with ThreadPoolExecutor(workers) as pool:
            return list(
                pool.map(
                    lambda query: self._searched([query], k, None, where, approximate, "cpu")[0],
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
        ...     [(group.ids, group.raw.tolist()) for group in index.duplicates(0.3)]
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
        ...     [(pair.a, pair.b, pair.raw) for pair in index.duplicate_pairs(0)]
        [(0, 1, 0), (0, 2, 0), (1, 2, 0)]
        >>> folder.cleanup()
        """
        return duplicate_pairs(self._entries(), _checked_radius(radius), progress)

    def _entries(self) -> Entries:
        """Return the entries of one snapshot of the segments, for a join."""
        segments = self._store.segments
        removed = {
            i: (~segment.removed).astype(np.uint8)
            for i, segment in enumerate(segments)
            if segment.removed is not None
        }
        return Entries([self._view_of(segment) for segment in segments], self._frame, removed)

    def _searched(
        self,
        queries: Sequence[PartitionLike],
        k: int | None,
        radius: float | None,
        where: Condition | None,
        approximate: bool,
        device: str,
    ) -> list[SearchResult]:
        """Search for some queries: one after the other on the CPU, together on another device."""
        place = resolved(device, self._device_work(len(queries)) if device == "auto" else None)
        asked = Asked.all_of(queries, self._frame, k, radius)
        if not len(self):
            raise ValueError(
                f"index must hold an entry to be searched, got an empty one: {self.path}"
            )
        views, live = self._all_views(), self._live(where)
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

    def _device_work(self, n_queries: int) -> DeviceWork:
        """Count what a search on a device would have to do."""
        held = next(iter(self._held.values()), None)
        return search_work(self._all_views(), n_queries, held)

    # --- keeping ------------------------------------------------------------------------------

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
        """Read everything on disk, decode every entry, and return what is damaged.

        ``progress`` is called with the bytes read so far and the bytes there are.
        """
        damages = self._store.verify(progress)
        return damages if damages else repairing.undecodable(self._all_views())

    @staticmethod
    def inspect(
        path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None
    ) -> list[Damage]:
        """Verify a folder that may be too damaged to be opened."""
        damages = Store.inspect(path, progress)
        if damages:
            return damages
        with PartitionIndex.open(path) as index:
            return repairing.undecodable(index._all_views())

    @staticmethod
    def repair(path: str | os.PathLike[str]) -> Repair:
        """Salvage what is sound of a damaged index; say what was kept and what was lost.

        Raises
        ------
        FileNotFoundError, FormatError
            If the folder is no index.
        IndexLockedError, OSError
            If it cannot be written.
        """
        return repairing.repair(Path(path), _frame)

    # --- places -------------------------------------------------------------------------------

    def _place(self, id: Id) -> Place:
        place = self._store.find(id)
        if place is None:
            raise KeyError(f"id must name an entry of {self.path}, got {id!r}")
        return place

    def _view(self, number: int) -> View:
        return self._view_of(self._store.segment(number))

    def _view_of(self, segment: StoredSegment) -> View:
        view = self._views.get(segment.number)
        if view is None:
            view = self._views[segment.number] = View.of(segment, self._frame)
        return view

    def _proposer_of(self, views: list[View]) -> FaissProposer | None:
        """Return what proposes, made anew when segments have changed; None: the tiles do."""
        if self._proposals == "tiles":
            return None
        if self._proposer is None or self._proposer.views != tuple(views):
            self._proposer = FaissProposer(views)
        return self._proposer

    def _all_views(self) -> list[View]:
        """Return the views of all segments, letting go of those whose segments are gone."""
        numbers = [segment.number for segment in self._store.segments]
        for gone in set(self._views) - set(numbers):
            self._views.pop(gone, None)
        return [self._view(number) for number in numbers]

    def _live(self, where: Condition | None) -> dict[int, NDArray[np.uint8]]:
        """Return for each view's number 1 for the rows that may be answers; missing: all may."""
        chosen = None if where is None else self._store.where(where)
        live: dict[int, NDArray[np.uint8]] = {}
        for i, segment in enumerate(self._store.segments):
            if chosen is not None:
                live[i] = chosen[segment.number].astype(np.uint8)
            elif segment.removed is not None:
                live[i] = (~segment.removed).astype(np.uint8)
        return live


def _checked_radius(radius: float) -> float:
    if isinstance(radius, bool) or not isinstance(radius, (int, float, np.number)):
        raise TypeError(f"radius must be a number, got {radius!r}")
    if not 0 <= float(radius) < np.inf:
        raise ValueError(f"radius must be a distance of at least 0, got {radius!r}")
    return float(radius)


def _text_of(measure: Measure | None) -> dict[str, str] | None:
    """Return a measure as JSON."""
    if measure is None:
        return None
    packed = zlib.compress(np.ascontiguousarray(measure).astype(measure.dtype.str).tobytes(), 9)
    return {"dtype": measure.dtype.str, "zlib": base64.b64encode(packed).decode("ascii")}


def _frame(store: Store) -> Frame:
    """Return grid and measure of a store."""
    settings = store.settings
    try:
        grid = tuple(int(side) for side in settings["grid"])
        stored = settings["measure"]
        measure = None
        if stored is not None:
            packed = base64.b64decode(stored["zlib"])
            measure = np.frombuffer(zlib.decompress(packed), np.dtype(stored["dtype"])).copy()
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise FormatError(f"{store.path} is no index of partitions: {error!r}") from None
    return Frame(grid, measure)


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
