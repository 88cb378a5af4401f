"""Rows of a catalogue whose digest is right are still held against what a writer puts there."""

import contextlib
import os
import re
import sqlite3
import struct

import pytest

from hiersearch.errors import DamageError
from hiersearch.index.index import PartitionIndex
from hiersearch.index.store import catalogue
from hiersearch.index.store import sqlite as _sqlite
from hiersearch.index.store.catalogue import CATALOGUE
from hiersearch.index.store.store import Store
from tests.index.faults.crafted import altered_rows, sound_folder


@pytest.fixture
def folder(tmp_path):
    sound_folder(tmp_path / "index")
    return tmp_path / "index"


def test_a_catalogue_that_is_sealed_again_without_a_change_is_read(folder):
    before = catalogue.load(folder)
    with altered_rows(folder):
        pass
    assert catalogue.load(folder).digest == before.digest


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE segments SET entries = 1000000000", "a row of segments can't be: (1, 1000000000"),
        ("UPDATE segments SET entries = -1", "a row of segments can't be: (1, -1"),
        ("UPDATE segments SET entries = 'x'", "a row of segments can't be"),
        ("UPDATE segments SET entries = 1.5", "a row of segments can't be"),
        ("UPDATE segments SET entries = NULL", "a row of segments can't be"),
        ("UPDATE segments SET number = -1 WHERE number = 1", "a row of segments can't be: (-1"),
        ("UPDATE segments SET number = 900 WHERE number = 1", "can't be: (900"),
        ("UPDATE segments SET bytes = 0", "a row of segments can't be"),
        ("UPDATE segments SET checksum = -1", "a row of segments can't be"),
        ("UPDATE segments SET generation = 99", "a row of segments can't be"),
        (
            "UPDATE segments SET entries = 2000000000, bytes = 4000000000",
            "segments must have at most 2147483647 entries together",
        ),
        ("UPDATE removals SET positions = x'00ca9a3b'", "segment 1 must be within 0..21"),
        ("UPDATE removals SET positions = x'ffffffff'", "removals of segment 1 must be within"),
        ("UPDATE removals SET positions = x'000000'", "a row of removals can't be"),
        ("UPDATE removals SET positions = 5", "a row of removals can't be"),
        ("UPDATE removals SET segment = 77", "a row of removals can't be"),
        ("UPDATE removals SET number = -number", "a row of removals can't be"),
        ("UPDATE facts SET value = -1 WHERE name = 'generation'", "generation must be within 0.."),
        ("UPDATE facts SET value = 'x' WHERE name = 'generation'", "generation must be within 0.."),
        ("UPDATE facts SET value = 0 WHERE name = 'next_segment'", "next_segment must be within"),
        ("UPDATE facts SET value = 2 WHERE name = 'next_segment'", "a row of segments can't be"),
        ("UPDATE facts SET value = 1.5 WHERE name = 'next_removal'", "next_removal must be within"),
        (f"UPDATE facts SET value = {2**63 - 1} WHERE name = 'next_removal'", "must be within 1.."),
        (f"UPDATE facts SET value = {2**63 - 1} WHERE name = 'generation'", "must be within 0.."),
        (f"UPDATE removals SET number = number + {2**62}", "a row of removals can't be"),
        ("UPDATE facts SET value = -1 WHERE name = 'next_id'", "next_id must be within 0..2**63"),
        ("UPDATE facts SET value = '5' WHERE name = 'next_id'", "next_id must be within 0..2**63"),
        ("UPDATE facts SET value = 5 WHERE name = 'settings'", "settings must be a JSON object"),
        ("UPDATE facts SET value = '[]' WHERE name = 'settings'", "settings must be a JSON object"),
        ("UPDATE facts SET value = '{' WHERE name = 'settings'", "settings must be a JSON object"),
        ("DELETE FROM facts WHERE name = 'next_id'", "facts must be ['digest', 'generation'"),
        ("INSERT INTO facts VALUES ('more', 1)", "facts must be ['digest', 'generation'"),
        (
            "CREATE TABLE more (x)",
            "must have the tables of a catalogue, has table facts, table more",
        ),
        ("CREATE VIEW v AS SELECT 1", "must have the tables of a catalogue"),
        ("CREATE INDEX i ON segments (entries)", "must have the tables of a catalogue"),
        (
            "CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM segments; END",
            "must have the tables of a catalogue",
        ),
        ("DROP TABLE removals", "must have the tables of a catalogue"),
    ],
)
def test_rows_that_no_writer_makes_are_refused_and_the_catalogue_made_anew(
    folder, statement, message
):
    with altered_rows(folder) as rows:
        rows.execute(statement)
    for look in (Store.open, PartitionIndex.open):
        with pytest.raises(DamageError, match=re.escape(message)) as caught:
            look(folder)
        assert CATALOGUE in str(caught.value)
    assert message in str(PartitionIndex.inspect(folder)[0])
    repair = PartitionIndex.repair(folder)
    assert repair.lost == ()
    with PartitionIndex.open(folder) as index:
        assert index.verify(deep=True) == []


def test_a_view_in_the_place_of_a_table_is_not_asked(folder):
    with altered_rows(folder) as rows:
        rows.executescript(
            "DROP TABLE removals; CREATE VIEW removals AS WITH RECURSIVE r(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM r) "
            "SELECT i AS number, 1 AS segment, x'' AS positions FROM r;"
        )
    with pytest.raises(DamageError, match="has table facts, view removals, table segments"):
        PartitionIndex.open(folder)


def test_more_rows_than_the_file_has_bytes_are_not_read(folder, monkeypatch):
    monkeypatch.setattr("hiersearch.index.store.catalogue_rows._LEAST_ROW", 10**5)
    with pytest.raises(DamageError, match=r"must fit into the file.s \d+ bytes"):
        PartitionIndex.open(folder)


def test_sqlite_is_interrupted_where_a_tree_leads_too_far(folder, monkeypatch):
    monkeypatch.setattr(_sqlite, "MOST_STEPS", -(10**9))
    monkeypatch.setattr(_sqlite, "_STEPS_BETWEEN", 1)
    with pytest.raises(DamageError, match="SQLite can't read it: interrupted"):
        PartitionIndex.open(folder)


def test_a_journal_that_names_another_file_is_not_rolled_back(folder, tmp_path):
    # SQLite would delete the file that is named.
    precious = tmp_path / "precious.txt"
    precious.write_text("not to be lost")
    name, size = str(precious).encode(), (folder / CATALOGUE).stat().st_size
    magic = bytes.fromhex("d9d505f920a163d7")
    head = magic + struct.pack(">5I", 0, 0, size // 4096, 512, 4096)
    named = struct.pack(">I", 2**30 // 4096 + 1) + name
    journal = folder / catalogue.JOURNAL
    journal.write_bytes(
        head.ljust(512, b"\0") + named + struct.pack(">II", len(name), sum(name)) + magic
    )
    for mode in ("r", "r+"):
        with pytest.raises(DamageError, match="names another file, which no writer does"):
            PartitionIndex.open(folder, mode)
    assert "names another file" in str(PartitionIndex.inspect(folder)[0])
    assert PartitionIndex.repair(folder).lost == ()
    with PartitionIndex.open(folder) as index:
        assert index.verify(deep=True) == []
    assert precious.read_text() == "not to be lost"


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_a_write_ahead_log_is_not_read(folder, end):
    (folder / (CATALOGUE + end)).write_bytes(b"\0" * 100)
    with pytest.raises(DamageError, match=f"{end}: is not a file of an index"):
        PartitionIndex.open(folder)
    assert PartitionIndex.repair(folder).lost == ()
    assert PartitionIndex.inspect(folder, deep=True) == []


def test_a_catalogue_with_a_write_ahead_log_is_refused(folder):
    with contextlib.closing(sqlite3.connect(folder / CATALOGUE)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(DamageError, match="has a write-ahead log, must have a journal"):
        PartitionIndex.open(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", [catalogue.JOURNAL, CATALOGUE, catalogue.CHECK])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    (damage, *_) = PartitionIndex.inspect(folder)
    assert str(damage) == f"{folder / name}: is no regular file"
    if name != catalogue.CHECK:
        with pytest.raises(DamageError, match="is no regular file"):
            PartitionIndex.open(folder)
    assert PartitionIndex.repair(folder).lost == ()
    assert PartitionIndex.inspect(folder, deep=True) == []


def test_removals_go_on_after_a_catalogue_was_made_anew(tmp_path):
    # Of two segments with the same id the newer counts: the older entry is a removal from then on.
    with Store.create(tmp_path / "store", {}) as store:
        for _ in range(2):
            place = store.find("a")
            store.append(["a", None], [None] * 2, {}, removing=[place] if place else [])
    (tmp_path / "store" / CATALOGUE).unlink()
    Store.recover(tmp_path / "store")
    with Store.open(tmp_path / "store", writable=True) as store:
        assert sorted(store.ids(), key=str) == [0, 1, "a"]
        store.remove([store.find(0)])
        store.remove([store.find("a")])
    with Store.open(tmp_path / "store") as store:
        assert list(store.ids()) == [1]


def test_a_catalogue_whose_next_removal_is_taken_already_is_written_on(folder):
    with altered_rows(folder) as rows:
        rows.execute("UPDATE facts SET value = 1 WHERE name = 'next_removal'")
    with PartitionIndex.open(folder, "r+") as index:
        before = len(index)
        index.remove("entry 2")
        assert len(index) == before - 1
    with contextlib.closing(sqlite3.connect(folder / CATALOGUE)) as connection:
        numbers = [row[0] for row in connection.execute("SELECT number FROM removals")]
    assert len(numbers) == len(set(numbers)) == 3
