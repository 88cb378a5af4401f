"""The folder that a command writes to: all of its files appear, or none, and none is lost for them.

What a run writes is recorded in its JSON, under ``command`` and ``sha256``. The same command may
replace these files as long as they are what it wrote; all others only if the user says so, and
those that a run reads never.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hiersearch.cli.console import as_json
from hiersearch.cli.errors import UsageError
from hiersearch.cli.signals import held

_EARLIER = ".earlier"
"""Folder in a stage, for what was replaced until all is in place."""
_CATALOGUE = "catalogue.sqlite"
"""The file by which a folder is known to be an index."""


def checked_folder(out: Path) -> Path:
    """Return ``out`` as an absolute path if a folder can be there, before any work is done."""
    folder = Path(os.path.abspath(out))
    present = folder
    while not present.exists():
        if present.is_symlink():
            raise UsageError(f"--out {out} cannot be a folder: {present} is a link to nowhere")
        present = present.parent
    if not present.is_dir():
        raise UsageError(f"--out {out} cannot be a folder: {present} is a file")
    if not os.access(present, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out} cannot be written: {present} does not allow it")
    for place in (folder, folder.parent):
        if (place / _CATALOGUE).exists():
            raise UsageError(f"--out {out} must not lie in the index {place}")
    return folder


Inputs = dict[tuple[int, int], Path]
"""Files by what tells them apart, however they are called: device and number on it."""


def input_files(*sources: Path | str | None) -> Inputs:
    """Return the files among what a command reads: options may also hold names, or nothing."""
    found = {}
    for source in sources:
        with contextlib.suppress(OSError, ValueError):
            if source is not None:
                status = os.stat(source)
                found[status.st_dev, status.st_ino] = Path(source)
    return found


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a run of a command writes, and what it may replace there."""

    folder: Path
    """Where files go, absolute; it need not be there."""
    command: str
    """Which command writes, such as "match"."""
    record: str
    """Name of the JSON file that says what a run wrote."""
    inputs: Inputs = field(default_factory=dict)
    """Files that the run reads: they are never replaced."""
    force: bool = False
    """Whether other files may be replaced that no earlier run of the command wrote."""
    tidy: bool = True
    """Whether files of the earlier run go that this one does not write again."""

    def inside(self, name: str) -> "Destination":
        """Return the destination of one of several results, a folder within this one.

        Raises
        ------
        UsageError
            If there is a link of that name, which would lead elsewhere.
        """
        folder = self.folder / name
        if folder.is_symlink():
            raise UsageError(f"{folder} is in the way: it is a link")
        return replace(self, folder=folder)

    def check(self, names: Iterable[str]) -> None:
        """Check that files of these names may be written, before any work is done.

        Raises
        ------
        UsageError
            If there is a folder of that name, a file that the run reads, whatever it is called, or
            one that no earlier run of the command wrote and ``force`` is not given.

        Notes
        -----
        O(bytes of the files that are there).
        """
        if not self.folder.is_dir():
            return
        records = None
        for name in names:
            path = self.folder / name
            if not os.path.lexists(path):
                continue
            if path.is_dir():
                raise UsageError(f"{path} is in the way: it is a folder")
            with contextlib.suppress(OSError):
                status = path.stat()
                source = self.inputs.get((status.st_dev, status.st_ino))
                if source is not None:
                    raise UsageError(
                        f"{path} would be replaced, and is the input {source}: write elsewhere"
                    )
            if self.force:
                continue
            if records is None:
                records = list(self._records())
            if not self._is_own(path, records):
                raise UsageError(
                    f"{path} would be replaced, and was not written by hiersearch {self.command}, "
                    "or was changed since: give --force to replace it, or write elsewhere"
                )

    def _records(self) -> Iterator[dict[str, str]]:
        """Return names and digests of what earlier runs wrote, also of runs that were killed."""
        folders = [self.folder]
        for stage in _stages(self.folder):
            folders += [stage, stage / _EARLIER]
        for folder in folders:
            found = _read_record(folder / self.record)
            if found is not None and found["command"] == self.command:
                yield found["sha256"]

    def _is_own(self, path: Path, records: list[dict[str, str]]) -> bool:
        if path.name == self.record:
            found = _read_record(path)
            return found is not None and found["command"] == self.command
        known = {record[path.name] for record in records if path.name in record}
        return bool(known) and path.is_file() and _digest(path) in known

    def write_record(self, stage: Path, summary: dict[str, Any]) -> None:
        """Write the summary of a run, which says from now on what lies in ``stage``."""
        files = sorted(path for path in stage.iterdir() if path.is_file())
        summary["command"] = self.command
        summary["sha256"] = {path.name: _digest(path) for path in files}
        (stage / self.record).write_text(as_json(summary) + "\n", encoding="utf-8")

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Yield an empty folder whose files move to their place once the block ends without error.

        If it raises, or is interrupted, the files vanish, and so do folders that were made for
        them. A new folder appears with all of its files at once. Into one that is there, files
        move one by one, the record last: of a process that is killed meanwhile, the files that
        were to be replaced remain in a hidden folder, and the next run tidies up.

        Raises
        ------
        UsageError
            As :meth:`check` does, for what came to be there meanwhile.
        """
        fresh = not self.folder.exists()
        base = self.folder.parent if fresh else self.folder
        made = [path for path in (base, *base.parents) if not path.exists()]
        stage = base / f"{_stage_prefix()}{os.getpid()}-{secrets.token_hex(4)}"
        done = False
        try:
            base.mkdir(parents=True, exist_ok=True)
            stage.mkdir()
            yield stage
            with held():
                if not (fresh and _renamed(stage, self.folder)):
                    self._move(stage)
                done = True
                _sweep(base)
        except OSError as error:
            # Not the name of a file in the stage, or none at all.
            reason = error.strerror or str(error)
            raise OSError(error.errno or errno.EIO, reason, str(self.folder)) from error
        finally:
            with held():
                shutil.rmtree(stage, ignore_errors=True)
                for path in [] if done else made:
                    with contextlib.suppress(OSError):
                        path.rmdir()

    def _move(self, stage: Path) -> None:
        """Move files into a folder that is there; what fails leaves all as it was."""
        self.folder.mkdir(exist_ok=True)
        names = sorted(path.name for path in stage.iterdir())
        self.check(names)
        stale = self._stale(set(names)) if self.tidy else []
        earlier = stage / _EARLIER
        earlier.mkdir()
        done: list[tuple[Path, Path]] = []

        def move(source: Path, target: Path) -> None:
            os.rename(source, target)
            done.append((source, target))

        try:
            # Without its record, nothing here looks like a result until all is here.
            for name in (self.record, *stale):
                if os.path.lexists(self.folder / name):
                    move(self.folder / name, earlier / name)
            for name in sorted(names, key=lambda name: name == self.record):
                if os.path.lexists(self.folder / name):
                    move(self.folder / name, earlier / name)
                move(stage / name, self.folder / name)
        except BaseException:
            for source, target in reversed(done):
                os.rename(target, source)
            raise

    def _stale(self, names: set[str]) -> list[str]:
        """Return the files of earlier runs, as they wrote them, that are not written again."""
        records = list(self._records())
        known = {name for record in records for name in record} - names
        return sorted(
            name
            for name in known
            if Path(name).name == name
            and not (self.folder / name).is_symlink()
            and self._is_own(self.folder / name, records)
        )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_record(path: Path) -> dict[str, Any] | None:
    """Return what a run wrote about itself, or None if that is something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("sha256"), dict):
        return None
    return found if isinstance(found.get("command"), str) else None


# --- stages ---------------------------------------------------------------------------------


def _stage_prefix() -> str:
    """Begin the name of a stage by the machine: process numbers mean nothing on another one."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    return f".hiersearch-{host}-"


def _stages(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(folder.glob(f"{_stage_prefix()}*"))
    return []


def _renamed(stage: Path, folder: Path) -> bool:
    """Let a stage become the folder, unless one has come to be there meanwhile."""
    if os.path.lexists(folder):
        return False
    try:
        os.rename(stage, folder)
    except FileExistsError:
        return False
    except OSError:
        if os.path.lexists(folder):
            return False
        raise
    return True


def _sweep(base: Path) -> None:
    """Remove stages of processes that were killed; what they had moved away comes back."""
    for stage in _stages(base):
        process = re.fullmatch(r"(\d+)-[0-9a-f]{8}", stage.name.removeprefix(_stage_prefix()))
        if process is None or _is_alive(int(process[1])):
            continue
        with contextlib.suppress(OSError):
            for path in sorted((stage / _EARLIER).glob("*")):
                if not os.path.lexists(base / path.name):
                    os.rename(path, base / path.name)
        shutil.rmtree(stage, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        # There is no harmless way to ask.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
