"""``hiersearch index search``: what is near to a query."""

import time
from pathlib import Path
from typing import Annotated

import typer

from hiersearch.choices import ACTIVATIONS, USUAL_K
from hiersearch.cli.console import progress, warn, write_json
from hiersearch.cli.errors import UsageError
from hiersearch.cli.options import (
    SHIPPED,
    Device,
    Force,
    IgnoredLabels,
    Offsets,
    Pad,
    Quiet,
    Reading,
    SourceOptions,
    check_device,
)
from hiersearch.cli.outputs import Destination, checked_folder, input_files


def search(
    path: Annotated[Path, typer.Argument(help="Folder of the index.", metavar="PATH")],
    query: Annotated[
        Path | None,
        typer.Argument(
            help="A label map or mask (PNG, TIFF, NPY, NPZ); with --soft a network's output, "
            "with --network an image.",
            metavar="QUERY",
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", help=f"How many; {USUAL_K} unless given.", metavar="N")
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="All within this distance, in place of -k.")
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", help="An entry of the index as query, in place of QUERY.")
    ] = None,
    soft: Annotated[
        bool, typer.Option("--soft", help="QUERY holds probabilities; needs --reading.")
    ] = False,
    network: Annotated[
        str | None,
        typer.Option(
            help=f"Run a network on the image QUERY: TorchScript, ONNX, or {SHIPPED!r}.",
            metavar=f"FILE|{SHIPPED}",
        ),
    ] = None,
    reading: Reading = None,
    channel_axis: Annotated[
        int | None,
        typer.Option(help="Axis of QUERY with the channels, if its shape leaves a doubt."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Which array of QUERY, where an .npz or .pt file holds several.", metavar="NAME"
        ),
    ] = None,
    ignore: IgnoredLabels = None,
    offsets: Offsets = None,
    activation: Annotated[
        str | None,
        typer.Option(help=f"For --network FILE: {', '.join(ACTIVATIONS)}.", metavar="NAME"),
    ] = None,
    pad: Pad = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Only among entries whose metadata fulfil this, like 'split=train' or "
            "'regions>=10'; may be given several times."
        ),
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Skip the proof that nothing nearer is left out.")
    ] = False,
    device: Device = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="Folder for a contact sheet (PNG) and the result (JSON).")
    ] = None,
    force: Force = False,
    as_json: Quiet = False,
) -> None:
    """Find the entries nearest to QUERY: a label map, a mask, or a network's soft output.

    The answer is exact unless --approximate: nothing in the index is nearer. A QUERY of another
    size is brought to the index's grid, label maps by nearest pixel, probabilities by area.
    """
    options = SourceOptions(network, reading, channel_axis, key, offsets, activation, pad)
    _check_query(query, id_, soft, options, ignore)
    _check_amount(k, radius, approximate)
    check_device(device)
    destination = None
    if out is not None:
        read = input_files(query, network)
        destination = Destination(checked_folder(out), "index search", "search.json", read, force)
        destination.check(("search.json", "search.png"))
    seconds: dict[str, float] = {}
    begin = time.perf_counter()
    with progress("Reading", as_json):
        from hiersearch.cli.index import query as index_query
        from hiersearch.cli.index import results as index_results
        from hiersearch.cli.index.entries import opened, stored_id
        from hiersearch.index.store.conditions import parse_conditions

        condition = parse_conditions(where) if where else None
    with opened(path) as index:
        with progress("Reading", as_json):
            if id_ is not None:
                name = stored_id(index, id_)
                asked = index_query.Query.of_labels(index.get(name), str(name))
            else:
                assert query is not None
                asked = index_query.read_query(
                    query,
                    index.grid,
                    options,
                    soft=soft,
                    ignore=ignore or (),
                )
                if ignore and not asked.ignored_pixels:
                    warn(
                        f"no pixel of {query} has a label of --ignore "
                        f"({', '.join(map(str, ignore))})"
                    )
        seconds["reading"] = time.perf_counter() - begin
        begin = time.perf_counter()
        with progress("Searching", as_json):
            if radius is not None:
                found = index.search_radius(asked.partition, radius, where=condition, device=device)
            else:
                found = index.search(
                    asked.partition,
                    k or USUAL_K,
                    where=condition,
                    approximate=approximate,
                    device=device,
                )
        seconds["search"] = time.perf_counter() - begin
        summary = index_results.search_summary(found, asked, index, path, condition, seconds)
        if destination is not None:
            with progress("Drawing", as_json):
                index_results.write_search(destination, summary, found, asked, index)
    if as_json:
        write_json(summary)
    else:
        index_results.print_search(summary)


def _check_query(
    query: Path | None,
    id_: str | None,
    soft: bool,
    options: SourceOptions,
    ignore: list[int] | None,
) -> None:
    """Check that there is one query, with the options that belong to it."""
    network = options.network
    if (query is None) == (id_ is None):
        raise UsageError(f"give either QUERY or --id, got {'neither' if query is None else 'both'}")
    if soft and network is not None:
        raise UsageError("give at most one of --soft and --network, got both")
    from_file = network is not None and network != SHIPPED
    for name, value, allowed, needed in (
        ("--soft", soft or None, id_ is None, "QUERY"),
        ("--network", network, id_ is None, "QUERY"),
        ("--reading", options.reading, soft or from_file, "--soft or --network FILE"),
        ("--channel-axis", options.channel_axis, soft, "--soft"),
        ("--activation", options.activation, from_file, "--network FILE"),
    ):
        if value is not None and not allowed:
            raise UsageError(f"{name} is for {needed} only, got {value!r}")
    if ignore and (query is None or soft or network is not None):
        raise UsageError(f"--ignore is for a label map as QUERY only, got {ignore[0]}")
    if options.key is not None and (query is None or network is not None):
        raise UsageError(
            f"--key is for QUERY of label maps or probabilities only, got {options.key!r}"
        )
    # A label map has no channels: what is left to check is the options of soft outputs.
    options.check(None if network is not None else soft or None)


def _check_amount(k: int | None, radius: float | None, approximate: bool) -> None:
    if k is not None and radius is not None:
        raise UsageError(f"give at most one of -k and --radius, got {k} and {radius}")
    if k is not None and k < 1:
        raise UsageError(f"-k must be at least 1, got {k}")
    if radius is not None and not 0 <= radius <= 1:
        raise UsageError(f"--radius must be within 0..1, got {radius}")
    if radius is not None and approximate:
        raise UsageError("--approximate is for -k only, got --radius")
