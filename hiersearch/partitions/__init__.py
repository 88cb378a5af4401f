"""Partitions of a pixel grid, hard and soft, and the readings of a network's channels."""

from hiersearch.choices import READINGS, Reading
from hiersearch.partitions.output import SoftOutput
from hiersearch.partitions.partition import Partition
from hiersearch.partitions.soft import Affinities, Memberships, Merges, SoftPartition

__all__ = [
    "READINGS",
    "Affinities",
    "Memberships",
    "Merges",
    "Partition",
    "Reading",
    "SoftOutput",
    "SoftPartition",
]
