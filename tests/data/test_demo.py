from pathlib import Path

import numpy as np
import pytest

from hiersearch.data import demo_image, demo_labels
from hiersearch.partitions.files import read_image, read_label_map

HERE = Path(__file__).parent


def touching_pairs(labels):
    pairs = set()
    for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        seam = (one != other) & (one > 0) & (other > 0)
        pairs |= {frozenset(pair) for pair in zip(one[seam], other[seam], strict=True)}
    return len(pairs)


def test_the_demo_is_an_image_with_its_touching_nuclei():
    image, labels = demo_image(), demo_labels()
    assert image.shape == labels.shape == (288, 384)
    assert (image.dtype, labels.dtype) == (np.uint8, np.uint16)
    assert len(np.unique(labels)) == 64
    assert touching_pairs(labels) == 16
    assert image[labels > 0].mean() > 2 * image[labels == 0].mean()


def test_the_demo_is_a_fresh_array_each_time():
    demo_labels()[:] = 0
    assert demo_labels().any()


@pytest.mark.parametrize(
    ("name", "nuclei"), [("plain", 60), ("crowded", 92), ("dim", 44), ("stained", 12)]
)
def test_the_nuclei_are_what_the_readme_says(name, nuclei):
    image = read_image(HERE / f"nuclei-{name}.png")
    labels = read_label_map(HERE / f"nuclei-{name}-labels.png")
    assert image.shape[:2] == labels.shape
    assert image.ndim == (3 if name == "stained" else 2)
    assert len(np.unique(labels)) == nuclei + 1


def test_the_volume_is_what_the_readme_says():
    with np.load(HERE / "em-crop.npz") as volume:
        arrays = dict(volume)
    assert {array.shape for array in arrays.values()} == {(12, 48, 64)}
    assert len(np.unique(arrays["fragments"])) == 27
    assert len(np.unique(arrays["ground_truth"])) == 13
    membrane, truth = arrays["boundary_probability"].astype(np.float32), arrays["ground_truth"]
    assert membrane[truth == 0].mean() > 2 * membrane[truth > 0].mean()
