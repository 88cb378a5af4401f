"""One writer at a time: between processes, between stores of one process, after a fork."""

import errno
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hiersearch.errors import DamageError, IndexLockedError, OvertakenError
from hiersearch.index.store import catalogue
from hiersearch.index.store import lock as _lock
from hiersearch.index.store.snapshot import StoredPlace
from hiersearch.index.store.store import Store
from tests.index.faults.killing import ROOT
from tests.index.faults.races import append, at_once, contents

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path):
    with Store.create(path, {}) as store:
        append(store, "a")
        yield store


@pytest.fixture
def no_locks(monkeypatch):
    """Locks of files do nothing, and this process does not remember its own."""
    monkeypatch.setattr(_lock, "locked", lambda descriptor: True)
    monkeypatch.setattr(_lock, "unlocked", lambda descriptor: None)
    monkeypatch.setattr(_lock, "_held", Forgetful())


class Forgetful(dict):
    """A table that nothing is found in."""

    def setdefault(self, key, value):
        return value

    def get(self, key):
        return None


def script(text, *arguments):
    """Run a program beside this one and return what it says."""
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


# --- in one process -------------------------------------------------------------------------


def test_two_stores_of_one_process_are_kept_apart_even_if_locks_of_files_do_nothing(
    store, path, monkeypatch
):
    monkeypatch.setattr(_lock, "locked", lambda descriptor: True)
    with pytest.raises(IndexLockedError, match=f"is being written by process {os.getpid()}"):
        Store.open(path, writable=True)
    append(store, "b")


def test_a_store_that_nobody_refers_to_any_more_gives_its_lock_back(path):
    Store.create(path, {})
    Store.open(path, writable=True)
    with Store.open(path, writable=True) as store:
        assert store.writable


def test_a_lock_file_that_is_a_folder_is_named(store, path):
    store.close()
    (path / "writer.lock").unlink()
    (path / "writer.lock").mkdir()
    with pytest.raises(DamageError, match=r"writer\.lock: is a folder"):
        Store.open(path, writable=True)
    assert [damage.what for damage in Store.inspect(path)] == ["is a folder"]
    assert set(contents(Store.open(path))) == {"a"}


# --- when the lock fails --------------------------------------------------------------------


@pytest.mark.parametrize("first", ["append", "remove", "replace"])
def test_without_locks_the_second_writer_is_refused_and_destroys_nothing(
    store, path, no_locks, first
):
    with Store.open(path, writable=True) as other:
        if first == "append":
            append(other, "b")
        elif first == "remove":
            other.remove([StoredPlace(1, 0)])
        else:
            other.replace(other.segments, ["a"], [{"name": "a"}], {"x": np.zeros((1, 50))})
        files = {file.name: file.read_bytes() for file in (path / "segments").iterdir()}
        for _ in range(2):
            with pytest.raises(OvertakenError, match=r"changed by another writer.*open it again"):
                append(store, "c")
        left = {file.name: file.read_bytes() for file in (path / "segments").iterdir()}
        assert left == files
        append(other, "d")
    assert "d" in contents(Store.open(path))
    assert Store.inspect(path) == []


@pytest.mark.parametrize("when", ["while it is written", "before the commit"])
def test_a_segment_that_another_writer_deleted_is_not_committed(
    store, path, no_locks, monkeypatch, when
):
    arrays = {"x": np.zeros((1, 50))}
    if when == "while it is written":
        arrays["x"] = tidied_up_meanwhile(path)
    else:
        commit = catalogue.commit

        def tidied_up_before(*arguments):
            Store.open(path, writable=True).close()
            return commit(*arguments)

        monkeypatch.setattr(catalogue, "commit", tidied_up_before)
    with pytest.raises(OvertakenError, match="is being changed by another writer"):
        store.append(["b"], [None], arrays)
    assert set(contents(Store.open(path))) == {"a"}
    assert Store.inspect(path) == []


def tidied_up_meanwhile(path):
    yield np.zeros((1, 50))
    Store.open(path, writable=True).close()


def test_a_lock_file_that_was_replaced_is_noticed_before_anything_is_written(store, path):
    os.unlink(path / "writer.lock")
    with Store.open(path, writable=True) as other:
        with pytest.raises(OvertakenError, match=r"writer\.lock was deleted or replaced"):
            append(store, "b")
        assert os.listdir(path / "segments") == ["00000001.seg"]
        append(other, "c")
    assert set(contents(Store.open(path))) == {"a", "c"}


# --- where there are no locks ---------------------------------------------------------------


def without_locks(descriptor):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_marker_stands_in_for_a_lock(path, monkeypatch):
    monkeypatch.setattr(_lock, "locked", without_locks)
    with Store.create(path, {}) as store:
        append(store, "a")
        found = script(WITH_MARKER, path)
        assert f"is being written by process {os.getpid()}" in found.stdout
        assert "or delete writer.marker if it is not" in found.stdout
    found = script(WITH_MARKER, path)
    assert found.stdout == "opened\n"
    # The process that wrote has died meanwhile, and its marker does not outlive it.
    Store.open(path, writable=True).close()
    assert sorted(os.listdir(path)) == [
        "catalogue.crc", "catalogue.sqlite", "segments", "writer.lock"
    ]  # fmt: skip


WITH_MARKER = """
    import os, sys
    from hiersearch.index.store import catalogue, lock as _lock
    from hiersearch.index.store.store import Store
    from tests.index.store.test_lock import without_locks

    _lock.locked = without_locks
    try:
        store = Store.open(sys.argv[1], writable=True)
    except OSError as error:
        print(error)
    else:
        print("opened", flush=True)
        os.kill(os.getpid(), 9)
"""


# --- forks ----------------------------------------------------------------------------------


@needs_fork
def test_a_forked_child_reads_and_is_told_to_open_the_store_again_to_write(store, path):
    def work(number, report):
        assert set(contents(store)) == {"a"}
        assert not store.writable
        for write in (
            lambda: append(store, "b"),
            lambda: store.remove([StoredPlace(1, 0)]),
            lambda: store.replace(store.segments, [], [], {}),
        ):
            with pytest.raises(IndexLockedError, match=told):
                write()
        with pytest.raises(IndexLockedError, match=f"is being written by process {parent}:"):
            Store.open(path, writable=True)
        store.close()

    parent = os.getpid()
    told = rf"was opened for writing in process {parent}, this is process \d+: open it again here"
    (report,) = at_once(work, 1)
    assert report.faults == []
    append(store, "c")
    with pytest.raises(IndexLockedError):
        Store.open(path, writable=True)
    assert set(contents(Store.open(path))) == {"a", "c"}


@needs_fork
def test_a_forked_child_does_not_keep_the_lock(store, path):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        store.close()
        with Store.open(path, writable=True) as again:
            append(again, "b")
    finally:
        os.close(writing)
        os.waitpid(pid, 0)


@needs_fork
def test_a_child_of_a_writer_that_was_killed_does_not_keep_the_lock(path):
    Store.create(path, {}).close()
    orphan = f"""
        import os, sys
        from hiersearch.index.store.store import Store
        store = Store.open({str(path)!r}, writable=True)
        if os.fork() == 0:
            print("forked", flush=True)
            sys.stdin.read()
            os._exit(0)
        sys.stdin.read(1)
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(orphan)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, bufsize=0, **pipes) as writer:
        assert writer.stdout.readline() == b"forked\n"
        writer.kill()
        writer.wait()
        # The child lives on: its standard input is still open.
        Store.open(path, writable=True).close()


def test_a_program_that_was_started_meanwhile_does_not_keep_the_lock(store, path):
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=False) as program:
        store.close()
        Store.open(path, writable=True).close()
        program.communicate(b"\n")


# --- other systems --------------------------------------------------------------------------


ELSEWHERE = """
    import os, sys

    # What Windows, or a build of Python for another system, lacks.
    sys.modules["fcntl"] = None
    names = "O_DIRECTORY O_CLOEXEC O_NOFOLLOW pread pwrite register_at_fork fork"
    for name in names.split():
        if hasattr(os, name):
            delattr(os, name)

    import numpy as np
    import hiersearch

    path, halves = sys.argv[1], np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0)
    with hiersearch.PartitionIndex.create(path, (4, 6)) as index:
        index.add(halves, "halves")
        index.add(np.roll(halves, 1, axis=1), "moved")
        index.update("moved", np.roll(halves, 1, axis=1), {"by": 1})
        try:
            hiersearch.PartitionIndex.open(path, "r+")
        except OSError as error:
            print(type(error).__name__)
    with hiersearch.PartitionIndex.open(path, "r+") as index:
        index.compact()
        index.remove("halves")
        print(index.verify(), [one.id for one in index.search(halves)])
    with hiersearch.PartitionIndex.open(path) as index:
        print(index.ids(), index.metadata("moved"))
    print(hiersearch.PartitionIndex.repair(path).kept)
"""


def test_an_index_works_without_what_only_some_systems_have(path):
    found = script(ELSEWHERE, path)
    assert found.stdout.splitlines() == [
        "IndexLockedError",
        "[] ['moved']",
        "['moved'] {'by': 1}",
        "1",
    ], found.stderr
    # And what was written there is read here.
    assert list(Store.open(path).ids()) == ["moved"]


def test_a_program_that_ends_with_an_open_writer_says_nothing_of_it(store, path):
    store.close()
    code = (
        f"from hiersearch.index.store.store import Store\nkept = Store.open({str(path)!r}, True)\n"
    )
    code += "kept.itself = kept\n"  # only the end of the interpreter lets go of it
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr == ""
    Store.open(path, writable=True).close()
