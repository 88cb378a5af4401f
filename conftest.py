"""Leave out doctests that need torch, an extra, where it is not installed."""

import importlib.util

NEED_TORCH = [
    "hiersearch/device/_triton_kernels.py",
    "hiersearch/device/batches.py",
    "hiersearch/device/choice.py",
    "hiersearch/device/runs.py",
    "hiersearch/losses",
    "hiersearch/networks/loading.py",
    "hiersearch/networks/training/crops.py",
    "hiersearch/networks/training/loop.py",
    "hiersearch/networks/unet.py",
]
"""Modules that import it, or whose examples do."""

collect_ignore = NEED_TORCH if importlib.util.find_spec("torch") is None else []
