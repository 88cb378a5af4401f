"""Merging hierarchies: construction, and exact searches over their cuts."""
