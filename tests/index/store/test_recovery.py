"""A damaged store is described in full, and opens again with all that is sound."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from hiersearch.errors import DamageError, FormatError, IndexLockedError
from hiersearch.index.store import catalogue
from hiersearch.index.store.segment import Segment
from hiersearch.index.store.segment_writer import HEADER
from hiersearch.index.store.snapshot import StoredPlace
from hiersearch.index.store.store import Store


@pytest.fixture
def path(tmp_path):
    """Segments 1, 2, 3 and, in the place of 3 and 4, 5; entries updated and removed."""
    path = tmp_path / "store"
    with Store.create(path, {"grid": [4, 4]}) as store:
        store.append(["a", "b", "c"], [{"v": 1}] * 3, {"x": np.arange(3)})
        store.append(["d", "b"], [{"v": 2}] * 2, {"x": np.arange(2)}, removing=[StoredPlace(1, 1)])
        store.append([None], [{"v": 3}], {"x": np.arange(1)})
        store.append(["e"], [{"v": 4}], {"x": np.arange(1)})
        store.replace(store.segments[2:], [0, "e"], [{"v": 5}] * 2, {"x": np.arange(2)})
        store.remove([store.find("a")])
    return path


def segment_file(path, number):
    return path / "segments" / f"{number:08d}.seg"


def flip(file, position=None):
    data = bytearray(file.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 4
    file.write_bytes(data)


def versions(path):
    with Store.open(path) as store:
        return {name: store.metadata_at(*store.find(name))["v"] for name in store.ids()}


BEFORE = {"b": 2, "c": 1, "d": 2, 0: 5, "e": 5}


# --- saying what is damaged -----------------------------------------------------------------


def test_a_sound_store_has_no_damage(path):
    assert Store.inspect(path) == []
    seen = []
    assert Store.open(path).verify(lambda *done: seen.append(done)) == []
    size = sum(segment_file(path, number).stat().st_size for number in (1, 2, 5))
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_all_damage_is_named_at_once(path):
    flip(segment_file(path, 1))
    flip(segment_file(path, 2), 3)
    segment_file(path, 5).unlink()
    flip(path / "catalogue.crc")
    files = [damage.file for damage in Store.inspect(path)]
    expected = [path / "catalogue.crc", *(segment_file(path, number) for number in (1, 2, 5))]
    assert files == [str(file) for file in expected]
    (path / "catalogue.crc").unlink()
    flip(path / "catalogue.sqlite", 16)
    files = [damage.file for damage in Store.inspect(path)]
    assert files == [str(path / "catalogue.sqlite"), *map(str, expected[1:3])]


def test_damage_is_not_returned_as_data(path):
    store = Store.open(path)
    flip(segment_file(path, 1), HEADER.size + 8)
    with pytest.raises(DamageError, match=r"00000001\.seg: checksum differs \(array 'store/id"):
        list(Store.open(path).ids())
    assert [d.array for d in store.verify()] == ["store/id_kinds"]


# --- the catalogue is damaged, its rows are not ---------------------------------------------


def test_sound_rows_of_a_damaged_catalogue_are_kept_with_all_removals(path):
    file = path / "catalogue.sqlite"
    unused = file.read_bytes().rindex(bytes(64))
    flip(file, unused)
    with pytest.raises(DamageError, match=r"catalogue\.sqlite: the checksum of the file differs"):
        Store.open(path)
    found = Store.recover(path)
    assert (found.segments, found.left_out, found.removals_known) == ((1, 2, 5), (), True)
    assert versions(path) == BEFORE
    assert Store.inspect(path) == []


def test_recovering_a_sound_store_changes_nothing(path):
    assert Store.recover(path).segments == (1, 2, 5)
    assert versions(path) == BEFORE
    with Store.open(path, writable=True) as store:
        assert store.append([None], [{"v": 6}], {}).all_ids() == [1]
        assert store.segments[-1].number == 6


@pytest.mark.parametrize("damage", ["flip", "lose"])
def test_segments_that_do_not_open_are_left_out_and_set_aside(path, damage):
    if damage == "flip":
        flip(segment_file(path, 2), 3)
    else:
        segment_file(path, 2).unlink()
    found = Store.recover(path)
    assert found.segments == (1, 5)
    assert [one.file for one in found.left_out] == [str(segment_file(path, 2))]
    assert versions(path) == {"c": 1, 0: 5, "e": 5}
    aside = os.listdir(path / "set-aside") if damage == "flip" else ["00000002.seg"]
    assert aside == ["00000002.seg"]
    assert Store.inspect(path) == []
    Store.open(path, writable=True).close()
    assert damage == "lose" or (path / "set-aside" / "00000002.seg").exists()


# --- the catalogue is lost ------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["lost", "not SQLite", "row"])
def test_a_lost_catalogue_is_rebuilt_from_the_segments(path, damage):
    file = path / "catalogue.sqlite"
    if damage == "lost":
        file.unlink()
    elif damage == "not SQLite":
        file.write_bytes(b"?" * 5000)
    else:
        flip(file, file.read_bytes().index(b'{"grid"'))
    found = Store.recover(path)
    assert (found.segments, found.left_out, found.removals_known) == ((1, 2, 5), (), False)
    # "a" was removed and not added again, which only the catalogue knew.
    assert versions(path) == BEFORE | {"a": 1}
    assert Store.inspect(path) == []
    with Store.open(path, writable=True) as store:
        assert store.settings == {"grid": [4, 4]}
        assert store.append([None], [{"v": 6}], {}).all_ids() == [1]
    assert (path / "set-aside").exists() == (damage != "lost")


def test_segments_that_were_replaced_are_not_taken_back(path, tmp_path):
    # As if the writer had been killed before it deleted the files of what it replaced.
    with Store.open(path, writable=True) as store:
        old = segment_file(path, 5).read_bytes()
        store.replace(store.segments[2:], [0, "e"], [{"v": 7}] * 2, {})
    segment_file(path, 5).write_bytes(old)
    (path / "catalogue.sqlite").unlink()
    assert Store.recover(path).segments == (1, 2, 6)
    assert versions(path) == BEFORE | {"a": 1, 0: 7, "e": 7}


def test_a_renamed_segment_is_not_taken_for_another(path):
    os.replace(segment_file(path, 2), segment_file(path, 4))
    (path / "catalogue.sqlite").unlink()
    found = Store.recover(path)
    assert found.segments == (1, 5)
    assert [one.what for one in found.left_out] == ["is another segment than its name says"]


def test_segments_with_damaged_chunks_are_kept_and_their_sound_entries_known(tmp_path):
    path = tmp_path / "store"
    n = 20_000
    names = [f"entry {i}" if i % 2 else i for i in range(n)]
    with Store.create(path, {}) as store:
        metadata = [{"n": i} for i in range(n)]
        store.append(names, metadata, {"x": np.arange(n)}, chunk_bytes={"x": 4096})
    segment = Segment.open(segment_file(path, 1))
    kinds = segment.array("store/id_kinds").ctypes.data
    for name in segment.names:
        if name.startswith("store/") and name not in ("store/id_hashes", "store/id_places"):
            copy = tmp_path / name.replace("/", " ")
            shutil.copytree(path, copy)
            start = segment.array(name).ctypes.data - kinds
            flip(segment_file(copy, 1), HEADER.size + start + 17_000)
            (stored,) = Store.open(copy).segments
            sound = stored.sound_entries()
            assert 0 < sound.sum() < n
            for i in range(0, n, 7):
                if sound[i]:
                    assert (stored.id_at(i), stored.metadata_at(i)) == (names[i], {"n": i})
                else:
                    with pytest.raises(DamageError):
                        (stored.id_at(i), stored.metadata_at(i))
            (copy / "catalogue.sqlite").unlink()
            assert Store.recover(copy).segments == (1,)


# --- files that are gone, and folders in their place ----------------------------------------


def in_its_place(file):
    file.unlink(missing_ok=True)
    file.mkdir()
    (file / "inside").write_text("mine")


def nowhere(file):
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize("lost", [Path.unlink, in_its_place, nowhere])
def test_whatever_became_of_the_catalogue_it_is_rebuilt_and_nothing_deleted(path, lost):
    lost(path / "catalogue.sqlite")
    assert "catalogue.sqlite: is " in str(Store.inspect(path)[0])
    with pytest.raises(DamageError, match=r"catalogue\.sqlite: is "):
        Store.open(path)
    assert Store.recover(path).segments == (1, 2, 5)
    assert versions(path) == BEFORE | {"a": 1}
    assert Store.inspect(path) == []
    aside = path / "set-aside" / "catalogue.sqlite"
    assert aside.is_dir() == (lost is in_its_place)
    assert aside.is_symlink() == (lost is nowhere)
    assert lost is not in_its_place or (aside / "inside").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    ["catalogue.crc", "catalogue.sqlite-journal", "writer.lock", "segments/00000002.seg"],
)
def test_a_folder_in_the_place_of_a_file_is_named_and_set_aside(path, name):
    in_its_place(path / name)
    assert [str(damage) for damage in Store.inspect(path)] == [f"{path / name}: is a folder"]
    found = Store.recover(path)
    assert found.removals_known
    assert found.segments == ((1, 5) if "seg" in name else (1, 2, 5))
    assert Store.inspect(path) == []
    assert (path / "set-aside" / name.rpartition("/")[2] / "inside").read_text() == "mine"
    with Store.open(path, writable=True) as store:
        store.append(["new"], [{"v": 6}], {})
    assert versions(path)["new"] == 6


@pytest.mark.parametrize("place", ["nothing", "a file"])
def test_a_lost_folder_of_segments_is_made_again(path, place):
    shutil.rmtree(path / "segments")
    if place == "a file":
        (path / "segments").write_text("mine")
    with pytest.raises(DamageError, match=r"00000001\.seg: is missing"):
        Store.open(path)
    found = Store.recover(path)
    assert (found.segments, found.removals_known, len(found.left_out)) == ((), True, 3)
    assert place == "nothing" or (path / "set-aside" / "segments").read_text() == "mine"
    with Store.open(path, writable=True) as store:
        assert store.append(["new"], [{"v": 6}], {}).number == 6
    assert versions(path) == {"new": 6}


def test_a_device_that_can_not_read_a_segment_is_damage(path, monkeypatch):
    opened = Segment.open

    def failing(file, **options):
        if file.name == "00000002.seg":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
        return opened(file, **options)

    monkeypatch.setattr(Segment, "open", failing)
    assert "00000002.seg: can't be read: Input/output error" in str(Store.inspect(path)[0])
    assert Store.recover(path).segments == (1, 5)


def test_a_segment_that_a_writer_deletes_while_its_size_is_asked_for(path, monkeypatch):
    # Between the listing of files and the look at each.
    file = segment_file(path, 2)
    stat = Path.stat

    def deleting(self, **options):
        if self == file:
            file.unlink(missing_ok=True)
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", deleting)
    assert [str(damage) for damage in Store.inspect(path)] == [f"{file}: is missing"]


# --- what can't be recovered ----------------------------------------------------------------


def test_nothing_to_recover_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Store.recover(tmp_path / "none")
    with pytest.raises(FormatError, match=r"must be an index, got a folder without catalogue\."):
        Store.recover(tmp_path)
    assert os.listdir(tmp_path) == []
    Store.create(tmp_path / "store", {}).close()
    flip(tmp_path / "store" / "catalogue.sqlite", 5)
    with pytest.raises(FormatError, match="can't be recovered: neither catalogue nor a segment is"):
        Store.recover(tmp_path / "store")


def test_a_store_that_is_being_written_is_not_recovered(path):
    with (
        Store.open(path, writable=True),
        pytest.raises(IndexLockedError, match="is being written by process"),
    ):
        Store.recover(path)


def test_a_newer_format_is_not_taken_for_damage(path, monkeypatch):
    monkeypatch.setattr(catalogue, "FORMAT_VERSION", 2)
    catalogue.write_anew(path, catalogue_state(path, monkeypatch))
    monkeypatch.setattr(catalogue, "FORMAT_VERSION", 1)
    for look in (Store.open, Store.inspect, Store.recover):
        with pytest.raises(FormatError, match="must have index format version 1, got 2") as caught:
            look(path)
        assert not isinstance(caught.value, DamageError)


def catalogue_state(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "FORMAT_VERSION", 1)
        return catalogue.load(path)
