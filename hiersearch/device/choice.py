"""Which device does the work: what a caller may ask for, and when ``auto`` takes the GPU."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hiersearch.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

LAUNCH_SECONDS = 1e-5
"""What starting one operation on a GPU costs."""
COPIED_A_SECOND = 1e10
"""Bytes a second from this machine's memory to a GPU's, pageable: half of PCIe 4 × 16."""
MOVED_A_SECOND = 1e12
"""Bytes a second that operations on a GPU read and write: a third of a recent one's bandwidth."""
START_SECONDS = 1.0
"""What a process pays for its first use of torch and of a GPU."""
GAIN = 2.0
"""How many times faster the GPU must look before ``auto`` takes it."""


@dataclass(frozen=True, slots=True)
class Device:
    """What does the work; :func:`resolved` makes one.

    Examples
    --------
    >>> resolved("cpu")
    Device(name='cpu')
    >>> resolved("cpu").on_kernels, resolved("cpu:torch").on_kernels
    (True, False)
    """

    name: str
    """"cpu", "cuda:N", or for tests "cpu:torch" and "cpu:triton"."""

    @property
    def on_kernels(self) -> bool:
        """Whether the CPU's own kernels do the work, and torch has no part in it."""
        return self.name == "cpu"

    @property
    def is_gpu(self) -> bool:
        """Whether this is a GPU."""
        return self.name.startswith("cuda")

    @property
    def on_triton(self) -> bool:
        """Whether Triton's kernels are used where there are any, else torch's operations."""
        if self.name == "cpu:triton":
            return True
        return self.is_gpu and importlib.util.find_spec("triton") is not None

    @property
    def torch(self) -> torch.device:
        """The device as torch knows it."""
        import torch

        return torch.device(self.name if self.is_gpu else "cpu")


@dataclass(frozen=True, slots=True)
class DeviceWork:
    """What a call has to do, counted: what ``auto`` decides by."""

    cpu_seconds: float
    """What the CPU's kernels take for it, on all cores."""
    bytes_sent: float
    """Bytes that must first be copied to a GPU."""
    bytes_moved: float
    """Bytes that its operations read and write there."""
    launches: int = 30
    """Operations that are started there."""


def pays(work: DeviceWork, *, started: bool = True) -> bool:
    """Say whether a GPU would be faster, by count.

    The rates are taken from data sheets, on the careful side; they have not been measured on a
    GPU yet.

    Parameters
    ----------
    work : DeviceWork
        What there is to do.
    started : bool
        Whether this process has used the GPU before.

    Examples
    --------
    >>> pays(DeviceWork(cpu_seconds=0.5, bytes_sent=1e8, bytes_moved=1e10))
    True
    >>> pays(DeviceWork(cpu_seconds=0.001, bytes_sent=1e7, bytes_moved=1e7))
    False
    """
    seconds = work.launches * LAUNCH_SECONDS
    seconds += work.bytes_sent / COPIED_A_SECOND + work.bytes_moved / MOVED_A_SECOND
    seconds += 0.0 if started else START_SECONDS
    return work.cpu_seconds > GAIN * seconds


def resolved(device: str | None, work: DeviceWork | None = None) -> Device:
    """Return the device that a caller asks for.

    Parameters
    ----------
    device : str, optional
        "cpu" (also where omitted): the CPU's kernels. "cuda" or "cuda:N": a GPU. "auto": the
        current GPU where there is one and ``work`` looks much faster on it, else the CPU. For
        tests, "cpu:torch" runs what a GPU would on torch's CPU device, and "cpu:triton" with
        Triton's kernels besides, in its interpreter.
    work : DeviceWork, optional
        What there is to do; without it, ``auto`` stays on the CPU.

    Raises
    ------
    TypeError
        If ``device`` is not a string.
    ValueError
        If it is none of these, or a GPU that is not there.
    MissingExtraError
        If it needs torch, which is not installed.

    Examples
    --------
    >>> resolved("gpu")
    Traceback (most recent call last):
    ValueError: device must be cpu, cuda, cuda:N or auto, got 'gpu'
    """
    if device is None:
        return Device("cpu")
    if not isinstance(device, str):
        raise TypeError(f"device must be a string such as 'cpu' or 'cuda:0', got {device!r}")
    if device == "cpu":
        return Device("cpu")
    if device == "auto":
        return Device("cpu") if work is None else _automatic(work)
    if device in ("cpu:torch", "cpu:triton"):
        _need_torch(device)
        if device == "cpu:triton":
            _need_interpreter()
        return Device(device)
    return _gpu(device)


def _automatic(work: DeviceWork) -> Device:
    """Return the GPU if it pays. Torch is not even imported for what is too small."""
    if not pays(work) or importlib.util.find_spec("torch") is None:
        return Device("cpu")
    started = "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
    if not pays(work, started=started):
        return Device("cpu")
    import torch

    if not torch.cuda.is_available():
        return Device("cpu")
    return Device(f"cuda:{torch.cuda.current_device()}")


def _gpu(device: str) -> Device:
    """Return the GPU of a name."""
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not (number.isascii() and number.isdigit())):
        raise ValueError(f"device must be cpu, cuda, cuda:N or auto, got {device!r}")
    _need_torch(device)
    import torch

    if not torch.cuda.is_available():
        raise ValueError(f"device must be one that torch finds, which is no GPU, got {device!r}")
    count = torch.cuda.device_count()
    index = int(number) if number else torch.cuda.current_device()
    if index >= count:
        raise ValueError(f"device must be among the {count} GPUs from cuda:0, got {device!r}")
    return Device(f"cuda:{index}")


def _need_torch(device: str) -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "torch", f"device={device!r}")


def _need_interpreter() -> None:
    if importlib.util.find_spec("triton") is None:
        raise MissingExtraError("triton", "test", "device='cpu:triton'")
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "device 'cpu:triton' must come with the environment variable TRITON_INTERPRET=1, set "
            f"before triton is imported, got {os.environ.get('TRITON_INTERPRET')!r}"
        )
