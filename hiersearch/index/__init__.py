"""Exact nearest-partition search over large collections, kept on disk."""
