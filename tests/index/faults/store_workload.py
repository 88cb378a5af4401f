"""The store as a workload of the fault harness: entries of a few arrays."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from hiersearch.errors import FormatError
from hiersearch.index.store.store import Store
from tests.index.faults.killing import Id, Model, Operation, WrongContent


class StoreWorkload:
    """Keeps entries in a :class:`hiersearch.index.store.store.Store`."""

    def create(self, folder: Path) -> None:
        Store.create(folder, {"purpose": "faults"}).close()

    def opened(self, folder: Path, writable: bool) -> contextlib.AbstractContextManager[Any]:
        return Store.open(folder, writable=writable)

    def apply(self, handle: Any, operation: Operation) -> None:
        names = [name for name, _ in operation.entries]
        if operation.kind == "remove":
            handle.remove(handle.find_many(names))
        elif operation.kind == "compact":
            self._compact(handle, operation.choice)
        else:
            metadata = [{"version": version} for _, version in operation.entries]
            arrays = _arrays([_content(*entry) for entry in operation.entries])
            leaving = handle.find_many(names) if operation.kind == "update" else ()
            handle.append(names, metadata, arrays, chunk_bytes=_CHUNKS, removing=leaving)

    def _compact(self, handle: Any, choice: int) -> None:
        rng = np.random.default_rng(choice)
        old = [segment for segment in handle.segments if rng.random() < 0.7]
        if old:
            kept = [
                (segment, position)
                for segment in old
                for position in np.flatnonzero(segment.live).tolist()
            ]
            handle.replace(
                old,
                [segment.id_at(position) for segment, position in kept],
                [segment.metadata_at(position) for segment, position in kept],
                _arrays([_stored_content(segment, position) for segment, position in kept]),
                chunk_bytes=_CHUNKS,
            )

    def contents(self, handle: Any) -> Model:
        found: Model = {}
        for segment in handle.segments:
            for position in np.flatnonzero(segment.live).tolist():
                name = segment.id_at(position)
                version = segment.metadata_at(position)["version"]
                fixed, blob = _stored_content(segment, position)
                wanted = _content(name, version)
                if not (np.array_equal(fixed, wanted[0]) and blob == wanted[1]):
                    raise WrongContent(f"{name!r}, version {version}")
                found[name] = version
        if handle.find_many(list(found)).count(None):
            raise WrongContent("an entry that is there can't be found")
        return found

    def verify(self, folder: Path) -> list[Any]:
        return Store.inspect(folder)

    def is_report(self, error: Exception) -> bool:
        return isinstance(error, FormatError)


_CHUNKS = {"fixed": 128, "blob": 256}
_FIXED_WIDTH = 7


def _content(name: Id, version: int) -> tuple[np.ndarray, bytes]:
    """Return the arrays of an entry, which follow from its id and version alone."""
    rng = np.random.default_rng([*repr(name).encode(), version])
    return rng.random(_FIXED_WIDTH, np.float32), rng.bytes(int(rng.integers(300)))


def _arrays(contents: list[tuple[np.ndarray, bytes]]) -> dict[str, Any]:
    blobs = [np.frombuffer(blob, np.uint8) for _, blob in contents]
    return {
        "fixed": np.array([fixed for fixed, _ in contents]).reshape(-1, _FIXED_WIDTH),
        "ends": np.cumsum([0, *map(len, blobs)], dtype=np.int64),
        # In pieces, as a large collection is written.
        "blob": iter([np.zeros(0, np.uint8), *blobs]),
    }


def _stored_content(segment: Any, position: int) -> tuple[np.ndarray, bytes]:
    start, stop = segment.data.rows("ends", position, position + 2).tolist()
    fixed = segment.data.rows("fixed", position, position + 1)[0]
    return fixed, segment.data.rows("blob", start, stop).tobytes()
