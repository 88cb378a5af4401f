"""Threads that large stages of a search are spread over: kernels let go of the interpreter."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

CORES = os.cpu_count() or 1
"""How many threads large stages are spread over."""


@functools.cache
def pool() -> ThreadPoolExecutor:
    """Return the threads, made when first asked for."""
    return ThreadPoolExecutor(CORES, thread_name_prefix="hiersearch")


def in_slices(function: Callable[[slice], None], n: int, least: int) -> None:
    """Call a function on slices that make up 0..n, at least ``least`` long if there are several."""
    parts = max(1, min(CORES, n // least))
    edges = [i * n // parts for i in range(parts + 1)]
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    if parts == 1:
        function(slices[0])
    else:
        list(pool().map(function, slices))
