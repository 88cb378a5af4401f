"""The partition metric and its weights."""

from hiersearch.metric.many_distances import run_distance_matrix, run_distances
from hiersearch.metric.partition_metric import (
    comembership_distance,
    contingency_table,
    distance,
    distances,
    jaccard_distance,
    pairwise_distances,
)
from hiersearch.metric.properties import (
    PixelProperties,
    RegionProperties,
    class_properties,
    colour_properties,
    region_properties,
    texture_properties,
)
from hiersearch.partitions.runs import RunArrays

__all__ = [
    "PixelProperties",
    "RegionProperties",
    "RunArrays",
    "class_properties",
    "colour_properties",
    "comembership_distance",
    "contingency_table",
    "distance",
    "distances",
    "jaccard_distance",
    "pairwise_distances",
    "region_properties",
    "run_distance_matrix",
    "run_distances",
    "texture_properties",
]
