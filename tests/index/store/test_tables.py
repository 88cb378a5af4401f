"""Ids and metadata that do not fit together are refused where they are read, by array."""

import re
import shutil

import numpy as np
import pytest

from hiersearch.errors import DamageError
from hiersearch.index.index import PartitionIndex
from tests.index.faults.crafted import GRID, rewrite_segment, sound_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "index"
    sound_folder(folder)
    return folder


@pytest.fixture
def folder(base, tmp_path):
    shutil.copytree(base, tmp_path / "index")
    return tmp_path / "index"


def altered(folder, name, change):
    def alter(arrays):
        change(arrays if name is None else arrays[name])

    rewrite_segment(folder, 1, arrays=alter)


def filled(text):
    def change(array):
        array[:] = np.frombuffer((text * array.size)[: array.size], np.uint8)

    return change


def item(row, value):
    def change(array):
        array[row] = value

    return change


def number_of_the_first_text(value):
    def change(arrays):
        arrays["store/ids"][np.flatnonzero(arrays["store/id_kinds"])[0]] = value

    return change


def uses(index):
    """Return the uses that read ids, and those that read metadata."""
    ids = (
        lambda: list(index.ids()),
        lambda: [index.metadata(id) for id in index.ids()],
        lambda: index.search(np.zeros(GRID, int), 100),
    )
    metadata = (
        lambda: index.search(np.zeros(GRID, int), where={"k": 1}),
        lambda: index.search(np.zeros(GRID, int), where={"none": 1}),
        lambda: [index.metadata(id) for id in index.ids()],
        lambda: index.search(np.zeros(GRID, int), 100),
    )
    return ids, metadata


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (None, number_of_the_first_text(10**12), "store/id"),
        (None, number_of_the_first_text(-1), "store/id"),
        ("store/id_ends", item(3, 10**12), "'store/id_ends'"),
        ("store/id_ends", item(3, -4), "'store/id_ends'"),
        ("store/id_ends", item(slice(None), 0), "must leave an id in row"),
        ("store/id_texts", item(slice(None), 255), "must be UTF-8 in row"),
    ],
)
def test_ids_that_are_none_are_refused(folder, name, change, message):
    # The hierarchy's segment keeps all ids as text; the first has integers, too.
    altered(folder, name, change)
    with PartitionIndex.open(folder) as index:
        for use in uses(index)[0]:
            with pytest.raises(DamageError, match=message):
                use()
        (damage,) = index.verify()
        assert "00000001.seg" in str(damage)
    repair = PartitionIndex.repair(folder)
    assert damage in repair.damages
    assert None in repair.lost
    assert PartitionIndex.inspect(folder, deep=True) == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("store/id_places", item(slice(None), 10**8), "must be within 0..21 (array 'store/id_pl"),
        ("store/id_places", item(slice(None), -1), "must be within 0..21 (array 'store/id_places"),
        ("store/id_hashes", item(0, 2**64 - 1), "must ascend (array 'store/id_hashes')"),
    ],
)
def test_places_of_ids_that_are_none_are_refused(folder, name, change, message):
    altered(folder, name, change)
    with (
        PartitionIndex.open(folder) as index,
        pytest.raises(DamageError, match=re.escape(message)),
    ):
        [index.get(id) for id in index.ids()]
    assert PartitionIndex.repair(folder).lost == ()
    assert PartitionIndex.inspect(folder, deep=True) == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("store/metadata_codes", item(slice(None), 10**8), "(array 'store/metadata_"),
        ("store/metadata_codes", item(slice(None), -1), "(array 'store/metadata_"),
        ("store/metadata_ends", item(slice(1, None), 10**12), "(array 'store/metadata_ends')"),
        ("store/metadata_ends", item(slice(1, None), -1), "(array 'store/metadata_"),
        ("store/metadata_ends", item(slice(1, None), 0), "(array 'store/metadata_"),
        ("store/metadata_texts", filled(b"["), "must be JSON from text"),
        ("store/metadata_texts", filled(b'{"k":'), "must be JSON from text"),
        ("store/metadata_texts", filled(b"\xff"), "must be JSON from text"),
        ("store/metadata_texts", filled(b"9"), "(array 'store/metadata_texts')"),
        ("store/metadata_texts", filled(b"5,"), "(array 'store/metadata_texts')"),
    ],
)
def test_metadata_that_are_none_are_refused(folder, name, change, message):
    altered(folder, name, change)
    with PartitionIndex.open(folder) as index:
        for use in uses(index)[1]:
            with pytest.raises(DamageError, match=re.escape(message)):
                use()
        (damage,) = index.verify()
        assert "00000001.seg" in str(damage)
    assert damage in PartitionIndex.repair(folder).damages
    assert PartitionIndex.inspect(folder, deep=True) == []


@pytest.mark.parametrize("text", [b'{"k":1e999}', b'{"k":"\\ud800"}'])
def test_metadata_that_could_not_be_written_again_are_damage(folder, text):
    def alter(arrays):
        n = arrays["store/metadata_ends"].size - 1
        texts = (text + b",") * n
        arrays["store/metadata_texts"] = np.frombuffer(texts, np.uint8)
        arrays["store/metadata_ends"] = np.arange(n + 1) * (len(text) + 1)

    rewrite_segment(folder, 1, arrays=alter)
    (damage,) = PartitionIndex.inspect(folder)
    assert "holds no metadata: it" in str(damage)
    PartitionIndex.repair(folder)
    with PartitionIndex.open(folder, "r+") as index:
        assert index.verify() == []
        index.compact()


def test_a_condition_on_a_key_that_deep_metadata_lack_is_answered(folder):
    deep = b'{"a":' * 400 + b"1" + b"}" * 400

    def alter(arrays):
        n = arrays["store/metadata_ends"].size - 1
        arrays["store/metadata_texts"] = np.frombuffer((deep + b",") * n, np.uint8)
        arrays["store/metadata_ends"] = np.arange(n + 1) * (len(deep) + 1)

    rewrite_segment(folder, 1, arrays=alter)
    with (
        PartitionIndex.open(folder) as index,
        pytest.raises(ValueError, match="condition names the key 'none', which no entry has"),
    ):
        index.search(np.zeros(GRID, int), where={"none": 1})


def test_search_many_asks_for_the_condition_once(folder, monkeypatch):
    from hiersearch.index import index as index_module

    asked = []
    selected = index_module.selected

    def counted(condition, segments):
        asked.append(condition)
        return selected(condition, segments)

    monkeypatch.setattr(index_module, "selected", counted)
    with PartitionIndex.open(folder) as index:
        queries = [np.zeros(GRID, int)] * 7
        found = index.search_many(queries, 3, where={"k": {"<": 3}}, threads=2)
        assert asked == [{"k": {"<": 3}}]
        alone = index.search(queries[0], 3, where={"k": {"<": 3}})
        assert all(one.neighbours == alone.neighbours for one in found)
        assert index.search_many([], where={"none": 1}) == []
    assert len(asked) == 2
