"""The store keeps what was committed, by id, for one writer and any number of readers."""

import errno
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiersearch.errors import DamageError, FormatError, IndexLockedError
from hiersearch.index.store import catalogue
from hiersearch.index.store import ids as ids_module
from hiersearch.index.store.snapshot import StoredPlace
from hiersearch.index.store.store import Store
from tests.index.faults.killing import ROOT
from tests.index.store.test_catalogue import leave_hot_journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path):
    with Store.create(path, {"grid": [2, 3]}) as store:
        yield store


def values(*numbers):
    return {"x": np.array(numbers, np.int64)}


def contents(store):
    """Every entry's value and metadata by its id."""
    return {
        segment.id_at(p): (int(segment.data.rows("x", p, p + 1)[0]), segment.metadata_at(p))
        for segment in store.segments
        for p in np.flatnonzero(segment.live).tolist()
    }


# --- commits --------------------------------------------------------------------------------


def test_what_was_appended_is_there_for_the_writer_and_for_who_opens_later(store, path):
    segment = store.append(["a", 7], [{"split": "train"}, None], values(10, 20))
    expected = {"a": (10, {"split": "train"}), 7: (20, {})}
    assert segment.all_ids() == ["a", 7]
    assert segment.metadata_at(0) == {"split": "train"}
    with Store.open(path) as reader:
        for one in (store, reader):
            assert contents(one) == expected
            assert (len(one), one.generation, one.settings) == (2, 1, {"grid": [2, 3]})
            assert (one.find("a"), one.find(7)) == ((1, 0), (1, 1))
            assert list(one.ids()) == ["a", 7]
            assert (one.id_at(1, 1), one.metadata_at(1, 0)) == (7, {"split": "train"})
        assert store.writable
        assert not reader.writable


def test_removed_entries_are_gone(store, path):
    store.append(["a", "b", "c"], [None] * 3, values(1, 2, 3))
    store.remove([store.find("b")])
    for one in (store, Store.open(path)):
        assert list(one.ids()) == ["a", "c"]
        assert one.find_many(["a", "b", "c"]) == [(1, 0), None, (1, 2)]
        assert one.segments[0].removed.tolist() == [False, True, False]
        assert len(one) == 2
    store.append(["b"], [None], values(4))
    assert contents(store)["b"] == (4, {})


def test_removing_nothing_is_no_commit(store):
    store.remove([])
    assert store.generation == 0


def test_an_update_is_one_commit(store, path):
    store.append(["a", "b"], [None, {"v": 1}], values(1, 2))
    store.append(["b", "c"], [{"v": 2}, None], values(3, 4), removing=[store.find("b")])
    assert store.generation == 2
    for one in (store, Store.open(path)):
        assert contents(one) == {"a": (1, {}), "b": (3, {"v": 2}), "c": (4, {})}


def test_a_replacement_takes_the_place_of_old_segments_and_their_files(store, path):
    store.append(["a", "b"], [None] * 2, values(1, 2))
    kept = store.append(["c"], [None], values(3))
    store.append(["d"], [None], values(4))
    store.remove([store.find("b")])
    old = [store.segments[0], store.segments[2]]
    new = store.replace(old, ["d", "a"], [None] * 2, values(4, 1))
    for one in (store, Store.open(path)):
        assert contents(one) == {"a": (1, {}), "c": (3, {}), "d": (4, {})}
        assert [segment.number for segment in one.segments] == [2, 4]
    assert store.segments[0] is kept
    assert new.number == 4
    assert sorted(os.listdir(path / "segments")) == ["00000002.seg", "00000004.seg"]


def test_segments_without_entries_can_be_dropped(store, path):
    store.append(["a"], [None], values(1))
    store.append(["b"], [None], values(2))
    store.remove([store.find("a")])
    assert store.replace([store.segments[0]], [], [], {}) is None
    assert contents(Store.open(path)) == {"b": (2, {})}
    assert os.listdir(path / "segments") == ["00000002.seg"]


def test_a_snapshot_of_segments_stays_as_it_is(store):
    store.append(["a", "b"], [None] * 2, values(1, 2))
    before = store.segments
    store.remove([store.find("a")])
    assert before[0].removed is None
    assert store.segments[0].removed.tolist() == [True, False]


@given(st.data())
def test_any_sequence_of_commits_ends_in_what_a_dict_would_hold(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("commits") / "store"
    names = st.one_of(st.integers(-3, 12), st.sampled_from(["0", "1", "a", "ü"]))
    expected = {}
    with Store.create(path, {}) as store:
        for _ in range(data.draw(st.integers(1, 6))):
            kind = data.draw(st.sampled_from(["append", "append", "update", "remove", "replace"]))
            chosen = data.draw(st.lists(names, min_size=1, max_size=4, unique_by=lambda x: (x,)))
            new = [name for name in chosen if name not in expected]
            old = [name for name in chosen if name in expected]
            numbers = data.draw(st.lists(st.integers(), min_size=4, max_size=4))
            if kind == "append" and new:
                entries = dict(zip(new, numbers, strict=False))
            elif kind == "update" and old:
                entries = dict(zip(old, numbers, strict=False))
            elif kind == "remove":
                store.remove(store.find_many(old))
                expected = {n: v for n, v in expected.items() if n not in old}
                continue
            elif kind == "replace":
                moved = list(store.ids())
                store.replace(store.segments, moved, [{"v": expected[n]} for n in moved], {})
                continue
            else:
                continue
            metadata = [{"v": number} for number in entries.values()]
            leaving = store.find_many(old) if kind == "update" else ()
            store.append(list(entries), metadata, {}, removing=leaving)
            expected |= entries
        for one in (store, Store.open(path)):
            found = {name: one.metadata_at(*one.find(name))["v"] for name in one.ids()}
            assert found == expected
            assert len(one) == len(expected)
        assert store.verify() == []


# --- ids ------------------------------------------------------------------------------------


def test_one_and_the_text_one_are_different_ids(store):
    store.append([1, "1"], [None] * 2, values(10, 20))
    assert contents(store) == {1: (10, {}), "1": (20, {})}
    assert store.find_many([1, "1", "01"]) == [(1, 0), (1, 1), None]


def test_automatic_ids_are_above_all_integers_that_ever_were_ids(store, path):
    assert store.append([None, "x", None], [None] * 3, values(1, 2, 3)).all_ids() == [0, "x", 1]
    assert store.append([None, 10, None], [None] * 3, values(1, 2, 3)).all_ids() == [11, 10, 12]
    store.remove([store.find(12)])
    store.close()
    with Store.open(path, writable=True) as again:
        assert again.append([None, -5], [None] * 2, values(1, 2)).all_ids() == [13, -5]


def test_ids_of_extreme_size_and_any_script(store):
    names = [2**63 - 1, -(2**63), 0, "\0", "ключ", "𝔘" * 1000, " "]
    store.append(names, [None] * 7, values(*range(7)))
    assert list(store.ids()) == names
    assert store.find_many(names) == [(1, i) for i in range(7)]
    with pytest.raises(ValueError, match="there are no automatic ids left"):
        store.append([None], [None], values(1))


def test_ids_of_one_hash_are_told_apart(path, monkeypatch):
    monkeypatch.setattr(ids_module, "blake2b", lambda *_, **__: Constant())
    with Store.create(path, {}) as store:
        store.append(["a", "b"], [None] * 2, values(1, 2))
        store.append(["c", 5], [None] * 2, values(3, 4))
        found = store.find_many(["b", "x", "c", "a", 5])
        assert found == [(1, 1), None, (2, 0), (1, 0), (2, 1)]
        with pytest.raises(ValueError, match="id 'b' is in the index already"):
            store.append(["d", "b"], [None] * 2, values(1, 2))


class Constant:
    """A hash that all texts share."""

    def digest(self):
        return bytes(8)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a", "b", "a"], ValueError, "ids must differ, got 'a' twice"),
        (["old"], ValueError, "id 'old' is in the index already"),
        (["new", 3], ValueError, "id 3 is in the index already"),
        ([], ValueError, "ids must have at least one entry, got none"),
        ([""], ValueError, "id must be an integer or a string that is not empty, got ''"),
        (["\ud800"], ValueError, "id must be Unicode text"),
        ([True], TypeError, "id must be an integer or a string, got True"),
        ([1.0], TypeError, r"id must be an integer or a string, got 1\.0"),
        ([2**63], ValueError, "id must be an integer of 64 bits, got 9223372036854775808"),
    ],
)
def test_bad_ids_are_refused_before_anything_is_written(store, path, names, error, message):
    store.append(["old", 3], [None] * 2, values(1, 2))
    with pytest.raises(error, match=message):
        store.append(names, [None] * len(names), values(*range(len(names))))
    assert (store.generation, len(store)) == (1, 2)
    assert os.listdir(path / "segments") == ["00000001.seg"]
    assert store.append(["next"], [None], values(1)).number == 2


def test_looking_up_what_is_no_id(store):
    with pytest.raises(TypeError, match="id must be an integer or a string, got None"):
        store.find(None)


# --- metadata -------------------------------------------------------------------------------


def test_metadata_comes_back_as_it_was(store):
    metadata = [
        {"a": None, "b": [1, 2.5, {"c": 'ü,"}'}], "d": True, "": 10**30},
        {},
        None,
        {"d": True, "b": [1, 2.5, {"c": 'ü,"}'}], "a": None, "": 10**30},
    ]
    segment = store.append([None] * 4, metadata, values(1, 2, 3, 4))
    assert [segment.metadata_at(i) for i in range(4)] == [m or {} for m in metadata]
    segment.metadata_at(0)["a"] = 5
    assert segment.metadata_at(0)["a"] is None


CIRCULAR = {}
CIRCULAR["self"] = CIRCULAR


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1], TypeError, "metadata of 'e' must be a JSON object (a dict), got list"),
        ({"a": float("nan")}, ValueError, "metadata of 'e'['a'] must be a finite number, got nan"),
        ({"a": [1, -np.inf]}, ValueError, "metadata of 'e'['a'][1] must be a finite number"),
        ({"a": {1: 2}}, TypeError, "metadata of 'e'['a'] must have strings as keys, got 1"),
        ({"a": np.arange(3)}, TypeError, "metadata of 'e'['a'] must be JSON (null, bool, number"),
        ({"a": {"b": (1, 2)}}, TypeError, "metadata of 'e'['a']['b'] must be JSON"),
        ({"a": "\ud800"}, ValueError, "metadata of 'e' must be Unicode text"),
        (CIRCULAR, ValueError, "metadata of 'e' must be a JSON object, got one nested too deep"),
    ],
)
def test_metadata_that_is_not_json_names_entry_and_key(store, value, error, message):
    with pytest.raises(error) as caught:
        store.append(["d", "e"], [None, value], values(1, 2))
    assert message in str(caught.value)
    assert store.generation == 0


def test_metadata_needs_one_object_per_id(store):
    with pytest.raises(ValueError, match="metadata must have one entry per id, got 1 for 2 ids"):
        store.append(["a", "b"], [None], values(1, 2))


# --- other bad input ------------------------------------------------------------------------


def test_arrays_may_not_use_names_of_the_store(store):
    with pytest.raises(ValueError, match="names of arrays must not begin with 'store/', got 'st"):
        store.append(["a"], [None], {"store/ids": np.zeros(1)})


def test_places_that_hold_no_entry_are_refused(store):
    store.append(["a", "b"], [None] * 2, values(1, 2))
    store.remove([StoredPlace(1, 0)])
    for place in (StoredPlace(*at) for at in ((1, 0), (1, 2), (1, -1), (2, 0))):
        with pytest.raises(ValueError, match=re.escape(f"places must hold entries, got {place}")):
            store.remove([place])
    twice = StoredPlace(1, 1)
    with pytest.raises(ValueError, match=re.escape(f"places must differ, got {twice} twice")):
        store.remove([twice, twice])
    with pytest.raises(ValueError, match="places must hold entries"):
        store.append(["c"], [None], values(1), removing=[StoredPlace(5, 0)])
    assert list(store.ids()) == ["b"]


def test_only_segments_that_are_there_can_be_replaced(store):
    old = store.append(["a"], [None], values(1))
    store.replace([old], ["a"], [None], values(1))
    with pytest.raises(ValueError, match="old must hold segments of the store, got 1"):
        store.replace([old], ["b"], [None], values(1))
    store.append(["b"], [None], values(2))
    with pytest.raises(ValueError, match="id 'b' is in the index already"):
        store.replace([store.segments[0]], ["b"], [None], values(1))


def test_settings_must_be_json(path):
    with pytest.raises(TypeError, match=r"settings\['grid'\] must be JSON"):
        Store.create(path, {"grid": (1, 2)})
    assert not path.exists()


def test_readers_and_closed_stores_refuse_to_write(store, path):
    store.append(["a"], [None], values(1))
    with Store.open(path) as reader:
        for write in (
            lambda: reader.append(["b"], [None], values(1)),
            lambda: reader.remove([StoredPlace(1, 0)]),
            lambda: reader.replace(reader.segments, [], [], {}),
        ):
            with pytest.raises(ValueError, match="the store is open for reading only"):
                write()
    store.close()
    for use in (
        lambda: store.append(["b"], [None], values(1)),
        lambda: store.find("a"),
        lambda: list(store.ids()),
        lambda: store.metadata_at(1, 0),
    ):
        with pytest.raises(ValueError, match="the store is closed"):
            use()


# --- folders --------------------------------------------------------------------------------


def test_a_store_is_made_in_a_new_or_empty_folder_only(tmp_path):
    Store.create(tmp_path / "new" / "deep", {}).close()
    (tmp_path / "empty").mkdir()
    Store.create(tmp_path / "empty", {}).close()
    with pytest.raises(ValueError, match=r"new or empty folder, got one with an index: .*empty"):
        Store.create(tmp_path / "empty", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"new or empty folder, got a file: .*file"):
        Store.create(tmp_path / "file", {})
    with pytest.raises(ValueError, match="new or empty folder, got one with 3 files"):
        Store.create(tmp_path, {})


@pytest.mark.parametrize("writable", [False, True])
def test_folders_that_are_no_store(tmp_path, writable):
    with pytest.raises(FileNotFoundError, match="none does not exist: an index is a folder"):
        Store.open(tmp_path / "none", writable)
    with pytest.raises(FormatError, match=r"must be an index, got a folder without catalogue\.sq"):
        Store.open(tmp_path, writable)
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="must be an index, which is a folder, got a file"):
        Store.open(tmp_path / "file", writable)
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_segment_is_named(store, path):
    store.append(["a"], [None], values(1))
    (path / "segments" / "00000001.seg").unlink()
    with pytest.raises(DamageError, match=r"00000001\.seg: is missing"):
        Store.open(path)
    assert [str(d) for d in store.verify()] == [f"{path}/segments/00000001.seg: is missing"]


def test_a_missing_catalogue_is_named(store, path):
    store.append(["a"], [None], values(1))
    (path / "catalogue.sqlite").unlink()
    with pytest.raises(DamageError, match=r"catalogue\.sqlite: is missing"):
        Store.open(path)
    assert [str(d) for d in Store.inspect(path)] == [f"{path}/catalogue.sqlite: is missing"]


def test_what_a_killed_writer_left_is_deleted_by_the_next_and_nothing_else(store, path):
    foreign = ["12345678.seg", "notes.txt"]
    store.append(["a"], [None], values(1))
    store.close()
    (path / "segments" / "00000002.seg").write_bytes(b"half-written")
    (path / "catalogue.crc.0123abcd.tmp").write_bytes(b"half-written")
    for name in foreign:
        (path / "segments" / name).write_text("not ours")
    assert len(Store.open(path)) == 1
    assert Store.inspect(path) == []
    with Store.open(path, writable=True) as again:
        assert sorted(os.listdir(path / "segments")) == ["00000001.seg", *foreign]
        assert not list(path.glob("*.tmp"))
        assert again.append(["b"], [None], values(2)).number == 2


def test_a_writer_renews_the_check_of_a_catalogue_whose_writer_was_killed_before(store, path):
    older = (path / "catalogue.crc").read_bytes()
    store.append(["a"], [None], values(1))
    newer = (path / "catalogue.crc").read_bytes()
    store.close()
    (path / "catalogue.crc").write_bytes(older)
    assert Store.inspect(path) == []
    Store.open(path, writable=True).close()
    assert (path / "catalogue.crc").read_bytes() == newer


# --- writers and readers --------------------------------------------------------------------


def test_a_second_writer_is_told_who_is_writing(store, path):
    message = f"is being written by process {os.getpid()}: wait until it is done, or open the inde"
    with pytest.raises(IndexLockedError, match=message):
        Store.open(path, writable=True)
    store.append(["a"], [None], values(1))
    store.close()
    with Store.open(path, writable=True) as second:
        assert second.find("a") == (1, 0)


def test_the_lock_goes_with_its_process(store, path):
    store.close()
    script = f"""
        import os
        from hiersearch.index.store.store import Store
        store = Store.open({str(path)!r}, writable=True)
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=False)
    Store.open(path, writable=True).close()


def test_readers_keep_what_they_opened_whatever_the_writer_does(store, path):
    # One segment is small enough to be read whole, the other is mapped.
    store.append(["a"], [{"n": 1}], values(1) | {"big": np.zeros(10)})
    store.append(["b"], [{"n": 2}], values(2) | {"big": np.ones(10**5)})
    reader = Store.open(path)
    store.remove([store.find("a")])
    store.append(["c"], [None], values(3))
    store.replace(store.segments, ["b", "c"], [None] * 2, values(2, 3))
    assert contents(reader) == {"a": (1, {"n": 1}), "b": (2, {"n": 2})}
    assert reader.segment(2).data.array("big").sum() == 10**5
    assert reader.where({"n": 1})[1].tolist() == [True]
    assert reader.generation == 2
    assert reader.verify() == []
    assert contents(Store.open(path)) == {"b": (2, {}), "c": (3, {})}


UNPRIVILEGED = """
    import os, sys
    from hiersearch.index.store.store import Store

    if os.getuid() == 0:  # to whom all folders are writable
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    path = sys.argv[1]
    with Store.open(path) as store:
        print(len(store), store.id_at(1, 0), len(store.verify()))
    for write in (lambda: Store.open(path, writable=True), lambda: Store.create(path + "/a", {})):
        try:
            write()
        except OSError as error:
            print(type(error).__name__, error)
"""


@pytest.fixture
def readable_by_all():
    """A folder outside of pytest's, which only its owner may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("killed_in_a_commit", [False, True])
def test_a_folder_that_may_only_be_read(readable_by_all, killed_in_a_commit):
    path = readable_by_all / "store"
    with Store.create(path, {}) as store:
        store.append(["a"], [None], values(1))
    if killed_in_a_commit:
        leave_hot_journal(path, readable_by_all / "killed")
        path = readable_by_all / "killed"
    for folder in (path, path / "segments"):
        folder.chmod(0o555)
    try:
        found = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(UNPRIVILEGED), str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for folder in (path, path / "segments"):
            folder.chmod(0o755)
    assert found.stderr == ""
    lines = found.stdout.splitlines()
    assert lines[0] == "1 a 0"
    assert "the index may not be written to, it can only be opened for reading" in lines[1]
    assert "writing is not permitted" in lines[2]


# --- threads --------------------------------------------------------------------------------


def test_threads_that_write_wait_for_each_other(store, path):
    errors = []

    def write(number):
        try:
            for i in range(5):
                store.append([f"{number}/{i}"], [None], values(10 * number + i))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    expected = {f"{number}/{i}": (10 * number + i, {}) for number in range(3) for i in range(5)}
    assert contents(store) == contents(Store.open(path)) == expected
    assert store.generation == 15


def test_closing_waits_for_the_commit_of_another_thread(store, path):
    begun, go = threading.Event(), threading.Event()

    def slowly():
        begun.set()
        go.wait(60)
        yield np.array([1])

    writer = threading.Thread(target=lambda: store.append(["a"], [None], {"x": slowly()}))
    closer = threading.Thread(target=store.close)
    writer.start()
    begun.wait(60)
    closer.start()
    go.set()
    writer.join()
    closer.join()
    assert contents(Store.open(path)) == {"a": (1, {})}
    with Store.open(path, writable=True) as again:
        assert again.generation == 1


def test_nothing_else_is_written_in_the_middle_of_a_commit(store):
    def closing():
        with pytest.raises(ValueError, match="can't be closed in the middle of a commit"):
            store.close()
        with pytest.raises(ValueError, match="can't be written in the middle of a commit"):
            store.append(["b"], [None], values(2))
        yield np.array([1])

    store.append(["a"], [None], {"x": closing()})
    store.append(["b"], [None], values(2))
    assert contents(store) == {"a": (1, {}), "b": (2, {})}


# --- what is told of a commit ---------------------------------------------------------------


def failing_after(commit):
    def committed_and_failing(*arguments):
        commit(*arguments)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    return committed_and_failing


def test_a_commit_that_stands_is_acknowledged_whatever_fails_afterwards(store, path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "commit", failing_after(catalogue.commit))
        assert store.append(["a", "b"], [None] * 2, values(1, 2)).all_ids() == ["a", "b"]
        store.remove([store.find("b")])
    store.append(["c"], [None], values(3))
    assert contents(store) == contents(Store.open(path)) == {"a": (1, {}), "c": (3, {})}


def test_a_commit_of_which_nothing_is_known_is_not_said_to_be_undone(store, path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "commit", failing_after(catalogue.commit))
        patched.setattr(catalogue, "load", failing_after(catalogue.load))
        told = "the device reports an error: adding may have happened or not: open the index again"
        with pytest.raises(OSError, match=told):
            store.append(["a"], [None], values(1))
    store.append(["b"], [None], values(2))
    assert contents(store) == {"a": (1, {}), "b": (2, {})}


def test_a_writer_makes_a_folder_that_a_copy_left_out(store, path):
    store.close()
    (path / "segments").rmdir()
    with Store.open(path, writable=True) as again:
        again.append(["a"], [None], values(1))
    assert contents(Store.open(path)) == {"a": (1, {})}
