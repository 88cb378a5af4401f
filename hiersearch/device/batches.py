"""Memory of a device: sizes of batches, going on after running out, streaming, what stays there."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hiersearch._validate import checked_count
from hiersearch.device.choice import Device

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 0.8
"""How much of a GPU's free memory a batch may take."""
CPU_BYTES = 2**28
"""What counts as free on torch's CPU device."""

Result = TypeVar("Result")


def free_bytes(device: Device, budget: int | None = None) -> int:
    """Return how many bytes a batch may take on a device: a share of what is free there.

    ``budget`` lowers it. What torch keeps for itself without using it counts as free.

    Examples
    --------
    >>> from hiersearch.device.choice import resolved
    >>> free_bytes(resolved("cpu:torch"), budget=1000)
    1000
    """
    free = CPU_BYTES
    if device.is_gpu:
        import torch

        here = device.torch
        kept = torch.cuda.memory_reserved(here) - torch.cuda.memory_allocated(here)
        free = int(SHARE * (torch.cuda.mem_get_info(here)[0] + kept))
    if budget is None:
        return free
    return min(free, checked_count(budget, "budget", 1))


def batch_size(
    device: Device, bytes_an_item: float, n_items: int, budget: int | None = None
) -> int:
    """Return how many of some items fit into free memory at once, at least one.

    Examples
    --------
    >>> from hiersearch.device.choice import resolved
    >>> batch_size(resolved("cpu:torch"), 300, 10, budget=1000)
    3
    """
    fitting = int(free_bytes(device, budget) / max(bytes_an_item, 1.0))
    return max(1, min(fitting, n_items))


def halving(work: Callable[[int, int], Result], n_items: int, size: int) -> Iterator[Result]:
    """Call ``work(begin, end)`` on batches that make up 0..n_items, halved where memory runs out.

    Parameters
    ----------
    work : function of begin and end
        Must keep no memory of the device where it fails.
    n_items : int
        How many items there are.
    size : int
        How many make a batch at first; a size that failed is not tried again.

    Yields
    ------
    what ``work`` returned, batch by batch

    Raises
    ------
    torch.OutOfMemoryError
        If not even one item fits.

    Examples
    --------
    >>> list(halving(lambda begin, end: (begin, end), 5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    begin = 0
    while begin < n_items:
        end = min(n_items, begin + size)
        outcome = _tried(work, begin, end)
        if outcome is None:
            size = (end - begin + 1) // 2
            continue
        yield outcome[0]
        begin = end


def _tried(work: Callable[[int, int], Result], begin: int, end: int) -> tuple[Result] | None:
    """Return what came of a batch, or None where memory ran out and a smaller one may do."""
    import torch

    try:
        return (work(begin, end),)
    except torch.cuda.OutOfMemoryError:
        if end - begin == 1:
            raise
    # Outside of the handler, where the failed batch's tensors are no longer held by the traceback.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def on_device(array: NDArray[Any], device: Device) -> Tensor:
    """Copy an array to a device. O(bytes).

    Examples
    --------
    >>> from hiersearch.device.choice import resolved
    >>> on_device(np.arange(3), resolved("cpu:torch"))
    tensor([0, 1, 2])
    """
    import torch

    # A copy, since torch can neither share arrays that are read-only nor know who writes to others.
    return torch.tensor(np.ascontiguousarray(array), device=device.torch)


def streamed(
    parts: Iterable[Mapping[str, NDArray[Any]]], device: Device
) -> Iterator[dict[str, Tensor]]:
    """Copy parts of a collection to a device one after the other, each while the last one is used.

    On a GPU, a part goes through one of two page-locked buffers, and a stream of its own copies it
    while the caller's operations on the part before still run. At any time two parts are on the
    device. Elsewhere parts are copied one by one.

    Parameters
    ----------
    parts : iterable of {name: array}
        Arrays of each part.
    device : Device
        Where they go.

    Yields
    ------
    dict of tensors by name
        Those of one part, ready for operations on the caller's current stream.
    """
    if not device.is_gpu:
        for part in parts:
            yield {name: on_device(array, device) for name, array in part.items()}
        return
    lane = _Lane(device)
    ahead = None
    for part in parts:
        following = lane.send(part)
        if ahead is not None:
            yield lane.received(*ahead)
        ahead = following
    if ahead is not None:
        yield lane.received(*ahead)


class _Lane:
    """Two page-locked buffers and the stream that copies them to a GPU."""

    def __init__(self, device: Device) -> None:
        import torch

        cuda: Any = torch.cuda
        self.device = device.torch
        self.stream = cuda.Stream(self.device)
        self.buffers = [torch.empty(0, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self.copied = [cuda.Event() for _ in range(2)]
        self.turn = 0

    def send(self, part: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Tensor], int]:
        """Begin to copy a part; return its tensors, and the buffer that they come from."""
        import torch

        slot, self.turn = self.turn, 1 - self.turn
        # The buffer may be written again once what it held has been copied.
        self.copied[slot].synchronize()
        room = sum(_aligned(array.nbytes) for array in part.values())
        if self.buffers[slot].numel() < room:
            self.buffers[slot] = torch.empty(room, dtype=torch.uint8, pin_memory=True)
        tensors = {}
        begin = 0
        with torch.cuda.stream(self.stream):
            for name, array in part.items():
                kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
                held = self.buffers[slot][begin : begin + array.nbytes].view(kind)
                held.numpy()[:] = array.reshape(-1)
                tensors[name] = held.view(array.shape).to(self.device, non_blocking=True)
                begin += _aligned(array.nbytes)
            self.copied[slot].record(self.stream)
        return tensors, slot

    def received(self, tensors: dict[str, Tensor], slot: int) -> dict[str, Tensor]:
        """Return a part's tensors once the current stream waits for them."""
        import torch

        current = torch.cuda.current_stream(self.device)
        current.wait_event(self.copied[slot])
        for tensor in tensors.values():
            tensor.record_stream(current)
        return tensors


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // 64) * 64


class Resident:
    """What stays on a device within a budget of bytes: the least lately used goes first.

    Examples
    --------
    >>> import torch
    >>> kept = Resident(100)
    >>> kept.get("a", 80, lambda: torch.zeros(10, dtype=torch.float64)).numel()
    10
    >>> kept.get("b", 200, lambda: torch.zeros(25)) is None, "a" in kept, kept.n_bytes
    (True, True, 80)
    """

    def __init__(self, budget: int) -> None:
        self.budget = checked_count(budget, "budget", 0)
        """Most bytes that stay."""
        self.n_bytes = 0
        """Bytes of what is there."""
        self._held: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, n_bytes: int, make: Callable[[], Result]) -> Result | None:
        """Return what is kept under a key, made now if it is not there; None if it cannot fit.

        ``n_bytes`` is what it will take: what was used least lately makes room before it is made.
        """
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                found: Result = self._held[key][1]
                return found
            if n_bytes > self.budget:
                return None
            while self.n_bytes + n_bytes > self.budget:
                self.n_bytes -= self._held.popitem(last=False)[1][0]
            made = make()
            self._held[key] = (n_bytes, made)
            self.n_bytes += n_bytes
            return made

    def drop(self, key: Hashable) -> None:
        """Forget what is kept under a key, if anything is."""
        with self._lock:
            if key in self._held:
                self.n_bytes -= self._held.pop(key)[0]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self.n_bytes = 0

    def __contains__(self, key: object) -> bool:
        """Return whether something is kept under a key."""
        return key in self._held

    def __len__(self) -> int:
        """Return how many keys something is kept under."""
        return len(self._held)
