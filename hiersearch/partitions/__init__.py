"""Partitions of a pixel grid, hard and soft, and the readings of a network's channels."""

from hiersearch.partitions.output import SoftOutput
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import READINGS, Affinities, Memberships, Reading, SoftPartition

__all__ = [
    "READINGS",
    "Affinities",
    "Memberships",
    "Partition",
    "Reading",
    "SoftOutput",
    "SoftPartition",
]
