"""Collections of label maps in files, read one entry at a time."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch import _validate
from hiersearch.errors import FileFormatError
from hiersearch.index.formats.coco import read_coco
from hiersearch.index.formats.entries import Entry, HierarchyEntry, labelled_entry
from hiersearch.index.formats.matlab import read_matlab
from hiersearch.partitions.files import FilePath, decoding, read_label_map
from hiersearch.partitions.ignored import filled, has_label
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.saved_arrays import (
    chosen,
    names_in,
    opened_archive,
    read_header,
    read_values,
)

Loaded = Entry | HierarchyEntry
Steps = Iterator[tuple[float, Loaded]]

IN_FOLDERS = (".png", ".tif", ".tiff", ".npy", ".npz", ".mat")
"""Endings of the files that are taken from a folder."""
ENDINGS = (*IN_FOLDERS, ".json")
"""Endings of the files that can be read."""


MOST_CHANNELS = 4
"""How many channels a picture may have: red, green, blue and opacity."""
DISTORTED = 4
"""How much the sides of maps may be stretched against each other until they look like none."""


class Collection:
    """The label maps and hierarchies of files, read while iterating.

    Parameters
    ----------
    paths : sequence of paths
        Files, and folders whose files are taken in the order of their names:

        - .png, .tif, .tiff, .npy: a label map; one more axis than ``axes`` makes it a stack, the
          maps along its first axis;
        - .npz: one array, or the one called ``labels``, or those of ``keys``, each a label map or
          a stack;
        - .mat: ``groundTruth``, ``segs`` or ``ucm2``
          (:func:`hiersearch.index.formats.matlab.read_matlab`);
        - .json, if named itself: COCO instances or panoptic segments
          (:func:`hiersearch.index.formats.coco.read_coco`).
    axes : int
        2 for images, 3 for volumes.
    pattern : str
        Which files of folders are taken, such as ``"*-labels.png"``; ``"**/*.png"`` takes those
        of all folders within.
    prefix : str
        Put before each id.
    names : sequence of str, optional
        One for each file, in place of what it would be called.
    grid : sequence of int, optional
        What the label maps will be brought to. It tells stacks from arrays with channels last.
    keys : sequence of str
        Which arrays of .npz files are taken.
    ignore : sequence of int
        Labels that stand for no region: their pixels take the label of the nearest other pixel
        (:func:`hiersearch.partitions.ignored.filled`).
    strict : bool
        Whether COCO annotations without a shape are refused; else they are left out and counted.
    on_failure : callable, optional
        Called with a file that cannot be read and the error, which then is not raised: what is
        left of the file is left out.

    Attributes
    ----------
    files : list of Path
        What will be read, in order.
    done : float
        Share of the work that is done, 0 to 1, by number of files.
    ignored_pixels : int
        How many pixels had an ignored label so far.
    skipped : Counter of str
        How many COCO annotations were left out so far, by reason.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    ValueError
        If a folder holds no such file, a file has another ending, ``axes`` is not 2 or 3, two
        files would have one id, ``names`` are not as many as files, or an argument is given that
        a file has no use for: names or ``ignore`` for a .json file, whose labels are drawn.
    FileFormatError, MissingExtraError, OSError, ValueError
        While iterating: if a file cannot be read, or its name is no UTF-8 and ``names`` are not
        given; the message names it.

    Notes
    -----
    Ids are the paths of the files without their endings, seen from the folder that all of them
    lie in: stems, where that is one folder, else ``folder/stem``. Where a file holds several maps,
    ``stem/0``, ``stem/1``, ... or ``stem/name`` of the array. Metadata are those of
    :func:`hiersearch.index.formats.entries.labelled_entry`, with the path as ``file``. At any time
    at most one label map is in memory besides what a compressed file needs to be read (all of a
    TIFF; the text of a JSON file).

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
        grid: Sequence[int] | None = None,
        keys: Sequence[str] = (),
        ignore: Sequence[int] = (),
        strict: bool = False,
        on_failure: Callable[[Path, Exception], None] | None = None,
    ) -> None:
        axes = _validate.checked_count(axes, "axes", 2, 3)
        shape = None if grid is None else _validate.checked_grid(grid, "grid")
        if shape is not None and len(shape) != axes:
            raise ValueError(f"grid must have {axes} axes, got {shape}")
        self.prefix = prefix
        self.ignore = tuple(ignore)
        self.on_failure = on_failure
        self.skipped: Counter[str] = Counter()
        self.ignored_pixels = 0
        self.done = 0.0
        self._options = _Options(axes, shape, tuple(keys), strict, self.skipped)
        found = [_files(Path(path), pattern) for path in paths]
        self.files = [file for _, files in found for file in files]
        self._check_options(names)
        bases = [base for base, files in found for _ in files]
        self._places = _seen_from_one_folder(self.files, bases)
        if names is None:
            self.names = [os.path.splitext(place)[0] for place in self._places]
            _check_differ(self.names, self.files)
        else:
            self.names = list(names)

    def _check_options(self, names: Sequence[str] | None) -> None:
        if names is not None and len(names) != len(self.files):
            raise ValueError(
                f"names must be one for each of {len(self.files)} files, got {len(names)}"
            )
        for file in self.files:
            if file.suffix.lower() == ".json":
                if names is not None:
                    raise ValueError(f"names must not be given for {file}, which names its images")
                if self.ignore:
                    raise ValueError(
                        f"ignore must not be given for {file}, whose label maps are drawn"
                    )
        if self._options.keys and not any(file.suffix.lower() == ".npz" for file in self.files):
            raise ValueError(f"keys are for .npz files, got {', '.join(self._options.keys)}")

    def __iter__(self) -> Iterator[Loaded]:
        """Read the entries, from the first file on."""
        self.done = 0.0
        self.ignored_pixels = 0
        self.skipped.clear()
        for place, (file, name) in enumerate(zip(self.files, self.names, strict=True)):
            annotated = file.suffix.lower() == ".json"
            for share, entry in self._steps(file, name):
                self.done = (place + share) / len(self.files)
                own, metadata = str(entry.id), dict(entry.metadata or {})
                if not annotated:
                    own = name + own.removeprefix(file.stem)
                    metadata["file"] = (
                        self._places[place].encode("utf-8", "backslashreplace").decode()
                    )
                if isinstance(entry, HierarchyEntry):
                    yield HierarchyEntry(entry.tree, self.prefix + own, metadata)
                    continue
                assert isinstance(entry.labels, Partition)
                labels = self._without_ignored(entry.labels, str(file))
                if "regions" in metadata:
                    metadata["regions"] = labels.n_regions
                yield Entry(labels, self.prefix + own, metadata)

    def _without_ignored(self, partition: Partition, name: str) -> Partition:
        if not has_label(partition.label_values, self.ignore).any():
            return partition
        labels, count = filled(partition.original_labels, self.ignore, name)
        self.ignored_pixels += count
        return Partition.from_labels(labels)

    def _steps(self, file: Path, name: str) -> Steps:
        """Read the entries of a file, up to where it fails."""
        steps = None
        while True:
            # Only what the reader raises: errors of who takes the entries are none of the file.
            try:
                if steps is None:
                    _check_name(file, name)
                    steps = _READERS[file.suffix.lower()](file, self._options)
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


@dataclass(frozen=True, slots=True)
class _Options:
    """What readers have to know besides the file."""

    axes: int
    """2 for images, 3 for volumes."""
    grid: tuple[int, ...] | None
    """What the label maps will be brought to, where it is known."""
    keys: tuple[str, ...]
    """Which arrays of .npz files are taken, where it is said."""
    strict: bool
    """Whether annotations without a shape are refused."""
    skipped: Counter[str]
    """Where those that are left out are counted."""


# --- files and their names ------------------------------------------------------------------


def _files(path: Path, pattern: str) -> tuple[Path, list[Path]]:
    """Return the files that a path stands for, and the folder that they are named from."""
    if path.is_dir():
        try:
            found = [file for file in path.glob(pattern) if file.suffix.lower() in IN_FOLDERS]
        except (NotImplementedError, ValueError) as error:
            raise ValueError(
                f"pattern must be of files in a folder, like '*.png', got {pattern!r}"
            ) from error
        if any(".." in file.relative_to(path).parts for file in found):
            raise ValueError(f"pattern must not leave the folder, got {pattern!r}")
        files = sorted(file for file in found if file.is_file() and not _is_hidden(file, path))
        if not files:
            raise ValueError(
                f"{path} must hold files {pattern} that end in {', '.join(IN_FOLDERS)}, got none "
                "(the pattern '**/*' also takes those of the folders within)"
            )
        return path, files
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path} must be a folder or end in {', '.join(ENDINGS)}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return path.parent, [path]


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _seen_from_one_folder(files: Sequence[Path], bases: Sequence[Path]) -> list[str]:
    """Return the paths of files as they are seen from the folder that all of them lie in."""
    try:
        folder = os.path.commonpath([os.path.abspath(base) for base in bases])
    except ValueError:  # there is none: on Windows they may lie on several drives
        return [file.name for file in files]
    return [Path(os.path.relpath(os.path.abspath(file), folder)).as_posix() for file in files]


def _check_differ(names: Sequence[str], files: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for name, file in zip(names, files, strict=True):
        if file.suffix.lower() == ".json":
            continue  # its images have names of their own
        if name in first:
            if os.path.abspath(first[name]) == os.path.abspath(file):
                raise ValueError(f"files must differ, got {file} twice, which has the id {name!r}")
            raise ValueError(
                f"files must have names that differ without their endings, got {first[name]} and "
                f"{file}: choose by a pattern, or give ids"
            )
        first[name] = file


# --- one reader for each kind of file -------------------------------------------------------


def _image(file: Path, options: _Options) -> Steps:
    return _maps(file, file.stem, read_label_map(file), options)


def _npy(file: Path, options: _Options) -> Steps:
    with decoding(file, "label maps"):
        with file.open("rb") as stream:
            read_header(stream)
        # Memory-mapped: of a long stack, only what is used is read.
        array = np.lib.format.open_memmap(file, mode="r")
    return _maps(file, file.stem, array, options)


def _maps(file: Path, name: str, array: NDArray[Any], options: _Options) -> Steps:
    """Split an array into the label maps that it holds."""
    if array.ndim == options.axes:
        yield 1.0, _entry(file, name, array)
        return
    _check_stack(file, array.shape, options)
    for place, labels in enumerate(array):
        yield (place + 1) / len(array), _entry(file, f"{name}/{place}", labels)


def _check_stack(file: Path, shape: tuple[int, ...], options: _Options) -> None:
    if len(shape) != options.axes + 1:
        raise FileFormatError(
            f"{file} must hold {options.axes}-D label maps or a stack of them, got shape {shape}"
        )
    if _looks_like_channels(shape, options.grid):
        raise FileFormatError(
            f"{file} must hold label maps one after the other, got shape {shape}, whose last axis "
            "looks like channels: bring it to the front with numpy.moveaxis, or if it is a "
            "picture, number its colours"
        )


def _looks_like_channels(shape: tuple[int, ...], grid: tuple[int, ...] | None) -> bool:
    """Say whether the last axis of a stack rather is one of channels than the first one of maps."""
    maps, pixels = shape[1:], shape[:-1]
    if maps == grid:
        return False
    if pixels == grid:
        return True
    if shape[-1] <= MOST_CHANNELS and shape[-1] < min(pixels):
        return True
    if grid is None or 0 in shape:
        return False
    distortion = _distortion(maps, grid)
    return distortion >= DISTORTED and 2 * _distortion(pixels, grid) < distortion


def _distortion(shape: tuple[int, ...], grid: tuple[int, ...]) -> float:
    """Return how much more one side is stretched than another when a shape is brought to a grid."""
    factors = [new / old for new, old in zip(grid, shape, strict=True)]
    return max(factors) / min(factors)


def _entry(file: Path, name: str, labels: NDArray[Any]) -> Entry:
    with decoding(file, "label maps"):
        entry = labelled_entry(_validate.whole_numbers(labels, "labels"), name, file.name)
    return entry


def _npz(file: Path, options: _Options) -> Steps:
    with decoding(file, "label maps"), opened_archive(file) as archive:
        every = names_in(archive)
        names = [chosen(every, key, "labels") for key in options.keys or (None,)]
        for name in names:
            _check_member(archive, name)
        for place, name in enumerate(names):
            stem = file.stem if len(names) == 1 else f"{file.stem}/{name}"
            with archive.open(f"{name}.npy") as stream:
                for share, entry in _member(file, stem, stream, options):
                    yield (place + share) / len(names), entry


def _check_member(archive: zipfile.ZipFile, name: str) -> None:
    """Check an array's type and checksum, which stands at its end, without keeping it."""
    with archive.open(f"{name}.npy") as stream:
        shape, _, dtype = read_header(stream)
        if dtype.kind not in "iubf":
            raise TypeError(f"array {name!r} must be of integers, got {dtype} {shape}")
        while stream.read(2**20):
            pass


def _member(file: Path, name: str, stream: Any, options: _Options) -> Steps:
    """Read an array of an archive, a stack map by map."""
    shape, in_columns, dtype = read_header(stream)
    if len(shape) == options.axes or in_columns:
        order = "F" if in_columns else "C"
        whole = read_values(stream, dtype, shape).reshape(shape, order=order)  # type: ignore[call-overload]
        yield from _maps(file, name, whole, options)
        return
    _check_stack(file, shape, options)
    for place in range(shape[0]):
        labels = read_values(stream, dtype, shape[1:]).reshape(shape[1:])
        yield (place + 1) / shape[0], _entry(file, f"{name}/{place}", labels)


def _matlab(file: Path, options: _Options) -> Steps:
    _check_flat(file, options)
    return read_matlab(file)


def _coco(file: Path, options: _Options) -> Steps:
    _check_flat(file, options)
    return read_coco(file, strict=options.strict, skipped=options.skipped)


def _check_flat(file: Path, options: _Options) -> None:
    if options.axes != 2:
        raise FileFormatError(f"{file} holds 2-D label maps, expected {options.axes}-D ones")


_READERS: dict[str, Callable[[Path, _Options], Steps]] = {
    ".png": _image,
    ".tif": _image,
    ".tiff": _image,
    ".npy": _npy,
    ".npz": _npz,
    ".mat": _matlab,
    ".json": _coco,
}
