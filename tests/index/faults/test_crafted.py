"""Whatever an index folder holds, with every checksum right, it answers or is refused."""

import os

import pytest

from tests.exploration import seeds
from tests.index.faults.crafted import crafted, exercised, sound_folder, uses

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="uses are made in a forked child")
QUICK, AT_ONCE = 96, 6
FOUND = [(9, 8)]
"""Seeds and numbers of folders that neither answered nor were refused once."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Return the folders of two sound indexes, one under a measure of floating-point type."""
    folders = [tmp_path_factory.mktemp("crafted") / name for name in ("plain", "weighted")]
    for folder, weighted in zip(folders, (False, True), strict=True):
        sound_folder(folder, weighted=weighted)
        # Here, too, so that kernels are compiled before time is measured.
        assert {what for _, what in uses(folder)} == {"answered"}
    return folders


def assert_answered_or_refused(bases, tmp_path, numbers, seed=0):
    for number in numbers:
        folder = tmp_path / str(number)
        altered = crafted(bases[number % 4 == 3], folder, seed, number)
        outcome = exercised(folder)
        name = f"folder {number} of seed {seed}"
        assert outcome.kind in ("answered", "refused"), f"{name}, {altered}: {outcome}"


def test_a_sound_folder_answers_every_use(bases):
    for folder in bases:
        assert exercised(folder).kind == "answered"


def test_a_crash_and_too_much_memory_or_time_are_seen(bases, monkeypatch):
    def crashing(folder):
        yield "first", "answered"
        os.abort()

    def hungry(folder):
        try:
            bytearray(2**31)
        except MemoryError:
            yield "memory", "MemoryError"

    def endless(folder):
        yield "first", "answered"
        while True:
            pass

    for use, expected in (
        (crashing, "after that: crashed: SIGABRT"),
        (hungry, "memory: MemoryError"),
        (endless, "after that: took too long"),
    ):
        monkeypatch.setattr("tests.index.faults.crafted.uses", use)
        assert exercised(bases[0], seconds=0.2).kind == expected


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("first", range(0, QUICK, AT_ONCE))
def test_a_crafted_folder_answers_or_is_refused(bases, tmp_path, first, seed):
    assert_answered_or_refused(bases, tmp_path, range(first, first + AT_ONCE), seed)


@pytest.mark.parametrize(("seed", "number"), FOUND)
def test_a_folder_that_did_not_once_answers_or_is_refused(bases, tmp_path, seed, number):
    assert_answered_or_refused(bases, tmp_path, [number], seed)


@pytest.mark.slow
def test_two_thousand_crafted_folders_answer_or_are_refused(bases, tmp_path):
    assert_answered_or_refused(bases, tmp_path, range(QUICK, QUICK + 2000))
