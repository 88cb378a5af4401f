"""Collections of label maps in files, read one entry at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch._errors import FileFormatError
from hiersearch.index.coco import read_coco
from hiersearch.index.entries import Entry, HierarchyEntry, labelled_entry
from hiersearch.index.matlab import read_matlab
from hiersearch.partitions.files import FilePath, decoding, read_label_map

Loaded = Entry | HierarchyEntry
Steps = Iterator[tuple[float, Loaded]]

IN_FOLDERS = (".png", ".tif", ".tiff", ".npy", ".npz", ".mat")
"""Endings of the files that are taken from a folder."""
ENDINGS = (*IN_FOLDERS, ".json")
"""Endings of the files that can be read."""


class Collection:
    """The label maps and hierarchies of files, read while iterating.

    Parameters
    ----------
    paths : sequence of paths
        Files, and folders whose files are taken in the order of their names:

        - .png, .tif, .tiff, .npy: a label map; one more axis than ``axes`` makes it a stack;
        - .npz: the array ``labels``, or all arrays, each a label map or a stack;
        - .mat: ``groundTruth``, ``segs`` or ``ucm2`` (:func:`hiersearch.index.matlab.read_matlab`);
        - .json, if named itself: COCO instances or panoptic segments
          (:func:`hiersearch.index.coco.read_coco`).
    axes : int
        2 for images, 3 for volumes.
    pattern : str
        Which files of folders are taken, such as ``"*-labels.png"``.
    prefix : str
        Put before each id.
    names : sequence of str, optional
        One for each file, in place of its stem.
    on_failure : callable, optional
        Called with a file that cannot be read and the error, which then is not raised: what is
        left of the file is left out.

    Attributes
    ----------
    files : list of Path
        What will be read, in order.
    done : float
        Share of the work that is done, 0 to 1, by number of files.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    ValueError
        If a folder holds no such file, a file has another ending, ``axes`` is not 2 or 3, or
        ``names`` are not as many as files, or are given for a .json file, which names its images.
    FileFormatError, MissingExtraError, OSError, ValueError
        While iterating: if a file cannot be read, or its name is no UTF-8 and ``names`` are not
        given; the message names it.

    Notes
    -----
    Ids are the stems of the files; where a file holds several maps, ``stem/0``, ``stem/1``, ... or
    ``stem/name`` of the array. Metadata are those of
    :func:`hiersearch.index.entries.labelled_entry`. At any time at most one label map is in memory
    besides what a compressed file needs to be read (all of a TIFF; the text of a JSON file).

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.zeros((4, 5), int))
    ...     np.savez(f"{folder}/b.npz", labels=np.zeros((2, 4, 5), int))
    ...     [entry.id for entry in Collection([folder])]
    ['a', 'b/0', 'b/1']
    """

    def __init__(
        self,
        paths: Sequence[FilePath],
        *,
        axes: int = 2,
        pattern: str = "*",
        prefix: str = "",
        names: Sequence[str] | None = None,
        on_failure: Callable[[Path, Exception], None] | None = None,
    ) -> None:
        self.axes = _validate.checked_count(axes, "axes", 2, 3)
        self.prefix = prefix
        self.files = [file for path in paths for file in _files(Path(path), pattern)]
        self.on_failure = on_failure
        self.done = 0.0
        self.names = [file.stem for file in self.files] if names is None else list(names)
        if len(self.names) != len(self.files):
            raise ValueError(
                f"names must be one for each of {len(self.files)} files, got {len(self.names)}"
            )
        for file in self.files:
            if names is not None and file.suffix.lower() == ".json":
                raise ValueError(f"names must not be given for {file}, which names its images")

    def __iter__(self) -> Iterator[Loaded]:
        """Read the entries, from the first file on."""
        self.done = 0.0
        for place, (file, name) in enumerate(zip(self.files, self.names, strict=True)):
            for share, entry in self._steps(file, name):
                self.done = (place + share) / len(self.files)
                own = str(entry.id)
                if file.suffix.lower() != ".json":
                    own = name + own.removeprefix(file.stem)
                yield _renamed(entry, self.prefix + own)

    def _steps(self, file: Path, name: str) -> Steps:
        """Read the entries of a file, up to where it fails."""
        steps = None
        while True:
            # Only what the reader raises: errors of who takes the entries are none of the file.
            try:
                if steps is None:
                    _check_name(file, name)
                    steps = _READERS[file.suffix.lower()](file, self.axes)
                step = next(steps)
            except StopIteration:
                return
            except (ValueError, TypeError, OSError, MemoryError) as error:
                if self.on_failure is None:
                    raise
                self.on_failure(file, error)
                return
            yield step


def _check_name(file: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{file} must be given a name (--id), since its own is no UTF-8, as ids must be"
        ) from error


def _renamed(entry: Loaded, name: str) -> Loaded:
    if isinstance(entry, HierarchyEntry):
        return HierarchyEntry(entry.tree, name, entry.metadata)
    return Entry(entry.labels, name, entry.metadata)


def _files(path: Path, pattern: str) -> list[Path]:
    if path.is_dir():
        found = [file for file in path.glob(pattern) if file.suffix.lower() in IN_FOLDERS]
        files = sorted(file for file in found if file.is_file() and not file.name.startswith("."))
        if not files:
            raise ValueError(
                f"{path} must hold files {pattern} that end in {', '.join(IN_FOLDERS)}, got none"
            )
        return files
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path} must be a folder or end in {', '.join(ENDINGS)}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return [path]


# --- one reader for each kind of file -------------------------------------------------------


def _image(file: Path, axes: int) -> Steps:
    return _maps(file, file.stem, read_label_map(file), axes)


def _npy(file: Path, axes: int) -> Steps:
    with decoding(file, "label maps"):
        # Memory-mapped: of a long stack, only what is used is read.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    return _maps(file, file.stem, array, axes)


def _maps(file: Path, name: str, array: NDArray[Any], axes: int) -> Steps:
    """Split an array into the label maps that it holds."""
    if array.ndim == axes:
        yield 1.0, _entry(file, name, array)
        return
    _check_axes(file, array.shape, axes)
    for place, labels in enumerate(array):
        yield (place + 1) / len(array), _entry(file, f"{name}/{place}", labels)


def _check_axes(file: Path, shape: tuple[int, ...], axes: int) -> None:
    if len(shape) != axes + 1:
        raise FileFormatError(
            f"{file} must hold {axes}-D label maps or a stack of them, got shape {shape}"
        )


def _entry(file: Path, name: str, labels: NDArray[Any]) -> Entry:
    with decoding(file, "label maps"):
        entry = labelled_entry(labels, name, file.name)
    return entry


def _npz(file: Path, axes: int) -> Steps:
    with decoding(file, "label maps"):
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not an .npz archive")
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            if "labels.npy" in names:
                names = ["labels.npy"]
            if not names:
                raise ValueError("it holds no array")
            for name in names:
                _check_member(archive, name)
            for place, name in enumerate(names):
                stem = file.stem if len(names) == 1 else f"{file.stem}/{name[:-4]}"
                with archive.open(name) as stream:
                    for share, entry in _member(file, stem, stream, axes):
                        yield (place + share) / len(names), entry


def _check_member(archive: zipfile.ZipFile, name: str) -> None:
    """Check an array's type and checksum, which stands at its end, without keeping it."""
    with archive.open(name) as stream:
        shape, _, dtype = _header(stream)
        if dtype.kind not in "iub":
            raise TypeError(
                f"array {name[:-4]!r} must be of integers, got {dtype} {shape}: "
                "call the label maps 'labels', and other arrays are left alone"
            )
        while stream.read(2**20):
            pass


def _member(file: Path, name: str, stream: Any, axes: int) -> Steps:
    """Read an array of an archive, a stack map by map."""
    shape, in_columns, dtype = _header(stream)
    if len(shape) == axes or in_columns:
        order = "F" if in_columns else "C"
        whole = _values(stream, dtype, shape).reshape(shape, order=order)  # type: ignore[call-overload]
        yield from _maps(file, name, whole, axes)
        return
    _check_axes(file, shape, axes)
    for place in range(shape[0]):
        labels = _values(stream, dtype, shape[1:]).reshape(shape[1:])
        yield (place + 1) / shape[0], _entry(file, f"{name}/{place}", labels)


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _values(stream: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape))
    content = stream.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError("an array is truncated")
    return np.frombuffer(content, dtype)


def _matlab(file: Path, axes: int) -> Steps:
    if axes != 2:
        raise FileFormatError(f"{file} holds 2-D label maps, expected {axes}-D ones")
    return read_matlab(file)


def _coco(file: Path, axes: int) -> Steps:
    if axes != 2:
        raise FileFormatError(f"{file} holds 2-D label maps, expected {axes}-D ones")
    return read_coco(file)


_READERS: dict[str, Callable[[Path, int], Steps]] = {
    ".png": _image,
    ".tif": _image,
    ".tiff": _image,
    ".npy": _npy,
    ".npz": _npz,
    ".mat": _matlab,
    ".json": _coco,
}
