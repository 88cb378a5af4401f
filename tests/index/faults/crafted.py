"""Index folders that somebody made on purpose: altered, and every checksum of them right.

:func:`crafted` makes the i-th folder of a seed from a sound one, :func:`exercised` uses it in a
process of its own, with a limit on memory and time. Whatever the folder holds, each use of it must
either answer or be refused as :class:`FormatError`; and what a deep verification calls sound must
answer rightly.
"""

from __future__ import annotations

import base64
import contextlib
import faulthandler
import functools
import json
import math
import os
import shutil
import signal
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiersearch import SoftPartition, build_hierarchy
from hiersearch.errors import FormatError
from hiersearch.index import threads
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.index.segments.columns import PARTITION_COLUMNS
from hiersearch.index.store import catalogue
from hiersearch.index.store.columns import STORE_COLUMNS, chunks_of
from hiersearch.index.store.segment import Segment
from hiersearch.index.store.segment_writer import HEADER, SEALED, write_segment
from tests.index.small_collections import brute_force, pairs_of, random_collection

GRID = (12, 16)
MEMORY = 2**30
"""Bytes that using a folder may take beyond what the process has."""
SECONDS = 30.0
"""How long using a folder may take."""
ANSWERS = (
    "id must name an entry",
    "condition names the key",
    "index must hold an entry",
    "is in the index already",
    "there are no automatic ids left",
)
"""Messages that are answers: they say what the index does not hold."""
EXTREMES = (0, 1, -1, 2, 7, 255, 256, 2**15, 2**31 - 1, -(2**31), 2**32, 2**62, -(2**63), 2**63 - 1)


def sound_folder(folder: Path, *, weighted: bool = False) -> None:
    """Make an index with ids and metadata of all kinds, removed entries and a hierarchy."""
    rng = np.random.default_rng(0)
    measure = rng.random(GRID) + 0.1 if weighted else None
    with PartitionIndex.create(folder, GRID, measure=measure) as index:
        maps = random_collection(rng, GRID, 32)
        index.add_many(
            Entry(labels, i if i % 2 else f"entry {i}", {"k": i % 5, "scan": {"z": i / 4}})
            for i, labels in enumerate(maps[:22])
        )
        index.add_many(Entry(labels, None, None) for labels in maps[22:])
        tree = build_hierarchy(rng.random(GRID), superpixels=np.arange(192).reshape(GRID) // 16)
        index.add_hierarchy(tree, "tree")
        index.remove_many([1, "entry 4", 25])


# --- altering -------------------------------------------------------------------------------


def crafted(base: Path, folder: Path, seed: int, number: int) -> str:
    """Make the ``number``-th folder of a seed from a sound one; return what was altered."""
    rng = np.random.default_rng([seed, number])
    shutil.copytree(base, folder)
    done = [_altered(folder, rng)]
    while rng.random() < 0.15:
        with contextlib.suppress(FormatError):  # What was altered first may not open again.
            done.append(_altered(folder, rng))
    return "; ".join(done)


def _altered(folder: Path, rng: np.random.Generator) -> str:
    kinds: list[tuple[float, Callable[[Path, np.random.Generator], str]]] = [
        (0.62, alter_array),
        (0.14, alter_table),
        (0.02, alter_header),
        (0.22, alter_catalogue),
    ]
    chosen = rng.choice(len(kinds), p=[weight for weight, _ in kinds])
    return kinds[chosen][1](folder, rng)


def rewrite_segment(
    folder: Path,
    number: int,
    *,
    arrays: Callable[[dict[str, Any]], None] | None = None,
    table: Callable[[bytes], bytes] | None = None,
    header: Callable[[list[int]], None] | None = None,
) -> None:
    """Alter arrays of a segment, the JSON of its table, or fields of its header; seal it again.

    Fields: version, reserved, where the table lies, bytes of its JSON, its bytes, bytes of the
    file, checksum of the table.
    """
    path = folder / catalogue.segment_name(number)
    segment = Segment.open(path)
    if arrays is not None:
        found = {name: segment.array(name).copy() for name in segment.names}
        arrays(found)
        chunks = chunks_of((*STORE_COLUMNS, *PARTITION_COLUMNS))
        chunks = {name: size for name, size in chunks.items() if name in found}
        path.unlink()
        write_segment(path, found, chunk_bytes=chunks, facts=segment.facts)
    data = path.read_bytes()
    magic, *fields = HEADER.unpack_from(data)[:-1]
    _, _, table_at, json_bytes, *_ = fields
    text, checksums = data[table_at : table_at + json_bytes], data[table_at + json_bytes :]
    if table is not None:
        text = table(text)
    fields[3:7] = [len(text), len(text + checksums), table_at + len(text + checksums), 0]
    fields[6] = zlib.crc32(text + checksums)
    if header is not None:
        header(fields)
    head = HEADER.pack(magic, *fields, 0)[:SEALED]
    head += struct.pack("<I", zlib.crc32(head))
    path.write_bytes(head + data[HEADER.size : table_at] + text + checksums)
    n_bytes, checksum = path.stat().st_size, fields[6]
    # Another alteration may have taken the table away.
    with altered_rows(folder) as rows, contextlib.suppress(sqlite3.OperationalError):
        rows.execute(
            "UPDATE segments SET bytes = ?, checksum = ? WHERE number = ?",
            (n_bytes, checksum, number),
        )


@contextlib.contextmanager
def altered_rows(folder: Path) -> Iterator[sqlite3.Connection]:
    """Alter rows of the catalogue; afterwards its digest and the checksum of its file are right."""
    path = folder / catalogue.CATALOGUE
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        yield connection
        total = 0
        for name, columns in catalogue._TABLES.items():
            with contextlib.suppress(sqlite3.Error):
                rows = connection.execute(f"SELECT {columns} FROM {name}").fetchmany(10**4)
                total += sum(
                    catalogue._row_hash(name, row)
                    for row in rows
                    if not (name == "facts" and row[0] == "digest")
                )
        with contextlib.suppress(sqlite3.Error):
            digest = ("digest", f"{total % 2**64:016x}")
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", digest)
        generation = 10**6
        with contextlib.suppress(sqlite3.Error, TypeError, ValueError):
            found = connection.execute("SELECT value FROM facts WHERE name = 'generation'")
            generation = int(found.fetchone()[0])
    content = path.read_bytes()
    line = catalogue._check_text(generation, zlib.crc32(content), len(content))
    (folder / catalogue.CHECK).write_bytes(line)


def _segments(folder: Path) -> list[int]:
    return sorted(int(file.stem) for file in (folder / "segments").glob("*.seg"))


def alter_array(folder: Path, rng: np.random.Generator) -> str:
    """Alter one array of a segment."""
    number = int(rng.choice(_segments(folder)))
    segment = Segment.open(folder / catalogue.segment_name(number))
    name = str(rng.choice(segment.names))
    kind = str(rng.choice(list(_ARRAY_CHANGES)))

    def change(arrays: dict[str, Any]) -> None:
        if kind == "other's":
            arrays[name] = arrays[str(rng.choice(list(arrays)))].copy()
        elif kind == "gone":
            del arrays[name]
        elif kind == "renamed":
            arrays[f"{name}x"] = arrays.pop(name)
        elif kind == "more":
            arrays["more"] = arrays[name]
        else:
            arrays[name] = _ARRAY_CHANGES[kind](arrays[name].copy(), rng)

    rewrite_segment(folder, number, arrays=change)
    return f"segment {number}, array {name}: {kind}"


def _bits(array: Any, rng: np.random.Generator) -> Any:
    data = bytearray(array.tobytes())
    for _ in range(int(rng.integers(1, 6)) if data else 0):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return np.frombuffer(bytes(data), array.dtype).reshape(array.shape).copy()


def _extreme(array: Any, rng: np.random.Generator, everywhere: bool = False) -> Any:
    if array.dtype.kind == "f":
        value = rng.choice([np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300, 1e-300])
    else:
        limits = np.iinfo(array.dtype)
        near = [int(v) + int(rng.integers(-2, 3)) for v in (len(array), *array.reshape(-1)[:1])]
        value = int(rng.choice(np.array([*EXTREMES, *near], object)))
        value = min(max(value, limits.min), limits.max)
    with np.errstate(over="ignore"):
        if everywhere:
            array[...] = value
        elif array.size:
            array.reshape(-1)[int(rng.integers(array.size))] = value
    return array


def _random(array: Any, rng: np.random.Generator) -> Any:
    data = rng.integers(0, 256, array.nbytes, np.uint8).tobytes()
    return np.frombuffer(data, array.dtype).reshape(array.shape).copy()


def _exchanged(array: Any, rng: np.random.Generator) -> Any:
    if len(array) > 1:
        one, other = rng.integers(len(array), size=2)
        array[[one, other]] = array[[other, one]]
    return array


def _longer(array: Any, rng: np.random.Generator) -> Any:
    more = np.zeros((int(rng.integers(1, 40)), *array.shape[1:]), array.dtype)
    return np.concatenate([array, more])


def _typed(array: Any, rng: np.random.Generator) -> Any:
    other = str(rng.choice(["|b1", "|u1", "<i2", ">i4", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8"]))
    with np.errstate(all="ignore"):
        return array.astype(other)


def _words(array: Any, rng: np.random.Generator) -> Any:
    """Put a text in the place of bytes, as long as they are."""
    n = array.nbytes
    words = [
        b"[" * n,
        b'{"k":' * n,
        b"{}," * n,
        b'{"k":1e999},' * n,
        b'{"k":NaN},' * n,
        b'{"a":"\\ud800"},' * n,
        b'{"k":' + b"9" * max(0, n - 8) + b"},",
        b"\xff" * n,
        b"{}],[{}," * n,
    ]
    text = words[int(rng.integers(len(words)))][:n].ljust(n, b" ")
    return np.frombuffer(text, array.dtype).reshape(array.shape).copy()


_ARRAY_CHANGES: dict[str, Callable[[Any, np.random.Generator], Any]] = {
    "bits": _bits,
    "extreme": _extreme,
    "extreme values": lambda a, rng: _extreme(_extreme(a, rng), rng),
    "one value": lambda a, rng: _extreme(a, rng, True),
    "random": _random,
    "zeros": lambda a, _: a * 0,
    "exchanged": _exchanged,
    "reversed": lambda a, _: a[::-1].copy(),
    "sorted": lambda a, _: np.sort(a, axis=0),
    "shifted": lambda a, rng: np.roll(a, int(rng.integers(1, 9)), axis=0),
    "shorter": lambda a, rng: a[: int(rng.integers(len(a) + 1))].copy(),
    "longer": _longer,
    "empty": lambda a, _: a[:0].copy(),
    "typed": _typed,
    "column": lambda a, _: a[:, :1].copy() if a.ndim > 1 else a[:, None].copy(),
    "axis": lambda a, _: a[..., None].copy(),
    "words": _words,
    "other's": _bits,
    "gone": _bits,
    "renamed": _bits,
    "more": _bits,
}
# The last four are made in alter_array.
_EVIL = (
    0, -1, 1, 63, 64, 4096, -4096, 2**31, 2**63, 2**70, 1.5, True, None, "x", [], {}, [2**40],
    [-1], [1, 2, 3], [0] * 40, "'|O'", "'<f8'", "'|u1'", "'<i4'", "__import__('os')",
    "'|V2147483647'",
)  # fmt: skip


def alter_table(folder: Path, rng: np.random.Generator) -> str:
    """Alter the JSON at the head of a segment: of its arrays, or its facts."""
    number = int(rng.choice(_segments(folder)))
    kind = str(rng.choice(["field", "field", "field", "gone", "fact", "fact gone", "text"]))
    value = _EVIL[int(rng.integers(len(_EVIL)))]
    what = ""

    def change(text: bytes) -> bytes:
        nonlocal what
        content = json.loads(text)
        described = content["arrays"][int(rng.integers(len(content["arrays"])))]
        key = str(rng.choice(list(described)))
        fact = str(rng.choice(list(content["facts"])))
        what = f"{described['name']}.{key} = {value!r}"
        if kind == "field":
            described[key] = value
        elif kind == "gone":
            del described[key]
        elif kind == "fact":
            what = f"{fact} = {value!r}"
            content["facts"][fact] = value
        elif kind == "fact gone":
            what = fact
            del content["facts"][fact]
        else:
            texts = [b"[" * 10**5, b"", b"{}", b"NaN", b"\xff\xfe", b'{"arrays": [], "facts": {}}']
            chosen = texts[int(rng.integers(len(texts)))]
            what = repr(chosen[:30])
            return chosen
        return json.dumps(content).encode()

    rewrite_segment(folder, number, table=change)
    return f"table of segment {number}: {kind} {what}"


def alter_header(folder: Path, rng: np.random.Generator) -> str:
    """Alter a field of a segment's header."""
    number, field = int(rng.choice(_segments(folder))), int(rng.integers(7))
    value = int(rng.choice([0, 1, 2, 63, 4096, 2**31, 2**32 - 1]))
    rewrite_segment(folder, number, header=lambda fields: fields.__setitem__(field, value))
    return f"header of segment {number}: field {field} = {value}"


def alter_catalogue(folder: Path, rng: np.random.Generator) -> str:
    """Alter settings, facts, rows or tables of the catalogue."""
    statements = _catalogue_changes(folder, rng)
    statement, values = statements[int(rng.integers(len(statements)))]
    with altered_rows(folder) as rows, contextlib.suppress(sqlite3.Error):
        if values is None:
            rows.executescript(statement)
        else:
            rows.execute(statement, values)
    return f"catalogue: {statement[:90]} {str(values)[:90]}"


def _catalogue_changes(
    folder: Path, rng: np.random.Generator
) -> list[tuple[str, tuple[Any, ...] | None]]:
    number = int(rng.choice(_segments(folder)))
    big = int(rng.choice(np.array(EXTREMES, object)))
    evil: Any = [big, 1.5, "x", b"\0", None, -1][int(rng.integers(6))]
    column = str(rng.choice(["number", "entries", "bytes", "checksum", "generation"]))
    fact = str(rng.choice(["generation", "next_id", "next_segment", "next_removal", "settings"]))
    positions = rng.choice(np.array([0, 5, 9, 21, 22, 10**9, -1, -(2**31)]), 3)
    changes: list[tuple[str, tuple[Any, ...] | None]] = [
        (f"UPDATE segments SET {column} = ? WHERE number = ?", (evil, number)),
        (f"UPDATE segments SET {column} = ?", (big,)),
        ("UPDATE facts SET value = ? WHERE name = ?", (evil, fact)),
        ("DELETE FROM facts WHERE name = ?", (fact,)),
        ("INSERT INTO facts VALUES ('more', 1)", ()),
        ("DELETE FROM segments WHERE number = ?", (number,)),
        ("UPDATE removals SET positions = ?", (positions.astype("<i4").tobytes(),)),
        ("UPDATE removals SET positions = ?", (b"abc",)),
        ("UPDATE removals SET segment = ?", (evil,)),
        ("INSERT INTO removals VALUES (1000, ?, zeroblob(100000))", (number,)),
        (
            "DROP TABLE removals; CREATE VIEW removals AS WITH RECURSIVE r(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM r) "
            "SELECT i AS number, 1 AS segment, x'' AS positions FROM r;",
            None,
        ),
        ("CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM segments; END;", None),
        ("DROP TABLE segments;", None),
        ("CREATE TABLE more (x);", None),
    ]
    update = "UPDATE facts SET value = ? WHERE name = 'settings'"
    changes += [(update, (text,)) for text in _settings(rng)]
    return changes


def _settings(rng: np.random.Generator) -> list[str]:
    """Return some settings, none of them right."""
    n = math.prod(GRID)
    grids: list[Any] = [
        [16, 12], [1, n], [n, 1], [12, 17], [3, 4], [4, 6, 8], [10**5, 10**5], [1, 2**31 - 1],
        [2**20, 2**10], [2, 2**29], [46340, 46340], [-1, 5], [0, 4], [192], [1.5, 4], [True, 4],
        ["a", 2], 5, None, [[12, 16]], [12, 16, 1, 1], [2**70, 1],
    ]  # fmt: skip
    measures = _measures()
    some = [
        json.dumps({"grid": g, "measure": None}) for g in rng.permutation(np.array(grids, object))
    ]
    more = [
        json.dumps({"grid": list(GRID), "measure": measures[i]})
        for i in rng.permutation(len(measures)).tolist()
    ]
    return [*some[:3], *more[:3], "[" * 10**5, "{}", "[]", '{"grid": NaN, "measure": null}']


@functools.cache
def _measures() -> list[Any]:
    n = math.prod(GRID)
    measures: list[Any] = [
        5, "x", [], {}, {"dtype": "<f8"}, {"dtype": "|O", "zlib": ""}, {"dtype": "<f8", "zlib": 5},
        {"dtype": "<f8", "zlib": "é"}, {"dtype": "<f8", "zlib": "AAAA"},
    ]  # fmt: skip
    arrays = [
        np.zeros(2**24),
        np.zeros(n),
        np.ones(n, np.int64),
        np.full(n, 2**40),
        np.full(n, -1),
        np.full(n, np.nan),
        np.full(n, 1e200),
        np.ones(n - 1),
        np.ones(n + 1),
    ]
    for array in arrays:
        packed = base64.b64encode(zlib.compress(array.tobytes())).decode()
        measures.append({"dtype": array.dtype.str, "zlib": packed})
    return measures


# --- using ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came of using a folder."""

    steps: dict[str, str]
    """What came of each use: "answered", "refused", or what else happened."""

    @property
    def kind(self) -> str:
        """Say "answered" if all did, "refused" if some refused, else what else happened."""
        for name, what in self.steps.items():
            if what not in ("answered", "refused"):
                return f"{name}: {what}"
        return "refused" if "refused" in self.steps.values() else "answered"


def exercised(folder: Path, *, memory: int = MEMORY, seconds: float = SECONDS) -> Outcome:
    """Use a folder in every way, and repair a copy of it, in a process of its own.

    A crash, a use that takes too long, and one that takes too much memory are outcomes.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _limit(memory, seconds)
            with open(writing, "w") as report:
                for name, what in uses(folder):
                    report.write(json.dumps([name, what]) + "\n")
                    report.flush()
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as report:
        steps = dict(json.loads(line) for line in report)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        what = signal.Signals(os.WTERMSIG(status)).name
        steps["after that"] = "took too long" if what == "SIGALRM" else f"crashed: {what}"
    elif "end" not in steps:
        steps["after that"] = "ended without a word"
    return Outcome(steps)


def _limit(memory: int, seconds: float) -> None:
    import resource  # Not on Windows, where there is no fork either.

    faulthandler.disable()
    # Threads of the parent are not here; those of the pool would be waited for.
    threads.pool.cache_clear()
    os.fsync = lambda descriptor: None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def uses(folder: Path) -> Iterator[tuple[str, str]]:
    """Use a folder in every way; yield the name of each use and what came of it."""
    with contextlib.ExitStack() as stack:
        opened: list[PartitionIndex] = []

        def open_it() -> None:
            opened.append(stack.enter_context(PartitionIndex.open(folder)))

        yield "open", _tried(open_it)
        for index in opened:
            yield from _reading(index)
    yield "inspect", _tried(lambda: PartitionIndex.inspect(folder, deep=True))
    copy = folder.with_name(f"{folder.name}-repaired")
    shutil.copytree(folder, copy)
    repaired = _tried(lambda: PartitionIndex.repair(copy, deep=True))
    yield "repair", repaired
    if repaired == "answered":
        yield "repaired", _tried(lambda: _is_whole(copy))
        yield "write", _tried(lambda: _written(copy))
    shutil.rmtree(copy)
    yield "end", "answered"


def _tried(use: Callable[[], Any]) -> str:
    try:
        use()
    except FormatError:
        return "refused"
    except Exception as error:
        if any(message in str(error) for message in ANSWERS):
            return "answered"
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "answered"


def _queries() -> tuple[Any, SoftPartition]:
    rng = np.random.default_rng(1)
    hard = random_collection(rng, GRID, 1)[0]
    soft = rng.random((3, *GRID)) + 0.01
    return hard, SoftPartition.from_regions(soft / soft.sum(axis=0))


def _reading(index: PartitionIndex) -> Iterator[tuple[str, str]]:
    hard, soft = _queries()
    yield "info", _tried(index.info)
    yield "ids", _tried(index.ids)
    yield "search", _tried(lambda: index.search(hard, 5))
    yield "soft", _tried(lambda: index.search(soft, 3))
    yield "where", _tried(lambda: index.search(hard, 5, where={"k": {">": 2}}))
    yield "unknown key", _tried(lambda: index.search(hard, 5, where={"no": 1}))
    yield "radius", _tried(lambda: index.search_radius(soft, 1.0))
    yield "all", _tried(lambda: index.search(hard, 1000))
    yield "get", _tried(lambda: [index.get(id) for id in index.ids()])
    yield "metadata", _tried(lambda: [index.metadata(id) for id in index.ids()])
    yield "duplicates", _tried(lambda: index.duplicates(0.05))
    yield "verify", _tried(index.verify)


def _is_whole(folder: Path) -> None:
    """Raise unless an index is sound in every respect, and answers as brute force does."""
    with PartitionIndex.open(folder) as index:
        damages = index.verify(deep=True)
        if damages:
            raise AssertionError(f"is not sound after its repair: {damages[0]}")
        entries = {id: index.get(id) for id in index.ids()}
        hard, _ = _queries()
        hard = hard if hard.shape == index.grid else next(iter(entries.values()), None)
        if not entries:
            return
        found = pairs_of(index.search(hard, 5))
        expected = brute_force(hard, entries, index.measure)[:5]
        if not np.allclose([d for d, _ in found], [d for d, _ in expected]):
            raise AssertionError(f"{found} differs from {expected}")


def _written(folder: Path) -> None:
    """Add, update, remove and compact."""
    with PartitionIndex.open(folder, "r+") as index:
        labels = np.zeros(index.grid, int)
        name = index.add(labels)
        index.update(name, labels + 1)
        index.remove(name)
        index.compact()
