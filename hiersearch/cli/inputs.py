"""From the files and options of ``hiersearch match`` to arrays and a target."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.cli.errors import UsageError
from hiersearch.cli.options import SHIPPED, check_offsets, check_reading
from hiersearch.partitions import SoftPartition
from hiersearch.partitions.files import read_image, read_label_map, read_probabilities
from hiersearch.partitions.saved_arrays import KEYED

if TYPE_CHECKING:
    from hiersearch.networks import Network

# What may hold a bare boundary map, without an axis of channels.
MAP_ENDINGS = (".npy", ".png", ".tif", ".tiff")


def possible_grids(image: NDArray[Any]) -> list[tuple[int, ...]]:
    """Return the grids that an image may have: its last axis may be one of channels."""
    grids = [image.shape] if image.ndim in (2, 3) else []
    if image.ndim > 2:
        grids.append(image.shape[:-1])
    return grids


def soft_channels(
    path: Path,
    axis: int | None,
    image: NDArray[Any],
    image_path: Path,
    reading: str,
    key: str | None = None,
) -> NDArray[Any]:
    """Read a soft output and bring its channels to the front, (k, *grid), on the image's grid.

    Raises
    ------
    UsageError
        If the shapes do not fit, or fit in several ways and ``axis`` is not given, or ``key`` is
        given for a file without names.
    FileFormatError, TypeError, ValueError, OSError
        As :func:`hiersearch.partitions.files.read_probabilities`.
    """
    grids = possible_grids(image)
    check_key(path, key)
    if reading == "boundaries" and axis is None and path.suffix.lower() in MAP_ENDINGS:
        field = _bare_map(path, grids)
        if field is not None:
            return field[None]
    array = read_probabilities(path, channel_axis=0, key=key)  # the order of its axes as stored
    left = [array.shape[:i] + array.shape[i + 1 :] for i in range(array.ndim)]
    if axis is not None and not -array.ndim <= axis < array.ndim:
        raise UsageError(
            f"--channel-axis must be within {-array.ndim}..{array.ndim - 1} for {path} "
            f"with shape {array.shape}, got {axis}"
        )
    fitting = [i for i, grid in enumerate(left) if grid in grids]
    wanted = range(array.ndim) if axis is None else [axis % array.ndim]
    chosen = [i for i in wanted if i in fitting]
    if len(chosen) == 1:
        return np.ascontiguousarray(np.moveaxis(array, chosen[0], 0))
    shapes = f"{path} has shape {array.shape} and {image_path} has shape {image.shape}"
    options = ", ".join(f"{i} leaves {grid}" for i, grid in enumerate(left))
    if chosen:
        raise UsageError(
            f"--channel-axis must be given, since axes {fitting} all fit: {shapes} "
            f"(channel axis {options})"
        )
    if axis is not None and fitting:
        raise UsageError(
            f"--channel-axis {axis} does not fit the image: {shapes} (channel axis {options})"
        )
    raise UsageError(
        f"image and soft output must share one grid, but {shapes} (channel axis {options})"
    )


def check_key(path: Path, key: str | None) -> None:
    """Check that a key is given for a file that holds named arrays."""
    if key is not None and path.suffix.lower() not in KEYED:
        raise UsageError(f"--key is for {', '.join(KEYED)} files only, got {key!r} for {path}")


def _bare_map(path: Path, grids: list[tuple[int, ...]]) -> NDArray[Any] | None:
    """Read a boundary map without channels, or return None if the file has another shape."""
    field = read_image(path)
    return boundary_field(field) if field.shape in grids else None


def boundary_field(field: NDArray[Any]) -> NDArray[np.float32]:
    """Return a boundary map as probabilities: in pictures, the range of the type means 0..1."""
    if field.dtype.kind in "iu":
        info = np.iinfo(field.dtype)
        return ((field.astype(np.float64) - info.min) / (float(info.max) - info.min)).astype("f4")
    return field.astype(np.float32)


def parsed_offsets(text: str) -> list[list[int]]:
    """Parse offsets such as ``0,1;1,0``."""
    rows = [row.strip() for row in text.strip().strip(";").split(";")]
    if not all(re.fullmatch(r"[+-]?\d+(\s*,\s*[+-]?\d+)+", row) for row in rows):
        raise UsageError(
            "--offsets must be whole numbers, one offset for each channel, like '0,1;1,0', "
            f"got {text!r}"
        )
    offsets = [[int(step) for step in row.split(",")] for row in rows]
    if len({len(offset) for offset in offsets}) != 1:
        raise UsageError(f"--offsets must all have one length, got {text!r}")
    return offsets


def target_of(
    channels: NDArray[Any], reading: str, offsets: list[list[int]] | None, source: str
) -> SoftPartition:
    """Read channels (k, *grid) as a target; a fault is reported with the name of its source."""
    try:
        match reading:
            case "regions":
                return SoftPartition.from_regions(channels)
            case "classes":
                return SoftPartition.from_classes(channels)
            case "boundaries":
                if channels.shape[0] != 1:
                    raise UsageError(
                        f"the boundaries reading needs one channel, got {channels.shape[0]}"
                    )
                return SoftPartition.from_boundaries(channels[0])
            case _:
                return SoftPartition.from_affinities(channels, offsets or [])
    except (ValueError, TypeError) as error:
        raise UsageError(f"{source}: {error}") from error


def opened_network(
    name: str,
    reading: str | None,
    activation: str | None,
    offsets: str | None,
    pad: int | None = None,
) -> Network:
    """Open the shipped network or one from a file, so that it knows its reading.

    Raises
    ------
    UsageError
        If neither file nor options say what the channels mean, or they contradict one another.
    FileFormatError, OSError, MissingExtraError
        As :func:`hiersearch.networks.load_network`.
    """
    from hiersearch.networks import load_network, nuclei_network
    from hiersearch.networks.loading import trained_header

    if name == SHIPPED:
        return nuclei_network()
    steps = None if offsets is None else tuple(tuple(step) for step in parsed_offsets(offsets))
    header = trained_header(name)
    if header is not None:
        for option, given, own in (
            ("--reading", reading, header.reading),
            ("--activation", activation, header.activation),
            ("--offsets", steps, header.offsets),
        ):
            if given not in (None, own):
                raise UsageError(f"{option} is fixed for --network {name}, got {given!r}")
        return load_network(name, pad=pad)
    check_reading(reading)
    check_offsets(reading, offsets)
    # A softmax over channels that exclude each other; boundaries and affinities don't.
    usual = "softmax" if reading in ("regions", "classes") else "sigmoid"
    loaded = load_network(name, activation=activation or usual, pad=pad)  # type: ignore[arg-type]
    return replace(loaded, reading=reading, offsets=steps)


def target_of_network(network: Network, channels: NDArray[Any], name: str) -> SoftPartition:
    """Read the channels of a network as a target; a fault is reported with its name."""
    try:
        return network.target(channels)
    except (ValueError, TypeError) as error:
        raise UsageError(f"output of network {name}: {error}") from error


def labels_on_grid(path: Path, grid: tuple[int, ...], name: str) -> NDArray[np.integer[Any]]:
    """Read a label map that must lie on the image's grid: superpixels, or markers."""
    labels = read_label_map(path)
    if labels.shape != grid:
        raise UsageError(
            f"{name} must lie on the grid {grid} of the image, but {path} has shape {labels.shape}"
        )
    return labels
