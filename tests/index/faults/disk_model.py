"""A disk that may lose power: what was asked of it, what of that is durable, what may remain.

The weakest promises that POSIX makes are modelled. Data and size of a file are durable once that
file was synced, names once their folder was synced; syncing a file says nothing about its name.
Whatever else was done may have reached the disk or not, in any order, each name and each sector of
512 bytes for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
PAGE = 4096
"""Bytes that a system hands to the disk together, mostly."""


class File:
    """The content of a file, with the versions of it that may have reached the disk."""

    def __init__(self, content: bytes = b"") -> None:
        self._current = bytearray(content)
        self._durable = bytes(content)
        # What each sector that was written since the last sync held after each writing.
        self._versions: dict[int, list[bytes]] = {}
        self._sizes = [len(content)]

    @property
    def size(self) -> int:
        """Bytes in the file as its process sees it."""
        return len(self._current)

    @property
    def content(self) -> bytes:
        """The file as its process sees it."""
        return bytes(self._current)

    def write(self, start: int, data: bytes) -> None:
        """Write bytes at a place."""
        if not data:
            return
        grown_from = min(self.size, start)
        if start + len(data) > self.size:
            self._current.extend(bytes(start + len(data) - self.size))
            self._sizes.append(self.size)
        self._current[start : start + len(data)] = data
        self._note(grown_from, start + len(data))

    def truncate(self, size: int) -> None:
        """Cut the file, or extend it with zeros."""
        if size == self.size:
            return
        changed = min(size, self.size), max(size, self.size)
        del self._current[size:]
        self._current.extend(bytes(size - self.size))
        self._sizes.append(size)
        # Bytes that were cut off are zeros should the file grow again.
        self._note(*changed)

    def _note(self, start: int, stop: int) -> None:
        for sector in range(start // SECTOR, -(-stop // SECTOR)):
            begin = sector * SECTOR
            data = bytes(self._current[begin : begin + SECTOR]).ljust(SECTOR, b"\0")
            self._versions.setdefault(sector, []).append(data)

    def sync(self) -> None:
        """Make content and size durable."""
        self._durable = self.content
        self._versions = {}
        self._sizes = [self.size]

    def remains(self, rng: np.random.Generator) -> bytes:
        """Draw what a loss of power leaves of it."""
        kind = rng.choice(["nothing", "all", "pages", "sectors", "stale"], p=_KINDS)
        if kind == "nothing" or not (self._versions or len(self._sizes) > 1):
            return self._durable
        if kind == "all":
            return self.content
        size = int(rng.choice(self._sizes)) if rng.random() < 0.5 else self.size
        found = bytearray(self._durable.ljust(size, b"\0"))
        if kind == "stale" and size > len(self._durable):
            # Space that was given to the file but not yet written shows what lay there before.
            found[len(self._durable) :] = rng.bytes(len(found) - len(self._durable))
        share = rng.choice([0.1, 0.5, 0.9])
        width = PAGE // SECTOR if kind == "pages" else 1
        chosen: dict[int, bool] = {}
        for sector, versions in sorted(self._versions.items()):
            if not chosen.setdefault(sector // width, bool(rng.random() < share)):
                continue
            latest = rng.random() < 0.7
            data = versions[-1 if latest else int(rng.integers(len(versions)))]
            begin = sector * SECTOR
            if begin < size:
                found[begin : begin + SECTOR] = data
        return bytes(found[:size])


_KINDS = [0.2, 0.2, 0.2, 0.3, 0.1]


class Folder:
    """The names in a folder, with those that may have reached the disk."""

    def __init__(self) -> None:
        self.names: dict[str, File | Folder] = {}
        """Names as processes see them."""
        self._durable: dict[str, File | Folder] = {}
        # What each name that was changed since the last sync stood for after each change.
        self._versions: dict[str, list[File | Folder | None]] = {}

    def set(self, name: str, node: File | Folder | None) -> None:
        """Let a name stand for something, or for nothing."""
        if node is None:
            del self.names[name]
        else:
            self.names[name] = node
        self._versions.setdefault(name, []).append(node)

    def sync(self) -> None:
        """Make the names durable."""
        self._durable = dict(self.names)
        self._versions = {}

    def remains(self, rng: np.random.Generator) -> dict[str, File | Folder]:
        """Draw which names a loss of power leaves."""
        kind = rng.choice(["nothing", "all", "some"], p=[0.3, 0.2, 0.5])
        if kind == "nothing":
            return self._durable
        if kind == "all":
            return self.names
        found = dict(self._durable)
        for name, versions in sorted(self._versions.items()):
            node = [self._durable.get(name), *versions][int(rng.integers(len(versions) + 1))]
            if node is None:
                found.pop(name, None)
            else:
                found[name] = node
        return found


@dataclass
class Disk:
    """A folder and all below it."""

    path: Path
    """Where the folder lies in the real file system."""
    root: Folder

    @classmethod
    def of(cls, path: Path) -> Disk:
        """Return the model of a real folder, all of it durable."""
        return cls(path, _folder_of(path))

    def holds(self, path: Path) -> bool:
        """Return whether a path lies on the disk."""
        return path == self.path or self.path in path.parents

    def find(self, path: Path) -> File | Folder | None:
        """Return what a path stands for."""
        node: File | Folder | None = self.root
        for part in path.relative_to(self.path).parts:
            if not isinstance(node, Folder):
                return None
            node = node.names.get(part)
        return node

    def folder(self, path: Path) -> Folder:
        """Return the folder of a path."""
        node = self.find(path)
        assert isinstance(node, Folder), path
        return node

    def create(self, path: Path) -> File:
        """Make an empty file."""
        node = File()
        self.folder(path.parent).set(path.name, node)
        return node

    def make_folder(self, path: Path) -> None:
        """Make an empty folder."""
        self.folder(path.parent).set(path.name, Folder())

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name; what had that name before goes."""
        node = self.find(old)
        assert node is not None, old
        # Two names change, and nothing says which reaches the disk first.
        self.folder(new.parent).set(new.name, node)
        self.folder(old.parent).set(old.name, None)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name."""
        self.folder(new.parent).set(new.name, self.find(old))

    def remove(self, path: Path) -> None:
        """Take a name away."""
        self.folder(path.parent).set(path.name, None)

    def lose_power(self, target: Path, rng: np.random.Generator) -> None:
        """Write what may remain into a new folder."""
        _write(self.root, target, rng, {})

    def differences(self) -> list[str]:
        """Return the paths at which the real folder is not as the model says."""
        return sorted(_differences(self.root, self.path))


def _folder_of(path: Path) -> Folder:
    folder = Folder()
    for file in path.iterdir():
        node = _folder_of(file) if file.is_dir() else File(file.read_bytes())
        folder.names[file.name] = node
    folder.sync()
    return folder


def _write(folder: Folder, target: Path, rng: np.random.Generator, drawn: dict[int, bytes]) -> None:
    target.mkdir()
    for name, node in folder.remains(rng).items():
        if isinstance(node, Folder):
            _write(node, target / name, rng, drawn)
            continue
        # A file of two names is one file.
        if id(node) not in drawn:
            drawn[id(node)] = node.remains(rng)
        (target / name).write_bytes(drawn[id(node)])


def _differences(folder: Folder, path: Path) -> Iterator[str]:
    for name in set(os.listdir(path)) | set(folder.names):
        node, real = folder.names.get(name), path / name
        if isinstance(node, Folder) and real.is_dir():
            yield from _differences(node, real)
        elif not (isinstance(node, File) and real.is_file() and real.read_bytes() == node.content):
            yield str(real)
