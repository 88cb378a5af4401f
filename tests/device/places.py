"""Devices that the same checks run on."""

import importlib.util
import os

import pytest

_NEEDS_INTERPRETER = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="Triton is not installed, or compiles for a GPU in this run",
)
_NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
DEVICES = [
    pytest.param("cpu:torch", id="torch", marks=_NEEDS_TORCH),
    pytest.param("cpu:triton", id="triton", marks=_NEEDS_INTERPRETER),
    pytest.param("cuda", id="cuda", marks=pytest.mark.gpu),
]
"""Torch's CPU device, Triton's interpreter there, and a GPU where the run asks for one."""
QUICK = [DEVICES[0], DEVICES[2]]
"""Without the interpreter, which takes milliseconds for each program of a kernel."""
INTERPRETER = DEVICES[1:2]
"""The interpreter alone."""
