"""Damage is named, never returned as data; a repair keeps what is sound and names the rest."""

import contextlib
import shutil

import numpy as np
import pytest

from hiersearch.errors import DamageError, FormatError
from hiersearch.index.index import PartitionIndex
from hiersearch.index.segments import writing
from hiersearch.index.store.segment import Segment
from tests.hierarchy.small_trees import random_tree
from tests.index.small_collections import brute_force, made, pairs_of, random_collection

GRID = (40, 60)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the folder of an index of two segments, one with hierarchies, and its label maps."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("sound") / "index"
    maps = random_collection(rng, GRID, 120)
    with made(folder, maps, ids=[f"n{i}" for i in range(120)]) as index:
        index.add_hierarchy(random_tree(rng, 30, GRID), "tree")
        index.remove("n5")
        entries = {id: index.get(id) for id in index.ids()}
    return folder, entries


@pytest.fixture
def damaged(sound, tmp_path):
    """Return a copy of the folder, to be damaged."""
    folder = tmp_path / "index"
    shutil.copytree(sound[0], folder)
    return folder


def file_of(folder, number):
    """Return a segment's file."""
    return folder / "segments" / f"{number:08}.seg"


def flip(folder, number, array, where=0.5):
    """Flip a bit of an array of a segment."""
    path = file_of(folder, number)
    segment = Segment.open(path)
    stored = segment._arrays[array]
    place = stored.offset + int(where * (stored.values.nbytes - 1))
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)


def assert_sound(folder, entries, lost=frozenset()):
    """Assert that an index holds all entries but the lost ones, and answers from them."""
    left = {id: labels for id, labels in entries.items() if id not in lost}
    with PartitionIndex.open(folder, "r+") as index:
        assert set(index.ids()) == set(left)
        for id, labels in left.items():
            assert np.array_equal(index.get(id), labels)
        assert index.verify() == []
        if left:
            query = left[next(iter(left))]
            assert pairs_of(index.search(query, 5)) == brute_force(query, left)[:5]
        index.add(np.zeros(GRID, int), "added later")


def test_a_sound_index_has_no_damage_and_its_repair_changes_nothing(sound, damaged):
    assert PartitionIndex.inspect(damaged) == []
    done = []
    with PartitionIndex.open(damaged) as index:
        assert index.verify(lambda *figures: done.append(figures)) == []
    assert done[-1][0] == done[-1][1]
    repair = PartitionIndex.repair(damaged)
    assert (repair.kept, repair.lost, repair.damages) == (len(sound[1]), (), ())
    assert repair.removals_known
    assert_sound(damaged, sound[1])


@pytest.mark.parametrize("where", [0.0, 0.3, 0.99])
def test_a_flipped_bit_in_a_code_is_named_and_its_entries_lost(sound, damaged, where):
    _, entries = sound
    flip(damaged, 1, "code", where)
    (damage,) = PartitionIndex.inspect(damaged)
    assert "00000001.seg" in str(damage)
    assert "'code'" in str(damage)
    unreadable = set()
    with PartitionIndex.open(damaged) as index:
        assert [str(d) for d in index.verify()] == [str(damage)]
        for id, labels in entries.items():
            with contextlib.suppress(DamageError):
                assert np.array_equal(index.get(id), labels)
                continue
            unreadable.add(id)
            with pytest.raises(DamageError, match=r"00000001\.seg"):
                index.get(id)
        assert unreadable
        with pytest.raises(DamageError, match=r"00000001\.seg"):
            index.search_radius(np.zeros(GRID, int), 1.0)
    repair = PartitionIndex.repair(damaged)
    assert set(repair.lost) == unreadable
    assert repair.kept == len(entries) - len(unreadable)
    assert [str(d) for d in repair.damages] == [str(damage)]
    assert_sound(damaged, entries, unreadable)


@pytest.mark.parametrize(
    "array",
    [
        "coarse",
        "middle",
        "middle_errors",
        "masses",
        "mass_ends",
        "ring",
        "block_ends",
        "block_radii",
        "squares",
    ],
)
def test_damaged_bounds_are_named_and_made_anew(sound, damaged, array):
    flip(damaged, 1, array)
    (damage,) = PartitionIndex.inspect(damaged)
    assert f"'{array}'" in str(damage)
    with (
        PartitionIndex.open(damaged) as index,
        pytest.raises(DamageError, match=f"00000001.seg.*'{array}'"),
    ):
        index.search(np.zeros(GRID, int))
    assert PartitionIndex.repair(damaged).lost == ()
    assert_sound(damaged, sound[1])


@pytest.mark.parametrize("array", ["n_runs", "n_regions", "code_ends", "tree", "altitude"])
def test_without_what_decoding_needs_a_segment_s_entries_are_lost_by_name(sound, damaged, array):
    flip(damaged, 1, array)
    repair = PartitionIndex.repair(damaged)
    lost = {id for id in sound[1] if not id.startswith("tree")}
    assert set(repair.lost) == lost
    assert_sound(damaged, sound[1], lost)


@pytest.mark.parametrize("array", ["tree_code", "tree_parents", "tree_altitudes", "tree_node_ends"])
def test_without_its_tree_a_hierarchy_s_cuts_are_lost_by_name(sound, damaged, array):
    flip(damaged, 2, array)
    repair = PartitionIndex.repair(damaged)
    lost = {id for id in sound[1] if id.startswith("tree")}
    assert set(repair.lost) == lost
    assert_sound(damaged, sound[1], lost)


def test_a_damaged_tree_leaves_partitions_of_its_segment(sound, damaged):
    _, entries = sound
    with PartitionIndex.open(damaged, "r+") as index:
        index.compact()
        (segment,) = index._store.segments
    flip(damaged, segment.number, "tree_parents")
    repair = PartitionIndex.repair(damaged)
    lost = {id for id in entries if id.startswith("tree")}
    assert set(repair.lost) == lost
    assert_sound(damaged, entries, lost)


def test_damaged_metadata_lose_their_entries(sound, damaged):
    segment = Segment.open(file_of(damaged, 2))
    name = next(n for n in segment.names if "metadata" in n and segment.array(n).size)
    flip(damaged, 2, name)
    repair = PartitionIndex.repair(damaged)
    assert repair.lost
    assert_sound(damaged, sound[1], set(repair.lost))


def test_a_truncated_segment_is_named_and_left_out(sound, damaged):
    path = file_of(damaged, 1)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DamageError, match=r"00000001\.seg.*must have"):
        PartitionIndex.open(damaged)
    assert "00000001.seg" in str(PartitionIndex.inspect(damaged)[0])
    repair = PartitionIndex.repair(damaged)
    cuts = {id for id in sound[1] if id.startswith("tree")}
    assert repair.kept == len(cuts)
    assert repair.lost == (None,) * (len(sound[1]) - len(cuts))
    assert any("00000001.seg" in str(damage) for damage in repair.damages)
    assert_sound(damaged, {id: sound[1][id] for id in cuts})


def test_without_its_catalogue_everything_is_kept_and_removals_may_be_back(sound, damaged):
    (damaged / "catalogue.sqlite").write_bytes(b"nothing" * 1000)
    with pytest.raises(DamageError, match=r"catalogue\.sqlite"):
        PartitionIndex.open(damaged)
    repair = PartitionIndex.repair(damaged)
    assert not repair.removals_known
    assert repair.lost == ()
    with PartitionIndex.open(damaged) as index:
        assert set(index.ids()) == {*sound[1], "n5"}


def test_code_that_is_no_code_under_a_sound_checksum_is_named(tmp_path, monkeypatch):
    # As a faulty writer would leave it: each byte is what was written, but not what was meant.
    maps = random_collection(np.random.default_rng(2), GRID, 20)
    arranged = writing.arranged

    def wrongly_arranged(*arguments):
        arrays, order = arranged(*arguments)
        arrays["code"] = arrays["code"] ^ 1
        return arrays, order

    with PartitionIndex.create(tmp_path / "index", GRID) as index:
        index.add_many(maps[:19])
        monkeypatch.setattr(writing, "arranged", wrongly_arranged)
        index.add(maps[19], "wrong")
        (damage,) = index.verify()
        assert "00000002.seg: the code of entry 0 can't be decoded" in str(damage)
        with pytest.raises(DamageError, match=r"00000002\.seg.*decoded"):
            index.get("wrong")
        with pytest.raises(DamageError, match=r"00000002\.seg.*decoded"):
            index.search(maps[19], 20)
    assert PartitionIndex.inspect(tmp_path / "index") == [damage]
    repair = PartitionIndex.repair(tmp_path / "index")
    assert (repair.kept, repair.lost, repair.damages) == (19, ("wrong",), (damage,))
    assert PartitionIndex.inspect(tmp_path / "index") == []


def test_what_is_no_index_cannot_be_repaired(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PartitionIndex.repair(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    with pytest.raises(FormatError, match="must be an index"):
        PartitionIndex.repair(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
