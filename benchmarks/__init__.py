"""Benchmarks: one module a question, peers measured in the same run, ratios first.

``python -m benchmarks`` runs all questions and prints their tables; name some to run only those.
``--list`` tells what each asks, needs and takes; ``--write`` puts the tables into
benchmarks/RESULTS.md, and brings its summary and the figures of README.md up to date.
The questions are in :mod:`benchmarks.questions`; the modules here are what several of them share,
and the command line. :mod:`benchmarks.losses` trains and compares losses.
"""
