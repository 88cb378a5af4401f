"""A segment gives back what was written, or says which bytes are not what was written."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.errors import DamageError, FormatError
from hiersearch.index.store import segment_writer
from hiersearch.index.store.segment import SMALL, Segment
from hiersearch.index.store.segment_writer import ALIGNMENT, HEADER, SEALED, write_segment

ARRAYS = {
    "bytes": np.arange(1000, dtype=np.uint8),
    "rows": np.arange(120, dtype=np.float32).reshape(20, 3, 2),
    "flags": np.arange(70) % 3 == 0,
    "swapped": np.arange(9, dtype=np.dtype(">i4")),
    "half": np.array([0.5, np.inf], np.float16),
    "empty": np.zeros((0, 5), np.int16),
    "narrow": np.zeros((4, 0), np.int16),
}
CHUNKS = {"bytes": 64, "rows": 100}
FEW = {"a": np.arange(70, dtype=np.uint8), "b": np.zeros((0, 2)), "c": np.arange(10)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "one.seg"


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


# --- what is written comes back -------------------------------------------------------------


def test_arrays_of_every_kind_come_back(path):
    checksum, n_bytes = write_segment(path, ARRAYS, chunk_bytes=CHUNKS, facts={"number": 3})
    segment = Segment.open(path, checksum=checksum)
    assert segment.names == tuple(ARRAYS)
    assert segment.facts == {"number": 3}
    assert (segment.checksum, segment.n_bytes) == (checksum, path.stat().st_size)
    assert n_bytes == path.stat().st_size
    for name, array in ARRAYS.items():
        found = segment.array(name)
        assert found.dtype == array.dtype
        assert segment.shape(name) == found.shape == array.shape
        np.testing.assert_array_equal(found, array)
    assert segment.verify() == []


@given(st.data())
def test_any_shape_in_chunks_of_any_size_comes_back(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("segment") / "one.seg"
    shape = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))
    dtype = data.draw(st.sampled_from([np.uint8, np.int32, np.float64]))
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    chunk_bytes = data.draw(st.integers(ALIGNMENT, 500))
    cut = data.draw(st.integers(0, shape[0]))
    write_segment(
        path,
        {"whole": array, "pieces": [array[:cut], array[cut:]]},
        chunk_bytes={"whole": chunk_bytes, "pieces": chunk_bytes},
    )
    segment = Segment.open(path)
    start = data.draw(st.integers(0, shape[0]))
    stop = data.draw(st.integers(start, shape[0]))
    for name in ("whole", "pieces"):
        np.testing.assert_array_equal(segment.rows(name, start, stop), array[start:stop])
        np.testing.assert_array_equal(segment.array(name), array)


def test_slices_and_transposed_arrays_are_written_in_their_own_order(path):
    array = np.arange(24).reshape(4, 6)
    write_segment(path, {"slice": array[::2, 1:], "transposed": array.T})
    segment = Segment.open(path)
    assert segment.array("slice").tolist() == array[::2, 1:].tolist()
    assert segment.array("transposed").tolist() == array.T.tolist()


def test_arrays_are_aligned_and_read_only(path):
    write_segment(path, {"a": np.zeros(3, np.uint8), "large": np.zeros(SMALL, np.uint8)})
    segment = Segment.open(path)
    for name in segment.names:
        assert segment.array(name).ctypes.data % ALIGNMENT == 0
        for view in (segment.array(name), segment.rows(name, 0, 1), segment.unchecked(name)):
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1


@pytest.mark.parametrize("size", [100, 2 * SMALL])
def test_views_outlive_the_segment_and_its_file(path, size):
    array = np.arange(size, dtype=np.uint8)
    write_segment(path, {"a": array})
    segment = Segment.open(path)
    view = segment.array("a")
    os.unlink(path)
    segment.close()
    np.testing.assert_array_equal(view, array)


def test_progress_ends_with_all_bytes(path):
    write_segment(path, ARRAYS, chunk_bytes=CHUNKS)
    seen = []
    Segment.open(path).verify(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --- damage ---------------------------------------------------------------------------------


def test_every_flipped_bit_is_found(path):
    write_segment(path, FEW, chunk_bytes={"a": 64})
    whole = path.read_bytes()
    for position in range(len(whole)):
        flip(path, position, position % 8)
        try:
            damages = Segment.open(path).verify()
        except DamageError as error:
            damages = [error.damage]
        assert len(damages) == 1
        assert damages[0].file == str(path)
        assert damages[0].start <= position < damages[0].stop
        path.write_bytes(whole)


def test_every_cut_is_refused(path):
    write_segment(path, FEW, chunk_bytes={"a": 64})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamageError, match=r"one\.seg"):
            Segment.open(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamageError, match=f"must have {len(whole)} bytes, has {len(whole) + 1}"):
        Segment.open(path)


def test_only_rows_in_a_damaged_chunk_are_refused(path):
    array = np.arange(100, dtype=np.int32).reshape(50, 2)
    write_segment(path, {"a": array}, chunk_bytes={"a": 64})
    flip(path, segment_writer.HEADER.size + 64 + 5)  # in chunk 1: rows 8 to 15
    segment = Segment.open(path)
    assert segment.rows("a", 0, 8).tolist() == array[:8].tolist()
    assert segment.rows("a", 16, 50).tolist() == array[16:].tolist()
    assert segment.rows("a", 9, 9).size == 0
    message = r"one.seg: checksum differs \(array 'a', chunk 1, bytes 128 to 192\)"
    for start, stop in ((15, 16), (7, 9), (0, 50)):
        with pytest.raises(DamageError, match=message):
            segment.rows("a", start, stop)
    with pytest.raises(DamageError, match=message):
        segment.array("a")
    segment.check_rows("a", np.array([0, 7, 16, 49]))
    with pytest.raises(DamageError, match=message):
        segment.check_rows("a", np.array([49, 8, 0]))
    expected = np.ones(50, bool)
    expected[8:16] = False
    assert segment.sound_rows("a").tolist() == expected.tolist()
    assert [str(damage) for damage in segment.verify()] == [
        f"{path}: checksum differs (array 'a', chunk 1, bytes 128 to 192)"
    ]


@given(st.data())
def test_sound_rows_are_those_that_can_be_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("segment") / "one.seg"
    rows, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 90))
    array = np.ones((rows, width), np.uint8)
    write_segment(path, {"a": array}, chunk_bytes={"a": data.draw(st.integers(64, 300))})
    for position in data.draw(st.lists(st.integers(0, array.nbytes - 1), max_size=3, unique=True)):
        flip(path, segment_writer.HEADER.size + position)
    starts = np.array(data.draw(st.lists(st.integers(-1, rows + 1), min_size=1, max_size=9)))
    stops = starts + data.draw(st.integers(0, rows))

    def readable(start, stop):
        try:
            Segment.open(path).rows("a", int(start), int(stop))
        except (DamageError, IndexError):
            return False
        return True

    segment = Segment.open(path)
    expected = [readable(start, stop) for start, stop in zip(starts, stops, strict=True)]
    assert segment.sound_rows("a", starts, stops).tolist() == expected
    each = [readable(row, row + 1) for row in range(rows)]
    assert segment.sound_rows("a").tolist() == each
    wanted = np.array(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=9)))
    if all(each[row] for row in wanted):
        segment.check_rows("a", wanted)
    else:
        with pytest.raises(DamageError):
            segment.check_rows("a", wanted)


def test_another_segment_in_its_place_is_noticed(path):
    first, _ = write_segment(path, {"a": np.zeros(5)})
    path.unlink()
    write_segment(path, {"a": np.ones(5)})
    with pytest.raises(DamageError, match="its content is not what the catalogue says"):
        Segment.open(path, checksum=first)


def test_files_that_are_no_segments_are_refused(path):
    path.write_bytes(b"x" * 200)
    with pytest.raises(DamageError, match=r"one.seg: begins with b'xxxxxxxx' instead of b'HIERSEG"):
        Segment.open(path)
    with pytest.raises(FileNotFoundError):
        Segment.open(path.with_name("none.seg"))


def test_a_newer_format_is_refused(path, monkeypatch):
    monkeypatch.setattr(segment_writer, "FORMAT_VERSION", 2)
    write_segment(path, {"a": np.zeros(5)})
    with pytest.raises(FormatError, match=r"one\.seg must have segment format version 1, got 2"):
        Segment.open(path)


# --- heads that somebody made ---------------------------------------------------------------


def resealed(path, change):
    """Change the JSON of a segment's table, or its bytes; every checksum is right afterwards."""
    data = path.read_bytes()
    magic, version, reserved, table_at, json_bytes, *_ = HEADER.unpack_from(data)
    text, checksums = data[table_at : table_at + json_bytes], data[table_at + json_bytes :]
    if isinstance(change, bytes):
        text = change
    else:
        content = json.loads(text)
        change(content)
        text = json.dumps(content).encode()
    table = text + checksums
    sizes = (len(text), len(table), table_at + len(table), zlib.crc32(table))
    head = HEADER.pack(magic, version, reserved, table_at, *sizes, 0)[:SEALED]
    head += struct.pack("<I", zlib.crc32(head))
    path.write_bytes(head + data[HEADER.size : table_at] + table)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dtype", "'|O'", "a type of booleans or numbers for array 'a', got \"'|O'\""),
        ("dtype", "'<U4'", "a type of booleans or numbers"),
        ("dtype", "'|V2147483647'", "a type of booleans or numbers"),
        ("dtype", "__import__('os').abort()", "a type of booleans or numbers"),
        ("dtype", "(" * 5000, "a type of booleans or numbers"),
        ("dtype", "<f8", "a type of booleans or numbers"),
        ("dtype", ["<f8"], "a type of booleans or numbers"),
        ("shape", [10**15], "sides of array 'a' that fit into a file, got [1000000000000000]"),
        ("shape", [2**40, 0, 2**40], "sides of array 'a' that fit into a file"),
        ("shape", [-10], "sides of array 'a' that fit"),
        ("shape", [], "sides of array 'a' that fit"),
        ("shape", [1] * 40, "sides of array 'a' that fit"),
        ("shape", [10.0], "sides of array 'a' that fit"),
        ("shape", [True] * 10, "sides of array 'a' that fit"),
        ("shape", 10, "sides of array 'a' that fit"),
        ("shape", [30], "stored_bytes 256 of array 'a', got 128"),
        ("offset", 0, "offset 64 of array 'a', got 0"),
        ("offset", -4096, "offset 64 of array 'a', got -4096"),
        ("offset", 10**12, "offset 64 of array 'a'"),
        ("offset", None, "offset 64 of array 'a', got None"),
        ("stored_bytes", 0, "stored_bytes 128 of array 'a', got 0"),
        ("stored_bytes", 2**40, "stored_bytes 128 of array 'a'"),
        ("chunk_bytes", 0, "chunk_bytes of at least 64 for array 'a', got 0"),
        ("chunk_bytes", -1, "chunk_bytes of at least 64 for array 'a', got -1"),
        ("chunk_bytes", 64, "checksums that end at byte"),
        ("chunk_bytes", "64", "chunk_bytes of at least 64 for array 'a', got '64'"),
        ("name", "b", "arrays of different names, got ['b', 'b']"),
        ("name", 5, "text as name of an array, got 5"),
    ],
)
def test_an_array_that_a_head_describes_wrongly_is_refused(path, key, value, message):
    write_segment(path, {"a": np.arange(10), "b": np.arange(3)})
    resealed(path, lambda content: content["arrays"][0].update({key: value}))
    with pytest.raises(DamageError, match="not one that a writer makes") as caught:
        Segment.open(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (b"[" * 10**5, "nested too deep"),
        (b"", "Expecting value"),
        (b"\xff\xfe", "can't decode"),
        (b"[1, 2]", "a JSON object, got [1, 2]"),
        (b'{"arrays": [], "facts": {"x": NaN}}', "NaN is not JSON"),
        (b'{"facts": {}}', "a list of arrays, got None"),
        (b'{"arrays": [5], "facts": {}}', "an object for each array, got 5"),
        (b'{"arrays": [], "facts": {}}', "arrays that end at byte"),
        (lambda content: content.pop("facts"), "an object of facts, got None"),
        (lambda content: content["arrays"][0].pop("shape"), "it has no 'shape' of an array"),
        (lambda content: content["arrays"].pop(), "arrays that end at byte"),
        (lambda content: content["arrays"].reverse(), "offset 64 of array 'b'"),
    ],
)
def test_a_table_that_no_writer_makes_is_refused(path, change, message):
    write_segment(path, {"a": np.arange(10), "b": np.arange(3)})
    resealed(path, change)
    with pytest.raises(DamageError, match="not one that a writer makes") as caught:
        Segment.open(path)
    assert message in str(caught.value)


def test_a_huge_chunk_is_the_whole_array(path):
    write_segment(path, {"a": np.arange(10)})
    resealed(path, lambda content: content["arrays"][0].update(chunk_bytes=10**30))
    assert Segment.open(path).array("a").tolist() == list(range(10))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(path):
    os.mkfifo(path)
    with pytest.raises(DamageError, match="is no regular file"):
        Segment.open(path)


def test_a_piece_lies_within_its_array(path):
    ends = np.array([0, 2, 1, 90, -5])
    write_segment(path, {"ends": ends, "bytes": np.arange(4, dtype=np.uint8)})
    segment = Segment.open(path)
    assert segment.piece("ends", "bytes", 0) == b"\0\1"
    for number, message in (
        (1, "puts piece 1 at 2 to 1 of array 'bytes' .array 'ends'"),
        (2, "puts piece 2 at 1 to 90"),
        (3, "puts piece 3 at 90 to -5"),
        (4, "has no piece 4 .array 'ends'"),
        (-1, "has no piece -1"),
    ):
        with pytest.raises(DamageError, match=message):
            segment.piece("ends", "bytes", number)


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.array(1), TypeError, r"array 'a' must have at least one dimension .* got shape \(\)"),
        (np.array([None]), TypeError, "hold booleans or real numbers, got .* object"),
        (np.array(["a"]), TypeError, "hold booleans or real numbers, got .* <U1"),
        (np.zeros(2, "V4"), TypeError, "hold booleans or real numbers"),
        (np.zeros(2, "i4,f8"), TypeError, "hold booleans or real numbers"),
        (np.zeros(2, complex), TypeError, "hold booleans or real numbers"),
        ([], ValueError, "array 'a' must have at least one piece, got none"),
        ([np.zeros(2), np.zeros((2, 2))], ValueError, r"pieces .* rows of shape \(\) and float64"),
        ([np.zeros(2), np.zeros(2, int)], ValueError, r"got \(\) and int64"),
    ],
)
def test_arrays_that_can_not_be_kept(path, value, error, message):
    with pytest.raises(error, match=message):
        write_segment(path, {"a": value})
    assert list(path.parent.iterdir()) == []


def test_chunk_sizes_are_checked(path):
    with pytest.raises(ValueError, match="chunk_bytes of 'a' must be at least 64, got 63"):
        write_segment(path, {"a": np.zeros(2)}, chunk_bytes={"a": 63})
    with pytest.raises(ValueError, match="chunk_bytes must name arrays, got 'b'"):
        write_segment(path, {"a": np.zeros(2)}, chunk_bytes={"b": 64})


def test_rows_that_are_not_there_are_refused(path):
    write_segment(path, {"a": np.zeros((5, 2))})
    segment = Segment.open(path)
    for start, stop in ((-1, 2), (3, 6), (3, 2)):
        with pytest.raises(IndexError, match=rf"must lie within 0..5, got {start}..{stop}"):
            segment.rows("a", start, stop)
    for rows in ([-1], [0, 5]):
        with pytest.raises(IndexError, match=r"must be within 0..4, got"):
            segment.check_rows("a", np.array(rows))
    segment.check_rows("a", np.zeros(0, np.int64))
