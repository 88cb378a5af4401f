"""What goes into an index comes back; changes are commits; what does not fit is refused."""

import contextlib
import errno
import json
import os
import shutil
import sys
import threading
import warnings
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch import Partition
from hiersearch.errors import FormatError, IndexLockedError, MergingWarning
from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.index.store import catalogue
from hiersearch.index.store.conditions import selected
from hiersearch.index.store.segment import Segment
from hiersearch.index.store.store import Store
from tests.exploration import examples
from tests.hierarchy.small_trees import random_tree
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    brute_force,
    made,
    pairs_of,
    random_collection,
    random_labels,
    random_measure,
    random_soft,
)

GRID = (6, 8)
HALVES = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 6, axis=0)


@pytest.fixture
def index(tmp_path):
    """Yield an index with two entries, open for writing."""
    with PartitionIndex.create(tmp_path / "index", GRID) as made_here:
        made_here.add(HALVES, "halves", {"k": 2})
        made_here.add(HALVES * 5 - 1, 7)
        yield made_here


# --- in and out -----------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
@examples(6)
@given(seed=st.integers(0, 2**32 - 1), grid=st.sampled_from(GRIDS))
def test_label_maps_come_back_with_their_labels(tmp_path_factory, measure, seed, grid):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 25)
    weights = random_measure(rng, measure, grid)
    folder = tmp_path_factory.mktemp("index") / "index"
    made(folder, maps, weights).close()
    with PartitionIndex.open(folder) as index:
        assert index.grid == grid
        assert len(index) == 25
        assert (index.measure is None) == (weights is None)
        for id, labels in enumerate(maps):
            assert np.array_equal(index.get(id), labels)
            partition = index.partition(id)
            expected = Partition.from_labels(labels, measure=weights)
            assert partition == expected
            np.testing.assert_allclose(partition.sizes, expected.sizes, rtol=1e-12)
            assert np.array_equal(partition.label_values, expected.label_values)


@pytest.mark.parametrize(
    "labels",
    [[0, 255], [-1, 3], [0, 65535], [-70000, 1], [0, 2**32 - 1], [-(2**62), 2**62]],
)
def test_labels_of_any_size_come_back(index, labels):
    for id, values in (("a", labels), ("b", [0, 1])):
        index.add(np.resize(np.array(values), GRID), id)
    index.compact()
    assert np.array_equal(index.get("a"), np.resize(labels, GRID))
    assert np.array_equal(index.get("b"), np.resize([0, 1], GRID))


def test_labels_that_no_signed_integer_holds_are_refused(index):
    labels = np.resize(np.array([0, 2**63], np.uint64), GRID)
    with pytest.raises(ValueError, match="labels must hold labels below"):
        index.add(labels)
    index.add(labels // 2, "half")
    assert index.get("half").max() == 2**62


def test_masks_partitions_and_arrays_are_taken(index):
    for labels in (HALVES > 0, Partition.from_labels(HALVES), HALVES.astype(np.uint8)):
        assert index.partition(index.add(labels)) == Partition.from_labels(HALVES)


def test_ids_are_given_in_the_order_in_which_entries_come(index):
    rng = np.random.default_rng(1)
    maps = random_collection(rng, GRID, 40)
    index.add_many(maps)
    for i, labels in enumerate(maps):
        assert np.array_equal(index.get(8 + i), labels)
    assert index.add(maps[0]) == 48
    assert index.ids() == [*range(7, 49), "halves"]


def test_metadata_come_back_and_are_empty_where_none_were_given(index):
    assert index.metadata("halves") == {"k": 2}
    assert index.metadata(7) == {}


def test_membership_and_count_follow_removals(index):
    assert "halves" in index
    assert 7 in index
    assert "7" not in index
    assert 3.5 not in index
    index.remove(7)
    assert 7 not in index
    assert len(index) == 1
    index.add(HALVES, 7)
    assert 7 in index


def test_an_update_keeps_metadata_unless_new_ones_are_given(index):
    other = np.arange(48).reshape(GRID)
    index.update("halves", other)
    assert np.array_equal(index.get("halves"), other)
    assert index.metadata("halves") == {"k": 2}
    index.update("halves", HALVES, {"k": 3})
    assert index.metadata("halves") == {"k": 3}
    assert len(index) == 2


def test_many_updates_leave_few_segments(index):
    rng = np.random.default_rng(2)
    for _ in range(40):
        last = random_labels(rng, GRID)
        index.update(7, last)
    assert index.info()["segments"] < 20
    assert np.array_equal(index.get(7), last)
    assert np.array_equal(index.get("halves"), HALVES)


def test_entries_on_another_grid_are_brought_to_the_index_s(index):
    large = np.kron(HALVES, np.ones((3, 2), int))
    index.add(large, "large", resample=True)
    assert np.array_equal(index.get("large"), HALVES)


def test_an_iterator_is_written_segment_by_segment(tmp_path):
    rng = np.random.default_rng(3)
    maps = random_collection(rng, (40, 60), 400)
    written = []
    with PartitionIndex.create(tmp_path / "index", (40, 60)) as index:
        assert (
            index.add_many((labels for labels in maps), memory=2**20, progress=written.append)
            == 400
        )
        assert written[-1] == 400
        assert len(written) > 1
        query = maps[100]
        assert pairs_of(index.search(query, 9)) == brute_force(query, dict(enumerate(maps)))[:9]
        done = []
        index.compact(done.append)
        assert done[-1] == 400
        assert index.info()["segments"] == 1


def test_what_was_written_before_a_bad_entry_stays(tmp_path):
    maps = random_collection(np.random.default_rng(4), (40, 60), 200)
    with PartitionIndex.create(tmp_path / "index", (40, 60)) as index:
        with pytest.raises(TypeError, match=r"entries\[200\]"):
            index.add_many([*maps, np.zeros((40, 60))], memory=2**20)
        assert 0 < len(index) < 200
        assert index.verify() == []


def test_info_counts_entries_segments_and_bytes(index):
    info = index.info()
    assert info["entries"] == 2
    assert info["grid"] == [6, 8]
    assert info["segments"] == 2
    assert info["measure"] is False
    assert set(info["bytes"]) == {"runs", "bounds", "other", "total"}
    assert info["bytes"]["total"] == sum(
        f.stat().st_size for f in index.path.rglob("*") if f.is_file()
    )
    json.dumps(info)
    index.remove(7)
    assert index.info()["removed_not_compacted"] == 1


def test_bounds_take_less_than_a_kilobyte_and_runs_less_than_the_pixels(tmp_path):
    # Labels of smooth outlines, as of masks.
    y, x = np.mgrid[:128, :192]
    rng = np.random.default_rng(5)
    maps = []
    for _ in range(60):
        centres = rng.random((12, 2)) * (128, 192)
        off = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
        maps.append(np.where(off.min(axis=0) < 14, off.argmin(axis=0) + 1, 0))
    with made(tmp_path / "index", maps) as index:
        sizes = index.info()["bytes_an_entry"]
    assert sizes["bounds"] < 1024
    assert sizes["runs"] < 128 * 192 / 20


# --- readers and writers --------------------------------------------------------------------


def test_a_reader_keeps_what_it_opened_whatever_a_writer_does(tmp_path):
    rng = np.random.default_rng(6)
    maps = random_collection(rng, (9, 14), 40)
    entries = dict(enumerate(maps))
    query = random_labels(rng, (9, 14))
    expected = brute_force(query, entries)[:6]
    folder = tmp_path / "index"
    with made(folder, maps) as writer, PartitionIndex.open(folder) as reader:
        late = PartitionIndex.open(folder)
        assert pairs_of(reader.search(query, 6)) == expected
        for id in (expected[0][1], expected[3][1]):
            writer.remove(id)
        writer.update(expected[1][1], random_labels(rng, (9, 14)))
        writer.add_many([query] * 20)
        writer.compact()
        # One has searched before, the other opens its files for the first time.
        for one in (reader, late):
            assert pairs_of(one.search(query, 6)) == expected
            assert len(one) == 40
            assert np.array_equal(one.get(expected[0][1]), entries[expected[0][1]])
        late.close()
        with PartitionIndex.open(folder) as fresh:
            assert fresh.search(query)[0].rho == 0
            assert len(fresh) == 58


def test_a_second_writer_is_refused(index):
    with pytest.raises(IndexLockedError, match="is being written by process"):
        PartitionIndex.open(index.path, "r+")


def test_a_reader_cannot_write(index):
    with PartitionIndex.open(index.path) as reader:
        for change in (
            lambda: reader.add(HALVES),
            lambda: reader.remove(7),
            lambda: reader.update(7, HALVES),
        ):
            with pytest.raises(ValueError, match="open for reading only"):
                change()


def test_a_read_only_folder_can_be_read_but_not_written(index, monkeypatch):
    index.close()
    os_open = os.open

    def refusing(path, flags, *arguments, **more):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return os_open(path, flags, *arguments, **more)

    monkeypatch.setattr(os, "open", refusing)
    index.path.chmod(0o555)
    try:
        with PartitionIndex.open(index.path) as reader:
            assert len(reader) == 2
            assert reader.search(HALVES)[0].rho == 0
        with pytest.raises(OSError, match="may not be written to"):
            PartitionIndex.open(index.path, "r+")
    finally:
        index.path.chmod(0o755)


def test_a_full_disk_leaves_the_index_as_it_was(index, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            index.add(HALVES, "new")
    assert index.ids() == [7, "halves"]
    assert index.verify() == []
    index.add(HALVES, "new")
    assert len(index) == 3


# --- bad input ------------------------------------------------------------------------------


def nan_map():
    """Return a label map that is none."""
    return np.full(GRID, np.nan)


def soft_map():
    """Return a soft partition."""
    return random_soft(np.random.default_rng(1), "regions", HALVES)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda i: i.add(HALVES, "halves"), ValueError, "id 'halves' is in the index already"),
        (lambda i: i.add(HALVES, 7), ValueError, "id 7 is in the index already"),
        (lambda i: i.add(HALVES, 1.5), TypeError, "id"),
        (lambda i: i.add(HALVES, True), TypeError, "id"),
        (lambda i: i.add(HALVES, metadata={"a": object()}), TypeError, "metadata"),
        (lambda i: i.add(HALVES, metadata={"a": np.nan}), ValueError, "metadata"),
        (lambda i: i.add(HALVES, metadata=[1]), TypeError, "metadata"),
        (lambda i: i.add(nan_map()), TypeError, "labels must be a Partition"),
        (lambda i: i.add(HALVES[0]), ValueError, "labels"),
        (lambda i: i.add(np.zeros((2, 6, 8), int)), ValueError, "labels must be 2-D"),
        (lambda i: i.add(np.zeros((0, 6), int)), ValueError, "labels"),
        (lambda i: i.add(soft_map()), TypeError, "labels must be a hard partition"),
        (lambda i: i.update("halves", nan_map()), TypeError, "labels must be a Partition"),
        (lambda i: i.get("nothing"), KeyError, "id must name an entry"),
        (lambda i: i.metadata("nothing"), KeyError, "id must name an entry"),
        (lambda i: i.remove("nothing"), KeyError, "id must name an entry"),
        (lambda i: i.update("nothing", HALVES), KeyError, "id must name an entry"),
        (lambda i: i.add_many([], memory=10), ValueError, "memory must be"),
        (lambda i: i.compact(memory=10), ValueError, "memory must be"),
    ],
)
def test_bad_entries_are_refused_and_nothing_changes(index, call, error, message):
    generation = index.info()["generation"]
    with pytest.raises(error, match=message):
        call(index)
    assert index.info()["generation"] == generation
    assert index.ids() == [7, "halves"]


def test_an_id_that_comes_twice_in_a_batch_is_refused(index):
    with pytest.raises(ValueError, match="ids must differ, got 'a' twice"):
        index.add_many([Entry(HALVES, "a"), Entry(HALVES, "b"), Entry(HALVES, "a")])
    assert len(index) == 2


@pytest.mark.parametrize(
    ("grid", "measure", "error", "message"),
    [
        ((0, 4), None, ValueError, "grid"),
        ((4,), None, ValueError, "grid"),
        ((2, 3, 4, 5), None, ValueError, "grid"),
        ((4, 6), np.ones((6, 4)), ValueError, "measure"),
        ((4, 6), -np.ones((4, 6)), ValueError, "measure"),
        ((4, 6), np.full((4, 6), np.nan), ValueError, "measure"),
        ((4, 6), np.zeros((4, 6)), ValueError, "measure"),
    ],
)
def test_bad_grids_and_measures_are_refused(tmp_path, grid, measure, error, message):
    with pytest.raises(error, match=message):
        PartitionIndex.create(tmp_path / "index", grid, measure=measure)
    assert not (tmp_path / "index").exists()


def test_a_folder_that_is_no_index_is_refused(tmp_path, index):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PartitionIndex.open(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("hello")
    with pytest.raises(FormatError, match="must be an index"):
        PartitionIndex.open(tmp_path / "other")
    with pytest.raises(ValueError, match="new or empty folder"):
        PartitionIndex.create(tmp_path / "other", GRID)
    with pytest.raises(ValueError, match="new or empty folder"):
        PartitionIndex.create(index.path, GRID)


def test_a_mode_is_checked(index):
    with pytest.raises(ValueError, match="mode must be one of"):
        PartitionIndex.open(index.path, "w")


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "FORMAT_VERSION", catalogue.FORMAT_VERSION + 1)
    PartitionIndex.create(tmp_path / "index", GRID).close()
    monkeypatch.undo()
    with pytest.raises(FormatError, match="a newer hiersearch wrote it"):
        PartitionIndex.open(tmp_path / "index")


def test_after_the_largest_integer_there_is_no_automatic_id(tmp_path):
    labels = np.zeros((4, 6), int)
    with PartitionIndex.create(tmp_path / "index", (4, 6)) as index:
        index.add(labels, 2**63 - 1)
        for add in (lambda: index.add(labels), lambda: index.add_many([labels, labels])):
            with pytest.raises(ValueError, match="there are no automatic ids left: the largest"):
                add()
        index.add(labels, "text")
        assert index.ids() == [2**63 - 1, "text"]


def test_a_store_of_something_else_is_refused(tmp_path):
    from hiersearch.index.store.store import Store

    Store.create(tmp_path / "store", {"grid": "none"}).close()
    with pytest.raises(
        FormatError, match="must be an index of partitions, got another: its grid must be"
    ):
        PartitionIndex.open(tmp_path / "store")
    # The lock was let go of.
    with pytest.raises(
        FormatError, match="must be an index of partitions, got another: its grid must be"
    ):
        PartitionIndex.open(tmp_path / "store", "r+")
    with pytest.raises(
        FormatError, match="must be an index of partitions, got another: its grid must be"
    ):
        PartitionIndex.open(tmp_path / "store", "r+")


# --- scalars of NumPy -----------------------------------------------------------------------


def test_scalars_of_numpy_are_ids_like_pythons_own(tmp_path):
    with PartitionIndex.create(tmp_path / "index", (4, 4)) as index:
        labels = np.arange(16).reshape(4, 4)
        scalars = [np.int64(1), np.uint8(2), np.array(3), np.str_("a"), np.array("b")]
        added = [index.add(labels, one) for one in scalars]
        assert added == [1, 2, 3, "a", "b"]
        assert [type(one) for one in added] == [int, int, int, str, str]
        assert index.ids() == added
        for one, plain in zip(scalars, added, strict=True):
            assert one in index
            assert plain in index
            assert index.metadata(one) == {}
        todo = [one for one in np.arange(5) if one not in index]
        assert [type(index.add(labels, one)) for one in todo] == [int, int]
        assert index.ids() == [0, 1, 2, 3, 4, "a", "b"]
        index.update(np.int32(0), labels, {"n": np.int32(7)})
        assert index.metadata(0) == {"n": 7}
        index.remove(np.int64(0))
        assert 0 not in index
        tree = build_hierarchy(labels.astype(float), superpixels="pixels", linkage="single")
        cuts = index.add_hierarchy(tree, np.int64(8), thresholds=[0.5])
        assert cuts == ["8@16"]


@pytest.mark.parametrize(
    "other", [True, np.True_, None, 1.0, np.float64(1), (1,), np.array([1]), "", 2**70, b"1"]
)
def test_what_can_be_no_id_is_in_no_index(tmp_path, other):
    with PartitionIndex.create(tmp_path / "index", (2, 2)) as index:
        index.add(np.zeros((2, 2), int), 1)
        assert other not in index


def test_scalars_of_numpy_are_metadata_like_pythons_own(tmp_path):
    with PartitionIndex.create(tmp_path / "index", (2, 2)) as index:
        metadata = {
            "integer": np.int64(3), "unsigned": np.uint64(2**64 - 1), "single": np.float32(0.1),
            "double": np.float64(0.1), "truth": np.bool_(True), "text": np.str_("ä"),
            "array": np.array(5), "nested": {"list": [np.int8(-1), None, [np.float16(0.5)]]},
        }  # fmt: skip
        index.add(np.zeros((2, 2), int), "a", MappingProxyType(metadata))
        found = index.metadata("a")
        assert found == {
            "integer": 3, "unsigned": 2**64 - 1, "single": float(np.float32(0.1)), "double": 0.1,
            "truth": True, "text": "ä", "array": 5, "nested": {"list": [-1, None, [0.5]]},
        }  # fmt: skip
        assert found["truth"] is True
        for where in (
            {"integer": np.int64(3)},
            {"single": {">": np.float16(0)}},
            {"truth": np.bool_(True)},
            {"text": [np.str_("ä"), "b"]},
            {"integer": np.array([1, 3])},
        ):
            assert index.search(np.zeros((2, 2), int), where=where).neighbours[0].id == "a"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.float32("nan"), ValueError, r"metadata of 'a'\['n'\] must be a finite number, got nan"),
        (np.float64("inf"), ValueError, "must be a finite number, got inf"),
        ((1, 2), TypeError, r"got tuple: list\(\.\.\.\) or \.tolist\(\) makes one"),
        (np.arange(2), TypeError, r"got ndarray: list\(\.\.\.\) or \.tolist\(\) makes one"),
        (np.datetime64("2020-01-01"), TypeError, "must be JSON .* got date"),
        (np.complex64(1), TypeError, "must be JSON .* got complex"),
        (2**9000, ValueError, "must be a number of at most 8192 bits"),
    ],
)
def test_metadata_that_json_does_not_have_are_refused(tmp_path, value, error, message):
    with PartitionIndex.create(tmp_path / "index", (2, 2)) as index:
        with pytest.raises(error, match=message):
            index.add(np.zeros((2, 2), int), "a", {"n": value})
        assert len(index) == 0


def test_label_maps_of_floating_type_say_what_to_do(tmp_path):
    with PartitionIndex.create(tmp_path / "index", (2, 2)) as index:
        for use, name in ((index.add, "labels"), (index.search, "query")):
            with pytest.raises(TypeError, match=rf"array of float64: .* as {name}.astype\(int\)"):
                use(np.zeros((2, 2)))


# --- merging is best effort -----------------------------------------------------------------


def flip(folder, number):
    """Flip a bit of the bounds of a segment, which merging reads."""
    file = folder / "segments" / f"{number:08}.seg"
    stored = Segment.open(file)._arrays["masses"]
    content = bytearray(file.read_bytes())
    content[stored.offset + 1] ^= 1
    file.write_bytes(content)


def add_one(index, number):
    index.add(HALVES + number % 3, f"n{number}")


def add_some(index, number):
    index.add_many([Entry(HALVES + number % 3, f"n{number}")])


def update_one(index, number):
    index.update("n0", HALVES * 2)


def add_cuts(index, number):
    tree = random_tree(np.random.default_rng(number), 3, GRID)
    index.add_hierarchy(tree, f"n{number}", thresholds=[np.inf])


@pytest.mark.parametrize("change", [add_one, add_some, update_one, add_cuts])
def test_what_was_asked_for_is_done_whatever_becomes_of_merging(tmp_path, change):
    path = tmp_path / "index"
    with PartitionIndex.create(path, GRID) as index:
        for number in range(15):
            add_one(index, number)
    flip(path, 4)
    with PartitionIndex.open(path, "r+") as index:
        assert (len(index._store.segments), index.info()["merging"]) == (15, None)
        with pytest.warns(MergingWarning, match=r"is done, but small .*00000004\.seg") as told:
            change(index, 15)
        assert told[0].filename == __file__
        expected = 15 + (change is not update_one)
        assert (len(index), len(index._store.segments)) == (expected, 16)
        assert "00000004.seg" in index.info()["merging"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            add_one(index, 16)
        # The others go on being merged: the damaged one stays as it is, for a repair.
        assert [segment.number for segment in index._store.segments] == [4, 18]
        assert "00000004.seg" in index.merging
    PartitionIndex.repair(path)
    with PartitionIndex.open(path) as index:
        assert (index.verify(), index.merging, len(index)) == ([], None, expected + 1)


def test_a_disk_that_is_full_when_segments_are_merged(tmp_path, monkeypatch):
    path = tmp_path / "index"
    with PartitionIndex.create(path, GRID) as index:
        for number in range(15):
            add_one(index, number)
        replace = Store.replace

        def full(self, *arguments, **options):
            with monkeypatch.context() as patched:
                patched.setattr(os, "write", no_space)
                return replace(self, *arguments, **options)

        monkeypatch.setattr(Store, "replace", full)
        with pytest.warns(MergingWarning, match="is done, but small .* no space left on the dev"):
            add_one(index, 15)
        assert "n15" in index
    # Who opens it next learns that something waits.
    with PartitionIndex.open(path) as index:
        assert index.info()["merging"].startswith("16 small segments wait to be merged")
    monkeypatch.undo()
    with PartitionIndex.open(path, "r+") as index:
        add_one(index, 16)
        assert (len(index._store.segments), index.merging) == (1, None)


def no_space(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- grids that can't be --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "error", "message"),
    [
        ((65536, 65536), ValueError, "grid must have fewer than 2**31 pixels, got shape (65536, 6"),
        ((1, 2**31), ValueError, "grid must have fewer than 2**31 pixels"),
        ((1.5, 4), TypeError, "grid must be whole numbers, got (1.5, 4)"),
        ((4.0, 4), TypeError, "grid must be whole numbers, got (4.0, 4)"),
        (("4", "4"), TypeError, "grid must be whole numbers, got ('4', '4')"),
        ((True, 4), TypeError, "grid must be whole numbers, got (True, 4)"),
        ((0, 4), ValueError, "grid must have at least one pixel, got shape (0, 4)"),
        ((4,), ValueError, "grid must be 2-D (H, W) or 3-D (D, H, W), got shape (4,)"),
    ],
)
def test_grids_that_can_not_be_are_refused_before_anything_is_written(
    tmp_path, grid, error, message
):
    with pytest.raises(error) as caught:
        PartitionIndex.create(tmp_path / "a" / "index", grid)
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_what_there_is_no_memory_for_is_not_created(tmp_path, monkeypatch):
    def too_large(*arguments):
        raise MemoryError

    monkeypatch.setattr("hiersearch.index.index.Frame", too_large)
    with pytest.raises(MemoryError):
        PartitionIndex.create(tmp_path / "index", (40000, 40000))
    assert os.listdir(tmp_path) == []


# --- searches beside a writer ---------------------------------------------------------------


@pytest.fixture(scope="module")
def two_segments(tmp_path_factory):
    """Thirty entries, and ten of which one, nearest to HALVES, was removed."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("two segments") / "index"
    with PartitionIndex.create(folder, GRID) as index:
        index.add_many([Entry(random_labels(rng, GRID), i, {"k": 1}) for i in range(30)])
        others = [Entry(random_labels(rng, GRID), 100 + i, {"k": 1}) for i in range(9)]
        index.add_many([Entry(HALVES, "gone", {"k": 1}), *others])
        index.remove("gone")
    return folder


LOOKS = {
    "search": lambda index: pairs_of(index.search(HALVES, 40)),
    "search where": lambda index: pairs_of(index.search(HALVES, 40, where={"k": 1})),
    "search_radius": lambda index: pairs_of(index.search_radius(HALVES, 0.5)),
    "search_many": lambda index: [pairs_of(r) for r in index.search_many([HALVES] * 3, 40)],
    "duplicates": lambda index: [(g.ids, g.rho.tolist()) for g in index.duplicates(0.3)],
    "get": lambda index: index.get(107).tolist(),
    "metadata": lambda index: index.metadata(107),
    "info": lambda index: index.info()["entries"],
    "ids": lambda index: index.ids(),
    "verify": lambda index: index.verify(),
}
WRITES = {
    "compact": lambda index: index.compact(),
    "remove": lambda index: index.remove_many([3, 100, 101]),
}


@pytest.mark.parametrize(
    ("look", "write"),
    [("search", "compact"), ("search where", "compact"), ("search", "remove"), ("get", "compact")],
)
def test_a_look_at_an_index_sees_it_before_a_write_or_after_it(tmp_path, two_segments, look, write):
    check_looks(tmp_path, two_segments, look, write, range(0, 1000, 11))


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("look", LOOKS)
def test_any_look_at_an_index_sees_it_before_a_write_or_after_it(
    tmp_path, two_segments, look, write
):
    check_looks(tmp_path, two_segments, look, write, range(1000))


def check_looks(tmp_path, folder, look, write, lines):
    """Let a writer in at each of some lines that a look comes by in the index's own module."""
    shutil.copytree(folder, tmp_path / "before")
    with PartitionIndex.open(tmp_path / "before", "r+") as index:
        before = LOOKS[look](index)
        WRITES[write](index)
        after = LOOKS[look](index)
    for line in lines:
        copy = tmp_path / str(line)
        shutil.copytree(folder, copy)
        with PartitionIndex.open(copy, "r+") as index, at_line(line, index, write) as came:
            found = LOOKS[look](index)
        assert found in (before, after)
        if not came[0]:
            break
    assert line > 0


@contextlib.contextmanager
def at_line(number, index, write):
    """Write in another thread while this one is at a line of index.py."""
    came = [False]
    left = number

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.endswith("hiersearch/index/index.py"):
            return None
        if event == "line":
            left -= 1
            if left < 0 and not came[0]:
                came[0] = True
                writer = threading.Thread(target=WRITES[write], args=(index,))
                writer.start()
                writer.join()
        return trace

    sys.settrace(trace)
    try:
        yield came
    finally:
        sys.settrace(None)


def test_a_condition_is_evaluated_once_for_many_queries(index, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return selected(*arguments)

    monkeypatch.setattr("hiersearch.index.index.selected", counted)
    found = index.search_many([HALVES] * 5, where={"k": 2})
    assert [[one.id for one in result] for result in found] == [["halves"]] * 5
    assert len(calls) == 1


def test_files_that_a_writer_deletes_while_their_sizes_are_summed(index, monkeypatch):
    is_file = Path.is_file
    gone = index.path / "segments" / "00000001.seg"

    def then_deleted(self):
        found = is_file(self)
        if self == gone:
            self.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "is_file", then_deleted)
    assert index.info()["bytes"]["total"] > 0


def test_threads_may_write_through_one_index(index):
    errors = []

    def write(number):
        try:
            for i in range(4):
                index.add(HALVES, f"{number}/{i}", {"k": i})
                index.update(f"{number}/{i}", HALVES * 3)
            index.compact()
            index.remove(f"{number}/0")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(index) == 2 + 9
    assert index.verify() == []
    assert index.metadata("2/3") == {"k": 3}
