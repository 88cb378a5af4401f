"""The lock that keeps an index to one writer; it goes when its process does."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from hiersearch.index.errors import IndexLockedError

LOCK = "writer.lock"


class WriterLock:
    """The right to write an index, held until :meth:`release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock of the index in ``folder``.

        Raises
        ------
        IndexLockedError
            If it is taken.
        OSError
            If the folder may not be written to.
        """
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            message = "the index may not be written to, it can only be opened for reading"
            raise OSError(error.errno, message, str(folder)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise IndexLockedError(
                f"{folder} is being written by process {holder}: wait until it is done, "
                "or open the index for reading"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        # The lock is what counts: should the disk be full, the number is merely not shown.
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass

    def release(self) -> None:
        """Give the lock back. More than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
