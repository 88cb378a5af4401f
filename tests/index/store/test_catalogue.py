"""The catalogue is read as it was committed, or said to be damaged."""

import contextlib
import shutil
import sqlite3

import numpy as np
import pytest

from hiersearch.errors import DamageError, FormatError, IndexLockedError
from hiersearch.index.store import catalogue
from hiersearch.index.store.catalogue import CATALOGUE, CHECK, JOURNAL, Change, SegmentRow

SETTINGS = {"grid": [128, 192], "name": "nuclei"}


@pytest.fixture
def folder(tmp_path):
    """A catalogue after a few commits, one of each kind."""
    catalogue.write_anew(tmp_path, catalogue.empty(SETTINGS))
    changes = (
        Change(5, SegmentRow(1, 5, 640, 0xDEADBEEF, 1)),
        Change(9, SegmentRow(2, 4, 600, 7, 2), removed={1: np.array([3])}),
        Change(9, removed={1: np.array([0]), 2: np.array([1, 2])}),
        Change(12, SegmentRow(3, 3, 600, 8, 4), dropped=(2,)),
    )
    state = catalogue.load(tmp_path)
    for change in changes:
        state = catalogue.commit(tmp_path, state, change)
    return tmp_path


def statements(folder, *texts):
    with contextlib.closing(sqlite3.connect(folder / CATALOGUE)) as connection:
        for text in texts:
            connection.execute(text)
        connection.commit()


def test_what_was_committed_is_read(folder):
    state = catalogue.load(folder)
    assert state.settings == SETTINGS
    assert (state.generation, state.next_id, state.next_segment) == (4, 12, 4)
    assert [row.number for row in state.segments] == [1, 3]
    assert state.segments[0] == SegmentRow(1, 5, 640, 0xDEADBEEF, 1)
    assert {n: mask.tolist() for n, mask in state.removed.items()} == {
        1: [True, False, False, True, False]
    }
    assert catalogue.read_check(folder)[0] == 4


def test_the_state_after_a_commit_is_what_is_read_back(folder):
    before = catalogue.load(folder)
    change = Change(20, SegmentRow(4, 2, 600, 9, 5), dropped=(3,), removed={1: np.array([1, 2])})
    after, found = catalogue.commit(folder, before, change), catalogue.load(folder)
    assert after.removed.keys() == found.removed.keys()
    assert all(np.array_equal(after.removed[n], found.removed[n]) for n in found.removed)
    for name in ("settings", "generation", "next_id", "next_segment", "segments", "digest"):
        assert getattr(after, name) == getattr(found, name)
    assert before.removed[1].tolist() == [True, False, False, True, False]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE segments SET entries = entries + 1 WHERE number = 1",
        "UPDATE facts SET value = value + 1 WHERE name = 'next_id'",
        "UPDATE facts SET value = replace(value, 'nuclei', 'nucleus') WHERE name = 'settings'",
        "UPDATE facts SET value = value || '0' WHERE name = 'digest'",
        "UPDATE removals SET positions = x'04000000' WHERE number = 1",
        "DELETE FROM removals WHERE number = 1",
        "DELETE FROM segments WHERE number = 3",
        "DELETE FROM facts WHERE name = 'digest'",
        "INSERT INTO segments VALUES (9, 1, 1, 1, 1)",
        "DROP TABLE removals",
        "ALTER TABLE segments RENAME COLUMN entries TO entrees",
    ],
)
def test_a_row_that_nobody_committed_is_noticed_without_the_check_file(folder, statement):
    (folder / CHECK).unlink()
    statements(folder, statement)
    with pytest.raises(DamageError, match=r"damaged index file: .*catalogue\.sqlite: "):
        catalogue.load(folder)


def flips_that_go_unnoticed(folder, positions, bit=None):
    path = folder / CATALOGUE
    whole = path.read_bytes()
    unnoticed = []
    for position in positions:
        data = bytearray(whole)
        data[position] ^= 1 << (position % 8 if bit is None else bit)
        path.write_bytes(data)
        with contextlib.suppress(DamageError):
            catalogue.load(folder)
            unnoticed.append(position)
        path.write_bytes(whole)
    catalogue.load(folder)
    return unnoticed


def test_flipped_bits_are_noticed_even_in_bytes_that_sqlite_does_not_use(folder):
    size = (folder / CATALOGUE).stat().st_size
    drawn = np.random.default_rng(0).integers(size, size=300).tolist()
    assert flips_that_go_unnoticed(folder, [*range(100), *drawn]) == []


def test_names_that_are_no_text_any_more_are_damage(folder):
    schema = (folder / CATALOGUE).read_bytes().index(b"CREATE TABLE removals")
    (folder / CHECK).unlink()
    noticed = set(range(schema, schema + 30)).difference(
        flips_that_go_unnoticed(folder, range(schema, schema + 30), bit=7)
    )
    assert len(noticed) > 20


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_is_noticed(folder):
    size = (folder / CATALOGUE).stat().st_size
    assert flips_that_go_unnoticed(folder, range(size)) == []


@pytest.mark.parametrize("length", [0, 1, 50, 100, 4000, 4096, 9000, -4096, -1])
def test_a_cut_is_noticed(folder, length):
    path = folder / CATALOGUE
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(DamageError, match=r"catalogue\.sqlite"):
        catalogue.load(folder)


@pytest.mark.parametrize("n_bytes", [1, 100, 4096, 8192])
@pytest.mark.parametrize("checked", [True, False])
def test_bytes_that_were_appended_are_noticed(folder, n_bytes, checked):
    path = folder / CATALOGUE
    whole = path.read_bytes()
    if not checked:
        (folder / CHECK).unlink()
    path.write_bytes(whole + bytes(n_bytes))
    message = f"must have {len(whole)} bytes, has {len(whole) + n_bytes}"
    with pytest.raises(DamageError, match=rf"catalogue\.sqlite: {message}"):
        catalogue.load(folder)


@pytest.mark.parametrize("what", ["missing", "a folder"])
def test_a_catalogue_that_is_no_file_is_damage(folder, what):
    (folder / CATALOGUE).unlink()
    if what == "a folder":
        (folder / CATALOGUE).mkdir()
    with pytest.raises(DamageError, match=rf"catalogue\.sqlite: is {what}"):
        catalogue.load(folder)


# --- the check file -------------------------------------------------------------------------


def test_a_check_of_an_older_generation_is_no_damage_and_is_renewed(folder):
    older = (folder / CHECK).read_bytes()
    state = catalogue.commit(folder, catalogue.load(folder), Change(99))
    (folder / CHECK).write_bytes(older)  # as if killed between commit and check
    state = catalogue.load(folder)
    assert state.next_id == 99
    catalogue.renew_check(folder, state)
    assert catalogue.read_check(folder)[0] == state.generation == 5


def test_a_catalogue_older_than_its_check_is_damage(folder):
    older = (folder / CATALOGUE).read_bytes()
    catalogue.commit(folder, catalogue.load(folder), Change(99))
    (folder / CATALOGUE).write_bytes(older)
    with pytest.raises(DamageError, match=r"generation 4, while catalogue\.crc is of 5"):
        catalogue.load(folder)


def test_every_flip_and_cut_of_the_check_is_reported_and_keeps_nobody_from_reading(folder):
    path = folder / CHECK
    whole = path.read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << (position % 8)
        for damaged in (bytes(data), whole[:position]):
            path.write_bytes(damaged)
            with pytest.raises(DamageError, match=r"catalogue\.crc: is not as it was written"):
                catalogue.read_check(folder)
    catalogue.load(folder)
    path.unlink()
    with pytest.raises(DamageError, match=r"catalogue\.crc: is missing"):
        catalogue.read_check(folder)
    catalogue.load(folder)


# --- formats --------------------------------------------------------------------------------


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "FORMAT_VERSION", 2)
    catalogue.write_anew(tmp_path, catalogue.empty(SETTINGS))
    monkeypatch.undo()
    with pytest.raises(FormatError, match="must have index format version 1, got 2: a newer hier"):
        catalogue.load(tmp_path)


def test_another_sqlite_file_is_refused(tmp_path):
    statements(tmp_path, "CREATE TABLE facts (name)")
    with pytest.raises(FormatError, match="must be the catalogue of an index, got another SQLite"):
        catalogue.load(tmp_path)


def test_a_file_that_is_not_sqlite_is_damage(tmp_path):
    (tmp_path / CATALOGUE).write_text("once upon a time" * 300)
    with pytest.raises(DamageError, match="SQLite can't read it: file is not a database"):
        catalogue.load(tmp_path)


# --- writers --------------------------------------------------------------------------------


def leave_hot_journal(folder, target):
    """Copy a folder in the middle of a transaction that had begun to overwrite the catalogue."""
    connection = sqlite3.connect(folder / CATALOGUE, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE segments SET entries = 77")
        for number in range(100, 120):
            row = (number, b"x" * 3000)
            connection.execute("INSERT INTO removals VALUES (?, 1, ?)", row)
        before = (folder / CATALOGUE).read_bytes()
        shutil.copytree(folder, target)
        connection.execute("ROLLBACK")
    assert (target / JOURNAL).stat().st_size > 0
    return before


def test_the_transaction_of_a_killed_writer_is_rolled_back(folder, tmp_path_factory):
    whole = (folder / CATALOGUE).read_bytes()
    killed = tmp_path_factory.mktemp("killed") / "copy"
    torn = leave_hot_journal(folder, killed)
    assert torn != whole
    assert catalogue.load(killed).segments == catalogue.load(folder).segments
    assert (killed / CATALOGUE).read_bytes() == whole


def test_a_damaged_journal_of_a_killed_writer_is_noticed(folder, tmp_path_factory):
    killed = tmp_path_factory.mktemp("killed") / "copy"
    leave_hot_journal(folder, killed)
    expected = catalogue.load(folder)
    journal, torn = (killed / JOURNAL).read_bytes(), (killed / CATALOGUE).read_bytes()
    drawn = np.random.default_rng(1).integers(len(journal), size=150).tolist()
    for position in [*range(40), *drawn]:
        data = bytearray(journal)
        data[position] ^= 1 << (position % 8)
        (killed / JOURNAL).write_bytes(data)
        (killed / CATALOGUE).write_bytes(torn)
        with contextlib.suppress(DamageError):
            assert catalogue.load(killed).segments == expected.segments


def test_a_catalogue_that_somebody_else_changed_is_not_written(folder):
    state = catalogue.load(folder)
    catalogue.commit(folder, state, Change(50))
    with pytest.raises(IndexLockedError, match="was changed by another writer: open it again"):
        catalogue.commit(folder, state, Change(60))
    assert catalogue.load(folder).next_id == 50


def test_a_catalogue_that_stays_locked_is_said_to_be(folder, monkeypatch):
    monkeypatch.setattr("hiersearch.index.store.sqlite.PATIENCE", 0.05)
    state = catalogue.load(folder)
    with contextlib.closing(sqlite3.connect(folder / CATALOGUE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IndexLockedError, match=r"stayed locked by another process for 0\.05 s"):
            catalogue.load(folder)
        with pytest.raises(IndexLockedError, match="stayed locked by another process"):
            catalogue.commit(folder, state, Change(60))
    catalogue.commit(folder, state, Change(60))
