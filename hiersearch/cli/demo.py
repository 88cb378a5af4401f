"""``hiersearch demo``: the whole way on a bundled image."""

import time
from pathlib import Path
from typing import Annotated

import typer

from hiersearch.cli.console import progress, write_json
from hiersearch.cli.options import Force, Quiet
from hiersearch.cli.outputs import Destination, checked_folder


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the picture and the label map.")
    ] = Path("hiersearch-demo"),
    force: Force = False,
    as_json: Quiet = False,
) -> None:
    """Bundled image → shipped network → hierarchy → nearest cut, with table and picture."""
    destination = Destination(checked_folder(out), "demo", "summary.json", force=force)
    destination.check(("labels.npy", "labels.png", "overlay.png", "overview.png", "summary.json"))
    begin = time.perf_counter()
    with progress("Running the network", as_json):
        from hiersearch.cli.results import MatchJob, print_results, write_results
        from hiersearch.data import demo_image
        from hiersearch.hierarchy.matching import DEFAULT_LINKAGE, DEFAULT_SUPERPIXELS
        from hiersearch.hierarchy.matching import match as find_match
        from hiersearch.networks import nuclei_network

        network = nuclei_network()
        image = demo_image()
        seconds = {"loading": time.perf_counter() - begin}
        begin = time.perf_counter()
        output = network.predict(image)
        seconds["network"] = time.perf_counter() - begin
    with progress("Searching the hierarchy", as_json):
        found = find_match(image, output)
    job = MatchJob("nuclei.png", {"network": "nuclei"}, DEFAULT_SUPERPIXELS, DEFAULT_LINKAGE)
    with progress("Drawing", as_json):
        summary = write_results(
            destination,
            image,
            found,
            job,
            seconds | found.seconds,
            output=output,
            channel_names=network.channels,
        )
    if as_json:
        write_json(summary)
    else:
        print_results(summary)
