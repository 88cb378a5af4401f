"""The partition metric and its weights."""

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

__all__ = [
    "PixelProperties",
    "RegionProperties",
    "class_properties",
    "colour_properties",
    "comembership_distance",
    "contingency_table",
    "distance",
    "distances",
    "jaccard_distance",
    "pairwise_distances",
    "region_properties",
    "texture_properties",
]
