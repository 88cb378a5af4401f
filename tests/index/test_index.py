"""What goes into an index comes back; changes are commits; what does not fit is refused."""

import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiersearch import Partition
from hiersearch.index import catalogue
from hiersearch.index.entries import Entry
from hiersearch.index.errors import FormatError, IndexLockedError
from hiersearch.index.index import PartitionIndex
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
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), grid=st.sampled_from(GRIDS))
def test_label_maps_come_back_with_their_labels(tmp_path_factory, measure, seed, grid):
    rng = np.random.default_rng(seed)
    maps = random_collection(rng, grid, 25)
    weights = random_measure(rng, measure, grid)
    folder = tmp_path_factory.mktemp("index") / "index"
    made(folder, maps, weights).close()
    with PartitionIndex.open(folder) as index:
        assert index.grid == grid
        assert len(index) == index.count == 25
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
    index.add(large, "large")
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
            assert fresh.search(query)[0].raw == 0
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
            assert reader.search(HALVES)[0].raw == 0
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
    from hiersearch.index.store import Store

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
