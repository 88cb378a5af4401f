"""Hierarchical segmentation search: find the nearest partition, exactly and fast."""

__version__ = "0.1.0"
