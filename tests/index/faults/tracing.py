"""What a process asked of the file system, read from a trace of its system calls.

Calls are seen where the kernel sees them, so those of SQLite's C library count like those of
Python. :func:`traced` runs a command under ``strace``; a call that the model of the disk does not
know raises, it is never passed over.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.index.faults.disk_model import Disk, File, Folder

CALLS = (
    *("openat", "open", "creat", "write", "writev", "pwrite64", "pwritev", "pwritev2"),
    *("ftruncate", "truncate", "fallocate", "fsync", "fdatasync", "sync_file_range", "lseek"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir"),
    *("mkdirat", "rmdir", "symlink", "symlinkat", "dup", "dup2", "dup3", "fcntl", "mmap", "sync"),
    *("syncfs", "sendfile", "copy_file_range", "splice", "io_uring_setup"),
)
"""All calls that change files, make changes durable or duplicate descriptors, and some that could
and are not expected."""

_IGNORED = {"sync_file_range"}
"""Calls that promise nothing about what outlasts a loss of power."""


@functools.cache
def missing() -> str | None:
    """Return why calls can't be traced here, in one sentence, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed: apt-get install strace"
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True)
    if tried.returncode:
        return f"strace may not trace here: {tried.stderr.decode(errors='replace').strip()}"
    return None


@dataclass(frozen=True)
class Call:
    """One system call that succeeded, or was made to fail."""

    name: str
    arguments: tuple[str, ...]
    """As the trace shows them, strings in hexadecimal."""
    result: int
    """-1 where it was made to fail, and did nothing."""

    @property
    def changes(self) -> bool:
        """Whether it may change what remains after a loss of power."""
        if self.result < 0:
            return False
        if self.name in ("openat", "open"):
            return any("O_CREAT" in flags or "O_TRUNC" in flags for flags in self.arguments[1:])
        return self.name not in ("lseek", "mmap", "dup", "dup2", "dup3", "fcntl")

    @property
    def data(self) -> bytes:
        """What a call of write wrote."""
        return _bytes(self.arguments[1])[: self.result]

    @property
    def file(self) -> str:
        """The last part of the name of the file or folder it is about; the new one of two."""
        about = self.arguments[0]
        if not re.match(r"\d+<", about):
            about = [one for one in self.arguments if one.startswith('"')][-1]
        name = _bytes('"' + re.split('[<>"]', about)[1] + '"')
        return os.fsdecode(name).rpartition("/")[2]


def traced(
    command: Sequence[str], root: Path, data: bytes, cwd: Path, inject: str | None = None
) -> list[Call]:
    """Run a command and return the calls on files below ``root``, in order.

    Parameters
    ----------
    command : sequence of str
        What to run.
    root : Path
        A folder.
    data : bytes
        The command's standard input.
    cwd : Path
        Where it runs.
    inject : str, optional
        Calls that are made to fail, as ``strace -e inject=`` takes it.

    Raises
    ------
    AssertionError
        If the command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        options = ["-f", "--seccomp-bpf", "-qq", "-xx", "-y", "-a1", "-s", str(2**28)]
        if inject is not None:
            options += ["-e", f"inject={inject}"]
        names = ",".join(f"?{name}" for name in CALLS)  # not every machine has all of them
        done = subprocess.run(
            ["strace", *options, "-e", f"trace={names}", "-o", str(trace), *command],
            cwd=cwd,
            input=data,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"the traced command failed:\n{done.stderr.decode()}")
        with open(trace, encoding="ascii") as lines:
            return list(calls(lines, root))


_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)")
_UNFINISHED = re.compile(r"(\d+) +(\w+\(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$")


def calls(lines: Iterable[str], root: Path) -> Iterator[Call]:
    """Yield the calls that succeeded, or were made to fail, on files below ``root``.

    Each comes when it returned.
    """
    mark = _hexadecimal(os.fsencode(root))
    begun: dict[str, str] = {}
    for line in lines:
        text = line.rstrip("\n")
        if match := _UNFINISHED.match(text):
            begun[match[1]] = f"{match[1]} {match[2]}"
            continue
        if match := _RESUMED.match(text):
            text = begun.pop(match[1]) + match[3]
        if mark not in text:
            continue
        found = _LINE.match(text)
        if found is None:
            raise AssertionError(f"a line of the trace can't be read: {text[:200]}")
        if found[4] == "?" or (int(found[4]) < 0 and "(INJECTED)" not in text):
            continue
        if found[2] == "fcntl" and "F_DUPFD" not in found[3]:
            continue  # SQLite's locks
        yield Call(found[2], tuple(_split(found[3])), int(found[4]))


def _hexadecimal(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _split(text: str) -> Iterator[str]:
    """Split arguments at the commas outside of brackets; strings hold none."""
    depth, start = 0, 0
    for match in re.finditer(r"[\[\]{},]", text):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
        elif depth == 0:
            yield text[start : match.start()].strip()
            start = match.end()
    if text:
        yield text[start:].strip()


def _bytes(argument: str) -> bytes:
    """Return the bytes of a string."""
    if not (argument.startswith('"') and argument.endswith('"')):
        raise AssertionError(f"a string of the trace was cut: {argument[:80]}")
    return bytes.fromhex(argument[1:-1].replace("\\x", ""))


@dataclass
class _Open:
    """What one descriptor stands for."""

    node: File | Folder
    position: int = 0
    appends: bool = False


class Replay:
    """Does to the model of a disk what the calls of one process did to the real one."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._open: dict[int, _Open] = {}

    def do(self, call: Call) -> None:
        """Do one call."""
        if call.name in _IGNORED or call.result < 0:
            return
        method = getattr(self, f"_{call.name}", None)
        if method is None:
            raise AssertionError(f"the model of the disk does not know {call.name}: {call}")
        method(call.result, *call.arguments)

    def do_all(self, calls: Iterable[Call]) -> None:
        """Do calls in order."""
        for call in calls:
            self.do(call)

    def node(self, call: Call) -> File | Folder:
        """Return the file or folder that the descriptor of a call stands for."""
        return self._of(call.arguments[0]).node

    # --- places -----------------------------------------------------------------------------

    def _path(self, argument: str, folder: str = "AT_FDCWD") -> Path:
        name = Path(os.fsdecode(_bytes(argument)))
        if not name.is_absolute():
            base = re.search(r"<(.*)>$", folder)
            if base is None:
                raise AssertionError(f"a path is relative to what is not known: {name}")
            name = Path(os.fsdecode(_bytes(f'"{base[1]}"')), name)
        return Path(os.path.normpath(name))

    def _of(self, argument: str) -> _Open:
        number = int(argument.partition("<")[0])
        if number not in self._open:
            raise AssertionError(f"a descriptor was not seen to be opened: {argument}")
        return self._open[number]

    # --- opening ----------------------------------------------------------------------------

    def _openat(
        self, result: int, folder: str, name: str, flags: str, mode: str | None = None
    ) -> None:
        path = self._path(name, folder)
        self._open.pop(result, None)
        if not self.disk.holds(path):
            return  # the root occurs in the line, but the file lies elsewhere
        words = flags.split("|")
        node = self.disk.find(path)
        if node is None:
            node = self.disk.create(path)
        if "O_TRUNC" in words and isinstance(node, File):
            node.truncate(0)
        self._open[result] = _Open(node, appends="O_APPEND" in words)

    def _dup(self, result: int, old: str, *rest: str) -> None:
        self._open[result] = self._of(old)

    _dup2 = _dup3 = _dup

    def _fcntl(self, result: int, descriptor: str, command: str, *rest: str) -> None:
        if command.startswith("F_DUPFD"):
            self._dup(result, descriptor)

    def _mmap(self, result: int, *arguments: str) -> None:
        # Reading through memory changes nothing; writing through it can't be followed.
        if "PROT_WRITE" in arguments[2] and "MAP_SHARED" in arguments[3]:
            raise AssertionError(f"a file is written through memory: {arguments}")

    # --- contents ---------------------------------------------------------------------------

    def _lseek(self, result: int, descriptor: str, *rest: str) -> None:
        number = int(descriptor.partition("<")[0])
        if number in self._open:
            self._open[number].position = result

    def _write(self, result: int, descriptor: str, data: str, count: str) -> None:
        self._append(self._of(descriptor), _bytes(data)[:result])

    def _writev(self, result: int, descriptor: str, parts: str, count: str) -> None:
        self._append(self._of(descriptor), _joined(parts)[:result])

    def _append(self, target: _Open, data: bytes) -> None:
        assert isinstance(target.node, File)
        start = target.node.size if target.appends else target.position
        target.node.write(start, data)
        target.position = start + len(data)

    def _pwrite64(self, result: int, descriptor: str, data: str, count: str, offset: str) -> None:
        node = self._of(descriptor).node
        assert isinstance(node, File)
        node.write(int(offset), _bytes(data)[:result])

    def _pwritev(
        self, result: int, descriptor: str, parts: str, count: str, offset: str, *rest: str
    ) -> None:
        node = self._of(descriptor).node
        assert isinstance(node, File)
        node.write(int(offset), _joined(parts)[:result])

    _pwritev2 = _pwritev

    def _ftruncate(self, result: int, descriptor: str, size: str) -> None:
        node = self._of(descriptor).node
        assert isinstance(node, File)
        node.truncate(int(size))

    def _fallocate(self, result: int, descriptor: str, mode: str, offset: str, length: str) -> None:
        node = self._of(descriptor).node
        assert isinstance(node, File)
        assert mode == "0"
        node.truncate(max(node.size, int(offset) + int(length)))

    def _fsync(self, result: int, descriptor: str) -> None:
        self._of(descriptor).node.sync()

    _fdatasync = _fsync

    # --- names ------------------------------------------------------------------------------

    def _rename(self, result: int, old: str, new: str) -> None:
        self.disk.rename(self._path(old), self._path(new))

    def _renameat(self, result: int, old_at: str, old: str, new_at: str, new: str) -> None:
        self.disk.rename(self._path(old, old_at), self._path(new, new_at))

    def _renameat2(
        self, result: int, old_at: str, old: str, new_at: str, new: str, flags: str
    ) -> None:
        assert "RENAME_EXCHANGE" not in flags
        self._renameat(result, old_at, old, new_at, new)

    def _link(self, result: int, old: str, new: str) -> None:
        self.disk.link(self._path(old), self._path(new))

    def _linkat(
        self, result: int, old_at: str, old: str, new_at: str, new: str, flags: str
    ) -> None:
        self.disk.link(self._path(old, old_at), self._path(new, new_at))

    def _unlink(self, result: int, name: str) -> None:
        self.disk.remove(self._path(name))

    _rmdir = _unlink

    def _unlinkat(self, result: int, at: str, name: str, flags: str) -> None:
        self.disk.remove(self._path(name, at))

    def _mkdir(self, result: int, name: str, mode: str) -> None:
        self.disk.make_folder(self._path(name))

    def _mkdirat(self, result: int, at: str, name: str, mode: str) -> None:
        self.disk.make_folder(self._path(name, at))


def _joined(parts: str) -> bytes:
    """Return the bytes of a vector of buffers."""
    found = re.findall(r'iov_base=("[^"]*"(?:\.\.\.)?)', parts)
    return b"".join(_bytes(part) for part in found)
