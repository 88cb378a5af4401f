"""From the file and options of ``hiersearch index search`` to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.cli import inputs
from hiersearch.cli.errors import UsageError
from hiersearch.partitions import Partition, SoftPartition
from hiersearch.partitions.files import (
    read_image,
    read_label_map,
    read_plain_image,
    read_probabilities,
)
from hiersearch.partitions.ignored import filled


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What is searched for."""

    partition: Partition | SoftPartition
    """Hard or soft, on its own grid."""
    name: str
    """File name or id, for tables and pictures."""
    detail: str
    """What it is, in a few words."""
    ignored_pixels: int = 0
    """How many pixels of a label map had an ignored label."""

    @classmethod
    def of_labels(cls, labels: NDArray[Any], name: str, ignore: Sequence[int] = ()) -> Query:
        """Take a label map; pixels of ignored labels go to the nearest others."""
        labels, ignored = filled(labels, ignore, name)
        partition = Partition.from_labels(labels)
        count = partition.n_regions
        detail = "1 region" if count == 1 else f"{count:,} regions"
        return cls(partition, name, detail, ignored)


def read_query(
    path: Path,
    grid: tuple[int, ...],
    *,
    reading: str | None,
    network: str | None,
    network_reading: str | None,
    channel_axis: int | None,
    offsets: str | None,
    activation: str | None,
    key: str | None,
    ignore: Sequence[int],
    pad: int | None = None,
) -> Query:
    """Read a label map, probabilities (``reading``), or an image to run a network on."""
    steps = None if offsets is None else inputs.parsed_offsets(offsets)
    inputs.check_key(path, key)
    if reading is not None:
        channels = _probabilities(path, grid, reading, channel_axis, key)
        return _soft(inputs.target_of(channels, reading, steps, str(path)), path)
    if network is None:
        return Query.of_labels(read_label_map(path, key=key), path.name, ignore)
    image = read_plain_image(path)
    loaded = inputs.opened_network(network, network_reading, activation, offsets, pad)
    target = inputs.target_of_network(loaded, loaded(image), network)
    return Query(target, path.name, f"soft output, read as {loaded.reading}")


def _soft(target: SoftPartition, path: Path) -> Query:
    return Query(target, path.name, f"soft output, read as {target.reading}")


def _probabilities(
    path: Path, grid: tuple[int, ...], reading: str, axis: int | None, key: str | None
) -> NDArray[np.float32]:
    """Read probabilities of any size with their channels in front."""
    if reading == "boundaries" and axis is None and path.suffix.lower() in inputs.MAP_ENDINGS:
        field = read_image(path)
        if field.ndim == len(grid):
            return inputs.boundary_field(field)[None]
    stored = read_probabilities(path, channel_axis=0, key=key)
    if stored.ndim != len(grid) + 1:
        raise UsageError(
            f"{path} must hold channels on a {len(grid)}-D grid like the index, thus "
            f"{len(grid) + 1} axes, got shape {stored.shape}"
        )
    if axis is None:
        left = [stored.shape[:i] + stored.shape[i + 1 :] for i in range(stored.ndim)]
        fitting = [i for i, one in enumerate(left) if one == grid]
        if len(fitting) != 1:
            found = f"axes {fitting} all fit" if fitting else "no axis fits"
            raise UsageError(
                f"--channel-axis must be given for {path} with shape {stored.shape}: "
                f"{found} the index's grid {grid}"
            )
        axis = fitting[0]
    if not -stored.ndim <= axis < stored.ndim:
        raise UsageError(
            f"--channel-axis must be within {-stored.ndim}..{stored.ndim - 1} for {path} "
            f"with shape {stored.shape}, got {axis}"
        )
    return np.ascontiguousarray(np.moveaxis(stored, axis, 0))
