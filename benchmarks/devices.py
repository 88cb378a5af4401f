"""The device that benchmarks of a GPU run on, and times on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def best_device() -> str:
    """Return a GPU where there is one, else torch's CPU device."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu:torch"


def device_name(device: str) -> str:
    """Return the name that tables give a device."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return "torch's CPU device"


def size_of(variable: str, on_gpu: int, on_cpu: int, device: str) -> int:
    """Return a size from the environment, else the one for a kind of device."""
    return int(os.environ.get(variable, on_gpu if device.startswith("cuda") else on_cpu))


def seconds(function: Callable[[], Any], device: str, repeats: int = 5) -> float:
    """Return the median time of a call, after one that is not counted; off a GPU, of one call."""
    import torch

    function()
    times = []
    repeats = repeats if torch.cuda.is_available() else 1
    for _ in range(repeats):
        if device.startswith("cuda"):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            function()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return float(np.median(times))
