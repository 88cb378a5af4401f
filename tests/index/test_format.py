"""Indices of format 1 are read by every later version, and by whoever follows docs/format.md."""

import hashlib
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from hiersearch import Partition
from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.index.bounds.packing import Frame, run_code
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.index.segments.columns import PARTITION_COLUMNS
from hiersearch.index.segments.settings import settings_of
from hiersearch.index.segments.writing import segment_arrays
from hiersearch.index.store.columns import STORE_COLUMNS, chunks_of
from hiersearch.index.store.store import Store
from tests.index import format_1, independent_bounds, independent_reader
from tests.index.small_collections import (
    GRIDS,
    brute_force,
    made,
    pairs_of,
    random_collection,
    random_labels,
    random_measure,
)

NAMES = tuple(format_1.CONTENTS)
DIGESTS = {
    "plain": "1c8d84efce397ac22e92ccfcd22744c7a9ad61bf6fce7bbabec8cab3984fd298",
    "measured": "4eed9873b416238dc116ad22eedec5a6f7da2917b0d498a6ddacb83f2ca20fda",
}
"""SHA-256 of the files of each index, in the order of their names."""
PAGE = Path(__file__).parents[2].joinpath("docs", "format.md").read_text("utf-8")


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


def test_a_kept_index_is_what_was_written_once(name):
    files = sorted(file for file in (format_1.KEPT / name).rglob("*") if file.is_file())
    found = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    assert found == DIGESTS[name]


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


def assert_as_described(folder, grid, measure):
    """Assert that all that segments keep beside their label maps follows from these."""
    weights = np.ones(grid) if measure is None else measure
    unit = independent_bounds.pair_unit(weights, independent_bounds.tiles_of(grid)[1], 24)
    for file in sorted(folder.glob("segments/*.seg")):
        arrays, facts = independent_reader.read_segment(file.read_bytes())
        maps = [independent_reader.labels_at(arrays, i, grid) for i in range(facts["entries"])]
        for row, labels in enumerate(maps):
            expected = independent_bounds.bounds_of(labels, measure)
            masses = independent_reader.piece(arrays, "mass_ends", "masses", row).tobytes()
            assert masses == expected.pop("masses"), row
            for array, value in expected.items():
                assert np.array_equal(arrays[array][row], value), (array, row)
        assert_blocks_as_described(arrays, maps, measure, unit)


def assert_blocks_as_described(arrays, maps, measure, unit):
    begin = 0
    for block, (end, pivot) in enumerate(
        zip(arrays["block_ends"], arrays["block_pivots"], strict=True)
    ):
        members = np.arange(begin, end)
        assert pivot in members
        assert (arrays["tree"][members] == arrays["tree"][pivot]).all()
        for row in members:
            distance = independent_bounds.rho(maps[row], maps[pivot], measure)
            assert arrays["ring"][row] == distance
        radius = independent_bounds.block_radius(
            arrays["middle"], arrays["middle_errors"], members, pivot, unit
        )
        assert arrays["block_radii"][block] == radius
        begin = end
    assert begin == len(maps)


@pytest.mark.parametrize("age", ["kept", "fresh"])
def test_what_searches_go_by_is_what_the_description_says(age, name, content, fresh):
    folder = (format_1.KEPT if age == "kept" else fresh) / name
    assert_as_described(folder, content.grid, content.measure)


@pytest.mark.parametrize("measure", ["none", "integer", "zeros"])
@pytest.mark.parametrize("grid", [*GRIDS, (40, 37)])
def test_any_grid_and_measure_is_written_as_described(grid, measure, tmp_path):
    rng = np.random.default_rng(3)
    weights = random_measure(rng, measure, grid)
    maps = random_collection(rng, grid, 20)
    made(tmp_path / "index", maps, weights).close()
    assert_as_described(tmp_path / "index", grid, weights)
    _, _, entries = independent_reader.read(tmp_path / "index")
    assert all(np.array_equal(entries[id][0], labels) for id, labels in enumerate(maps))


def test_hierarchies_that_were_merged_into_one_segment_are_read(tmp_path):
    rng = np.random.default_rng(4)
    grid = (6, 9)
    maps = random_collection(rng, grid, 5)
    expected = dict(enumerate(maps))
    with made(tmp_path / "index", maps) as index:
        for name in ("one", "two", "three"):
            image, cells = rng.integers(0, 9, grid), random_labels(rng, grid, 12)
            tree = build_hierarchy(image, superpixels=cells, linkage="mean-colour")
            # Some merges are lower than those inside of them.
            assert not tree.is_increasing
            for id in index.add_hierarchy(tree, name):
                altitude = index.metadata(id)["altitude"]
                expected[id] = tree.labels_of(tree.horizontal_cut(altitude))
        index.remove_many([0, "one@1"])
        index.compact()
        del expected[0], expected["one@1"]
    _, _, entries = independent_reader.read(tmp_path / "index")
    assert set(entries) == set(expected)
    for id, labels in expected.items():
        assert np.array_equal(entries[id][0], labels), id
    assert_as_described(tmp_path / "index", grid, None)


@pytest.mark.parametrize("number", [1, 2])
def test_ids_are_found_by_the_hashes_that_the_description_gives(number):
    file = format_1.KEPT / "plain" / "segments" / f"{number:08d}.seg"
    arrays, facts = independent_reader.read_segment(file.read_bytes())
    ids = [independent_reader.id_at(arrays, row) for row in range(facts["entries"])]
    hashes = [independent_reader.id_hash(id) for id in ids]
    assert arrays["store/id_hashes"].tolist() == sorted(hashes)
    assert [hashes[place] for place in arrays["store/id_places"]] == sorted(hashes)


# --- what a later writer may add ----------------------------------------------------------------


def test_arrays_facts_and_settings_that_are_not_known_are_passed_over(tmp_path):
    grid = (5, 7)
    maps = random_collection(np.random.default_rng(1), grid, 6)
    entries = [Entry(Partition.from_labels(labels), i, {}) for i, labels in enumerate(maps)]
    frame = Frame(grid, None)
    with Store.create(tmp_path / "index", {**settings_of(grid, None), "later": [1]}) as store:
        arrays, order = segment_arrays(frame, entries)
        later = {"a/later/array": np.arange(12.0).reshape(3, 4), **arrays}
        ids = order.tolist()
        store.append(ids, [{}] * len(ids), later, chunk_bytes=chunks_of(PARTITION_COLUMNS))
        segment = store.segments[0]
        assert "a/later/array" in segment.data.names
        assert segment.data.facts["settings"]["later"] == [1]
    with PartitionIndex.open(tmp_path / "index", "r+") as index:
        assert index.verify(deep=True) == []
        assert all(np.array_equal(index.get(id), labels) for id, labels in enumerate(maps))
        index.remove(0)
        index.compact()
        assert index.verify(deep=True) == []
        assert set(index.ids()) == set(range(1, len(maps)))


def test_order_of_arrays_sizes_of_chunks_and_reserved_bytes_say_nothing(tmp_path):
    grid = (5, 7)
    maps = random_collection(np.random.default_rng(2), grid, 6)
    entries = [Entry(Partition.from_labels(labels), i, {}) for i, labels in enumerate(maps)]
    with Store.create(tmp_path / "index", settings_of(grid, None)) as store:
        arrays, order = segment_arrays(Frame(grid, None), entries)
        ids = order.tolist()
        turned = dict(reversed(arrays.items()))
        store.append(ids, [{}] * len(ids), turned, chunk_bytes=dict.fromkeys(arrays, 77))
    path = tmp_path / "index" / "segments" / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[12:16], data[48:56] = b"\x01\x02\x03\x04", b"reserved"
    data[60:64] = zlib.crc32(data[:60]).to_bytes(4, "little")
    path.write_bytes(data)
    with PartitionIndex.open(tmp_path / "index") as index:
        assert index.verify(deep=True) == []
        assert all(np.array_equal(index.get(id), labels) for id, labels in enumerate(maps))
    _, _, found = independent_reader.read(tmp_path / "index")
    assert all(np.array_equal(found[id][0], labels) for id, labels in enumerate(maps))


# --- what docs/format.md says ------------------------------------------------------------------


def test_the_example_of_the_run_code_is_the_code():
    labels = np.array(
        [
            [5, 5, 5, 9, 9, 9, 9, 9],
            [5, 5, 9, 9, 9, 5, 5, 5],
            [5, 5, 9, 9, 9, 5, 5, 5],
            [7, 7, 7, 7, 5, 5, 5, 5],
        ]
    )
    rows = re.findall(r"^    ((?:\d ){7}\d) +([01 ]+)$", PAGE, re.MULTILINE)
    assert [shown.split() for shown, _ in rows] == labels.astype(str).tolist()
    bits = "".join(coded.replace(" ", "") for _, coded in rows)
    bits += "0" * (-len(bits) % 8)
    partition = Partition.from_labels(labels)
    code, order = run_code(partition)
    assert f"\n    {code.tobytes().hex(' ')}\n" in PAGE
    assert "".join(map(str, np.unpackbits(code, bitorder="little"))) == bits
    assert f"`n_runs` {partition.n_runs}, `n_regions` {partition.n_regions}" in PAGE
    values = ", ".join(map(str, partition.label_values[order]))
    assert f"`values` {values}." in PAGE
    numbers, n_runs = independent_reader.decoded(code, partition.n_regions, labels.shape)
    assert np.array_equal(partition.label_values[order][numbers], labels)
    assert n_runs == partition.n_runs


def test_the_example_of_a_rows_hash_is_what_is_hashed():
    message = re.search(r"hashes\n?\s*`(factsstr:[^`]+)`", PAGE)[1]
    hashed = hashlib.blake2b(message.encode(), digest_size=8).digest()
    row = ("generation", 3)
    assert int.from_bytes(hashed, "little") == independent_reader.row_hash("facts", row)


def test_every_array_is_described_with_its_types():
    described = dict(re.findall(r"^\| `([a-z_/]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
    types = {name: tuple(one.replace("\\", "").split()) for name, one in described.items()}
    assert types == {one.name: one.dtypes for one in (*STORE_COLUMNS, *PARTITION_COLUMNS)}
    kept = format_1.KEPT / "plain" / "segments" / "00000001.seg"
    assert set(independent_reader.read_segment(kept.read_bytes())[0]) == set(types)
