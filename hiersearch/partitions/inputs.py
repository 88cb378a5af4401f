"""What is taken where a partition is asked for: a partition, a network's output or a label map."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.partitions.output import Offsets, SoftOutput, as_soft_output, as_soft_partition
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import SoftPartition

PartitionLike = Partition | SoftPartition | SoftOutput | NDArray[Any]


def as_partition(
    value: PartitionLike | ArrayLike,
    name: str,
    *,
    reading: str | None = None,
    offsets: Offsets | None = None,
) -> Partition | SoftPartition:
    """Take a partition as it is and read a network's output; an integer array is a label map.

    Parameters
    ----------
    value : Partition, SoftPartition, SoftOutput or array
        An array of channels comes with its reading.
    name : str
        What messages call it.
    reading, offsets : optional
        What the channels of an array mean, as :class:`~hiersearch.partitions.SoftOutput` takes it.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    value = with_reading(value, name, reading, offsets)
    if isinstance(value, (Partition, SoftPartition)):
        return value
    if isinstance(value, SoftOutput):
        return value.partition()
    array = _validate.as_array(value, name)
    if array.dtype.kind == "f":
        raise TypeError(
            f"{name} must be a Partition, a SoftPartition or an integer label map, got an array of "
            f"{array.dtype}: pass a label map of whole numbers as {name}.astype(int), and of a "
            f"network's output say how its channels are read, e.g. SoftOutput({name}, reading)"
        )
    return Partition.from_labels(_validate.checked_labels(array, name))


def with_reading(
    value: PartitionLike | ArrayLike, name: str, reading: str | None, offsets: Offsets | None
) -> PartitionLike | ArrayLike:
    """Wrap channels that come with their reading, unread as yet; take all else as it is. O(1)."""
    if reading is None and offsets is None:
        return value
    if isinstance(value, Partition):
        raise ValueError(f"reading must be given with a network's output, got {name} {value!r}")
    if isinstance(value, SoftPartition):
        return as_soft_partition(value, reading, offsets=offsets)
    return as_soft_output(value, reading, offsets=offsets)


def as_hard(value: PartitionLike, name: str) -> Partition:
    """Take a partition or an integer array; refuse soft partitions."""
    partition = as_partition(value, name)
    if isinstance(partition, SoftPartition):
        raise TypeError(f"{name} must be a hard partition, got {partition!r}")
    return partition
