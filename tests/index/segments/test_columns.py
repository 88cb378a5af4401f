"""A segment has the arrays of the schema, and each array that breaks it is refused by name."""

import re
import shutil

import numpy as np
import pytest

from hiersearch.errors import DamageError
from hiersearch.index.index import PartitionIndex
from hiersearch.index.segments.columns import PARTITION_COLUMNS, kind_of
from hiersearch.index.store import catalogue
from hiersearch.index.store.columns import STORE_COLUMNS, chunks_of
from hiersearch.index.store.segment import Segment
from tests.index.faults.crafted import GRID, altered_rows, rewrite_segment, sound_folder

COLUMNS = {column.name: column for column in (*STORE_COLUMNS, *PARTITION_COLUMNS)}
PLAIN, CUTS = 1, 3
"""Numbers of segments of the folder, one of label maps, one of a hierarchy's cuts."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns") / "index"
    sound_folder(folder)
    return folder


@pytest.fixture
def folder(base, tmp_path):
    shutil.copytree(base, tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_written_is_the_schema(tmp_path, weighted):
    sound_folder(tmp_path / "index", weighted=weighted)
    with PartitionIndex.open(tmp_path / "index") as index:
        for segment in index._store.segments:
            data = segment.data
            assert set(data.names) == set(COLUMNS)
            for name, column in COLUMNS.items():
                assert data.unchecked(name).dtype.str in column.dtypes
                expected = column.chunk_bytes or 2**16
                assert data._arrays[name].chunk_bytes == expected
        kinds = {"runs": 0, "bounds": 0, "other": 0}
        for segment in index._store.segments:
            for name in segment.data.names:
                kinds[kind_of(name)] += segment.data.array(name).nbytes
        figures = index.info()["bytes"]
        assert {kind: figures[kind] for kind in kinds} == kinds


def test_columns_differ_in_name_and_refer_to_columns_before_them():
    assert len(COLUMNS) == len(STORE_COLUMNS) + len(PARTITION_COLUMNS)
    assert set(chunks_of(PARTITION_COLUMNS)) == {"code", "values", "tree_code"}
    before = set()
    for column in PARTITION_COLUMNS:
        for bound in (column.low, column.high):
            if bound in COLUMNS:
                assert bound in before
        before.add(column.name)


def item(row, value):
    def change(array):
        array[row] = value
        return array

    return change


BROKEN = [
    (PLAIN, "block_ends", item(0, 10**6), "must ascend up to 22, is 1000000 in row 0"),
    (PLAIN, "block_ends", item(-1, 10**9), "must ascend up to 22, is 1000000000 in row 1"),
    (PLAIN, "block_ends", item(0, -5), "must ascend up to 22, is -5 in row 0"),
    (PLAIN, "block_ends", item(0, 22), "must ascend up to 22, is 22 in row 1"),
    (PLAIN, "block_ends", lambda a: a[:0], "must be of shape (0,), is (2,)"),
    (PLAIN, "block_ends", item(-1, 21), "must end at 22, ends at 21"),
    (PLAIN, "block_pivots", item(0, 10**8), "must not be below 0 and must not be above 15"),
    (PLAIN, "block_pivots", item(1, 0), "must not be below 16 and must not be above 21"),
    (PLAIN, "block_radii", item(0, np.nan), "must be a number and must not be below 0"),
    (PLAIN, "code_ends", item(5, 10**9), "must ascend up to"),
    (PLAIN, "code_ends", item(5, -(10**9)), "must ascend up to"),
    (
        PLAIN,
        "code_ends",
        item(0, 1),
        "leaves 1 bytes to the code of row 0, which can't be: a code has 12 bits",
    ),
    (PLAIN, "code", lambda a: a[:10], "array 'code_ends'"),
    (PLAIN, "code", lambda a: a[:3], "must have at least 8 rows, has 3"),
    (PLAIN, "code", lambda a: a.astype(np.int64), "must be of type |u1, is <i8"),
    (PLAIN, "n_runs", item(3, 2**31 - 1), "must not be above 192, is 2147483647 in row 3"),
    (PLAIN, "n_runs", item(3, 0), "must not be below 1 and must not be above 192, is 0 in row 3"),
    (PLAIN, "n_regions", item(3, 2**31 - 1), "is 2147483647 in row 3"),
    (PLAIN, "n_regions", item(3, 0), "must not be below 1"),
    (PLAIN, "n_regions", lambda a: a[::-1] * 0 + 1, "must add up to"),
    (PLAIN, "n_regions", lambda a: a[:3], "must be of shape (22,), is (3,)"),
    (PLAIN, "mass_ends", item(4, -(10**9)), "must ascend up to"),
    (PLAIN, "masses", lambda a: a[:10], "array 'mass_ends'"),
    (PLAIN, "squares", item(3, -1), "must not be below 0 and must not be above 36864"),
    (PLAIN, "squares", item(3, 2**62), "must not be above 36864"),
    (PLAIN, "squares", lambda a: a.astype(float), "must be of type int64 under the measure"),
    (PLAIN, "ring", item(3, np.nan), "must be a number"),
    (PLAIN, "coarse_errors", item(3, -1), "must not be below 0, is -1.0 in row 3"),
    (PLAIN, "middle_errors", item(3, np.nan), "must be a number"),
    (PLAIN, "middle", lambda a: a[:1], "must be of shape (22, 300), is (1, 300)"),
    (PLAIN, "coarse", lambda a: a[:, :1], "must be of shape (22, 21), is (22, 1)"),
    (PLAIN, "tree", item(3, 0), "must not be below -1 and must not be above -1, is 0 in row 3"),
    (PLAIN, "tree", item(3, -9), "must not be below -1"),
    (PLAIN, "altitude", item(3, np.nan), "must be a number"),
    (CUTS, "tree", item(2, 5), "must not be above 0, is 5 in row 2"),
    (CUTS, "tree_runs", item(0, 2**31 - 1), "must not be above 192"),
    (CUTS, "tree_leaves", item(0, 3), "must add up to 12, adds up to 3"),
    (CUTS, "tree_order", item(0, -3), "must not be below 0"),
    (CUTS, "tree_parents", item(0, -1), "must not be below 0"),
    (CUTS, "tree_node_ends", item(0, 10**12), "must ascend up to 23"),
    (CUTS, "tree_code_ends", item(0, 10**12), "must ascend up to"),
    (CUTS, "tree_altitudes", item(20, np.nan), "must be a number"),
]


@pytest.mark.parametrize(("number", "name", "change", "message"), BROKEN)
def test_an_array_that_breaks_the_schema_is_refused_before_it_is_used(
    folder, number, name, change, message
):
    rewrite_segment(
        folder, number, arrays=lambda arrays: arrays.update({name: change(arrays[name])})
    )
    with PartitionIndex.open(folder) as index:
        for use in (
            lambda: index.search(np.zeros(GRID, int)),
            lambda: index.duplicates(0.1),
            lambda: [index.get(id) for id in index.ids()],
        ):
            with pytest.raises(DamageError, match=re.escape(message)) as caught:
                use()
            assert f"{number:08}.seg" in str(caught.value)
            assert caught.value.damage.array is not None
        assert [str(damage) for damage in index.verify()] == [str(caught.value.damage)]
    repair = PartitionIndex.repair(folder)
    assert caught.value.damage in repair.damages
    with PartitionIndex.open(folder) as index:
        assert index.verify(deep=True) == []


@pytest.mark.parametrize("name", ["block_ends", "code", "store/ids"])
def test_an_array_that_is_not_there_is_missed_by_name(folder, name):
    rewrite_segment(folder, PLAIN, arrays=lambda arrays: arrays.pop(name))
    with (
        pytest.raises(DamageError, match=f"is missing .array '{name}'"),
        PartitionIndex.open(folder) as index,
    ):
        index.search(np.zeros(GRID, int))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tree_parents", 22, "hierarchy 0 is none: leaf_map: leaf 12 has no pixel"),
        ("tree_order", 3, "the order of the leaves of hierarchy 0"),
        ("tree_order", 10**8, "the order of the leaves of hierarchy 0"),
    ],
)
def test_a_hierarchy_that_is_none_is_refused(folder, name, value, message):
    rewrite_segment(folder, CUTS, arrays=lambda arrays: item(slice(None), value)(arrays[name]))
    with (
        PartitionIndex.open(folder) as index,
        pytest.raises(DamageError, match=f"{message}.*array '{name}'"),
    ):
        index.get("tree@12")


def test_masses_that_are_none_are_refused(folder):
    rng = np.random.default_rng(0)
    for fill in (lambda a: a * 0, lambda a: a * 0 + 255, lambda a: rng.integers(0, 256, a.size)):
        rewrite_segment(
            folder,
            PLAIN,
            arrays=lambda arrays, fill=fill: arrays.update(
                masses=fill(arrays["masses"]).astype(np.uint8)
            ),
        )
        with (
            PartitionIndex.open(folder) as index,
            pytest.raises(DamageError, match=r"the masses of entry .* can't be decoded"),
        ):
            index.search(np.zeros(GRID, int), 30)


def test_two_regions_of_one_label_are_no_label_map(folder):
    rewrite_segment(folder, PLAIN, arrays=lambda arrays: item(slice(None), 7)(arrays["values"]))
    with (
        PartitionIndex.open(folder) as index,
        pytest.raises(DamageError, match="gives one label to two regions of entry"),
    ):
        [index.get(id) for id in index.ids()]
    lost = PartitionIndex.repair(folder).lost
    assert lost
    with PartitionIndex.open(folder) as index:
        assert index.verify(deep=True) == []
        assert set(index.ids()).isdisjoint(lost)


def test_opening_reads_neither_ids_nor_metadata_nor_what_is_read_piecewise(folder):
    with PartitionIndex.open(folder) as index:
        index._all_views()
        for segment in index._store.segments:
            checked = {name: stored.checked for name, stored in segment.data._arrays.items()}
            for column in (*STORE_COLUMNS, *PARTITION_COLUMNS):
                if column in STORE_COLUMNS or column.chunk_bytes:
                    assert not checked[column.name].any(), column.name
                else:
                    assert checked[column.name].all(), column.name
        found = index.search(np.zeros(GRID, int), 2)
        assert len(found.neighbours) == 2
        hashes = [s.data._arrays["store/id_hashes"].checked for s in index._store.segments]
        assert not any(chunks.any() for chunks in hashes)


def test_a_file_of_another_size_than_the_catalogue_says_is_refused(folder):
    state = catalogue.load(folder)
    data = Segment.open(folder / catalogue.segment_name(1))
    assert data.n_bytes == state.segments[0].n_bytes
    with altered_rows(folder) as rows:
        rows.execute("UPDATE segments SET bytes = bytes + 64 WHERE number = 1")
    with pytest.raises(DamageError, match=f"must have {data.n_bytes + 64} bytes as the catalogue"):
        PartitionIndex.open(folder)
    assert "as the catalogue says" in str(PartitionIndex.inspect(folder)[0])
