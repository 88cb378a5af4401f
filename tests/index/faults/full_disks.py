"""Disks that are full or fail, at any call of a commit: what is said of it must be true.

Calls are made to fail by the kernel, so that those of SQLite's C library fail like those of
Python: one call now and then through ``strace``, or all that let a file grow beyond a size through
the limit of the system. Run as a program, this module is the writer process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.index.faults.killing import (
    ROOT,
    Findings,
    Model,
    Operation,
    Workload,
    WrongContent,
    after,
    operation,
    resolved,
    shown,
)

FAILING = {
    "data": ("write", "pwrite64", "pwritev", "ftruncate", "fallocate"),
    "syncing": ("fsync", "fdatasync"),
    "names": ("rename", "renameat", "renameat2", "link", "linkat", "mkdir", "unlink"),
}
"""Calls that are made to fail, by what they do."""
AS_IT_WAS = "left the index as it was"
"""What an error says after which nothing may have changed."""


def fail_calls(
    workload: str, scratch: Path, operations: int, kind: str, every: int, error: str
) -> Findings:
    """Let every n-th call of a kind fail, while operations are applied.

    Parameters
    ----------
    workload : str
        ``module:class`` of the workload.
    scratch : Path
        An empty folder.
    operations : int
        How many operations; the seed of the run is ``every``.
    kind : str
        A key of :data:`FAILING`.
    every : int
        Calls from one failure to the next.
    error : str
        "ENOSPC", "EDQUOT" or "EIO".
    """
    thing = resolved(workload)
    thing.create(scratch / "folder")
    # Compiled functions are written into their caches now, not by calls that are made to fail.
    thing.create(scratch / "before")
    apply_all(thing, scratch / "before", every, 12, lambda _: contextlib.nullcontext())
    command = [
        sys.executable,
        "-m",
        "tests.index.faults.full_disks",
        workload,
        str(scratch / "folder"),
    ]
    with tempfile.NamedTemporaryFile("r") as log:
        calls = ",".join(f"?{name}" for name in FAILING[kind])
        inject = f"inject={calls}:error={error}:when={every}+{every}"
        options = ["-f", "-qq", "-o", log.name, "-e", f"trace={calls}", "-e", inject]
        done = subprocess.run(
            ["strace", *options, *command, str(every), str(operations)],
            cwd=ROOT,
            capture_output=True,
            check=False,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        failures = sum("(INJECTED)" in line for line in log)
    if done.returncode:
        raise AssertionError(f"the writer failed:\n{done.stderr.decode()}")
    found = Findings(**json.loads(done.stdout))
    found.trials = failures
    return found


def limit_sizes(workload: str, scratch: Path, sizes: range, seed: int) -> Findings:
    """Apply operations, every other one while no file may grow beyond a size; all sizes in turn.

    It changes a limit of its process.
    """
    resolved(workload).create(scratch / "folder")
    limits = [size for pair in zip(sizes, [None] * len(sizes), strict=True) for size in pair]
    return apply_all(
        resolved(workload),
        scratch / "folder",
        seed,
        len(limits),
        lambda index: limited(limits[index]),
    )


@contextlib.contextmanager
def limited(size: int | None) -> Iterator[None]:
    """Let files grow to a size only, as the system's limit and a full disk do."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def apply_all(
    workload: Workload,
    folder: Path,
    seed: int,
    operations: int,
    hindered: Callable[[int], contextlib.AbstractContextManager[None]],
) -> Findings:
    """Apply operations, each while it is hindered; count failures, and what is untrue of them.

    It ends where it is not known any more what there should be.
    """
    found = Findings()
    model: Model = {}
    done = 0
    while done < operations:
        with contextlib.ExitStack() as stack:
            try:
                handle = stack.enter_context(workload.opened(folder, True))
            except OSError:
                continue  # it was hindered, too
            # Opened anew now and then, as in a new process.
            for index in range(done, min(done + 10, operations)):
                step = operation(seed, index, model)
                error = None
                try:
                    with hindered(index):
                        workload.apply(handle, step)
                except Exception as raised:
                    error = raised
                found.trials += error is not None
                place = f"operation {index}, {step.kind}"
                there = _checked(workload, folder, handle, model, step, error, place, found)
                if there is None:
                    return found
                model = there
            done = index + 1
    return found


def _checked(
    workload: Workload,
    folder: Path,
    handle: Any,
    before: Model,
    step: Operation,
    error: Exception | None,
    place: str,
    found: Findings,
) -> Model | None:
    """Return what a folder holds after an operation, and note what should not be.

    None stands for what can't be read, or nobody wrote.
    """
    wanted = after(before, step)
    said = "that it was done" if error is None else shown(error, folder)
    if error is not None and not isinstance(error, OSError):
        found.note("unreadable", f"{place}: {said}")
    try:
        there = workload.contents(handle)
        if there not in (before, wanted):
            found.note("lost", f"{place}: it said {said}, but holds neither")
            return None
        if there != (wanted if error is None else before) and (
            error is None or AS_IT_WAS in str(error)
        ):
            found.note("lost" if error is None else "wrong", f"{place}: it said {said}")
        with workload.opened(folder, False) as reader:
            if workload.contents(reader) != there:
                found.note("wrong", f"{place}: a reader sees something else, {said}")
        damage = workload.verify(folder)
        if damage:
            found.note("unreadable", f"{place}: {damage[0]}, it said {said}")
    except WrongContent as wrong:
        found.note("wrong", f"{place}: {wrong}, it said {said}")
        return None
    except Exception as unreadable:
        found.note("unreadable", f"{place}: {shown(unreadable, folder)}, it said {said}")
        return None
    return there


def main(workload: str, folder: str, seed: str, operations: str) -> None:
    """Apply operations and write down what came of them."""
    found = apply_all(
        resolved(workload),
        Path(folder),
        int(seed),
        int(operations),
        lambda _: contextlib.nullcontext(),
    )
    # Of all calls that write this one is not made to fail.
    os.writev(1, [json.dumps(asdict(found)).encode()])


if __name__ == "__main__":
    main(*sys.argv[1:])
