"""Reading what torch has stored: without unpickling, and within the size of the file.

A small file can claim much: compressed records, or a tensor of 10¹² numbers that all lie in one
place (a stride of 0). Both are refused here, so that whoever copies a tensor, or looks at all its
values, takes no more memory than the file takes room.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MOST_CODE = 2**26
"""Bytes of a TorchScript archive's code, which alone is stored compressed."""


def torch_content(path: str | os.PathLike[str]) -> Any:
    """Read a file of ``torch.save``: tensors and plain values. Needs torch.

    Parameters
    ----------
    path : path
        The file; TorchScript is none.

    Returns
    -------
    tensor, dictionary, list, number or text
        As it was stored, on the CPU. Every tensor is dense and has a place in the file for each of
        its numbers.

    Raises
    ------
    OSError
        If the file is missing or may not be read.
    ValueError
        If it is damaged, holds other things, or claims more than it holds; the message is a reason
        that completes "cannot read FILE: ".

    Notes
    -----
    O(size of the file) time and memory.
    """
    import torch

    file = Path(path)
    with file.open("rb"):  # a missing or forbidden file says so itself
        pass
    check_records(file)
    reason = None
    try:
        with warnings.catch_warnings():
            # Of file formats, whose words are for programmers.
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
        check_tensors(content, file.stat().st_size)
    except _Claim as error:
        reason = str(error)
    except Exception:  # pickle, zip, EOF, Unicode and runtime errors alike
        # Not as its cause: torch's own words advise to switch off what protects the reader.
        reason = "it is damaged, or holds what would have to be unpickled and could be a program"
    if reason is not None:
        raise ValueError(reason)
    return content


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Say whether a file is an archive with code, which other files of torch don't have."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in entry for entry in archive.namelist())
    except Exception:  # damaged archives make it fail in many ways
        return False


def check_torchscript(path: str | os.PathLike[str]) -> None:
    """Raise ValueError with a reason if a TorchScript archive unpacks to more than it may."""
    check_records(Path(path), code=True)


class _Claim(ValueError):
    """A file claims to hold more than it does."""


def check_records(file: Path, code: bool = False) -> None:
    """Raise if an archive's records are larger than it is; torch itself compresses code alone."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except Exception:  # torch reads some that zipfile doesn't, and says itself what it can't read
        return
    of_code = [entry.file_size for entry in entries if "/code/" in entry.filename]
    if (sum(of_code) if code else 0) > MOST_CODE or (
        sum(entry.file_size for entry in entries) - (sum(of_code) if code else 0)
        > file.stat().st_size
    ):
        raise ValueError("its records unpack to more than the file holds")


def check_tensors(content: Any, size: int) -> None:
    """Raise if a tensor is not dense on the CPU, or has more numbers than the file."""
    import torch

    storages: dict[int, int] = {}
    for tensor in _tensors(content):
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
        if not plain or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise _Claim("it holds a tensor that is not dense numbers")
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise _Claim(
                f"it holds a tensor of shape {tuple(tensor.shape)} with numbers for only "
                f"{storage.nbytes()} bytes"
            )
    if sum(storages.values()) > size:
        raise _Claim("its tensors claim more numbers than the file holds")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested containers, which may be deep and may hold themselves."""
    import torch

    seen: set[int] = set()
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (Mapping, list, tuple, set, frozenset)) and id(value) not in seen:
            seen.add(id(value))
            left.extend(value)
            if isinstance(value, Mapping):
                left.extend(value.values())
