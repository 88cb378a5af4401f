"""``hiersearch refine``: a better soft output and a clean label map, for an image or a folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hiersearch.choices import ACTIVATIONS, REFINEMENT_METHODS
from hiersearch.cli.console import warn, write_json
from hiersearch.cli.errors import SOME_FAILED, UsageError, print_failed
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
    check_device,
    check_source,
)
from hiersearch.cli.outputs import Destination, checked_folder, input_files


def refine(
    image: Annotated[
        Path,
        typer.Argument(help="PNG, JPEG, TIFF or NPY; or a folder of them.", metavar="IMAGE"),
    ],
    soft: Annotated[
        Path | None,
        typer.Option(
            help="Soft output: .npy, .npz or .pt; for a folder of images, a folder of files with "
            "their stems."
        ),
    ] = None,
    network: Network = None,
    reading: Reading = None,
    channel_axis: ChannelAxis = None,
    key: Key = None,
    offsets: Offsets = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help=f"What makes probabilities of the output of --network FILE: "
            f"{', '.join(ACTIVATIONS)}.",
            metavar="NAME",
        ),
    ] = None,
    pad: Pad = None,
    method: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(REFINEMENT_METHODS)}, or several in a row, like "
            "'tree_voting,best_cut'; the best measured for the reading unless given.",
            metavar="NAMES",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Label map to score against, before and after: of classes for --reading classes, "
            "else of instances with 0 for none; for a folder, a folder of files with their stems."
        ),
    ] = None,
    ignore: Annotated[
        int | None, typer.Option(help="Label of --truth whose pixels don't count.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; IMAGE's name with -refined unless given."),
    ] = None,
    force: Force = False,
    device: Device = "cpu",
    as_json: Quiet = False,
) -> None:
    """Refine a network's soft output with the help of IMAGE.

    Give --soft FILE or --network FILE with --reading, --network nuclei, or a network of
    'hiersearch train'.

    Writes the label map (PNG or TIFF, and NPY), the refined probabilities, a picture of before,
    after and changed pixels, and a summary in JSON with the trace. Of a folder, each image has a
    folder of its own; where some images fail, the others are refined, and the exit code is 1.
    """
    options = SourceOptions(network, reading, channel_axis, key, offsets, activation, pad)
    check_source(soft, options)
    check_device(device)
    methods = _methods(method)
    if ignore is not None and truth is None:
        raise UsageError(f"--ignore is for --truth only, got {ignore}")
    destination = Destination(
        checked_folder(Path(f"{image.stem or 'images'}-refined") if out is None else out),
        "refine",
        "summary.json",
        input_files(network),
        force,
    )
    from hiersearch.cli.refining import RefineJob, planned, print_refined, refine_all
    from hiersearch.cli.soft_outputs import SoftSource

    tasks = planned(image, soft, truth, destination)
    job = RefineJob(SoftSource.opened(options), methods, ignore, device)
    summary: dict[str, Any] = refine_all(tasks, destination, job, quiet=as_json)
    of_images = summary.get("images", [summary])
    if ignore is not None and not any(one["ignored_pixels"] for one in of_images):
        warn(f"no pixel has the label {ignore} of --ignore in {truth}")
    if as_json:
        write_json(summary)
    else:
        print_refined(summary)
    if summary.get("failed"):
        print_failed(summary["failed"], "image", len(tasks))
        raise typer.Exit(SOME_FAILED)


def _methods(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in REFINEMENT_METHODS:
            raise UsageError(
                f"--method must be among {', '.join(REFINEMENT_METHODS)}, got {name!r}"
            )
    return names
