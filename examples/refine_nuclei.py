"""Refining a network's output on an image of nuclei: its classes, and its objects.

Run ``python examples/refine_nuclei.py --out nuclei``; it needs torch for the shipped network.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hiersearch.data import demo_image, demo_labels
from hiersearch.evaluation import average_precision, boundary_iou, class_iou, foreground_ari
from hiersearch.networks import nuclei_network
from hiersearch.plots import save_picture
from hiersearch.plots.refinement import refinement_picture
from hiersearch.refinement.pipeline import refine


def main(arguments: Sequence[str] | None = None) -> None:
    """Refine classes and objects on the bundled image, print scores, and save pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("nuclei"), help="folder for the pictures")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)

    image, truth = demo_image(), demo_labels()
    output = nuclei_network().predict(image)

    # As classes: background, and nucleus, which is interior or boundary.
    background = output.channels[0]
    classes = np.stack([background, 1 - background])
    plain = classes.argmax(axis=0)
    refined = refine(image, classes, reading="classes")
    for name, labels in (("arg-max", plain), ("refined", refined.labels)):
        of_all = class_iou(labels, truth > 0).mean
        near = boundary_iou(labels, truth > 0).mean
        print(f"classes, {name}: IoU {of_all:.4f}, within 3 pixels of boundaries {near:.4f}")
    picture = refinement_picture(image, plain, refined.labels, classes=True)
    save_picture(picture, out / "classes.png")

    # As objects: one label for each nucleus, 0 for none.
    seeds = output.plain_labels()
    objects = refine(image, output)
    for name, labels in (("nearest seed", seeds), ("refined", objects.labels)):
        precision = float(average_precision(labels, truth)[0])
        index = foreground_ari(labels, truth)
        print(f"objects, {name}: AP at IoU 0.5 {precision:.4f}, foreground ARI {index:.4f}")
    for step in refined.trace + objects.trace:
        print(f"{step.method}: {1000 * step.seconds:.1f} ms")
    save_picture(refinement_picture(image, seeds, objects.labels), out / "objects.png")
    print(f"pictures: {out / 'classes.png'}, {out / 'objects.png'}")


if __name__ == "__main__":
    main()
