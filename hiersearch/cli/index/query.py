"""From the file and options of ``hiersearch index search`` to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hiersearch.cli.options import SourceOptions, check_key
from hiersearch.cli.soft_outputs import SoftSource
from hiersearch.partitions import Partition, SoftPartition
from hiersearch.partitions.files import read_label_map, read_plain_image
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
    path: Path, grid: tuple[int, ...], options: SourceOptions, *, soft: bool, ignore: Sequence[int]
) -> Query:
    """Read a label map, a soft output, or an image to run a network on."""
    if not soft and options.network is None:
        check_key(path, options.key)
        return Query.of_labels(read_label_map(path, key=options.key), path.name, ignore)
    source = SoftSource.opened(options)
    output = source.of_any_size(path, grid) if soft else source.predicted(read_plain_image(path))
    return Query(output.partition(), path.name, f"soft output, read as {output.reading}")
