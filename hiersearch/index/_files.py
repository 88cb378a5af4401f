"""Writing files so that a crash leaves either all of one or nothing under its name."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".tmp"
"""Ending of the names of files that are being written."""


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however many calls the system needs."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[int]:
    """Open a file for writing under a temporary name; on success make it durable as ``path``.

    On any exception, an interruption included, the temporary file is removed.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def explained(action: str, folder: Path) -> Iterator[None]:
    """Say of a failing disk what was being done and that nothing of it remains."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = "no space left on the device"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "writing is not permitted"
        elif error.errno == errno.EIO:
            reason = "the device reports an error"
        else:
            raise
        raise OSError(
            error.errno, f"{reason}: {action} left the index as it was", str(folder)
        ) from error
