"""From an image and a network's output to the nearest partition of the image's hierarchy.

Run ``python examples/match_nuclei.py --out nuclei``; it needs torch for the shipped network.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hiersearch import distance, match
from hiersearch.data import demo_image, demo_labels
from hiersearch.networks import nuclei_network
from hiersearch.plots import match_figure, save_figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Match the bundled image of nuclei, print what was found, and save a picture of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("nuclei"), help="folder for the picture")
    out: Path = parser.parse_args(arguments).out

    # The network says for each pixel: background, interior of a nucleus, or boundary.
    image = demo_image()
    network = nuclei_network()
    output = network.predict(image)

    # Superpixels, their hierarchy, and the nearest of all its cuts: the best three. The output is
    # read as a soft partition: one background, and one region for each connected interior.
    found = match(image, output, k=3)

    assert found.horizontal is not None  # only constraints can rule out every threshold
    truth = demo_labels()
    for name, cut in (("best of all cuts", found.best), ("best horizontal cut", found.horizontal)):
        print(
            f"{name}: distance {cut.distance:.5f}, {cut.n_regions} regions, "
            f"best of {cut.candidates}; {distance(cut.partition, truth):.5f} from the hand-drawn"
        )
    for place, cut in enumerate(found.nearest, start=1):
        print(f"nearest cut {place}: distance {cut.distance:.9f}, {cut.n_regions} regions")

    out.mkdir(parents=True, exist_ok=True)
    figure = match_figure(
        image, found, probabilities=output.channels, channel_names=network.channels, title="nuclei"
    )
    save_figure(figure, out / "match.png")
    print(f"picture: {out / 'match.png'}")


if __name__ == "__main__":
    main()
