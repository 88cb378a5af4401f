"""What may lie in the folder of an index, and what killed writers leave there."""

from __future__ import annotations

import re
from pathlib import Path

from hiersearch.index import catalogue
from hiersearch.index._files import TEMPORARY
from hiersearch.index._lock import LOCK
from hiersearch.index.catalogue import CatalogueState, segment_name
from hiersearch.index.errors import Damage, DamageError, FormatError

_LEFT_OVER = re.compile(r"\d{8}\.seg(\.tmp)?")


def check_is_index(folder: Path) -> None:
    """Raise unless a folder has a catalogue."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist: an index is a folder")
    if not folder.is_dir():
        raise FormatError(f"{folder} must be an index, which is a folder, got a file")
    if not (folder / catalogue.CATALOGUE).exists():
        if any((folder / "segments").glob("*.seg")):
            raise DamageError(Damage(str(folder / catalogue.CATALOGUE), "is missing"))
        raise FormatError(f"{folder} must be an index, got a folder without {catalogue.CATALOGUE}")


def check_empty(folder: Path) -> None:
    """Raise unless a folder is missing, empty, or what a killed creation left."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"path must be a new or empty folder, got a file: {folder}")
    if (folder / catalogue.CATALOGUE).exists():
        raise ValueError(f"path must be a new or empty folder, got one with an index: {folder}")
    names = {"segments", LOCK, catalogue.CHECK, catalogue.CHECK + TEMPORARY}
    names.add(catalogue.CATALOGUE + TEMPORARY)
    found = {file.name for file in folder.iterdir()}
    if not found <= names or any((folder / "segments").glob("*")):
        raise ValueError(
            f"path must be a new or empty folder, got one with {len(found)} files: {folder}"
        )


def delete_left_overs(folder: Path, state: CatalogueState) -> None:
    """Delete files of commits that never came to be, and of segments that were replaced.

    Only a writer may call this, after it read the catalogue.
    """
    known = {Path(segment_name(row.number)).name for row in state.segments}
    for file in (folder / "segments").iterdir():
        if _LEFT_OVER.fullmatch(file.name) and file.name not in known:
            file.unlink(missing_ok=True)
    for name in (catalogue.CHECK, catalogue.CATALOGUE):
        (folder / (name + TEMPORARY)).unlink(missing_ok=True)
    # One that meant anything was rolled back when the catalogue was read.
    (folder / catalogue.JOURNAL).unlink(missing_ok=True)
