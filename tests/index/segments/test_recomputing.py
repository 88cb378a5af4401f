"""What searches go by is recomputed from the runs, and each value that differs is named."""

import shutil

import numpy as np
import pytest

from hiersearch.index.index import PartitionIndex
from hiersearch.index.segments.recomputing import MOST_NAMED
from tests.hierarchy.small_trees import random_tree
from tests.index.faults.crafted import rewrite_segment
from tests.index.small_collections import (
    GRIDS,
    MEASURES,
    brute_force,
    made,
    pairs_of,
    random_collection,
    random_measure,
)

GRID = (16, 20)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the folder of an index of label maps and a hierarchy, and its label maps."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("deep") / "index"
    maps = random_collection(rng, GRID, 60)
    with made(folder, maps, ids=[f"n{i}" for i in range(60)]) as index:
        index.add_hierarchy(random_tree(rng, 20, GRID), "tree")
        index.remove("n7")
        entries = {id: index.get(id) for id in index.ids()}
    return folder, entries


@pytest.fixture
def folder(base, tmp_path):
    shutil.copytree(base[0], tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("measure", MEASURES)
def test_nothing_differs_in_what_was_written(tmp_path, measure):
    rng = np.random.default_rng(2)
    for i, grid in enumerate(GRIDS):
        weights = random_measure(rng, measure, grid)
        with made(tmp_path / str(i), random_collection(rng, grid, 30), weights) as index:
            if np.prod(grid) > 30:
                index.add_hierarchy(random_tree(rng, 9, grid), "tree")
            index.remove(3)
            assert index.verify(deep=True) == []
            index.compact()
            assert index.verify(deep=True) == []


CHANGES = {
    "squares": lambda a: np.minimum(a + 500, 320**2),
    "coarse": lambda a: a ^ 1,
    "middle": lambda a: 255 - a,
    "coarse_errors": lambda a: a * 2 + 1,
    "middle_errors": lambda a: a * 0,
    "masses": lambda a: a[::-1] * 0,
    "ring": lambda a: a + 1,
    "block_radii": lambda a: a * 0,
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", CHANGES)
def test_bounds_that_are_wrong_are_found_and_made_anew(base, folder, name, number):
    rewrite_segment(
        folder,
        number,
        arrays=lambda arrays: arrays.update({name: CHANGES[name](arrays[name])}),
    )
    with PartitionIndex.open(folder) as index:
        assert index.verify() == []
        damages = index.verify(deep=True)
        n_entries = index._store.segment(number).n_entries
    own = [damage for damage in damages if damage.array == name]
    # Distances to pivots and radii follow from some of the others.
    assert {damage.array for damage in damages} - {name} <= {"ring", "block_radii"}
    assert own
    assert all(damage.file.endswith(f"{number:08}.seg") for damage in damages)
    if name == "block_radii":
        assert str(own[0]).endswith("is not what the runs of block 0 give (array 'block_radii')")
    else:
        assert "is not what the runs of entry '" in str(own[0])
        assert len(own) <= n_entries
    assert list(map(str, PartitionIndex.inspect(folder, deep=True))) == list(map(str, damages))
    assert PartitionIndex.repair(folder).damages == ()
    repair = PartitionIndex.repair(folder, deep=True)
    assert (repair.kept, repair.lost) == (len(base[1]), ())
    assert list(map(str, repair.damages)) == list(map(str, damages))
    assert PartitionIndex.inspect(folder, deep=True) == []
    query = base[1]["n3"]
    with PartitionIndex.open(folder) as index:
        assert pairs_of(index.search(query, 9)) == brute_force(query, base[1])[:9]


def test_one_value_is_named_by_its_entry(folder):
    def change(arrays):
        arrays["ring"][11] += 2

    rewrite_segment(folder, 1, arrays=change)
    with PartitionIndex.open(folder) as index:
        (damage,) = index.verify(deep=True)
        id = index._store.segment(1).id_at(11)
    assert str(damage).endswith(
        f"00000001.seg: is not what the runs of entry {id!r} in row 11 give (array 'ring')"
    )


def test_a_block_that_mixes_chains_is_named(tmp_path):
    rng = np.random.default_rng(4)
    with made(tmp_path / "index", random_collection(rng, GRID, 5)) as index:
        index.add_hierarchy(random_tree(rng, 6, GRID), "tree")
        index.compact()
        (number,) = (segment.number for segment in index._store.segments)

    def change(arrays):
        assert arrays["block_ends"].size == 2
        arrays["block_ends"][0] += 1

    rewrite_segment(tmp_path / "index", number, arrays=change)
    with PartitionIndex.open(tmp_path / "index") as index:
        damages = index.verify(deep=True)
    assert any(
        "the runs of block 1 give (array 'block_pivots')" in str(damage)
        or "the runs of block 0 give (array 'block_pivots')" in str(damage)
        for damage in damages
    )


def test_of_many_wrong_values_the_number_is_told(tmp_path):
    rng = np.random.default_rng(3)
    with made(tmp_path / "index", random_collection(rng, (5, 7), MOST_NAMED + 40)):
        pass

    def change(arrays):
        arrays["squares"] //= 2

    rewrite_segment(tmp_path / "index", 1, arrays=change)
    with PartitionIndex.open(tmp_path / "index") as index:
        damages = index.verify(deep=True)
    own = [str(damage) for damage in damages if damage.array == "squares"]
    assert len(own) == MOST_NAMED + 1
    assert "nor is it what 40 more give" in own[-1]


def test_progress_of_a_deep_verification_ends_with_all(folder):
    done = []
    with PartitionIndex.open(folder) as index:
        index.verify(lambda *figures: done.append(figures), deep=True)
    assert len({total for _, total in done}) == 1
    assert [at for at, _ in done] == sorted(at for at, _ in done)
    assert done[-1][0] == done[-1][1]
    done.clear()
    PartitionIndex.inspect(folder, lambda *figures: done.append(figures), deep=True)
    assert done[-1][0] == done[-1][1]


def test_ids_that_are_not_found_by_their_hash_are_damage(folder):
    def change(arrays):
        arrays["store/id_hashes"] += np.uint64(1)

    rewrite_segment(folder, 1, arrays=change)
    (damage,) = PartitionIndex.inspect(folder)
    assert "must be the hashes of the ids (array 'store/id_hashes')" in str(damage)
    assert PartitionIndex.repair(folder).lost == ()
    with PartitionIndex.open(folder) as index:
        assert index.verify() == []
        assert "n3" in index


def test_repair_keeps_one_entry_of_an_id(folder):
    def change(arrays):
        # All entries of the second segment are called the same.
        arrays["store/ids"][:] = 0

    rewrite_segment(folder, 2, arrays=change)
    with PartitionIndex.open(folder) as index:
        n_cuts = index._store.segment(2).n_entries
        assert "must be different ids" in str(index.verify()[0])
    repair = PartitionIndex.repair(folder)
    assert len(repair.lost) == n_cuts - 1
    with PartitionIndex.open(folder) as index:
        assert index.verify(deep=True) == []
        assert len(set(index.ids())) == len(index) == repair.kept
