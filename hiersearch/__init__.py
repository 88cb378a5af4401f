"""Hierarchical segmentation search: find the nearest partition, exactly and fast.

Names are imported from their modules when they are first used, so that ``import hiersearch``
itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiersearch.hierarchy.build import build_hierarchy as build_hierarchy
    from hiersearch.hierarchy.curve import nearest_cuts_by_regions as nearest_cuts_by_regions
    from hiersearch.hierarchy.curve import trade_off as trade_off
    from hiersearch.hierarchy.cuts import nearest_cut as nearest_cut
    from hiersearch.hierarchy.cuts import nearest_horizontal_cut as nearest_horizontal_cut
    from hiersearch.hierarchy.k_best import nearest_cuts as nearest_cuts
    from hiersearch.hierarchy.matching import Match as Match
    from hiersearch.hierarchy.matching import match as match
    from hiersearch.hierarchy.tree import MergeTree as MergeTree
    from hiersearch.index.index import PartitionIndex as PartitionIndex
    from hiersearch.metric import comembership_distance as comembership_distance
    from hiersearch.metric import distance as distance
    from hiersearch.metric import distances as distances
    from hiersearch.metric import jaccard_distance as jaccard_distance
    from hiersearch.metric import pairwise_distances as pairwise_distances
    from hiersearch.partitions import Partition as Partition
    from hiersearch.partitions import SoftPartition as SoftPartition

__version__ = "0.1.0"

_HOMES = {
    "MergeTree": "hiersearch.hierarchy.tree",
    "Match": "hiersearch.hierarchy.matching",
    "Partition": "hiersearch.partitions",
    "PartitionIndex": "hiersearch.index.index",
    "SoftPartition": "hiersearch.partitions",
    "build_hierarchy": "hiersearch.hierarchy.build",
    "comembership_distance": "hiersearch.metric",
    "distance": "hiersearch.metric",
    "distances": "hiersearch.metric",
    "jaccard_distance": "hiersearch.metric",
    "match": "hiersearch.hierarchy.matching",
    "nearest_cut": "hiersearch.hierarchy.cuts",
    "nearest_cuts": "hiersearch.hierarchy.k_best",
    "nearest_cuts_by_regions": "hiersearch.hierarchy.curve",
    "nearest_horizontal_cut": "hiersearch.hierarchy.cuts",
    "pairwise_distances": "hiersearch.metric",
    "trade_off": "hiersearch.hierarchy.curve",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hiersearch' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
