"""Indices of format 1 are read by every later version, and by whoever follows docs/format.md."""

from pathlib import Path

import numpy as np
import pytest

from hiersearch.index.index import PartitionIndex
from tests.index import format_1, independent_reader
from tests.index.small_collections import brute_force, pairs_of

NAMES = tuple(format_1.CONTENTS)


def copied(folder, target):
    """Copy an index, which may lie where nobody may write, so that it may be written."""
    for file in folder.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return target


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def content(name):
    return format_1.CONTENTS[name]()


@pytest.fixture
def kept(name, tmp_path):
    """Return a copy of an index that was written once and for all."""
    return copied(format_1.KEPT / name, tmp_path / name)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Return the folder of the same indices as they are written today."""
    folder = tmp_path_factory.mktemp("fresh")
    format_1.write(folder)
    return folder


# --- what was written once ----------------------------------------------------------------------


def test_all_that_belongs_to_a_kept_index_is_in_its_folder(name, content):
    # No journal and no log of SQLite's is needed to read the catalogue.
    found = {str(f.relative_to(format_1.KEPT / name)) for f in (format_1.KEPT / name).rglob("*.*")}
    segments = {str(Path("segments", f"{i + 1:08d}.seg")) for i in range(content.n_segments)}
    assert found == {"catalogue.sqlite", "catalogue.crc", *segments}


def test_every_entry_of_a_kept_index_comes_back(kept, content):
    with PartitionIndex.open(kept) as index:
        assert index.grid == content.grid
        assert (index.measure is None) == (content.measure is None)
        if content.measure is not None:
            assert np.array_equal(index.measure, content.measure)
        assert set(index.ids()) == set(content.labels)
        for id, labels in content.labels.items():
            found = index.get(id)
            assert np.array_equal(found, labels), id
            assert index.metadata(id) == content.metadata[id]
        info = index.info()
        assert (info["segments"], info["removed_not_compacted"]) == (
            content.n_segments,
            content.n_removed,
        )


def test_a_kept_index_is_searched_exactly(kept, content):
    rng = np.random.default_rng(5)
    with PartitionIndex.open(kept) as index:
        for labels in content.labels.values():
            query = np.where(rng.random(content.grid) < 0.03, 1, labels)
            found = index.search(query, k=4)
            assert found.exact
            assert pairs_of(found) == brute_force(query, content.labels, content.measure)[:4]


def test_a_kept_index_is_sound_to_the_last_bound(kept):
    assert PartitionIndex.inspect(kept, deep=True) == []


def test_a_kept_index_can_be_written(kept, content):
    labels = np.arange(content.grid[-1]) // 3 + np.zeros(content.grid, int)
    with PartitionIndex.open(kept, mode="r+") as index:
        added = index.add(labels)
        index.remove(next(iter(content.labels)))
        index.compact()
        assert index.verify(deep=True) == []
    with PartitionIndex.open(kept) as index:
        expected = dict(list(content.labels.items())[1:]) | {added: labels}
        assert set(index.ids()) == set(expected)
        for id, one in expected.items():
            assert np.array_equal(index.get(id), one)


# --- a reader that knows docs/format.md alone ----------------------------------------------------


@pytest.mark.parametrize("age", ["kept", "fresh"])
def test_a_reader_written_from_the_description_reads_every_entry(age, name, content, fresh):
    folder = (format_1.KEPT if age == "kept" else fresh) / name
    grid, measure, entries = independent_reader.read(folder)
    assert grid == content.grid
    assert np.array_equal(measure, content.measure) or (measure is content.measure is None)
    assert set(entries) == set(content.labels)
    for id, (labels, metadata) in entries.items():
        assert np.array_equal(labels, content.labels[id]), id
        assert metadata == content.metadata[id]
