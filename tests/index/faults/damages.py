"""Damage of every kind to the files of a folder: reading says so, or gives what was written."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.index.faults.killing import Findings, Model, Workload, WrongContent, shown

LOCK = "writer.lock"
"""The file whose content means nothing."""


@dataclass
class Damages(Findings):
    """What damaging files brought."""

    refused: int = 0
    """Times that reading everything was refused, the file being named."""
    harmless: int = 0
    """Times that reading everything gave what was written."""
    kinds: Counter[str] = field(default_factory=Counter)
    """How often each kind of damage was done."""


def damage_files(
    workload: Workload, folder: Path, scratch: Path, trials: int, seed: int
) -> Damages:
    """Damage copies of a folder; see what reading and verifying say."""
    rng = np.random.default_rng(seed)
    with workload.opened(folder, True) as handle:  # deletes what a killed writer left
        expected = workload.contents(handle)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    found = Damages()
    while found.trials < trials:
        kind = str(rng.choice(list(KINDS), p=_SHARES))
        name = files[int(rng.integers(len(files)))]
        with copied(folder, scratch) as copy:
            what = KINDS[kind](copy / name, rng)
            if what is None:
                continue
            found.trials += 1
            found.kinds[kind] += 1
            # Of two files that were swapped, one that is named is enough.
            names = [name.name, what.split()[-1]] if what.startswith("swapped") else [name.name]
            what = f"{name} {what}"
            try_to_read(workload, copy, names, what, expected, found)
            if kind in HARMLESS or name.name == LOCK:
                continue
            reported = verified(workload, copy)
            if not any(one in damage for damage in reported for one in names):
                found.note("unnoticed", f"{what}: verify reports {reported}")
    return found


def verified(workload: Workload, copy: Path) -> list[str]:
    """Return what verifying reports; it may raise, but only what is a report, too."""
    try:
        return [str(damage).replace(str(copy), "") for damage in workload.verify(copy)]
    except Exception as error:
        if workload.is_report(error):
            return [str(error).replace(str(copy), "")]
        return [f"nothing, it raises {type(error).__name__}"]


def try_to_read(
    workload: Workload,
    copy: Path,
    names: list[str],
    what: str,
    expected: Model,
    found: Damages,
) -> None:
    """Read everything; it must be as expected, or refused by an error that names a file."""
    try:
        with workload.opened(copy, False) as handle:
            if workload.contents(handle) != expected:
                raise WrongContent("other entries")
    except Exception as error:
        if workload.is_report(error) and any(name in str(error) for name in names):
            found.refused += 1
        else:
            found.note("wrong", f"{what}: {shown(error, copy)}")
    else:
        found.harmless += 1


@contextlib.contextmanager
def copied(folder: Path, scratch: Path) -> Iterator[Path]:
    """Copy a folder and delete the copy afterwards."""
    copy = scratch / "copy"
    shutil.copytree(folder, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


# --- kinds ----------------------------------------------------------------------------------
# Each damages a file and says how; None where it would change nothing.


def _flipped(path: Path, rng: np.random.Generator) -> str | None:
    data = bytearray(path.read_bytes())
    position, bit = int(rng.integers(len(data))), int(rng.integers(8))
    data[position] ^= 1 << bit
    path.write_bytes(data)
    return f"flipped bit {bit} of byte {position}"


def _cut(path: Path, rng: np.random.Generator) -> str | None:
    data = path.read_bytes()
    length = 0 if rng.random() < 0.1 else int(rng.integers(len(data)))
    path.write_bytes(data[:length])
    return f"cut to {length} of {len(data)} bytes"


def _appended(path: Path, rng: np.random.Generator) -> str | None:
    extra = int(rng.choice([1, 7, 512, 4096, 10_000]))
    data = bytes(extra) if rng.random() < 0.5 else rng.bytes(extra)
    with path.open("ab") as file:
        file.write(data)
    return f"{extra} bytes appended, the first {data[0]}"


def _overwritten(path: Path, rng: np.random.Generator) -> str | None:
    """Lose a write of 512 bytes, or let it land in another place."""
    data = bytearray(path.read_bytes())
    before = bytes(data)
    start = 512 * int(rng.integers(-(-len(data) // 512)))
    length = min(512, len(data) - start)
    source = int(rng.integers(len(data) - length + 1))
    zeros = rng.random() < 0.5
    data[start : start + length] = bytes(length) if zeros else before[source : source + length]
    path.write_bytes(data)
    if bytes(data) == before:
        return None
    return f"{length} bytes from {start} replaced by {'zeros' if zeros else f'those of {source}'}"


def _swapped(path: Path, rng: np.random.Generator) -> str | None:
    others = sorted(other for other in path.parent.iterdir() if other.is_file())
    other = others[int(rng.integers(len(others)))]
    mine, its = path.read_bytes(), other.read_bytes()
    # The lock's content means nothing, but what takes its place does.
    if mine == its or other.name == LOCK:
        return None
    path.write_bytes(its)
    other.write_bytes(mine)
    return f"swapped with {other.name}"


def _replaced(path: Path, rng: np.random.Generator) -> str | None:
    others = sorted(other for other in path.parent.iterdir() if other.is_file())
    other = others[int(rng.integers(len(others)))]
    if path.read_bytes() == other.read_bytes():
        return None
    shutil.copyfile(other, path)
    return f"replaced by a copy of {other.name}"


def _removed(path: Path, rng: np.random.Generator) -> str | None:
    path.unlink()
    return "removed"


def _folder(path: Path, rng: np.random.Generator) -> str | None:
    path.unlink()
    path.mkdir()
    if rng.random() < 0.5:
        (path / "inside").write_bytes(b"something")
    return "turned into a folder"


def _link(path: Path, rng: np.random.Generator) -> str | None:
    path.unlink()
    path.symlink_to("nowhere")
    return "turned into a link to nowhere"


def _stranger(path: Path, rng: np.random.Generator) -> str | None:
    """Put a file beside it that nobody asked for."""
    names = ["notes.txt", "00000099.seg.tmp", "catalogue.sqlite-journal", "catalogue.crc.tmp"]
    stranger = path.parent / names[int(rng.integers(len(names)))]
    if stranger.exists():
        return None
    stranger.write_bytes(rng.bytes(int(rng.integers(2000))))
    return f"joined by {stranger.name}"


KINDS: dict[str, Callable[[Path, np.random.Generator], str | None]] = {
    "a bit flipped": _flipped,
    "cut short": _cut,
    "bytes appended": _appended,
    "a sector lost or misplaced": _overwritten,
    "swapped with another file": _swapped,
    "replaced by another file": _replaced,
    "removed": _removed,
    "a folder in its place": _folder,
    "a dangling link in its place": _link,
    "a strange file beside it": _stranger,
}
"""The kinds of damage."""
_SHARES = [0.34, 0.12, 0.1, 0.1, 0.07, 0.06, 0.06, 0.06, 0.03, 0.06]
HARMLESS = {"a strange file beside it"}
"""Kinds that verifying need not report."""
