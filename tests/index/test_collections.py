"""Collections of label maps in files and folders."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hiersearch._errors import FileFormatError
from hiersearch.index.collections import Collection
from hiersearch.partitions import Partition
from hiersearch.partitions.files import read_label_map, write_label_map

DATA = Path(__file__).resolve().parents[1] / "data"
NUCLEI = read_label_map(DATA / "nuclei-stained-labels.png")
VOLUME = np.load(DATA / "em-crop.npz")["fragments"]


def ids(collection):
    return [entry.id for entry in collection]


@pytest.mark.parametrize("ending", [".png", ".tif", ".npy"])
def test_a_file_is_an_entry_named_by_its_stem(tmp_path, ending):
    write_label_map(tmp_path / f"cell.7{ending}", NUCLEI)
    (entry,) = Collection([tmp_path / f"cell.7{ending}"])
    assert entry.id == "cell.7"
    assert entry.labels == Partition.from_labels(NUCLEI)
    assert entry.metadata == {
        "file": f"cell.7{ending}", "regions": 13, "height": 128, "width": 128,
    }  # fmt: skip


def test_folders_are_read_in_the_order_of_names():
    collection = Collection([DATA], pattern="*-labels.png")
    assert ids(collection) == [f"nuclei-{n}-labels" for n in ("crowded", "dim", "plain", "stained")]
    assert [collection.done for _ in collection] == [0.25, 0.5, 0.75, 1.0]
    again = Collection([DATA / "nuclei-dim-labels.png", DATA], pattern="*-p*-labels.png")
    assert ids(again) == ["nuclei-dim-labels", "nuclei-plain-labels"]


def test_what_is_no_label_map_is_passed_over_in_folders_and_refused_by_name(tmp_path):
    write_label_map(tmp_path / "b.png", NUCLEI)
    for name in ("notes.txt", "a.json", ".hidden.png"):
        (tmp_path / name).write_text("x")
    assert ids(Collection([tmp_path])) == ["b"]
    with pytest.raises(ValueError, match=r"notes.txt must be a folder or end in \.png"):
        Collection([tmp_path / "notes.txt"])


def stack(n=3):
    return np.stack([np.roll(NUCLEI, i, axis=0) for i in range(n)])


@pytest.mark.parametrize("order", ["C", "F"])
def test_stacks_are_split(tmp_path, order):
    maps = np.asarray(stack(), order=order)
    np.save(tmp_path / "a.npy", maps)
    np.savez(tmp_path / "b.npz", labels=maps, image=np.zeros(3))
    np.savez_compressed(tmp_path / "c.npz", left=maps, right=maps[0])
    tifffile.imwrite(tmp_path / "d.tif", stack(), photometric="minisblack")
    wanted = [Partition.from_labels(labels) for labels in maps]
    for name in ("a.npy", "b.npz", "d.tif"):
        collection = Collection([tmp_path / name])
        assert [entry.labels == part for entry, part in zip(collection, wanted, strict=True)]
        assert ids(collection) == [f"{name[0]}/{i}" for i in range(3)]
        assert collection.done == 1
    several = list(Collection([tmp_path / "c.npz"], prefix="train/"))
    assert ids(several) == [*(f"train/c/left/{i}" for i in range(3)), "train/c/right"]
    assert several[1].labels == wanted[1]
    assert several[3].labels == wanted[0]


def test_volumes_are_entries_where_the_grid_is_one(tmp_path):
    np.savez(tmp_path / "v.npz", labels=VOLUME)
    np.save(tmp_path / "w.npy", np.stack([VOLUME, VOLUME[::-1]]))
    collection = Collection([tmp_path], axes=3)
    assert ids(collection) == ["v", "w/0", "w/1"]
    first, *_ = collection
    assert first.labels == Partition.from_labels(VOLUME)
    assert first.metadata["depth"] == 12
    assert ids(Collection([tmp_path / "v.npz"])) == [f"v/{i}" for i in range(12)]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_long_stack_is_not_read_at_once(tmp_path, save):
    maps = np.zeros((200, 200, 300), np.uint16)
    maps[:, 50:90, 30:70] = 3
    save(tmp_path / "long.npz", labels=maps)
    np.save(tmp_path / "long.npy", maps)
    size = maps.nbytes
    del maps
    for name in ("long.npz", "long.npy"):
        next(iter(Collection([tmp_path / name])))
        tracemalloc.start()
        count = sum(entry.labels.n_regions == 2 for entry in Collection([tmp_path / name]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 200
        assert peak < size / 5


def test_names_may_be_given_in_place_of_stems(tmp_path):
    np.save(tmp_path / "a.npy", stack(2))
    write_label_map(tmp_path / "b.png", NUCLEI)
    given = Collection([tmp_path / "a.npy", tmp_path / "b.png"], names=["x", "y"], prefix="p-")
    assert ids(given) == ["p-x/0", "p-x/1", "p-y"]
    with pytest.raises(ValueError, match=r"names must be one for each of 2 files, got 1"):
        Collection([tmp_path], names=["x"])
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(ValueError, match=r"names must not be given for .*c.json"):
        Collection([tmp_path / "c.json"], names=["x"])


def test_reading_again_gives_the_same():
    collection = Collection([DATA], pattern="*-labels.png")
    assert ids(collection) == ids(collection)


# --- bad input ------------------------------------------------------------------------------


def test_paths_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.png: no such file or folder"):
        Collection([tmp_path / "absent.png"])
    with pytest.raises(ValueError, match=r"must hold files \*\.gif that end in .*, got none"):
        Collection([DATA], pattern="*.gif")
    with pytest.raises(ValueError, match=r"axes must be within 2..3, got 4"):
        Collection([DATA], axes=4)


@pytest.mark.parametrize("ending", [".png", ".tif", ".npy", ".npz"])
@pytest.mark.parametrize("keep", [0, 50, -40])
def test_truncated_files_are_named(tmp_path, ending, keep):
    file = tmp_path / f"cut{ending}"
    if ending == ".npz":
        np.savez(file, labels=stack())
    else:
        write_label_map(file, NUCLEI)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=rf"cannot read .*cut{ending} as (a label map|label)"):
        list(Collection([file]))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_in_an_archive_is_noticed_before_a_map_is_given_out(tmp_path, save):
    file = tmp_path / "flipped.npz"
    save(file, labels=stack())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cannot read .*flipped.npz as label maps"):
        next(iter(Collection([file])))


def test_arrays_that_are_no_label_maps(tmp_path):
    np.savez(tmp_path / "a.npz", regions=NUCLEI, image=np.zeros((3, 4)))
    with pytest.raises(FileFormatError, match=r"array 'image' must be of integers, got float64"):
        next(iter(Collection([tmp_path / "a.npz"])))
    np.savez(tmp_path / "b.npz")
    with pytest.raises(FileFormatError, match=r"b.npz as label maps: it holds no array"):
        list(Collection([tmp_path / "b.npz"]))
    np.save(tmp_path / "c.npy", np.zeros((3, 4)))
    with pytest.raises(FileFormatError, match=r"c.npy as label maps: labels must be .* integer"):
        list(Collection([tmp_path / "c.npy"]))
    for labels in (np.zeros(5, int), np.zeros((2, 2, 2, 2), int)):
        np.save(tmp_path / "d.npy", labels)
        with pytest.raises(FileFormatError, match=r"d.npy must hold 2-D label maps or a stack"):
            list(Collection([tmp_path / "d.npy"]))
        np.savez(tmp_path / "d.npz", labels)
        with pytest.raises(FileFormatError, match=r"d.npz must hold 2-D label maps or a stack"):
            list(Collection([tmp_path / "d.npz"]))
    with pytest.raises(FileFormatError, match=r"plain.png as a label map|channels"):
        list(Collection([DATA / "nuclei-stained.png"]))


def test_objects_are_never_unpickled(tmp_path):
    harmful = np.array([{"a": 1}], object)
    np.save(tmp_path / "a.npy", harmful, allow_pickle=True)
    np.savez(tmp_path / "b.npz", labels=harmful)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(FileFormatError, match=r"cannot read"):
            list(Collection([tmp_path / name]))
