"""Benchmarks: one module a question, peers measured in the same run, ratios first.

``python -m benchmarks`` runs all of them and prints their tables; name some to run only those;
``--write`` puts the tables into benchmarks/RESULTS.md.
"""
