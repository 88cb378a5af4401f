"""An index of partitions as a workload of the fault harness."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from hiersearch.errors import FormatError
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from tests.index.faults.killing import Id, Model, Operation, WrongContent

GRID = (8, 11)


class IndexWorkload:
    """Keeps label maps in a :class:`hiersearch.index.index.PartitionIndex`."""

    def create(self, folder: Path) -> None:
        PartitionIndex.create(folder, GRID).close()

    def opened(self, folder: Path, writable: bool) -> contextlib.AbstractContextManager[Any]:
        return PartitionIndex.open(folder, "r+" if writable else "r")

    def apply(self, handle: Any, operation: Operation) -> None:
        entries = [
            Entry(label_map(name, version), name, {"version": version})
            for name, version in operation.entries
        ]
        if operation.kind == "remove":
            handle.remove_many([entry.id for entry in entries])
        elif operation.kind == "compact":
            handle.compact()
        elif operation.kind == "update":
            handle.update_many(entries)
        else:
            handle.add_many(entries)

    def contents(self, handle: Any) -> Model:
        found: Model = {}
        for name in handle.ids():
            version = handle.metadata(name)["version"]
            wanted = label_map(name, version)
            if not np.array_equal(handle.get(name), wanted):
                raise WrongContent(f"{name!r}, version {version}")
            found[name] = version
        for name in list(found)[:5]:
            # The bounds, too, must be those of the entry: it is at distance 0 from itself.
            nearest = handle.search_radius(label_map(name, found[name]), 0.0)
            if name not in [one.id for one in nearest]:
                raise WrongContent(f"{name!r} is not found by its own label map")
        return found

    def verify(self, folder: Path) -> list[Any]:
        return PartitionIndex.inspect(folder)

    def is_report(self, error: Exception) -> bool:
        return isinstance(error, FormatError)


def label_map(name: Id, version: int) -> np.ndarray:
    """Return the label map of an entry, which follows from its id and version alone."""
    rng = np.random.default_rng([*repr(name).encode(), version])
    coarse = rng.integers(0, 5, size=(4, 6))
    return np.kron(coarse, np.ones((2, 2), int))[: GRID[0], : GRID[1]]
