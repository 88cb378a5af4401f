"""Processes and threads that meddle with one store at the same moment, and what is left of it.

Each round starts from a folder, lets a few of them go at once, and then looks: whatever was
acknowledged must be there as it was written, nothing else but what was under way when a process was
killed, and the folder must open for reading and writing, or be free for a creation.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hiersearch.errors import FormatError, IndexLockedError
from hiersearch.index.store import lock as _lock
from hiersearch.index.store.store import Store
from tests.index.faults import killing as faults

KINDS = ("create", "add", "compact", "fork", "threads", "lockless")
"""What happens at the same moment; "lockless": adding and compacting where locks do nothing."""
MOST_EXAMPLES = 10


@dataclass
class Races:
    """What rounds of one kind brought; all but the first three should be 0."""

    rounds: int = 0
    acknowledged: int = 0
    """Entries that were acknowledged."""
    refused: int = 0
    """Times that somebody was refused, as is right."""
    lost: int = 0
    """Entries that were acknowledged and are not there, or not as they were written."""
    unreadable: int = 0
    """Folders that don't open, or can't be created again, or are damaged."""
    wrong: int = 0
    """Entries that nobody was to write, and errors of a kind that nobody should see."""
    examples: list[str] = field(default_factory=list)
    """What went wrong, for the first few."""

    def note(self, kind: str, example: str) -> None:
        """Count something that went wrong."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{kind}: {example}")


def race_rounds(kind: str, rounds: int, seed: int, scratch: Path) -> Races:
    """Let processes or threads race, again and again, in a folder below ``scratch``."""
    found = Races()
    for number in range(rounds):
        folder = scratch / "store"
        shutil.rmtree(folder, ignore_errors=True)
        rng = np.random.default_rng([seed, number, KINDS.index(kind)])
        {
            "create": _create,
            "add": _add,
            "compact": _compact,
            "fork": _fork,
            "threads": _threads,
            "lockless": _lockless,
        }[kind](folder, rng, found)
        found.rounds += 1
    return found


# --- what they do ---------------------------------------------------------------------------


def append(store: Store, name: str) -> None:
    """Add an entry whose content follows from its name."""
    store.append([name], [{"name": name}], {"x": _content(name)[None]})


def compact(store: Store) -> None:
    """Put one segment in the place of all."""
    with store.writing():
        old = store.segments
        names = list(store.ids())
        if names:
            arrays = {"x": np.array([_content(str(name)) for name in names])}
            store.replace(old, names, [{"name": name} for name in names], arrays)


def contents(store: Store) -> dict[str, bool]:
    """Return whether each entry is what was written under its name."""
    return {
        str(name): segment.metadata_at(row) == {"name": name}
        and np.array_equal(segment.data.rows("x", row, row + 1)[0], _content(str(name)))
        for segment in store.segments
        for row, name in enumerate(segment.all_ids())
        if segment.is_live(row)
    }


def _content(name: str) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).random(50, np.float32)


# --- rounds ---------------------------------------------------------------------------------


def _create(folder: Path, rng: np.random.Generator, found: Races) -> None:
    """Create one store three times at once; some are killed on the way."""
    deep = folder / "a" / "b" if rng.random() < 0.3 else folder
    deaths = [int(n) if rng.random() < 0.3 else 0 for n in rng.integers(1, 60, 3)]

    def work(number: int, report: Report) -> None:
        if deaths[number]:
            faults.arm(f"step:{deaths[number]}")
        with Store.create(deep, {}) as store:
            for part in "pq":
                report.doing(f"{part}{number}")
                append(store, f"{part}{number}")
                report.done(f"{part}{number}")

    reports = at_once(work, 3)
    # A folder that can't be opened must be free.
    with contextlib.suppress(ValueError):
        Store.create(deep, {}).close()
    _check(deep, reports, found)


def _add(folder: Path, rng: np.random.Generator, found: Races) -> None:
    """Open one store for writing three times at once."""
    Store.create(folder, {}).close()
    _check(folder, at_once(_writer(folder, 2, int(rng.integers(1, 3000))), 3), found)


def _compact(folder: Path, rng: np.random.Generator, found: Races) -> None:
    """Read a store while it is compacted, and add to it."""
    _filled(folder, 4)
    names = {f"old {i}" for i in range(4)}

    def work(number: int, report: Report) -> None:
        if number == 0:
            with Store.open(folder, writable=True) as store:
                for _ in range(3):
                    compact(store)
        elif number == 1:
            for _ in range(3):
                with Store.open(folder) as store:
                    there = contents(store)
                if not (names <= set(there) and all(there.values())):
                    report.wrong(f"a reader saw {there}")
                if damage := Store.inspect(folder):
                    report.wrong(f"a reader was told of {damage[0]}")
        else:
            _writer(folder, 1, 2000)(number, report)

    _check(folder, at_once(work, 3), found, names)


def _fork(folder: Path, rng: np.random.Generator, found: Races) -> None:
    """Fork while a thread writes; the children try to write, too, and outlive the writer."""
    store = Store.create(folder, {})
    mine = Report(-1)

    def write() -> None:
        for i in range(6):
            append(store, f"parent {i}")
            mine.done(f"parent {i}")

    def work(number: int, report: Report) -> None:
        try:
            append(store, f"child {number}")
            report.done(f"child {number}")
        finally:
            store.close()

    writer = threading.Thread(target=write)
    writer.start()
    with children(work, 2) as answers:
        writer.join()
        store.close()
        # The children live on until they are asked.
        with Store.open(folder, writable=True) as again:
            append(again, "afterwards")
            mine.done("afterwards")
        reports = answers()
    if any(report.acknowledged for report in reports):
        found.note("wrong", "a forked child wrote through what it had inherited")
    _check(folder, [mine, *reports], found)


def _threads(folder: Path, rng: np.random.Generator, found: Races) -> None:
    """Write, compact, remove and read in threads through one store."""
    store = Store.create(folder, {})
    reports = [Report(number) for number in range(4)]

    def guarded(number: int) -> None:
        report = reports[number]
        try:
            if number < 2:
                for i in range(6):
                    name = f"thread {number}/{i}"
                    append(store, name)
                    report.done(name)
            elif number == 2:
                for _ in range(4):
                    compact(store)
            else:
                for _ in range(20):
                    if not all(contents(store).values()):
                        report.wrong("a thread read what nobody wrote")
        except Exception as error:
            report.wrong(repr(error))

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    _check(folder, reports, found)


def _lockless(folder: Path, rng: np.random.Generator, found: Races) -> None:
    """Write and compact in processes that no lock keeps apart."""
    _filled(folder, 3)
    names = {f"old {i}" for i in range(3)}

    def work(number: int, report: Report) -> None:
        _lock.locked = lambda descriptor: True
        _lock.unlocked = lambda descriptor: None
        _writer(folder, 3, 1, compacting=number == 0)(number, report)

    _check(folder, at_once(work, 3), found, names)


def _writer(
    folder: Path, count: int, tries: int, compacting: bool = False
) -> Callable[[int, Report], None]:
    """Return work that opens a store for writing and adds to it, trying so many times."""

    def work(number: int, report: Report) -> None:
        for attempt in range(tries + 1):
            try:
                with Store.open(folder, writable=True) as store:
                    for i in range(count):
                        name = f"{number}/{attempt}/{i}"
                        append(store, name)
                        report.done(name)
                        if compacting:
                            compact(store)
                return
            except IndexLockedError:
                if attempt == tries:
                    raise

    return work


def _filled(folder: Path, count: int) -> None:
    with Store.create(folder, {}) as store:
        for i in range(count):
            append(store, f"old {i}")


def _check(
    folder: Path, reports: Sequence[Report], found: Races, before: set[str] = frozenset()
) -> None:
    acknowledged = set(before).union(*(report.acknowledged for report in reports))
    pending = {report.pending for report in reports}
    found.acknowledged += len(acknowledged)
    for report in reports:
        found.refused += report.refused
        for fault in report.faults:
            found.note("wrong", fault)
    try:
        with Store.open(folder) as store:
            there = contents(store)
        with Store.open(folder, writable=True) as store:
            if contents(store) != there:
                found.note("lost", "a writer shows something else than a reader")
        damage = Store.inspect(folder)
    except (OSError, FormatError) as error:
        found.note("unreadable", repr(error))
        return
    if damage:
        found.note("unreadable", str(damage[0]))
    for name in acknowledged:
        if not there.get(name, False):
            found.note("lost", name)
    for name in set(there) - acknowledged - pending:
        found.note("wrong", f"{name} is there and was not acknowledged")


# --- at once --------------------------------------------------------------------------------


class Report:
    """What one process or thread has to say."""

    def __init__(self, number: int, write: Callable[[Any], None] = lambda line: None) -> None:
        self.number = number
        self.acknowledged: set[str] = set()
        self.pending = ""
        """What was under way when a process was killed."""
        self.refused = 0
        self.faults: list[str] = []
        self._write = write

    def doing(self, name: str) -> None:
        self.pending = name
        self._write(["doing", name])

    def done(self, name: str) -> None:
        self.acknowledged.add(name)
        self.pending = ""
        self._write(["done", name])

    def refuse(self, what: str = "") -> None:
        self.refused += 1
        self._write(["refuse", what])

    def wrong(self, what: str) -> None:
        self.faults.append(what)
        self._write(["wrong", what])


def at_once(work: Callable[[int, Report], None], count: int) -> list[Report]:
    """Do work in so many forked processes that begin together; return their reports."""
    with children(work, count) as answers:
        return answers()


@contextlib.contextmanager
def children(
    work: Callable[[int, Report], None], count: int
) -> Iterator[Callable[[], list[Report]]]:
    """Fork processes that begin to work together, once what is yielded is called for reports."""
    ready, go = os.pipe()
    started: list[tuple[int, int]] = []
    for number in range(count):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go)
            for _, other in started:
                os.close(other)
            try:
                os.read(ready, 1)  # nothing comes: the end is closed when all may go
                _report(work, number, writing)
            finally:
                os._exit(0)
        os.close(writing)
        started.append((pid, reading))
    os.close(ready)
    collected: list[Report] = []

    def answers() -> list[Report]:
        nonlocal go
        os.close(go)
        go = -1
        for number, (pid, reading) in enumerate(started):
            with open(reading, encoding="utf-8") as lines:
                report = Report(number)
                for line in lines:
                    kind, what = json.loads(line)
                    getattr(report, kind)(what)
            _, status = os.waitpid(pid, 0)
            if status and os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                report.wrong(f"a process ended with {status}")
            collected.append(report)
        return collected

    try:
        yield answers
    finally:
        if go >= 0:
            answers()


def _report(work: Callable[[int, Report], None], number: int, descriptor: int) -> None:
    write = os.write  # which a process that is to be killed may have replaced

    def send(line: Any) -> None:
        write(descriptor, (json.dumps(line) + "\n").encode())

    report = Report(number, send)
    try:
        work(number, report)
    except IndexLockedError:
        report.refuse()
    except ValueError as error:
        if "new or empty folder" in str(error):
            report.refuse()
        else:
            report.wrong(repr(error))
    except BaseException as error:
        report.wrong(repr(error))
