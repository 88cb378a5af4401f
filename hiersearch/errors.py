"""Errors that the package raises besides ValueError and TypeError, and what a damage is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Damage",
    "DamageError",
    "DoubtfulInputWarning",
    "FileFormatError",
    "FormatError",
    "HiersearchWarning",
    "IndexLockedError",
    "MergingWarning",
    "MissingExtraError",
    "NetworkError",
    "OvertakenError",
]


class MissingExtraError(ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed: "
            f'run pip install "hiersearch[{extra}]".'
        )


class FileFormatError(ValueError):
    """A file could not be read as what it was given for."""


class NetworkError(ValueError):
    """A network failed on an image, or answered with what is no output of a segmentation network.

    What the network itself raised, if it did, is the cause (``__cause__``).
    """


class HiersearchWarning(UserWarning):
    """What the package warns of. The command line shows it in one line."""


class DoubtfulInputWarning(HiersearchWarning):
    """Input that can be used, and is hardly what was meant. The command line shows it, too."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One place where a file of an index is not what was written.

    Examples
    --------
    >>> print(Damage("segments/00000001.seg", "checksum differs", "runs", 3, 49216, 65600))
    segments/00000001.seg: checksum differs (array 'runs', chunk 3, bytes 49216 to 65600)
    """

    file: str
    """Path of the damaged file."""
    what: str
    """What is wrong, in a few words."""
    array: str | None = None
    """Name of the damaged array, where the damage lies within one."""
    chunk: int | None = None
    """Number of the damaged chunk of the array, from 0."""
    start: int | None = None
    """First byte of the damaged range of the file, where it is known."""
    stop: int | None = None
    """First byte after the damaged range."""

    def __str__(self) -> str:
        """One line: file, fault, place."""
        places = []
        if self.array is not None:
            places.append(f"array {self.array!r}")
        if self.chunk is not None:
            places.append(f"chunk {self.chunk}")
        if self.start is not None:
            places.append(f"bytes {self.start} to {self.stop}")
        where = f" ({', '.join(places)})" if places else ""
        return f"{self.file}: {self.what}{where}"


def what_it_is(path: Path) -> str:
    """Say what lies where a file of an index should be, which is none."""
    if not path.exists():
        return "is missing"
    return "is a folder" if path.is_dir() else "is no regular file"


class FormatError(FileFormatError):
    """A folder or file is not an index that this version reads."""


class DamageError(FormatError):
    """A file of an index is damaged: what it holds was not returned."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(f"damaged index file: {damage}")
        self.damage = damage


class IndexLockedError(OSError):
    """Somebody else is writing the index, or has written it meanwhile."""


class OvertakenError(IndexLockedError):
    """Somebody else wrote the index although this writer has its lock: it must be opened again."""


class MergingWarning(HiersearchWarning):
    """What was asked for is done, but small segments could not be merged afterwards."""
