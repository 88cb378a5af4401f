"""Killed, interrupted, full or damaged, a store returns what was committed or says no."""

import contextlib
import errno
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hiersearch.index.store import catalogue
from hiersearch.index.store.snapshot import StoredPlace
from hiersearch.index.store.store import Store
from tests.exploration import seeds
from tests.index.faults import killing as faults
from tests.index.faults import tracing
from tests.index.faults.damages import damage_files
from tests.index.faults.full_disks import fail_calls, limit_sizes
from tests.index.faults.killing import Countdown, Operation, watch_steps
from tests.index.faults.power_losses import lose_power
from tests.index.faults.store_workload import StoreWorkload
from tests.index.faults.unlocked import write_at_once

needs_traces = pytest.mark.skipif(
    tracing.missing() is not None, reason=f"system calls can't be traced: {tracing.missing()}"
)
STORE = "tests.index.faults.store_workload:StoreWorkload"
WORKLOAD = StoreWorkload()
ADD = Operation("add", (("new", 1), (77, 1)))
CHANGES = [
    ADD,
    Operation("update", (("b", 2), (5, 2))),
    Operation("remove", (("b", 0), (5, 0))),
    Operation("compact", (), 3),
]
BEFORE = {"a": 1, "b": 1, 5: 1, "c": 1, 6: 1}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "store"
    WORKLOAD.create(path)
    with WORKLOAD.opened(path, True) as store:
        WORKLOAD.apply(store, Operation("add", (("a", 1), ("b", 1), (5, 1), ("d", 1))))
        WORKLOAD.apply(store, Operation("add", (("c", 1), (6, 1))))
        WORKLOAD.apply(store, Operation("remove", (("d", 0),)))
    return path


def check_sound(path, expected):
    """Nothing but ``expected`` is in the store, nothing half-written in its folder."""
    assert WORKLOAD.contents(Store.open(path)) == expected
    assert Store.inspect(path) == []


def files_that_count(store):
    return sorted(segment.data.path.name for segment in store.segments)


# --- kills ----------------------------------------------------------------------------------


def check_kills(tmp_path, kills, seed):
    found = faults.kill_writers(STORE, tmp_path / "store", kills, seed)
    assert found.examples == []
    assert (found.trials, found.faults) == (kills, 0)
    assert found.acknowledged > 0


@pytest.mark.parametrize("seed", seeds(1))
def test_killed_writers_lose_nothing_that_they_acknowledged(tmp_path, seed):
    check_kills(tmp_path, 10, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_two_hundred_killed_writers_lose_nothing(tmp_path, seed):
    check_kills(tmp_path, 50, seed)


@pytest.mark.parametrize("step", [1, 4, 8, 13, 20, 26])
def test_a_killed_creation_can_be_made_again(tmp_path, step):
    script = f"""
        from pathlib import Path
        from tests.index.faults import killing as faults
        from tests.index.faults import store_workload
        faults.arm("step:{step}")
        store_workload.StoreWorkload().create(Path({str(tmp_path / "store")!r}))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, cwd=faults.ROOT, check=False).returncode == -9
    if not (tmp_path / "store" / "catalogue.sqlite").exists():
        WORKLOAD.create(tmp_path / "store")
    check_sound(tmp_path / "store", {})


def test_what_a_commit_refers_to_is_on_the_disk_before_it(path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)

        def watched(*arguments, call=call, name=name):
            target = arguments[-1]
            file = os.readlink(f"/proc/self/fd/{target}") if name == "fsync" else str(target)
            # Names of temporary files are drawn at random.
            calls.append((name, re.sub(r"[0-9a-f]{8}\.tmp", "tmp", os.path.basename(file))))
            return call(*arguments)

        monkeypatch.setattr(os, name, watched)
    faults.watch_sqlite(lambda statement: calls.append(("sqlite", statement)), monkeypatch.setattr)
    with WORKLOAD.opened(path, True) as store:
        calls.clear()
        WORKLOAD.apply(store, ADD)
    durable = [call for call in calls if call[0] != "sqlite" or call[1].startswith("COMMIT")]
    assert durable == [
        ("fsync", "00000003.seg"),
        ("fsync", "segments"),
        ("sqlite", "COMMIT"),
        ("sqlite", "COMMITTED"),
        ("fsync", "catalogue.crc.tmp"),
        ("replace", "catalogue.crc"),
        ("fsync", "store"),
    ]
    assert ("sqlite", "PRAGMA synchronous = EXTRA") in calls


# --- interruptions --------------------------------------------------------------------------


every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind)


@every_change
@pytest.mark.parametrize("again", [0, 1, 3])
def test_an_interrupted_commit_happened_or_did_not(path, tmp_path, monkeypatch, change, again):
    check_interruptions(path, tmp_path, monkeypatch, change, again, range(1, 1000, 13))


@pytest.mark.slow
@every_change
@pytest.mark.parametrize("again", [0, 1, 2, 3, 10])
def test_a_commit_interrupted_anywhere(path, tmp_path, monkeypatch, change, again):
    check_interruptions(path, tmp_path, monkeypatch, change, again, range(1, 1000))


def check_interruptions(path, tmp_path, monkeypatch, change, again, steps):
    """Press Ctrl-C at steps, and once more ``again`` steps later, while the first is undone."""

    @contextlib.contextmanager
    def interrupting(step):
        with monkeypatch.context() as patched:
            watch_steps(Interruptions(step, again), patched.setattr)
            yield

    check_each(path, tmp_path, change, interrupting, steps, settled=not again)


@every_change
def test_an_interruption_at_a_line_is_no_different(path, tmp_path, change):
    check_each(path, tmp_path, change, interrupted_at_line, range(1, 10_000, 67))


@pytest.mark.slow
@every_change
def test_an_interruption_at_many_lines_is_no_different(path, tmp_path, change):
    check_each(path, tmp_path, change, interrupted_at_line, range(1, 10_000, 5))


@contextlib.contextmanager
def interrupted_at_line(number):
    """Press Ctrl-C at the given one of all lines of the store that are executed."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        if "/hiersearch/index/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines += 1
            if lines == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def check_each(path, tmp_path, change, interrupting, steps, settled=True):
    """Interrupt a change at steps until it gets through."""
    outcomes = [BEFORE, faults.after(BEFORE, change)]
    copy = tmp_path / "copy"
    for step in steps:
        interrupted = False
        shutil.copytree(path, copy)
        with WORKLOAD.opened(copy, True) as store:
            try:
                with interrupting(step):
                    WORKLOAD.apply(store, change)
            except KeyboardInterrupt:
                interrupted = True
            if settled:
                found = WORKLOAD.contents(store)
                assert found in outcomes if interrupted else found == outcomes[1]
                assert sorted(os.listdir(copy / "segments")) == files_that_count(store)
                check_sound(copy, found)
            WORKLOAD.apply(store, Operation("add", (("later", 1),)))
            found = WORKLOAD.contents(store)
            assert found in [outcome | {"later": 1} for outcome in outcomes]
            assert sorted(os.listdir(copy / "segments")) == files_that_count(store)
        check_sound(copy, found)
        shutil.rmtree(copy)
        if not interrupted:
            break
    assert not interrupted
    assert step > 20


class Interruptions(Countdown):
    """Raise KeyboardInterrupt at a step, and at another one after it unless that is 0 later."""

    def __init__(self, step, again):
        super().__init__(step, lambda: None)
        self.again = again

    def step(self):
        super().step()
        if self.left == 0 or (self.again and self.left == -self.again):
            raise KeyboardInterrupt


def test_an_interrupted_creation_leaves_nothing(tmp_path, monkeypatch):
    step, interrupted = 0, True
    while interrupted:
        step, interrupted = step + 1, False
        with monkeypatch.context() as patched:
            watch_steps(Interruptions(step, 0), patched.setattr)
            try:
                WORKLOAD.create(tmp_path / "store")
            except KeyboardInterrupt:
                interrupted = True
        assert os.listdir(tmp_path) == ([] if interrupted else ["store"])
    assert step > 20


# --- full and failing disks -----------------------------------------------------------------


class FailingCalls:
    """Let calls that write fail from the n-th on: for good, or only once."""

    def __init__(self, n, for_good, number=errno.ENOSPC):
        self.left, self.for_good, self.number = n, for_good, number

    def patch(self, patched):
        for name in ("write", "fsync", "replace"):
            patched.setattr(os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, call):
        def failing(*arguments, **options):
            self.left -= 1
            if self.left == 0 or (self.for_good and self.left < 0):
                raise OSError(self.number, os.strerror(self.number))
            return call(*arguments, **options)

        return failing


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("change", [ADD, CHANGES[3]], ids=["adding", "compacting"])
def test_a_full_disk_at_any_write_leaves_the_store_as_it_was(
    path, tmp_path, monkeypatch, change, for_good
):
    n, failed, failures = -2, True, 0
    action = "adding" if change is ADD else "compacting"
    while failed or n < 10:
        n, failed = n + 3, False
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        with WORKLOAD.opened(copy, True) as store:
            with monkeypatch.context() as patched:
                FailingCalls(n, for_good).patch(patched)
                try:
                    WORKLOAD.apply(store, change)
                except OSError as error:
                    failed, failures, message = True, failures + 1, str(error)
            expected = BEFORE if failed else faults.after(BEFORE, change)
            if failed:
                wanted = f"no space left on the device: {action} left the index as it was"
                assert wanted in message
                assert str(copy) in message
            assert WORKLOAD.contents(store) == expected
            assert sorted(os.listdir(copy / "segments")) == files_that_count(store)
            check_sound(copy, expected)
            WORKLOAD.apply(store, Operation("add", (("later", 1),)))
            check_sound(copy, expected | {"later": 1})
        shutil.rmtree(copy)
    assert failures > 3


def test_a_failing_device_is_said_to_be_one(path, monkeypatch):
    with WORKLOAD.opened(path, True) as store:
        with monkeypatch.context() as patched:
            FailingCalls(3, False, errno.EIO).patch(patched)
            with pytest.raises(OSError, match="the device reports an error: adding left the index"):
                WORKLOAD.apply(store, ADD)
        check_sound(path, BEFORE)


def test_a_creation_without_space_leaves_nothing(tmp_path, monkeypatch):
    FailingCalls(2, True).patch(monkeypatch)
    with pytest.raises(OSError, match="no space left on the device: creating it left"):
        WORKLOAD.create(tmp_path / "store")
    assert os.listdir(tmp_path) == []


def test_a_catalogue_that_can_not_grow_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    with Store.create(tmp_path / "store", {}) as store:
        store.append([None] * 9000, [None] * 9000, {"x": np.arange(9000)})
        connect = sqlite3.connect

        def without_space(*arguments, **options):
            connection = connect(*arguments, **options)
            if arguments[0] != ":memory:":
                connection.execute("PRAGMA max_page_count = 1")  # as many as there are
            return connection

        with monkeypatch.context() as patched:
            patched.setattr(sqlite3, "connect", without_space)
            places = [StoredPlace(1, position) for position in range(8000)]
            with pytest.raises(OSError, match="no space left on the device: removing left the ind"):
                store.remove(places)
        assert (len(store), store.generation) == (9000, 1)
        store.remove(places)
        assert (len(store), store.generation) == (1000, 2)
    assert len(Store.open(tmp_path / "store")) == 1000


def test_a_limit_of_the_system_is_met_like_a_full_disk(path):
    script = f"""
        import resource
        from pathlib import Path
        from tests.index.faults.killing import Operation
        from tests.index.faults.store_workload import StoreWorkload
        workload = StoreWorkload()
        with workload.opened(Path({str(path)!r}), True) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            entries = tuple((i, 1) for i in range(1000, 1400))
            try:
                workload.apply(store, Operation("add", entries))
            except OSError as error:
                print(error)
            workload.apply(store, Operation("add", (("small", 1),)))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    found = subprocess.run(command, cwd=faults.ROOT, check=True, capture_output=True, text=True)
    assert "no space left on the device: adding left the index as it was" in found.stdout
    check_sound(path, BEFORE | {"small": 1})


@needs_traces
@pytest.mark.parametrize("kind", ["data", "syncing", "names"])
def test_what_is_said_of_a_disk_that_fails_at_any_call_is_true(tmp_path, kind):
    found = fail_calls(STORE, tmp_path, operations=8, kind=kind, every=3, error="EIO")
    assert found.examples == []
    assert found.trials > 5


@pytest.mark.slow
@needs_traces
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EDQUOT"])
@pytest.mark.parametrize("every", [4, 5, 7, 9, 11])
@pytest.mark.parametrize("kind", ["data", "syncing", "names"])
def test_what_is_said_of_a_failing_disk_is_true_of_every_step(tmp_path, kind, every, error):
    found = fail_calls(STORE, tmp_path, operations=40, kind=kind, every=every, error=error)
    assert found.examples == []


def test_what_is_said_of_a_disk_that_is_full_at_any_size_is_true(tmp_path):
    found = limit_sizes(STORE, tmp_path, range(0, 16_000, 1500), seed=1)
    assert found.examples == []
    assert found.trials > 5


# --- losses of power ------------------------------------------------------------------------


@needs_traces
@pytest.mark.parametrize("seed", seeds(2))  # The store of an odd one is made in new folders.
def test_a_loss_of_power_at_any_call_loses_nothing_that_was_acknowledged(tmp_path, seed):
    found = lose_power(STORE, tmp_path, trials=60, seed=seed, operations=8)
    assert found.examples == []
    assert (found.trials, found.faults) == (60, 0)
    assert found.after_commits > 5


@needs_traces
@pytest.mark.parametrize("failing", [5, 7])
def test_what_was_acknowledged_although_syncing_failed_outlasts_a_loss_of_power(tmp_path, failing):
    found = lose_power(STORE, tmp_path, trials=50, seed=0, operations=8, failing=failing)
    assert found.examples == []


@pytest.mark.slow
@needs_traces
@pytest.mark.parametrize("failing", [4, 5, 6, 7, 8, 9, 11, 13])
def test_no_failure_of_syncing_lets_a_loss_of_power_undo_a_commit(tmp_path, failing):
    found = lose_power(STORE, tmp_path, trials=200, seed=failing, failing=failing)
    assert found.examples == []


@pytest.mark.slow
@needs_traces
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_thousand_losses_of_power_lose_nothing(tmp_path, seed):
    found = lose_power(STORE, tmp_path, trials=300, seed=seed)
    assert found.examples == []
    assert found.faults == 0


# --- locks that do nothing ------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(1))
def test_where_locks_do_nothing_two_writers_lose_nothing(tmp_path, seed):
    found = write_at_once(STORE, tmp_path, rounds=15, seed=seed)
    assert found.examples == []
    assert found.refused >= 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_where_locks_do_nothing_two_writers_lose_nothing_in_many_rounds(tmp_path, seed):
    found = write_at_once(STORE, tmp_path, rounds=150, seed=seed)
    assert found.examples == []


# --- readers beside a writer ----------------------------------------------------------------


def test_readers_beside_a_writer_see_commits_whole_and_in_order(tmp_path):
    path, seed, count = tmp_path / "store", 5, 40
    WORKLOAD.create(path)
    models = [{}]
    for index in range(count):
        models.append(faults.after(models[-1], faults.operation(seed, index, models[-1])))
    writer = subprocess.Popen(
        faults.command(STORE, path, seed, 0, count, "never"),
        cwd=faults.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    writer.stdin.write(json.dumps([]).encode())
    writer.stdin.close()
    at, seen = 0, 0
    while writer.poll() is None:
        with WORKLOAD.opened(path, False) as reader:
            at = next(k for k in range(at, count + 1) if models[k] == WORKLOAD.contents(reader))
            seen += 1
    writer.stdout.close()
    assert writer.returncode == 0
    assert seen > 3
    check_sound(path, models[-1])


@pytest.mark.parametrize("look", [Store.open, Store.inspect])
def test_a_reader_whose_segments_are_replaced_meanwhile_starts_again(path, monkeypatch, look):
    with WORKLOAD.opened(path, True) as store:
        load = catalogue.load

        def then_compacted(folder, **options):
            state = load(folder, **options)
            if store.generation == 3:
                with monkeypatch.context() as patched:
                    patched.setattr(catalogue, "load", load)
                    WORKLOAD.apply(store, CHANGES[3])
            return state

        monkeypatch.setattr(catalogue, "load", then_compacted)
        found = look(path)
        assert found == [] if look is Store.inspect else WORKLOAD.contents(found) == BEFORE


# --- damage ---------------------------------------------------------------------------------


def check_damages(tmp_path, trials, seed):
    path = tmp_path / "store"
    faults.kill_writers(STORE, path, 3, seed)
    found = damage_files(WORKLOAD, path, tmp_path, trials, seed)
    assert found.examples == []
    assert found.faults == 0
    assert found.refused + found.harmless == trials
    assert found.refused > trials // 4


@pytest.mark.parametrize("seed", seeds(1))
def test_damage_of_any_kind_is_refused_and_named(tmp_path, seed):
    check_damages(tmp_path, 60, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_thousand_damages_of_all_kinds_are_refused_and_named(tmp_path, seed):
    check_damages(tmp_path, 300, seed)


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_of_any_file_is_named(path, tmp_path):
    for name in sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file()):
        if name.name == "writer.lock":
            continue
        whole = (path / name).read_bytes()
        for position in range(len(whole)):
            data = bytearray(whole)
            data[position] ^= 1 << (position % 8)
            (path / name).write_bytes(data)
            assert any(name.name in str(damage) for damage in Store.inspect(path)), position
        (path / name).write_bytes(whole)
    check_sound(path, BEFORE)
