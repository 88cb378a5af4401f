"""Bounds on the metric from tiles and overlaps, run code, and their compiled functions."""
