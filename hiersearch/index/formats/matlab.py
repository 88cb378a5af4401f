"""MATLAB files of segmentations: the cell arrays and contour maps of the Berkeley benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.hierarchy.ucm import from_ucm
from hiersearch.index.formats.entries import (
    Entry,
    HierarchyEntry,
    labelled_entry,
    sides_of,
)
from hiersearch.partitions.files import FilePath, decoding

VARIABLES = ("groundTruth", "segs", "ucm2")
"""What a file may hold: human segmentations, a method's segmentations, a contour map."""

_WHAT = "MATLAB segmentations"


def read_matlab(path: FilePath) -> Iterator[tuple[float, Entry | HierarchyEntry]]:
    """Read the segmentations and the hierarchy of a .mat file.

    Parameters
    ----------
    path : path
        A file of MATLAB 5 to 7.2 (those of 7.3 are HDF5 files and are refused) with one of

        - ``groundTruth``, a cell array of structs with a label map ``Segmentation``,
        - ``segs``, a cell array of label maps,
        - ``ucm2``, an ultrametric contour map of shape (2 H + 1, 2 W + 1).

    Yields
    ------
    float
        Share of the file that is done.
    Entry or HierarchyEntry
        Segmentations are called ``stem/0``, ``stem/1``, ...; the hierarchy ``stem``. The metadata
        name the file and, of a segmentation, its ``annotator``, from 0.

    Raises
    ------
    FileFormatError
        If the file is damaged, of another format, or holds none of these.
    OSError
        If it cannot be opened.

    Notes
    -----
    O(pixels). The variables are those of Arbelaez et al., "Contour detection and hierarchical
    image segmentation", PAMI 2011, and of its benchmark, BSDS500.
    """
    file = Path(path)
    with decoding(file, _WHAT):
        content = _content(file)
    for name in (name for name in VARIABLES if name in content):
        if name == "ucm2":
            with decoding(file, _WHAT):
                tree = from_ucm(content[name])
            yield 1.0, HierarchyEntry(tree, file.stem, {"file": file.name, **sides_of(tree.grid)})
            continue
        cells = content[name].reshape(-1)
        for place, cell in enumerate(cells):
            with decoding(file, f"{_WHAT} ({name} {place + 1})"):
                labels = _validate.whole_numbers(_segmentation(cell), "labels")
                entry = labelled_entry(labels, f"{file.stem}/{place}", file.name, annotator=place)
            yield (place + 1) / cells.size, entry


def _content(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat, whosmat

    try:
        names = [name for name, _, _ in whosmat(file)]
        known = [name for name in VARIABLES if name in names]
        if not known:
            listed = ", ".join(names) or "none"
            raise ValueError(f"it must hold {', '.join(VARIABLES)}; its variables are: {listed}")
        content: dict[str, Any] = loadmat(file, variable_names=known)
    except NotImplementedError as error:
        raise ValueError("it is of MATLAB 7.3 (HDF5): save it with the option -v7") from error
    for name in known:
        value = content[name]
        if name != "ucm2" and (value.dtype != object or value.size == 0):
            raise ValueError(
                f"{name} must be a cell array that is not empty, got {value.dtype} {value.shape}"
            )
    return content


def _segmentation(cell: Any) -> NDArray[Any]:
    """Return the label map of one cell: a struct's field, or the array itself."""
    fields = cell.dtype.names
    if fields is None:
        return np.asarray(cell)
    if "Segmentation" not in fields or cell.size != 1:
        raise ValueError(f"a cell must have the field Segmentation, got {', '.join(fields)}")
    return np.asarray(cell["Segmentation"].item())
