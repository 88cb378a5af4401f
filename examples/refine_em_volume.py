"""Neurons from an electron micrograph's boundary map: merging by the metric, without ground truth.

Run ``python examples/refine_em_volume.py [VOLUME.npz] --out em``. The volume holds four arrays of
one shape (depth, height, width): ``image``, ``boundary_probability``, ``fragments`` and
``ground_truth`` (0 where unlabelled; it is only used for the errors that are printed). The default
is the small crop among the tests' data.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.metrics import adapted_rand_error, variation_of_information

from hiersearch import build_hierarchy
from hiersearch.plots import image_picture, overlay, save_figure, shown_slice
from hiersearch.refinement.objects import objects

CROP = Path(__file__).resolve().parent.parent / "tests" / "data" / "em-crop.npz"


def errors(truth: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Adapted Rand error and variation of information (bits) over the labelled voxels."""
    labelled = truth > 0
    rand_error, _, _ = adapted_rand_error(truth[labelled], labels[labelled])
    return float(rand_error), float(
        variation_of_information(truth[labelled], labels[labelled]).sum()
    )


def best_threshold(
    boundary: NDArray[np.float64], fragments: NDArray[Any], truth: NDArray[Any]
) -> NDArray[np.int32]:
    """Merge by mean boundary up to the threshold with the smallest error: needs the truth."""
    tree = build_hierarchy(superpixels=fragments, linkage="average", boundary=boundary)
    cuts = [tree.labels_of(tree.horizontal_cut(float(a))) for a in np.unique(tree.altitudes)]
    return min(cuts, key=lambda labels: errors(truth, labels)[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Merge a volume's regions into neurons, print the errors, save a picture of a slice."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("volume", type=Path, nargs="?", default=CROP, help="an .npz file")
    parser.add_argument("--out", type=Path, default=Path("em"), help="folder for the picture")
    chosen = parser.parse_args(arguments)
    with np.load(chosen.volume) as arrays:
        image, fragments, truth = (arrays[k] for k in ("image", "fragments", "ground_truth"))
        boundary = arrays["boundary_probability"].astype(np.float64)

    # The map at its word (0.5), calibrated on these fragments, and from the map alone.
    kinds = {
        "break-even 0.5": {"superpixels": fragments, "break_even": 0.5},
        "calibrated": {"superpixels": fragments},
        "calibrated, own basins": {},
    }
    found = {
        name: objects(None, boundary, reading="boundaries", **settings)
        for name, settings in kinds.items()
    }
    figures = found["calibrated"].trace[-1].figures
    print(
        f"{' × '.join(map(str, truth.shape))} voxels; two regions are two neurons where the mean "
        f"boundary between them exceeds {figures['break_even']:.3f}\n"
    )
    print(f"{'':44} regions  adapted Rand  variation of")
    print(f"{'':44}                 error   information")
    shown = {
        "fragments": fragments,
        **{name: result.labels for name, result in found.items()},
        "best threshold, chosen with the ground truth": best_threshold(boundary, fragments, truth),
    }
    for name, labels in shown.items():
        rand_error, information = errors(truth, labels)
        count = len(np.unique(labels))
        print(f"{name:44} {count:7} {rand_error:13.4f} {information:13.4f}")

    chosen.out.mkdir(parents=True, exist_ok=True)
    target = chosen.out / "em-objects.png"
    panels = {
        f"{len(np.unique(fragments))} fragments": fragments,
        f"{len(np.unique(shown['break-even 0.5']))} regions, map at its word": (
            shown["break-even 0.5"]
        ),
        f"{len(np.unique(shown['calibrated']))} regions, calibrated": shown["calibrated"],
        "ground truth (unlabelled: black)": truth,
    }
    save_figure(slices(image, boundary, panels), target)
    print(f"\npicture: {target}")


def slices(
    image: NDArray[Any], boundary: NDArray[np.float64], panels: dict[str, NDArray[Any]]
) -> Figure:
    """Draw the middle slice: image, boundary map, and label maps."""
    middle = shown_slice(image.shape)
    assert middle is not None
    pictures = {
        f"image, slice {middle + 1} of {len(image)}": image_picture(image, image.shape),
        "boundary map": image_picture(boundary, boundary.shape),
    }
    for name, labels in panels.items():
        picture = overlay(image, labels, fill="colours", side=800)
        if "black" in name:
            factor = len(picture) // labels.shape[1]
            picture[(labels[middle] == 0).repeat(factor, axis=0).repeat(factor, axis=1)] = 0
        pictures[name] = picture
    aspect = image.shape[1] / image.shape[2]
    figure = Figure(figsize=(18, 3 * aspect + 0.6), dpi=100)
    for axes, (name, picture) in zip(figure.subplots(1, 6), pictures.items(), strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.8, wspace=0.04)
    return figure


if __name__ == "__main__":
    main()
