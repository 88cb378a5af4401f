"""Writing files so that a crash leaves either all of one or nothing that counts."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

TEMPORARY = ".tmp"
"""Ending of the names of files that get their names when they are complete."""

# Windows would translate line ends otherwise.
_WRITE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_NOT_OFFERED = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EPERM", "EMLINK", "EACCES", "EXDEV")
    if hasattr(errno, name)
}


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however many calls the system needs."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system has a way to ask for it."""
    only_folders = getattr(os, "O_DIRECTORY", None)
    if only_folders is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | only_folders)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no such thing, and keep names durable or don't.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other process and no left-over has."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[int]:
    """Open a file that is not there yet for writing, and make it and its name durable.

    On any exception, an interruption included, it is removed again.

    Raises
    ------
    FileExistsError
        If the name is taken; what has it stays as it is.
    """
    with _fresh_file(path) as descriptor:
        yield descriptor
        os.fsync(descriptor)
        sync_folder(path.parent)


@contextlib.contextmanager
def _fresh_file(path: Path) -> Iterator[int]:
    """Do as :func:`new_file` does, without making anything durable."""
    descriptor = os.open(path, _WRITE, 0o666)
    complete = False
    try:
        yield descriptor
        complete = True
    finally:
        own = complete or _is_at(path, descriptor)
        os.close(descriptor)
        if own and not complete:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether a name still is that of an open file, not somebody else's by now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[int]:
    """Open a file for writing that takes the place of what has its name, at once and durably.

    On any exception what is there stays as it is.
    """
    temporary = temporary_name(path)
    try:
        with _fresh_file(temporary) as descriptor:
            yield descriptor
            os.fsync(descriptor)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def give_name(temporary: Path, path: Path) -> None:
    """Durably give a complete file its name, which nobody may have taken.

    Raises
    ------
    FileExistsError
        If the name is taken; what has it stays as it is, and so does the file.
    """
    if os.name == "nt":
        os.rename(temporary, path)  # which replaces nothing there
        return
    try:
        os.link(temporary, path)
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in _NOT_OFFERED:
            raise
        # A file system without links: between these two lines only the writer's lock keeps others
        # away.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
    else:
        os.unlink(temporary)
    sync_folder(path.parent)


def fail(error: OSError, action: str, folder: Path, outcome: str) -> NoReturn:
    """Raise an error that says of a failing disk what was being done, and what came of it."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG):
        reason = "no space left on the device"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "writing is not permitted"
    elif error.errno == errno.EIO:
        reason = "the device reports an error"
    else:
        raise error
    raise OSError(error.errno, f"{reason}: {action} {outcome}", str(folder)) from error
