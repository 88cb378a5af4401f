"""Merging the fragments of an electron micrograph: a volume, a boundary map, no image features.

Run ``python examples/match_em_volume.py [VOLUME.npz] --out em``. The volume holds four arrays of
one shape (depth, height, width): ``image``, ``boundary_probability``, ``fragments`` and
``ground_truth`` (0 where unlabelled). The default is the small crop among the tests' data.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.metrics import adapted_rand_error, variation_of_information

from hiersearch import MergeTree, SoftPartition, build_hierarchy, nearest_cut
from hiersearch.plots import image_picture, overlay, save_figure, shown_slice

CROP = Path(__file__).resolve().parent.parent / "tests" / "data" / "em-crop.npz"
OFFSETS = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
BREAK_EVENS = (0.5, 0.3, 0.1, 0.05, 0.03, 0.01)
SHOWN = 0.05

CONCLUSION = """\
The nearest cut needs no threshold on the tree, but it takes the affinities at their word: two
neighbours count as joined where C > 0.5. A boundary classifier is rarely calibrated there. At 0.5,
the map as it is, neurons stay in pieces; with a low break-even affinity the nearest cut comes close
to the best threshold; too low, and neurons merge. Choosing the break-even without the ground truth
is the open part: this script does not solve it."""


def affinities(boundary: NDArray[np.float64], break_even: float) -> SoftPartition:
    """Affinities of neighbouring voxels: a = 1 − max(b_p, b_q), moved so that C(break_even) = 0.5.

    C is a straight line in a, so where it crosses 0.5 is all that the nearest cut depends on.
    """
    slope = 0.5 / max(break_even, 1 - break_even)
    channels = np.ones((len(OFFSETS), *boundary.shape))
    for channel, offset in zip(channels, OFFSETS, strict=True):
        p = tuple(slice(0, side - step) for side, step in zip(boundary.shape, offset, strict=True))
        q = tuple(slice(step, None) for step in offset)
        affinity = 1 - np.maximum(boundary[p], boundary[q])
        channel[p] = 0.5 + slope * (affinity - break_even)
    return SoftPartition.from_affinities(channels, OFFSETS)


def errors(truth: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Adapted Rand error and variation of information (bits) over the labelled voxels."""
    labelled = truth > 0
    rand_error, _, _ = adapted_rand_error(truth[labelled], labels[labelled])
    return float(rand_error), float(
        variation_of_information(truth[labelled], labels[labelled]).sum()
    )


def best_threshold(tree: MergeTree, truth: NDArray[Any]) -> NDArray[np.int32]:
    """Return the horizontal cut with the smallest adapted Rand error: it takes the ground truth."""
    labelled = truth > 0
    altitudes = np.unique(tree.altitudes[tree.n_leaves :])
    cuts = [tree.horizontal_cut(float(altitude)) for altitude in (-np.inf, *altitudes)]
    scores = [adapted_rand_error(truth[labelled], tree.labels_of(cut)[labelled])[0] for cut in cuts]
    return tree.labels_of(cuts[int(np.argmin(scores))])


def main(arguments: Sequence[str] | None = None) -> None:
    """Merge the fragments of a volume, print the errors, and save a picture of its middle slice."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("volume", type=Path, nargs="?", default=CROP, help="an .npz file")
    parser.add_argument("--out", type=Path, default=Path("em"), help="folder for the picture")
    chosen = parser.parse_args(arguments)
    with np.load(chosen.volume) as arrays:
        image, fragments, truth = (arrays[k] for k in ("image", "fragments", "ground_truth"))
        boundary = arrays["boundary_probability"].astype(np.float64)

    # The fragments are the leaves; regions merge in the order of the mean boundary between them.
    tree = build_hierarchy(superpixels=fragments, linkage="average", boundary=boundary)
    print(
        f"{' × '.join(map(str, truth.shape))} voxels, {tree.n_leaves} fragments, "
        f"{len(np.unique(truth[truth > 0]))} neurons\n"
    )
    print(f"{'':44} regions  distance  adapted Rand  variation of")
    print(f"{'':44}                        error   information")

    def show(name: str, labels: NDArray[Any], distance: float | None = None) -> None:
        rand_error, information = errors(truth, labels)
        told = "–" if distance is None else f"{distance:.4f}"
        count = len(np.unique(labels))
        print(f"{name:44} {count:7} {told:>9} {rand_error:13.4f} {information:13.4f}")

    show("fragments", fragments)
    show("best threshold, chosen with the ground truth", best_threshold(tree, truth))
    cuts = {value: nearest_cut(tree, affinities(boundary, value)) for value in BREAK_EVENS}
    for value, cut in cuts.items():
        show(f"nearest cut, break-even affinity {value:g}", cut.labels, cut.distance)
    print(f"\nEach nearest cut is the best of {cut.candidates}.\n{CONCLUSION}")

    chosen.out.mkdir(parents=True, exist_ok=True)
    target = chosen.out / "em.png"
    save_figure(slices(image, boundary, fragments, cuts[SHOWN].labels, truth), target)
    print(f"\npicture: {target}")


def slices(
    image: NDArray[Any],
    boundary: NDArray[np.float64],
    fragments: NDArray[Any],
    cut: NDArray[Any],
    truth: NDArray[Any],
) -> Figure:
    """Draw the middle slice: image, boundary map, fragments, nearest cut, ground truth."""
    middle = shown_slice(image.shape)
    assert middle is not None
    truth_picture = overlay(image, truth, fill="colours", side=800)
    factor = len(truth_picture) // truth.shape[1]
    unlabelled = (truth[middle] == 0).repeat(factor, axis=0).repeat(factor, axis=1)
    truth_picture[unlabelled] = 0
    panels = {
        f"image, slice {middle + 1} of {len(image)}": image_picture(image, image.shape),
        "boundary map": image_picture(boundary, boundary.shape),
        f"{len(np.unique(fragments))} fragments": overlay(
            image, fragments, fill="colours", side=800
        ),
        f"nearest cut, {len(np.unique(cut))} regions\n(break-even affinity {SHOWN:g})": overlay(
            image, cut, fill="colours", side=800
        ),
        f"ground truth, {len(np.unique(truth[truth > 0]))} neurons\n(unlabelled: black)": (
            truth_picture
        ),
    }
    aspect = image.shape[1] / image.shape[2]
    figure = Figure(figsize=(15, 3 * aspect + 0.6), dpi=110)
    for axes, (name, picture) in zip(figure.subplots(1, 5), panels.items(), strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.8, wspace=0.04)
    return figure


if __name__ == "__main__":
    main()
