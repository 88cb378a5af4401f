"""Segmentations and contour maps from MATLAB files."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from hiersearch.errors import FileFormatError
from hiersearch.hierarchy.build import build_hierarchy
from hiersearch.hierarchy.ucm import ucm
from hiersearch.index.formats.collections import Collection
from hiersearch.index.formats.entries import Entry, HierarchyEntry
from hiersearch.partitions import Partition
from hiersearch.partitions.files import read_image, read_label_map
from tests.index.formats.annotations import write_ground_truth

DATA = Path(__file__).resolve().parents[2] / "data"
NUCLEI = read_label_map(DATA / "nuclei-stained-labels.png")


def test_each_human_segmentation_is_an_entry(tmp_path):
    maps = [NUCLEI, NUCLEI[::-1], NUCLEI > 0]
    file = write_ground_truth(tmp_path / "100007.mat", maps)
    collection = Collection([file])
    entries = []
    for place, entry in enumerate(collection, start=1):
        entries.append(entry)
        assert collection.done == pytest.approx(place / 3)
    assert [entry.id for entry in entries] == ["100007/0", "100007/1", "100007/2"]
    for place, (entry, labels) in enumerate(zip(entries, maps, strict=True)):
        wanted = Partition.from_labels(labels)
        assert isinstance(entry, Entry)
        assert entry.labels == wanted
        assert entry.metadata == {
            "file": "100007.mat", "regions": wanted.n_regions, "height": 128, "width": 128,
            "annotator": place,
        }  # fmt: skip


def test_segmentations_of_a_method_may_be_doubles(tmp_path):
    cells = np.empty((2, 1), object)
    cells[0, 0], cells[1, 0] = NUCLEI.astype(np.float64), NUCLEI.T.astype(np.int32)
    savemat(tmp_path / "a.mat", {"segs": cells, "note": "x"})
    found = list(Collection([tmp_path / "a.mat"]))
    assert [entry.id for entry in found] == ["a/0", "a/1"]
    assert found[0].labels == Partition.from_labels(NUCLEI)
    assert found[1].labels == Partition.from_labels(NUCLEI.T)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_contour_map_is_a_hierarchy(tmp_path, dtype):
    image = read_image(DATA / "nuclei-stained.png")[:40, :50]
    tree = build_hierarchy(image, superpixels="watershed", linkage="average")
    savemat(tmp_path / "b.mat", {"ucm2": ucm(tree).astype(dtype)})
    (entry,) = Collection([tmp_path / "b.mat"], prefix="ucm-")
    assert isinstance(entry, HierarchyEntry)
    assert (entry.id, entry.metadata) == (
        "ucm-b", {"file": "b.mat", "height": 40, "width": 50},
    )  # fmt: skip
    for regions in (2, 5, 9):
        cuts = [t.labels_of(t.cut_with_regions(regions)) for t in (tree.monotone(), entry.tree)]
        assert Partition.from_labels(cuts[0]) == Partition.from_labels(cuts[1])


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"other": np.eye(3)}, ("must hold groundTruth, segs, ucm2", "its variables are: other")),
        ({"ucm2": np.zeros((4, 5))}, ("shape \\(2 H \\+ 1, 2 W \\+ 1\\)", "\\(4, 5\\)")),
        ({"ucm2": np.full((5, 5), np.nan)}, ("must be finite, got nan",)),
        ({"groundTruth": np.eye(3)}, ("groundTruth must be a cell array", "float64")),
        ({"groundTruth": np.empty((1, 0), object)}, ("must be a cell array that is not empty",)),
    ],
)
def test_files_without_segmentations(tmp_path, content, parts):
    savemat(tmp_path / "c.mat", content)
    for part in ("cannot read .*c.mat as MATLAB segmentations", *parts):
        with pytest.raises(FileFormatError, match=part):
            list(Collection([tmp_path / "c.mat"]))


def test_a_segmentation_that_is_none_is_named_by_its_place(tmp_path):
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = NUCLEI, NUCLEI + 0.5
    savemat(tmp_path / "d.mat", {"segs": cells})
    with pytest.raises(FileFormatError, match=r"d.mat as .* \(segs 2\).*whole numbers, got 0.5"):
        list(Collection([tmp_path / "d.mat"]))
    cells[0, 1] = {"Boundaries": NUCLEI}
    savemat(tmp_path / "d.mat", {"groundTruth": cells})
    with pytest.raises(FileFormatError, match=r"groundTruth 2\).*Segmentation, got Boundaries"):
        list(Collection([tmp_path / "d.mat"]))


@pytest.mark.parametrize("keep", [0, 20, 128, 400, -1])
def test_truncated_files_name_the_file(tmp_path, keep):
    file = write_ground_truth(tmp_path / "e.mat", [NUCLEI])
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"cannot read .*e.mat as MATLAB segmentations"):
        list(Collection([file]))


def test_files_of_the_newest_format_say_how_to_save_them(tmp_path):
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "f.mat").write_bytes(header + bytes(400))
    with pytest.raises(FileFormatError, match=r"7.3 .HDF5.: save it with the option -v7"):
        list(Collection([tmp_path / "f.mat"]))


def test_a_volume_is_not_looked_for_in_them(tmp_path):
    file = write_ground_truth(tmp_path / "g.mat", [NUCLEI])
    with pytest.raises(FileFormatError, match=r"g.mat holds 2-D label maps, expected 3-D ones"):
        list(Collection([file], axes=3))
