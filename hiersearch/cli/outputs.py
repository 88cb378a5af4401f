"""The folder that a command writes to: all of its files appear, or none."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hiersearch.cli.errors import UsageError


def checked_folder(out: Path) -> Path:
    """Return ``out`` as an absolute path if a folder can be there, before any work is done."""
    folder = Path(os.path.abspath(out))
    present = folder
    while not present.exists():
        present = present.parent
    if not present.is_dir():
        raise UsageError(f"--out {out} cannot be a folder: {present} is a file")
    if not os.access(present, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out} cannot be written: {present} does not allow it")
    return folder


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose files move to ``folder`` once the block ends without error.

    If it raises, or is interrupted, the files vanish, and so do folders that were made for them.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        stage = Path(tempfile.mkdtemp(prefix=".hiersearch-", dir=folder))
        try:
            yield stage
            files = sorted(stage.iterdir())
            for file in files:
                if (folder / file.name).is_dir():
                    raise UsageError(f"{folder / file.name} is in the way: it is a folder")
            for file in files:
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except BaseException:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise
