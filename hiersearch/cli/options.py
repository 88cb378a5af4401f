"""Options that several commands share: where a soft output comes from, and how it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from hiersearch.choices import ACTIVATIONS, READINGS
from hiersearch.cli.errors import UsageError

SHIPPED = "nuclei"
MOST_PADDING = 4096

Network = Annotated[
    str | None,
    typer.Option(
        help=f"A network to run: from 'hiersearch train', TorchScript, ONNX, or {SHIPPED!r} for "
        "the shipped one.",
        metavar=f"FILE|{SHIPPED}",
    ),
]
Reading = Annotated[
    str | None,
    typer.Option(help=f"What the channels mean: {', '.join(READINGS)}.", metavar="NAME"),
]
ChannelAxis = Annotated[
    int | None,
    typer.Option(help="Axis of --soft with the channels, if its shape leaves a doubt."),
]
Offsets = Annotated[
    str | None,
    typer.Option(help="For affinities: one step for each channel, like '0,1;1,0'."),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="Which array of --soft, where an .npz or .pt file holds several.", metavar="NAME"
    ),
]
LabelKey = Annotated[
    str | None,
    typer.Option(
        help="Which array of an .npz file is the label map, where it holds several.",
        metavar="NAME",
    ),
]
IgnoredLabels = Annotated[
    list[int] | None,
    typer.Option(
        "--ignore",
        help="Label that stands for no region, like 255 for void: its pixels take the label of "
        "the nearest other pixel; may be given several times.",
        metavar="LABEL",
    ),
]
Pad = Annotated[
    int | None,
    typer.Option(
        help="For --network FILE: extend the image to sides that are multiples of N, and cut the "
        "output back; most networks that do not take every size need 32.",
        metavar="N",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="What does the heavy work: cpu, cuda, cuda:N, or auto (a GPU where it pays).",
        metavar="NAME",
    ),
]
Quiet = Annotated[bool, typer.Option("--json", help="Write only JSON to standard output.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Also replace files that no earlier run of this command wrote; inputs never.",
    ),
]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options that say where soft outputs come from and what their channels mean."""

    network: str | None
    """A network to run, or None where soft outputs are read."""
    reading: str | None
    """What the channels mean, where given."""
    channel_axis: int | None = None
    """Axis of the channels in a file."""
    key: str | None = None
    """Which array of a file."""
    offsets: str | None = None
    """Of affinities."""
    activation: str | None = None
    """What makes probabilities of a network's output."""
    pad: int | None = None
    """Of what the sides of a network's image are to be multiples."""

    def check(self, soft: object, given: str = "--soft") -> None:
        """Check that each option belongs to the source.

        What the channels of a network from a file mean may be said by the file: it is checked when
        that is opened.

        Parameters
        ----------
        soft : object
            None unless a soft output is to be read.
        given : str
            The option that it is given with.
        """
        network = self.network
        check_choice("--reading", self.reading, READINGS)
        check_choice("--activation", self.activation, ACTIVATIONS)
        if network == SHIPPED:
            for name, value in (("--reading", self.reading), ("--activation", self.activation)):
                if value is not None:
                    raise UsageError(f"{name} is fixed for --network {SHIPPED}, got {value!r}")
        elif network is None and soft is not None:
            check_reading(self.reading)
        for name, file_only in (("--channel-axis", self.channel_axis), ("--key", self.key)):
            if soft is None and network is not None and file_only is not None:
                raise UsageError(f"{name} is for {given} only, got {file_only!r} with --network")
        if soft is not None and self.activation is not None:
            raise UsageError(
                f"--activation is for --network only, got {self.activation!r} with {given}, "
                "which must hold probabilities"
            )
        if network is None or network == SHIPPED or self.reading is not None:
            check_offsets(self.reading, self.offsets)
        check_pad(self.pad, network)


def check_source(soft: object, options: SourceOptions) -> None:
    """Check that one source is given, with the options that belong to it."""
    if (soft is None) == (options.network is None):
        got = "both" if soft is not None else "neither"
        raise UsageError(f"give exactly one of --soft and --network, got {got}")
    options.check(soft)


def check_pad(pad: int | None, network: str | None) -> None:
    """Check that a padding is given to a network from a file alone, and is one."""
    if pad is None:
        return
    if network is None or network == SHIPPED:
        given = "no network" if network is None else f"{SHIPPED!r}, which takes every size"
        raise UsageError(f"--pad is for --network FILE only, got {pad} with {given}")
    if not 1 <= pad <= MOST_PADDING:
        raise UsageError(f"--pad must be within 1..{MOST_PADDING}, got {pad}")


def check_reading(reading: str | None) -> None:
    """Check that it is said what the channels mean."""
    if reading is None:
        raise UsageError(f"--reading must say what the channels mean, one of {', '.join(READINGS)}")


def check_offsets(reading: str | None, offsets: str | None) -> None:
    """Check that offsets are given for affinities, and for them alone."""
    from hiersearch.partitions.output import reading_kind

    needed = reading is not None and reading_kind(reading).between_pixels
    if needed and offsets is None:
        raise UsageError("--offsets must be given for --reading affinities, like '0,1;1,0'")
    if not needed and offsets is not None:
        raise UsageError(f"--offsets is for --reading affinities only, got {offsets!r}")


def check_key(path: Path, key: str | None) -> None:
    """Check that a key is given for a file that holds named arrays."""
    from hiersearch.partitions.saved_arrays import KEYED

    if key is not None and path.suffix.lower() not in KEYED:
        raise UsageError(f"--key is for {', '.join(KEYED)} files only, got {key!r} for {path}")


def check_device(device: str) -> None:
    """Check that there is such a device, before anything is read."""
    from hiersearch.device.choice import resolved

    try:
        resolved(device)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def check_choice(name: str, value: str | None, choices: Sequence[str]) -> None:
    """Check that an option, if given, is one of its choices."""
    if value is not None and value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
