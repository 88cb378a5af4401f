"""The benchmark of faults does as many trials as it says, and counts what goes wrong."""

import importlib
import os
import signal
from collections import Counter

import pytest

from benchmarks.questions.index_faults import (
    FAULTS,
    Counts,
    Crafted,
    Part,
    count_use,
    done,
    planned,
    run,
)
from tests.index.faults import tracing

needs_traces = pytest.mark.skipif(
    tracing.missing() is not None, reason=f"system calls can't be traced: {tracing.missing()}"
)


def test_all_trials_are_planned():
    parts = planned(Counts(), seed=3)
    found = Counter()
    for part in parts:
        found[part.kind] += part.arguments[-2]
    wanted = vars(Counts())
    assert found.keys() == wanted.keys()
    assert all(found[kind] >= count for kind, count in wanted.items())
    assert len({(part.row, part.arguments) for part in parts}) == len(parts)


def test_parts_name_functions_and_workloads_that_exist():
    named = {part.function for part in planned(Counts(), seed=0)}
    named |= {
        value
        for part in planned(Counts(), seed=0)
        for value in part.arguments
        if isinstance(value, str) and ":" in value
    }
    assert {name.rpartition(":")[2] for name in named} >= {"race", "StoreWorkload", "IndexWorkload"}
    for name in named:
        module, _, attribute = name.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute)), name


def test_what_is_not_asked_for_is_not_planned():
    assert {part.kind for part in planned(Counts(0, 0, 0, 0, 0, 5, 0), seed=0)} == {"damages"}


@needs_traces
def test_a_run_gives_a_row_for_each_kind_and_all_counts():
    none = dict.fromkeys(("races", "kills", "power_losses", "full_disks", "unlocked", "crafted"), 0)
    summary, details = run(quick=True, seed=0, processes=1, damages=8, **none)
    assert summary.columns == ("what", "trials", *FAULTS)
    assert summary.rows == [
        ["files damaged, store", "6", "0", "0", "0", "0", "0"],
        ["files damaged, index", "2", "0", "0", "0", "0", "0"],
        ["**all**", "**8**", *["**0**"] * 5],
    ]
    assert [row[0] for row in details.rows] == ["files damaged, store", "files damaged, index"]
    assert len(summary.notes) == 1


def die():
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_part_that_kills_its_process_is_a_crash():
    found = done(Part("crafted", "crafted folders", f"{__name__}:die", ()))
    assert (found.trials, found.crashed, found.faults) == (1, 1, 1)
    assert found.examples == ["crashed: crafted folders (): SIGSEGV"]


def test_answers_refusals_wrong_answers_and_crashes_are_told_apart():
    found = Crafted()
    for kind in ("answered", "refused", "refused", "get: KeyError: 3", "after that: crashed: X"):
        count_use(found, kind, "folder 1")
    assert (found.trials, found.answered, found.refused) == (5, 1, 2)
    assert (found.wrong, found.crashed) == (1, 1)


def test_without_traces_it_says_in_one_sentence_what_is_missing(monkeypatch):
    monkeypatch.setattr(tracing, "missing", lambda: "strace is not installed: apt-get ...")
    with pytest.raises(SystemExit, match="index_faults traces system calls: strace is not ins"):
        run(quick=True)


@pytest.mark.slow
@needs_traces
def test_a_quick_run_finds_nothing_wrong():
    summary, _ = run(quick=True)
    assert summary.rows[-1][2:] == ["**0**"] * 5
