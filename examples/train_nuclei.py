"""Training a small network on nuclei, and finding nuclei with it in an image it never saw.

Run ``python examples/train_nuclei.py --out trained``; it needs torch. The four small images of the
tests are enough to see each step; for a network of use give ``--data FOLDER`` with hundreds of
images, ``--steps 2000`` and ``--widths 16 32 64 96``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hiersearch.data import demo_image, demo_labels
from hiersearch.evaluation import average_precision, foreground_ari
from hiersearch.hierarchy.matching import match
from hiersearch.networks import TrainingSettings, load_network, read_labelled_images, train
from hiersearch.plots import save_figure, save_picture
from hiersearch.plots.learning import learning_picture
from hiersearch.plots.refinement import refinement_picture
from hiersearch.refinement import refine

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, load, match and refine; print scores, and save pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of images and label maps")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--out", type=Path, default=Path("trained"), help="folder for all files")
    options = parser.parse_args(arguments)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)

    examples = read_labelled_images(options.data)
    settings = TrainingSettings(
        steps=options.steps,
        widths=tuple(options.widths),
        batch=4,
        crop=64,
        rate=0.012,
        every=max(1, options.steps // 4),
        validation=0.25,
    )
    done = train(
        examples.images,
        examples.label_maps,
        settings,
        names=examples.names,
        checkpoint=out / "checkpoint.pt",
    )
    print(f"trained on {done.trained_on} images, held out: {', '.join(done.held_out)}")
    for row in done.curve():
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items() if value is not None))
    done.save(out / "nuclei.pt")
    save_figure(learning_picture(done, title="Nuclei"), out / "learning.png")

    # The file says what its channels mean: no reading is to be given.
    network = load_network(out / "nuclei.pt")
    image, truth = demo_image(), demo_labels()
    output = network.predict(image)
    found = match(image, output)
    print(f"match: {found.best.n_regions} regions, distance {found.best.distance:.5f}")
    refined = refine(image, output)
    precision = float(average_precision(refined.labels, truth)[0])
    index = foreground_ari(refined.labels, truth)
    print(f"refined: AP at IoU 0.5 {precision:.4f}, foreground ARI {index:.4f}")
    save_picture(
        refinement_picture(image, output.plain_labels(), refined.labels), out / "nuclei.png"
    )
    print(f"network: {out / 'nuclei.pt'}; pictures: {out / 'learning.png'}, {out / 'nuclei.png'}")


if __name__ == "__main__":
    main()
