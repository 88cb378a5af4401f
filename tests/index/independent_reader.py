"""A reader of format 1 that was written from docs/format.md and uses nothing of the package.

It is slow, believes nothing that has a checksum before that was compared, and gives label maps.
"""

import base64
import json
import math
import sqlite3
import struct
import zlib
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import numpy as np


def read(folder):
    """Return grid, measure, and (label map, metadata) of each entry by its id."""
    catalogue = read_catalogue(Path(folder, "catalogue.sqlite"), Path(folder, "catalogue.crc"))
    settings = catalogue["settings"]
    grid, measure = tuple(settings["grid"]), None
    if settings["measure"] is not None:
        values = zlib.decompress(base64.b64decode(settings["measure"]["zlib"]))
        measure = np.frombuffer(values, settings["measure"]["dtype"]).reshape(grid)
    entries = {}
    for number, n_entries, n_bytes, checksum, _ in catalogue["segments"]:
        data = Path(folder, "segments", f"{number:08d}.seg").read_bytes()
        assert len(data) == n_bytes
        arrays, facts = read_segment(data, checksum)
        assert facts["entries"] == n_entries
        assert facts["settings"] == settings
        for row in range(n_entries):
            if row not in catalogue["removed"].get(number, ()):
                id = id_at(arrays, row)
                assert id not in entries
                entries[id] = labels_at(arrays, row, grid), metadata_at(arrays, row)
    return grid, measure, entries


# --- the catalogue ------------------------------------------------------------------------------


def read_catalogue(path, check):
    """Return settings, rows of segments and removed positions, once digest and check agree."""
    words = check.read_text("ascii").split()
    line = " ".join(words[:6])
    assert zlib.crc32(line.encode()) == int(words[7], 16)
    content = path.read_bytes()
    assert (zlib.crc32(content), len(content)) == (int(words[3], 16), int(words[5]))
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x48534958,)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        tables = {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
            for name in ("facts", "segments", "removals")
        }
    facts = dict(tables["facts"])
    total = sum(
        row_hash(name, row) for name, rows in tables.items() for row in rows if row[0] != "digest"
    )
    assert facts["digest"] == f"{total % 2**64:016x}"
    assert facts["generation"] == int(words[1])
    removed = {}
    for _, segment, positions in tables["removals"]:
        removed.setdefault(segment, set()).update(np.frombuffer(positions, "<i4").tolist())
    settings = json.loads(facts["settings"])
    return {"settings": settings, "segments": tables["segments"], "removed": removed}


def row_hash(table, values):
    """Return what a row adds to the digest."""
    message = table.encode()
    for value in values:
        kind = {int: "int", str: "str", bytes: "bytes"}[type(value)]
        text = f"'{value}'" if kind == "str" else str(value)
        data = value if kind == "bytes" else text.encode()
        message += f"{kind}:{len(data)}:".encode() + data
    return int.from_bytes(blake2b(message, digest_size=8).digest(), "little")


# --- a segment ----------------------------------------------------------------------------------


def read_segment(data, checksum=None):
    """Return the arrays and facts of a segment, all of whose checksums agree."""
    header = struct.unpack("<8sIIQQQQ8xII", data[:64])
    magic, version, _, table_at, json_bytes, table_bytes, n_bytes, table_crc, header_crc = header
    assert magic == b"HIERSEG\x1a"
    assert version == 1
    assert zlib.crc32(data[:60]) == header_crc
    assert len(data) == n_bytes == table_at + table_bytes
    assert zlib.crc32(data[table_at:]) == table_crc
    assert checksum in (None, table_crc)
    table = json.loads(data[table_at : table_at + json_bytes])
    checksums = iter(np.frombuffer(data[table_at + json_bytes :], "<u4").tolist())
    arrays = {}
    for one in table["arrays"]:
        assert one["offset"] % 64 == one["stored_bytes"] % 64 == 0
        stored = data[one["offset"] : one["offset"] + one["stored_bytes"]]
        for begin in range(0, len(stored), one["chunk_bytes"]):
            assert zlib.crc32(stored[begin : begin + one["chunk_bytes"]]) == next(checksums)
        dtype = np.dtype(one["dtype"].strip("'"))
        arrays[one["name"]] = np.frombuffer(stored, dtype, math.prod(one["shape"])).reshape(
            one["shape"]
        )
    assert next(checksums, None) is None
    return arrays, table["facts"]


def piece(arrays, ends, name, number):
    """Return a row's part of an array that holds one after the other."""
    begin = arrays[ends][number - 1] if number else 0
    return arrays[name][begin : arrays[ends][number]]


def between(arrays, ends, name, number):
    """Return the bytes between two neighbours of an array of ends that begins with 0."""
    begin, end = arrays[ends][number : number + 2]
    return arrays[name][begin:end].tobytes()


def id_at(arrays, row):
    """Return the id of an entry."""
    value = int(arrays["store/ids"][row])
    if not arrays["store/id_kinds"][row]:
        return value
    return between(arrays, "store/id_ends", "store/id_texts", value).decode()


def id_hash(id):
    """Return the hash that an id is found by."""
    if isinstance(id, str):
        return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")
    x = (id + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def metadata_at(arrays, row):
    """Return the metadata of an entry."""
    code = arrays["store/metadata_codes"][row]
    text = between(arrays, "store/metadata_ends", "store/metadata_texts", code)
    assert text.endswith(b",")
    return json.loads(text[:-1])


def labels_at(arrays, row, grid):
    """Return the label map of an entry."""
    tree = arrays["tree"][row]
    if tree >= 0:
        return cut_of(arrays, tree, arrays["altitude"][row], grid)
    n_regions = int(arrays["n_regions"][row])
    numbers, n_runs = decoded(piece(arrays, "code_ends", "code", row), n_regions, grid)
    assert n_runs == arrays["n_runs"][row]
    first = int(arrays["n_regions"][:row].sum())
    return arrays["values"][first : first + n_regions][numbers]


def cut_of(arrays, tree, altitude, grid):
    """Return the label map of a horizontal cut of a stored hierarchy."""
    n_leaves = int(arrays["tree_leaves"][tree])
    numbers, n_runs = decoded(piece(arrays, "tree_code_ends", "tree_code", tree), n_leaves, grid)
    assert n_runs == arrays["tree_runs"][tree]
    first = int(arrays["tree_leaves"][:tree].sum())
    leaf_map = arrays["tree_order"][first : first + n_leaves][numbers]
    parents = piece(arrays, "tree_node_ends", "tree_parents", tree)
    altitudes = piece(arrays, "tree_node_ends", "tree_altitudes", tree)
    root = len(parents) - 1
    # The highest merge within each node; children come before their parents.
    highest = np.concatenate([np.full(n_leaves, -np.inf), altitudes[n_leaves:]])
    for node in range(root):
        highest[parents[node]] = max(highest[parents[node]], highest[node])
    whole = highest <= altitude
    region_of = np.arange(len(parents))
    for node in range(root - 1, -1, -1):
        parent = parents[node]
        if whole[parent]:
            region_of[node] = region_of[parent]
    cut = np.unique(region_of[:n_leaves])
    return np.searchsorted(cut, region_of[leaf_map])


# --- the run code -------------------------------------------------------------------------------


def decoded(code, n_regions, grid):
    """Return the region of each pixel, in the order in which they appear, and how many runs."""
    bits = iter(np.unpackbits(code, bitorder="little").tolist())
    width, n_rows = grid[-1], math.prod(grid[:-1])
    above = [(width, None)]
    rows, seen = [], 0
    for _ in range(n_rows):
        if not next(bits):
            above, seen = coded_row(bits, above, seen, width)
        ends, names = zip(*above, strict=True)
        rows.append(np.repeat(names, np.diff(ends, prepend=0)))
    assert seen == n_regions
    # What is left of the last byte.
    assert len(rest := list(bits)) < 8
    assert not any(rest)
    flat = np.concatenate(rows)
    return flat.reshape(grid), 1 + np.count_nonzero(np.diff(flat))


def coded_row(bits, above, seen, width):
    """Return the runs of a row as (end, region), and how many regions were seen by now."""
    runs, pointer, x = [], 0, 0
    while x < width:
        while pointer < len(above) - 1 and above[pointer][0] <= x:
            pointer += 1
        guess, label = above[pointer]
        kind = ones(bits, most=3)
        if kind == 0:
            pointer = min(pointer + 1, len(above) - 1)
        elif kind == 1:
            guess, label = above[pointer + 1]
            pointer = min(pointer + 2, len(above) - 1)
        elif kind == 2:
            label = runs[-2][1]
        else:
            label = number(bits, seen.bit_length()) - 1
            if label < 0:
                label, seen = seen, seen + 1
        assert label is not None
        size = ones(bits, most=3)
        sign = -1 if size and next(bits) else 1
        if size == 3:
            length = ones(bits)
            size = 2 + 2**length + number(bits, length)
        end = guess + sign * size
        assert x < end <= width
        runs.append((end, label))
        x = end
    return runs, seen


def ones(bits, most=math.inf):
    """Return how many ones come before a zero, which is read, too; no more than ``most``."""
    count = 0
    while count < most and next(bits):
        count += 1
    return count


def number(bits, length):
    """Return a number of some bits, lowest first."""
    return sum(next(bits) << i for i in range(length))
