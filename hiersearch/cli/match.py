"""``hiersearch match``: from an image and a soft output to the nearest partition."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hiersearch import choices
from hiersearch.cli.console import progress, write_json
from hiersearch.cli.errors import UsageError
from hiersearch.cli.options import (
    ChannelAxis,
    Device,
    Force,
    Key,
    Network,
    Offsets,
    Pad,
    Quiet,
    Reading,
    SourceOptions,
    check_choice,
    check_device,
    check_source,
)
from hiersearch.cli.outputs import Destination, checked_folder, input_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUPERPIXELS = (choices.GUIDED, *choices.SUPERPIXELS)
COUNTED = (choices.GUIDED, *choices.COUNTED_SUPERPIXELS)
LINKAGES = (choices.SOFT_MIX, *choices.LINKAGES, *choices.WATERSHED_LINKAGES)


def match(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or NPY.", metavar="IMAGE")],
    soft: Annotated[
        Path | None,
        typer.Option(help="Soft output: .npy, .npz or .pt, channels on --channel-axis."),
    ] = None,
    network: Network = None,
    reading: Reading = None,
    channel_axis: ChannelAxis = None,
    key: Key = None,
    offsets: Offsets = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="What makes probabilities of the output of --network FILE: softmax (usual for "
            "regions and classes), sigmoid (usual for boundaries and affinities) or none.",
            metavar="NAME",
        ),
    ] = None,
    pad: Pad = None,
    superpixels: Annotated[
        str,
        typer.Option(
            help=f"Leaves of the hierarchy: {', '.join(SUPERPIXELS)}, or a label map file.",
            metavar="NAME|FILE",
        ),
    ] = "guided",
    superpixel_count: Annotated[
        int | None, typer.Option(help="About how many; one for every 75 pixels unless given.")
    ] = None,
    linkage: Annotated[
        str,
        typer.Option(help=f"How unlike two regions are: {', '.join(LINKAGES)}.", metavar="NAME"),
    ] = "soft-mix",
    n_regions: Annotated[
        int | None, typer.Option(help="The exact number of regions.", metavar="N")
    ] = None,
    minimum_size: Annotated[float, typer.Option(help="Smallest region, in pixels.")] = 0.0,
    apart: Annotated[
        Path | None,
        typer.Option(help="Label map of markers: no region holds two that differ (0: none)."),
    ] = None,
    k: Annotated[
        int, typer.Option("-k", help="Write the N nearest distinct partitions.", metavar="N")
    ] = 1,
    class_weight: Annotated[
        float, typer.Option(help="λ of the class term (classes reading).")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; IMAGE's name with -match unless given.")
    ] = None,
    overview: Annotated[
        bool, typer.Option("--overview", help="Also draw all steps and the curve in one figure.")
    ] = False,
    force: Force = False,
    device: Device = "cpu",
    as_json: Quiet = False,
) -> None:
    """Find the partition of IMAGE's hierarchy that is nearest to a network's soft output.

    Give --soft FILE or --network FILE with --reading, --network nuclei, or a network of
    'hiersearch train'.

    Writes the label map (PNG or TIFF, and NPY), an overlay picture and a summary in JSON.
    """
    options = SourceOptions(network, reading, channel_axis, key, offsets, activation, pad)
    check_source(soft, options)
    _check_search(superpixels, superpixel_count, linkage, n_regions, minimum_size, k, class_weight)
    check_device(device)
    destination = Destination(
        checked_folder(Path(f"{image.stem}-match") if out is None else out),
        "match",
        "summary.json",
        input_files(image, soft, network, superpixels, apart),
        force,
    )
    names = ["labels.npy", "overlay.png", "summary.json"]
    names += [f"labels-{place}.npy" for place in range(2, k + 1)]
    destination.check(names + ["overview.png"] * overview)
    seconds: dict[str, float] = {}
    begin = time.perf_counter()
    with progress("Reading", as_json):
        from hiersearch.cli import inputs
        from hiersearch.cli.soft_outputs import SoftSource
        from hiersearch.partitions.files import read_plain_image

        pixels = read_plain_image(image)
        seconds["reading"] = time.perf_counter() - begin
    begin = time.perf_counter()
    with progress("Preparing the soft output", as_json):
        source = SoftSource.opened(options)
        output = source.of_image(pixels, image, soft)
        seconds["soft output" if network is None else "network"] = time.perf_counter() - begin
    destination.check(["labels.png" if len(output.grid) == 2 else "labels.tif"])
    leaves: str | NDArray[Any] = superpixels
    if superpixels not in SUPERPIXELS:
        leaves = inputs.labels_on_grid(Path(superpixels), output.grid, "superpixels")
    markers = None if apart is None else inputs.labels_on_grid(apart, output.grid, "markers")
    with progress("Searching the hierarchy", as_json):
        from hiersearch.cli.results import MatchJob, print_results, write_results
        from hiersearch.hierarchy.matching import match as find_match

        found = find_match(
            pixels,
            output,
            superpixels=leaves,
            superpixel_count=superpixel_count,
            linkage=linkage,
            n_regions=n_regions,
            minimum_size=minimum_size,
            apart=markers,
            class_weight=class_weight,
            k=k,
            device=device,
        )
    named = {"network": str(network)} if soft is None else {"soft": str(soft)}
    job = MatchJob(str(image), named, superpixels, linkage, class_weight, overview)
    with progress("Drawing", as_json):
        summary = write_results(
            destination,
            pixels,
            found,
            job,
            seconds | found.seconds,
            output=output,
            channel_names=None if source.network is None else source.network.channels,
        )
    if as_json:
        write_json(summary)
    else:
        print_results(summary)


def _check_search(
    superpixels: str,
    superpixel_count: int | None,
    linkage: str,
    n_regions: int | None,
    minimum_size: float,
    k: int,
    class_weight: float,
) -> None:
    check_choice("--linkage", linkage, LINKAGES)
    if superpixels not in SUPERPIXELS and not os.path.exists(superpixels):
        raise UsageError(
            f"--superpixels must be one of {', '.join(SUPERPIXELS)} or a label map file, "
            f"got {superpixels!r}"
        )
    if superpixel_count is not None and superpixels not in COUNTED:
        raise UsageError(
            f"--superpixel-count is for --superpixels {', '.join(COUNTED)} only, "
            f"got {superpixel_count} with {superpixels}"
        )
    for name, number in (
        ("--superpixel-count", superpixel_count),
        ("--n-regions", n_regions),
        ("-k", k),
    ):
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, got {number}")
    if n_regions is not None and k > 1:
        raise UsageError(f"-k cannot be combined with --n-regions, got {k} and {n_regions}")
    for name, value in (("--minimum-size", minimum_size), ("--class-weight", class_weight)):
        if not 0 <= value < float("inf"):
            raise UsageError(f"{name} must be a number of at least 0, got {value}")
