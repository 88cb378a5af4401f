"""Exact searches: queries, proposals, bounds in turn, answers, joins, on CPU and GPU."""
