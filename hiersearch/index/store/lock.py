"""The lock that keeps an index to one writer; it goes when its process does.

It is the operating system's lock of an open file, by the library filelock, which knows those of
Unix and of Windows. Where a file system or a build of Python has none, a marker file stands in.
The lock belongs to one process: a forked child closes what it inherits of it. Within the process
a table keeps two writers apart even where the lock of the file does nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from hiersearch.errors import Damage, DamageError, IndexLockedError, OvertakenError

if TYPE_CHECKING:
    from filelock import SoftFileLock

LOCK = "writer.lock"
MARKER = "writer.marker"
"""What stands in for a lock where there are none; :mod:`filelock` adds endings to it."""

ATTEMPTS = 50
"""How often a lock file that was replaced in the moment of locking it is looked for again."""

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_NO_LOCKS = {
    getattr(errno, name)
    for name in ("ENOSYS", "ENOLCK", "ENOTSUP", "EOPNOTSUPP")
    if hasattr(errno, name)
}

FORKING = threading.RLock()
"""Held while descriptors change hands and while SQLite commits; a fork waits for it, so that no
child inherits either half-done."""

_held: weakref.WeakValueDictionary[tuple[int, int], WriterLock] = weakref.WeakValueDictionary()
"""The locks of this process by device and number of their files, under :data:`FORKING`."""


class WriterLock:
    """The right to write an index, until :meth:`release` or until nobody refers to it any more."""

    def __init__(self, folder: Path) -> None:
        """Take the lock of the index in ``folder``.

        Raises
        ------
        IndexLockedError
            If it is taken, be it by this process.
        DamageError
            If a folder has the name of the lock file.
        OSError
            If the folder may not be written to.
        """
        self.folder = folder
        self.path = folder / LOCK
        self.pid = os.getpid()
        """The process that holds it."""
        self.made = False
        """Whether the lock file was not there before."""
        self._descriptor = -1
        self._identity = (0, 0)
        self._is_held = False
        self._marker: SoftFileLock | None = None
        for _ in range(ATTEMPTS):
            with FORKING:
                try:
                    self._open()
                    self._take()
                    if self._is_at_its_path():
                        break
                except BaseException:
                    self._close()
                    raise
                # A creation that failed took the file away between opening and locking it.
                self._close()
        else:
            raise IndexLockedError(f"{folder}: {LOCK} was replaced again and again")
        self._write_pid()

    def _open(self) -> None:
        try:
            try:
                self._descriptor = os.open(self.path, _OPEN | os.O_EXCL, 0o666)
                self.made = True
            except FileExistsError:
                self._descriptor = os.open(self.path, _OPEN, 0o666)
                self.made = False
        except OSError as error:
            if self.path.is_dir():
                raise DamageError(Damage(str(self.path), "is a folder")) from error
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            message = "the index may not be written to, it can only be opened for reading"
            raise OSError(error.errno, message, str(self.folder)) from error
        found = os.fstat(self._descriptor)
        self._identity = (found.st_dev, found.st_ino)

    def _take(self) -> None:
        if _held.setdefault(self._identity, self) is not self:
            raise self._taken(str(os.getpid()))
        try:
            if not locked(self._descriptor):
                raise self._taken(self._holder())
            self._is_held = True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._mark()

    def _mark(self) -> None:
        """Create the marker that stands in for a lock."""
        from filelock import SoftFileLock, Timeout

        marker = SoftFileLock(str(self.folder / MARKER), thread_local=False)
        try:
            marker.acquire(blocking=False)
        except Timeout:
            raise self._taken(str(marker.pid or ""), f", or delete {MARKER} if it is not") from None
        self._marker = marker

    def _taken(self, holder: str, otherwise: str = "") -> IndexLockedError:
        by = f"process {holder}" if holder else "another process"
        return IndexLockedError(
            f"{self.folder} is being written by {by}: wait until it is done, "
            f"or open the index for reading{otherwise}"
        )

    def _holder(self) -> str:
        # On Windows the locked bytes can't be read.
        with contextlib.suppress(OSError):
            return os.read(self._descriptor, 32).decode("ascii", "replace").strip()
        return ""

    def _write_pid(self) -> None:
        # The lock is what counts: should the disk be full, the number is merely not shown.
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, f"{self.pid}\n".encode())
        except OSError:
            pass
        except BaseException:
            self.remove()
            self.release()
            raise

    def _is_at_its_path(self) -> bool:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def check(self) -> None:
        """Raise unless this process holds the lock, and it still is the lock of the folder.

        Raises
        ------
        IndexLockedError
            If this is a forked child of the process that took it.
        OvertakenError
            If the lock file was replaced.
        """
        if self.pid != os.getpid():
            raise IndexLockedError(
                f"{self.folder} was opened for writing in process {self.pid}, this is process "
                f"{os.getpid()}: open it again here"
            )
        if self._descriptor < 0 or not self._is_at_its_path():
            raise OvertakenError(
                f"{self.path} was deleted or replaced, another process may be writing: open the "
                "index again"
            )

    def remove(self) -> None:
        """Delete the lock file, if taking the lock made it. Whoever waits for it makes another."""
        if self.made and self.pid == os.getpid():
            with contextlib.suppress(OSError):
                if self._is_at_its_path():
                    os.unlink(self.path)

    def release(self) -> None:
        """Give the lock back. More than once does no harm, nor does it in a forked child."""
        with FORKING:
            self._close()

    def __del__(self) -> None:
        # At the end of the interpreter nothing can be imported, and the system lets go by itself.
        with contextlib.suppress(ImportError):
            self.release()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        is_held, self._is_held = self._is_held, False
        if descriptor < 0:
            return
        if _held.get(self._identity) is self:
            del _held[self._identity]
        if self.pid == os.getpid():
            if self._marker is not None:
                self._marker.release()
                self._marker = None
            elif is_held:
                # By name: a child may still hold a copy of the descriptor.
                with contextlib.suppress(OSError):
                    unlocked(descriptor)
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Take the operating system's lock of an open file; False: somebody has it."""
    from filelock import lock_descriptor

    return lock_descriptor(descriptor, blocking=False)


def unlocked(descriptor: int) -> None:
    """Give the operating system's lock of an open file back."""
    from filelock import unlock_descriptor

    unlock_descriptor(descriptor)


def _forget() -> None:
    """Close what a forked child inherited: the locks are its parent's."""
    for lock in list(_held.values()):
        with contextlib.suppress(OSError):
            lock._close()
    _held.clear()
    FORKING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=FORKING.acquire, after_in_parent=FORKING.release, after_in_child=_forget
    )
