"""Threads that large stages of a search are spread over: kernels let go of the interpreter."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

CORES = os.cpu_count() or 1
"""How many threads large stages are spread over."""


@functools.cache
def pool() -> ThreadPoolExecutor:
    """Return the threads, made when first asked for."""
    return ThreadPoolExecutor(CORES, thread_name_prefix="hiersearch")


def in_slices(function: Callable[[slice], Result], n: int, least: int) -> list[Result]:
    """Call a function on slices that make up 0..n, on several cores where each has ``least``."""
    parts = max(1, min(CORES, n // least))
    edges = [i * n // parts for i in range(parts + 1)]
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    if parts == 1:
        return [function(slices[0])]
    return list(pool().map(function, slices))


# A forked child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)
