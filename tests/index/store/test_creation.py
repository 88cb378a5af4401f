"""Of several that create an index in one folder one succeeds; the others take nothing away."""

import errno
import os
import subprocess
import sys
import textwrap

import pytest

from hiersearch.errors import IndexLockedError
from hiersearch.index.store import catalogue, folder
from hiersearch.index.store.lock import WriterLock
from hiersearch.index.store.store import Store
from tests.index.faults import killing as faults
from tests.index.faults.races import append, contents


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def before_the_lock(monkeypatch, act):
    """Let somebody else act between a creation's first look at its folder and its lock."""

    def lock_of(*arguments):
        monkeypatch.setattr(folder, "WriterLock", WriterLock)
        act()
        return WriterLock(*arguments)

    monkeypatch.setattr(folder, "WriterLock", lock_of)


def test_who_comes_second_to_the_lock_finds_an_index_and_leaves_it_alone(path, monkeypatch):
    def other():
        with Store.create(path, {"whose": "the other's"}) as store:
            append(store, "a")

    before_the_lock(monkeypatch, other)
    with pytest.raises(ValueError, match="new or empty folder, got one with an index"):
        Store.create(path, {})
    with Store.open(path, writable=True) as store:
        assert (set(contents(store)), store.settings) == ({"a"}, {"whose": "the other's"})
    assert Store.inspect(path) == []


def test_who_comes_while_an_index_is_being_made_is_told_so(path, monkeypatch):
    others = []
    before_the_lock(monkeypatch, lambda: others.append(Store.create(path, {})))
    with pytest.raises(IndexLockedError, match="is being written by process"):
        Store.create(path, {})
    (other,) = others
    append(other, "a")
    other.close()
    assert set(contents(Store.open(path))) == {"a"}


def test_a_folder_that_another_creation_took_away_is_made_again(path, monkeypatch):
    before_the_lock(monkeypatch, lambda: path.rmdir())
    Store.create(path, {}).close()
    assert contents(Store.open(path)) == {}


@pytest.mark.parametrize("links", [True, False])
def test_a_catalogue_is_named_only_where_none_is(path, monkeypatch, links):
    # As if no lock had kept the other away; it does so after every look of this one.
    write_aside = catalogue.write_aside

    def then_the_other(*arguments):
        write_aside(*arguments)
        monkeypatch.setattr(catalogue, "write_aside", write_aside)
        (path / "writer.lock").unlink()
        with Store.create(path, {"whose": "the other's"}) as store:
            append(store, "a")

    monkeypatch.setattr(catalogue, "write_aside", then_the_other)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    # The other creation finds a file that is none of its own making, and deletes it.
    with pytest.raises((ValueError, FileNotFoundError)):
        Store.create(path, {})
    monkeypatch.undo()
    assert set(contents(Store.open(path))) == {"a"}
    assert Store.open(path).settings == {"whose": "the other's"}
    assert Store.inspect(path) == []


def no_links(*arguments):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_links(path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    with Store.create(path, {}) as store:
        append(store, "a")
    assert set(contents(Store.open(path))) == {"a"}
    with pytest.raises(ValueError, match="got one with an index"):
        Store.create(path, {})


def test_a_foreign_folder_is_left_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(ValueError, match="got one with 1 files"):
        Store.create(tmp_path, {})
    assert os.listdir(tmp_path) == ["photo.jpg"]
    (tmp_path / "later").mkdir()
    # The photo comes when the folder has been found empty.
    before_the_lock(monkeypatch, lambda: (tmp_path / "later" / "photo.jpg").write_text(""))
    with pytest.raises(ValueError, match="got one with 2 files"):
        Store.create(tmp_path / "later", {})
    assert os.listdir(tmp_path / "later") == ["photo.jpg"]


@pytest.mark.parametrize("name", ["segments", "writer.lock"])
def test_what_bears_a_name_of_an_index_and_is_something_else_is_not_overwritten(path, name):
    path.mkdir()
    if name == "segments":
        (path / name).write_text("mine")
    else:
        (path / name).mkdir()
    with pytest.raises(ValueError, match=r"new or empty folder|is a folder"):
        Store.create(path, {})
    assert os.listdir(path) == [name]


def test_a_creation_that_fails_takes_away_the_folders_that_it_made_and_no_others(
    tmp_path, monkeypatch
):
    (tmp_path / "there").mkdir()

    def failing(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(catalogue, "write_aside", failing)
    for deep in ("there/a/b/c", "there"):
        with pytest.raises(OSError, match="no space left on the device: creating it left the fold"):
            Store.create(tmp_path / deep, {})
        assert os.listdir(tmp_path / "there") == []


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs names of open files")
def test_the_name_of_every_folder_that_is_made_is_made_durable(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def watched(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    Store.create(tmp_path / "a" / "b" / "c", {}).close()
    for one in ("", "a", "a/b", "a/b/c"):
        assert str(tmp_path / one).rstrip("/") in synced


def test_a_creation_that_was_killed_before_its_check_is_no_damage(path):
    Store.create(path, {}).close()
    (path / "catalogue.crc").unlink()
    assert Store.inspect(path) == []
    with Store.open(path, writable=True) as store:
        assert (path / "catalogue.crc").exists()
        append(store, "a")
    (path / "catalogue.crc").unlink()
    assert [damage.what for damage in Store.inspect(path)] == ["is missing"]


def kill_creations(path, steps):
    for step in steps:
        deep = path / str(step) / "a"
        script = f"""
            from pathlib import Path
            from hiersearch.index.store.store import Store
            from tests.index.faults import killing as faults
            faults.arm("step:{step}")
            Store.create(Path({str(deep)!r}), {{}})
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        killed = subprocess.run(command, cwd=faults.ROOT, check=False).returncode == -9
        if not (deep / "catalogue.sqlite").exists():
            Store.create(deep, {}).close()
        with Store.open(deep, writable=True) as store:
            append(store, "a")
        assert Store.inspect(deep) == []
        assert not list(deep.glob("*.tmp"))
        if not killed:
            return True
    return False


def test_a_creation_killed_at_a_step_can_be_made_again_or_opened(tmp_path):
    kill_creations(tmp_path, [2, 9, 16])


@pytest.mark.slow
def test_a_creation_killed_at_any_step_can_be_made_again_or_opened(tmp_path):
    assert kill_creations(tmp_path, range(1, 200))
