"""Collections of label maps in files and folders."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from hiersearch.errors import FileFormatError
from hiersearch.index.formats.collections import Collection
from hiersearch.partitions import Partition
from hiersearch.partitions.files import read_label_map, write_label_map

DATA = Path(__file__).resolve().parents[2] / "data"
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
    chosen = Collection([tmp_path / "c.npz"], prefix="train/", keys=["left", "right"])
    several = list(chosen)
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


# --- ids ----------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path):
    """Return a folder of folders of frames, as data sets of videos have them."""
    for name in ("bear", "camel"):
        (tmp_path / "Annotations" / name).mkdir(parents=True)
        for frame in (0, 1):
            write_label_map(tmp_path / "Annotations" / name / f"{frame:05}.png", NUCLEI)
    return tmp_path / "Annotations"


FRAMES = ["bear/00000", "bear/00001", "camel/00000", "camel/00001"]


def test_ids_keep_the_folders_in_which_files_differ(videos):
    assert ids(Collection([videos], pattern="*/*.png")) == FRAMES
    assert ids(Collection([videos], pattern="**/*")) == FRAMES
    assert ids(Collection([videos / "bear", videos / "camel"])) == FRAMES
    files = sorted(videos.glob("*/*.png"))
    assert ids(Collection(files, prefix="davis/")) == [f"davis/{name}" for name in FRAMES]
    assert ids(Collection([videos / "bear"])) == ["00000", "00001"]
    # The folder that is named counts, whatever the pattern finds in it.
    first = next(iter(Collection([videos], pattern="bear/*.png")))
    assert first.id == "bear/00000"
    assert first.metadata["file"] == "bear/00000.png"


def test_ids_do_not_depend_on_how_paths_are_written(videos, monkeypatch):
    monkeypatch.chdir(videos / "bear")
    assert ids(Collection([".", "../camel"])) == FRAMES
    assert ids(Collection([videos / "bear", "../camel/"])) == FRAMES


def test_files_that_would_share_an_id_are_named_before_any_is_read(tmp_path, videos):
    np.save(videos / "bear" / "00000.npy", NUCLEI)
    with pytest.raises(ValueError, match=r"names that differ .*00000.npy and .*00000.png: choose"):
        Collection([videos / "bear"])
    assert ids(Collection([videos / "bear"], pattern="*.npy")) == ["00000"]
    with pytest.raises(ValueError, match=r"files must differ, got .*00000.png twice"):
        Collection([videos / "camel", videos / "camel" / "00000.png"])


def test_hidden_folders_are_passed_over(videos):
    (videos / "bear").rename(videos / ".bear")
    assert ids(Collection([videos], pattern="**/*.png")) == ["camel/00000", "camel/00001"]


@pytest.mark.parametrize("pattern", ["", "/*.png", "../*.png"])
def test_patterns_that_are_none_or_leave_the_folder(videos, pattern):
    (videos.parent / "other.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pattern must"):
        Collection([videos], pattern=pattern)


def test_a_folder_of_folders_says_which_pattern_finds_files(videos):
    with pytest.raises(ValueError, match=r"got none \(the pattern '\*\*/\*' also takes"):
        Collection([videos])


# --- stacks and channels --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((20, 24, 3), None),  # a photo
        ((20, 24, 4), (20, 24)),
        ((20, 24, 9), (20, 24)),  # one-hot
        ((480, 640, 21), (128, 192)),
    ],
)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_channels_are_not_taken_for_maps(tmp_path, shape, grid, ending):
    array = np.zeros(shape, np.uint8)
    if ending == ".npy":
        np.save(tmp_path / "a.npy", array)
    else:
        np.savez(tmp_path / "a.npz", labels=array)
    with pytest.raises(FileFormatError, match=r"whose last axis looks like channels: .*moveaxis"):
        next(iter(Collection([tmp_path / f"a{ending}"], grid=grid)))


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((9, 20, 24), None),
        ((2, 9, 4), None),
        ((50, 20, 3), (20, 3)),
        ((300, 100, 400), (128, 192)),
        ((24, 24, 24), (24, 24)),
    ],
)
def test_stacks_are_taken_for_stacks(tmp_path, shape, grid):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    first = next(iter(Collection([tmp_path / "a.npy"], grid=grid)))
    assert first.labels.grid == shape[1:]


# --- ignored labels -------------------------------------------------------------------------


def test_ignored_pixels_go_to_the_nearest_region_and_are_counted(tmp_path):
    labels = np.repeat([[1, 1, 255, 255, 255, 2]], 4, axis=0)
    write_label_map(tmp_path / "a.png", labels)
    write_label_map(tmp_path / "b.png", np.where(labels == 255, 3, labels))
    collection = Collection([tmp_path], ignore=[255])
    first, second = collection
    assert first.labels == Partition.from_labels(np.repeat([[1, 1, 1, 1, 2, 2]], 4, axis=0))
    assert first.metadata["regions"] == 2
    assert second.metadata["regions"] == 3
    assert collection.ignored_pixels == 12
    list(collection)
    assert collection.ignored_pixels == 12
    write_label_map(tmp_path / "c.png", np.full((4, 6), 255))
    with pytest.raises(ValueError, match=r"c.png must have a label besides the ignored ones"):
        list(Collection([tmp_path], ignore=[255]))


def test_drawn_label_maps_have_no_ignored_labels(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"ignore must not be given for .*a.json"):
        Collection([tmp_path / "a.json"], ignore=[0])


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


def test_which_array_of_an_archive_is_said_where_there_are_several(tmp_path):
    np.savez(tmp_path / "a.npz", image=NUCLEI % 7, masks=NUCLEI)
    with pytest.raises(FileFormatError, match=r"several arrays, .* \(image, masks\): .* --key"):
        list(Collection([tmp_path / "a.npz"]))
    (entry,) = Collection([tmp_path / "a.npz"], keys=["masks"])
    assert entry.id == "a"
    assert entry.labels == Partition.from_labels(NUCLEI)
    with pytest.raises(FileFormatError, match=r"no array named 'mask' \(.* image, masks\)"):
        list(Collection([tmp_path / "a.npz"], keys=["mask"]))
    write_label_map(tmp_path / "b.png", NUCLEI)
    with pytest.raises(ValueError, match=r"keys are for .npz files, got masks"):
        Collection([tmp_path / "b.png"], keys=["masks"])


@pytest.mark.parametrize("name", ["a.npy", "b.npz", "c.tif", "d.mat"])
def test_whole_numbers_of_floating_type_are_labels_in_every_kind_of_file(tmp_path, name):
    write_floats(tmp_path / name, NUCLEI)
    (entry,) = Collection([tmp_path / name])
    assert entry.labels == Partition.from_labels(NUCLEI)
    assert entry.labels.label_values.tolist() == np.unique(NUCLEI).tolist()
    write_floats(tmp_path / name, NUCLEI + 0.5)
    with pytest.raises((FileFormatError, TypeError), match=r"whole numbers, got 0.5 at index"):
        list(Collection([tmp_path / name]))


def write_floats(file, labels):
    values = np.asarray(labels, np.float32)
    match file.suffix:
        case ".npy":
            np.save(file, values)
        case ".npz":
            np.savez(file, labels=values)
        case ".tif":
            tifffile.imwrite(file, values)
        case _:
            cells = np.empty((1, 1), object)
            cells[0, 0] = values.astype(np.float64)
            savemat(file, {"segs": cells})


def test_arrays_that_are_no_label_maps(tmp_path):
    np.savez(tmp_path / "a.npz", np.zeros((3, 4), complex))
    with pytest.raises(FileFormatError, match=r"array 'arr_0' must be of integers, got complex128"):
        next(iter(Collection([tmp_path / "a.npz"])))
    np.savez(tmp_path / "b.npz")
    with pytest.raises(FileFormatError, match=r"b.npz as label maps: it holds no array"):
        list(Collection([tmp_path / "b.npz"]))
    np.save(tmp_path / "c.npy", np.zeros((3, 4), complex))
    with pytest.raises(FileFormatError, match=r"c.npy as label maps: labels must be .* integer"):
        list(Collection([tmp_path / "c.npy"]))
    np.savez(tmp_path / "e.npz", labels=NUCLEI)
    (tmp_path / "e.npz").rename(tmp_path / "e.npy")
    with pytest.raises(FileFormatError, match=r"cannot read .*e.npy as label maps"):
        list(Collection([tmp_path / "e.npy"]))
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
