"""The simulations of faults would find them: the disk forgets what it may, mistakes are seen."""

import os
import signal
import sys
import time

import numpy as np
import pytest

from tests.index.faults import isolation, tracing
from tests.index.faults.disk_model import Disk, File, Folder
from tests.index.faults.isolation import Crash
from tests.index.faults.planted import FAULTS
from tests.index.faults.power_losses import lose_power
from tests.index.faults.tracing import Replay, traced

STORE = "tests.index.faults.store_workload:StoreWorkload"
needs_traces = pytest.mark.skipif(
    tracing.missing() is not None, reason=f"system calls can't be traced: {tracing.missing()}"
)


def all_remains(thing, draws=400):
    rng = np.random.default_rng(0)
    return [thing.remains(rng) for _ in range(draws)]


# --- the model of a disk --------------------------------------------------------------------


def test_what_was_synced_remains_whole():
    file = File()
    file.write(0, b"a" * 1000)
    file.sync()
    assert set(all_remains(file)) == {b"a" * 1000}


def test_a_write_that_was_not_synced_may_be_lost_torn_or_there():
    file = File(b"a" * 2048)
    file.write(0, b"b" * 2048)
    found = set(all_remains(file))
    assert {b"a" * 2048, b"b" * 2048} < found
    assert any(one[:512] == b"a" * 512 and one[1536:] == b"b" * 512 for one in found)
    sectors = {one[i : i + 512] for one in found for i in range(0, 2048, 512)}
    assert sectors == {b"a" * 512, b"b" * 512}


def test_writes_may_reach_the_disk_in_another_order():
    file = File(bytes(1024))
    file.write(0, b"first")
    file.write(512, b"second")
    assert any(one[0] == 0 and one[512:518] == b"second" for one in all_remains(file))


def test_a_file_may_have_grown_without_its_data():
    file = File(b"old")
    file.write(3, b"x" * 600)
    found = set(all_remains(file))
    assert b"old" in found
    assert b"old" + bytes(600) in found


def test_a_cut_that_was_not_synced_may_not_have_happened():
    file = File(b"journal")
    file.truncate(0)
    assert {b"", b"journal"} <= set(all_remains(file))
    file.write(9, b"x")
    assert file.content == bytes(9) + b"x"


def test_syncing_a_file_says_nothing_about_its_name():
    folder, file = Folder(), File(b"x")
    folder.set("a", file)
    file.sync()
    assert {} in all_remains(folder)
    folder.sync()
    assert all(one == {"a": file} for one in all_remains(folder))


def test_a_renamed_file_may_have_either_name_both_or_none(tmp_path):
    disk = Disk.of(tmp_path)
    disk.create(tmp_path / "old")
    disk.root.sync()
    disk.rename(tmp_path / "old", tmp_path / "new")
    names = {frozenset(one) for one in all_remains(disk.root)}
    assert names == {frozenset(s) for s in ((), ("old",), ("new",), ("old", "new"))}


def test_a_removed_name_may_come_back_until_its_folder_is_synced():
    folder, file = Folder(), File()
    folder.set("journal", file)
    folder.sync()
    folder.set("journal", None)
    assert {"journal": file} in all_remains(folder)
    folder.sync()
    assert all(one == {} for one in all_remains(folder))


# --- traces ---------------------------------------------------------------------------------

SCRIPT = """
import os, sqlite3, sys
root = sys.argv[1]
name = os.path.join(root, "ä file")
file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.write(file, bytes(range(256)))
os.writev(file, [b"ab", b'"c, d"'])
os.pwrite(file, b"over", 10)
os.pwritev(file, [b"x", b"yz"], 100)
os.lseek(file, 5, os.SEEK_SET)
os.write(os.dup(file), b"five")
os.ftruncate(file, 200)
os.posix_fallocate(file, 0, 700)
os.fsync(file)
os.rename(name, name + "2")
os.link(name + "2", name)
os.mkdir(os.path.join(root, "folder"))
at = os.open(root, os.O_RDONLY)
os.close(os.open("more", os.O_WRONLY | os.O_CREAT, dir_fd=at))
os.replace("more", "folder/more", src_dir_fd=at, dst_dir_fd=at)
with open(os.path.join(root, "folder", "text"), "a") as text:
    text.write("one")
with open(os.path.join(root, "folder", "text"), "a") as text:
    text.write("two")
os.unlink(name)
connection = sqlite3.connect(os.path.join(root, "data.sqlite"))
connection.execute("CREATE TABLE t (x)")
connection.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(2000)])
connection.commit()
"""


@needs_traces
def test_the_model_holds_what_the_disk_holds(tmp_path):
    replay = Replay(Disk.of(tmp_path))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    replay.do_all(traced(command, tmp_path, b"", tmp_path.parent))
    assert sorted(os.listdir(tmp_path)) == ["data.sqlite", "folder", "ä file2"]
    assert replay.disk.differences() == []
    (tmp_path / "folder" / "text").write_text("other")
    assert replay.disk.differences() == [str(tmp_path / "folder" / "text")]


@needs_traces
@pytest.mark.parametrize(
    "line",
    [
        "import mmap; mmap.mmap(f.fileno(), 0)[0] = 5",
        "os.copy_file_range(f.fileno(), f.fileno(), 2, 0, 100)",
    ],
)
def test_a_call_that_the_model_does_not_know_is_not_passed_over(tmp_path, line):
    (tmp_path / "file").write_bytes(b"content")
    replay = Replay(Disk.of(tmp_path))
    script = f"import os; f = open({str(tmp_path / 'file')!r}, 'r+b'); {line}"
    found = traced([sys.executable, "-c", script], tmp_path, b"", tmp_path.parent)
    with pytest.raises(AssertionError, match=r"does not know|through memory"):
        replay.do_all(found)


# --- planted mistakes -----------------------------------------------------------------------


@needs_traces
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_mistake_is_found(tmp_path, fault):
    found = lose_power(
        STORE, tmp_path, trials=200, seed=0, operations=8, fault=fault, to_first=True
    )
    assert found.lost + found.unreadable > 0


# --- processes that die ---------------------------------------------------------------------


def die_at(number, fatal):
    if number == fatal:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def hang():
    time.sleep(60)


def test_a_trial_that_kills_its_process_is_counted_and_the_others_are_done():
    trials = [(i, 2) for i in range(5)]
    found = list(isolation.outcomes(f"{__name__}:die_at", trials))
    assert found == [0, 1, Crash("SIGSEGV"), 3, 4]


def test_a_trial_that_hangs_is_counted():
    assert list(isolation.outcomes(f"{__name__}:hang", [()], patience=3)) == [
        Crash("it hung for 3 seconds")
    ]


def test_without_strace_the_reason_is_one_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert tracing.missing.__wrapped__() == "strace is not installed: apt-get install strace"
