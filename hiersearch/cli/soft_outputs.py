"""Where a command's soft output comes from, a file or a network, and what its channels mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from hiersearch.choices import Activation, Reading
from hiersearch.cli.errors import UsageError
from hiersearch.cli.options import SHIPPED, SourceOptions, check_key, check_offsets, check_reading
from hiersearch.partitions.files import read_image, read_probabilities
from hiersearch.partitions.output import SoftOutput, reading_kind

if TYPE_CHECKING:
    from hiersearch.networks import Network

MAP_ENDINGS = (".npy", ".png", ".tif", ".tiff")
"""What may hold a bare map, without an axis of channels."""

Grids = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class SoftSource:
    """What was asked for, checked, its network opened: soft outputs are read or predicted with it.

    :meth:`SoftSource.opened` makes one.
    """

    reading: Reading
    """What the channels mean."""
    offsets: tuple[tuple[int, ...], ...] | None = None
    """Of affinities, as given."""
    channel_axis: int | None = None
    """Axis of the channels in files, where given."""
    key: str | None = None
    """Which array of files, where they hold several."""
    network: Network | None = None
    """What predicts, or None where soft outputs are read."""
    name: str | None = None
    """What the network was called."""

    @classmethod
    def opened(cls, options: SourceOptions) -> SoftSource:
        """Open what options, checked already, name.

        Raises
        ------
        UsageError
            If neither a network's file nor options say what its channels mean, or they contradict
            one another; if offsets can't be read.
        FileFormatError, OSError, MissingExtraError
            As :func:`hiersearch.networks.load_network`.
        """
        if options.network is None:
            assert options.reading is not None
            return cls(
                cast(Reading, options.reading),
                _parsed_offsets(options.offsets),
                options.channel_axis,
                options.key,
            )
        network = _opened_network(options)
        assert network.reading is not None
        return cls(network.reading, network.offsets, network=network, name=options.network)

    def of_image(self, pixels: NDArray[Any], image: Path, soft: Path | None) -> SoftOutput:
        """Return the soft output of an image: predicted, or read from a file on the same grid.

        Raises
        ------
        UsageError
            Naming the file or the network: if the shapes do not fit, or fit in several ways and
            the axis of channels is not given; if the channels are not what the reading needs.
        FileFormatError, OSError
            As :func:`hiersearch.partitions.files.read_probabilities`.
        """
        if soft is None:
            return self.predicted(pixels)
        check_key(soft, self.key)
        grids = possible_grids(pixels)
        found = self._bare_map(soft, grids)
        if found is None:
            array = self._stored(soft)
            axis = self._axis_on_grid(array, soft, grids, f"{image} has shape {pixels.shape}")
            found = _channels_first(array, axis)
        return self._output(found, str(soft))

    def of_any_size(self, path: Path, grid: tuple[int, ...]) -> SoftOutput:
        """Return the soft output of a file whose grid may be another than that of an index.

        Raises
        ------
        UsageError, FileFormatError, OSError
            As :meth:`of_image`; on another grid the axis of channels must be given.
        """
        check_key(path, self.key)
        found = self._bare_map(path, None, n_axes=len(grid))
        if found is None:
            array = self._stored(path)
            found = _channels_first(array, self._axis_of_any_size(array, path, grid))
        return self._output(found, str(path))

    def predicted(self, pixels: NDArray[Any]) -> SoftOutput:
        """Return what the network says of an image."""
        assert self.network is not None
        try:
            output = self.network.predict(pixels)
            output.partition()
        except (ValueError, TypeError) as error:
            message = str(error)
            if f"network {self.network.name}" not in message:
                message = f"output of network {self.name}: {message}"
            raise UsageError(message) from error
        return output

    def _output(self, channels: NDArray[Any], source: str) -> SoftOutput:
        """Read channels; a fault is reported with the name of where they are from."""
        try:
            output = SoftOutput(channels, self.reading, self.offsets)
            output.partition()  # checks the values
        except (ValueError, TypeError) as error:
            raise UsageError(f"{source}: {error}") from error
        return output

    # --- axes of files ------------------------------------------------------------------------

    def _bare_map(self, path: Path, grids: Grids | None, n_axes: int = 0) -> NDArray[Any] | None:
        """Read a map without channels, (1, *grid), or return None if the file holds none."""
        bare = reading_kind(self.reading).is_map and path.suffix.lower() in MAP_ENDINGS
        if not bare or self.channel_axis is not None:
            return None
        field = read_image(path)
        fits = field.ndim == n_axes if grids is None else field.shape in grids
        return _as_probabilities(field)[None] if fits else None

    def _stored(self, path: Path) -> NDArray[Any]:
        """Read an array with its axes in the order that they are stored in."""
        return read_probabilities(path, channel_axis=0, key=self.key)

    def _checked_axis(self, array: NDArray[Any], path: Path) -> int | None:
        axis = self.channel_axis
        if axis is not None and not -array.ndim <= axis < array.ndim:
            raise UsageError(
                f"--channel-axis must be within {-array.ndim}..{array.ndim - 1} for {path} "
                f"with shape {array.shape}, got {axis}"
            )
        return None if axis is None else axis % array.ndim

    def _axis_on_grid(self, array: NDArray[Any], path: Path, grids: Grids, holder: str) -> int:
        """Return the axis of channels, which leaves one of some grids."""
        left = _left(array)
        axis = self._checked_axis(array, path)
        fitting = [i for i, grid in enumerate(left) if grid in grids]
        chosen = [i for i in fitting if axis in (None, i)]
        if len(chosen) == 1:
            return chosen[0]
        shapes = f"{path} has shape {array.shape} and {holder}"
        options = ", ".join(f"{i} leaves {grid}" for i, grid in enumerate(left))
        if chosen:
            raise UsageError(
                f"--channel-axis must be given, since axes {fitting} all fit: {shapes} "
                f"(channel axis {options})"
            )
        if axis is not None and fitting:
            raise UsageError(
                f"--channel-axis {self.channel_axis} does not fit the image: {shapes} "
                f"(channel axis {options})"
            )
        raise UsageError(
            f"image and soft output must share one grid, but {shapes} (channel axis {options})"
        )

    def _axis_of_any_size(self, array: NDArray[Any], path: Path, grid: tuple[int, ...]) -> int:
        """Return the axis of channels: the one given, or the only one that leaves the grid."""
        if array.ndim != len(grid) + 1:
            raise UsageError(
                f"{path} must hold channels on a {len(grid)}-D grid like the index, thus "
                f"{len(grid) + 1} axes, got shape {array.shape}"
            )
        axis = self._checked_axis(array, path)
        if axis is not None:
            return axis
        fitting = [i for i, one in enumerate(_left(array)) if one == grid]
        if len(fitting) != 1:
            found = f"axes {fitting} all fit" if fitting else "no axis fits"
            raise UsageError(
                f"--channel-axis must be given for {path} with shape {array.shape}: "
                f"{found} the index's grid {grid}"
            )
        return fitting[0]


def possible_grids(image: NDArray[Any]) -> list[tuple[int, ...]]:
    """Return the grids that an image may have: its last axis may be one of channels."""
    grids = [image.shape] if image.ndim in (2, 3) else []
    if image.ndim > 2:
        grids.append(image.shape[:-1])
    return grids


def _left(array: NDArray[Any]) -> list[tuple[int, ...]]:
    """Return the shapes that are left without each axis."""
    return [array.shape[:i] + array.shape[i + 1 :] for i in range(array.ndim)]


def _channels_first(array: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(array, axis, 0))


def _as_probabilities(field: NDArray[Any]) -> NDArray[np.float32]:
    """Return a map as probabilities: in pictures, the range of the type means 0..1."""
    if field.dtype.kind in "iu":
        info = np.iinfo(field.dtype)
        return ((field.astype(np.float64) - info.min) / (float(info.max) - info.min)).astype("f4")
    return field.astype(np.float32)


# --- options --------------------------------------------------------------------------------


def _parsed_offsets(text: str | None) -> tuple[tuple[int, ...], ...] | None:
    """Parse offsets such as ``0,1;1,0``."""
    if text is None:
        return None
    rows = [row.strip() for row in text.strip().strip(";").split(";")]
    if not all(re.fullmatch(r"[+-]?\d+(\s*,\s*[+-]?\d+)+", row) for row in rows):
        raise UsageError(
            "--offsets must be whole numbers, one offset for each channel, like '0,1;1,0', "
            f"got {text!r}"
        )
    offsets = tuple(tuple(int(step) for step in row.split(",")) for row in rows)
    if len({len(offset) for offset in offsets}) != 1:
        raise UsageError(f"--offsets must all have one length, got {text!r}")
    return offsets


def _opened_network(options: SourceOptions) -> Network:
    """Open the shipped network or one from a file, so that it knows its reading."""
    from hiersearch.networks import load_network, nuclei_network
    from hiersearch.networks.loading import trained_header

    name, reading = options.network, options.reading
    assert name is not None
    if name == SHIPPED:
        return nuclei_network()
    steps = _parsed_offsets(options.offsets)
    header = trained_header(name)
    if header is not None:
        for option, given, own in (
            ("--reading", reading, header.reading),
            ("--activation", options.activation, header.activation),
            ("--offsets", steps, header.offsets),
        ):
            if given not in (None, own):
                raise UsageError(f"{option} is fixed for --network {name}, got {given!r}")
        return load_network(name, pad=options.pad)
    check_reading(reading)
    check_offsets(reading, options.offsets)
    return load_network(
        name,
        reading=cast(Reading, reading),
        offsets=steps,
        activation=cast(Activation | None, options.activation),
        pad=options.pad,
    )
