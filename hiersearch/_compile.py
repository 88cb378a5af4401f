"""The one place where kernels are compiled, so that all share the same options.

Machine code is kept on disk where that is possible. Where it is not (a package that may only be
read, without a home), each process compiles anew, and a warning of the logger ``hiersearch`` says
so once. Code that was kept is used only if it is whole: see :class:`_KeptCode`.
"""

import contextlib
import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

Function = TypeVar("Function", bound=Callable[..., Any])

_LOGGER = logging.getLogger("hiersearch")
_DIGEST_BYTES = 32


def compiled(function: Function) -> Function:
    """Compile a kernel with Numba: cached on disk, without the GIL, without fast-math.

    Kernels take arrays and numbers that were already validated and return arrays and numbers.
    Fast-math stays off, because integer-valued sums must stay exact and NaN must stay visible.
    """
    return _kept(njit(nogil=True, error_model="numpy")(function), function)


def compiled_part(function: Function) -> Function:
    """Compile a part of kernels that Python itself never calls.

    As :func:`compiled`, without the wrappers for calls from Python and C, which take about a
    third of the time to compile a small function.
    """
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return _kept(njit(nogil=True, error_model="numpy", **options)(function), function)


def _kept(kernel: Any, function: Function) -> Function:
    """Let a kernel keep its machine code on disk, if there is a place for it."""
    # With NUMBA_DISABLE_JIT, the kernel is the function itself.
    if hasattr(kernel, "enable_caching"):
        try:
            # What enable_caching does, with a cache that is never a reason to fail.
            kernel._cache = _KeptCode(function)
        except (RuntimeError, OSError):
            _tell_once("no folder for it can be written")
    return cast(Function, kernel)


_told = False


def _tell_once(reason: str) -> None:
    global _told
    if not _told:
        _told = True
        _LOGGER.warning(
            "compiled code cannot be kept, and each start compiles anew: %s "
            "(the environment variable NUMBA_CACHE_DIR may name a folder)",
            reason,
        )


class _KeptCode(FunctionCache):
    """Machine code of one kernel on disk; where reading or writing it fails, it is compiled.

    Numba's own cache raises out of the kernel's call if a file is damaged or the folder can no
    longer be written, and runs whatever bytes a damaged file holds.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        folder = os.path.dirname(function.__code__.co_filename)
        if not os.path.isabs(os.path.expanduser("~")) and not os.access(folder, os.W_OK):
            # Numba would make a folder "~" in the current one.
            raise OSError("there is no home")
        super().__init__(function)
        whole = self._cache_file
        self._cache_file = _WholeFiles(
            self._cache_path, self._impl.filename_base, whole._source_stamp
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function of a signature, or None if none is kept."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            # A damaged file makes unpickling fail in any way at all.
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled function of a signature."""
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:
                # The index is damaged: begin a new one.
                self.flush()
                super().save_overload(sig, data)
        except OSError as error:
            _tell_once(error.strerror or str(error))


class _WholeFiles(IndexDataCacheFile):
    """Index and code of a kernel, each with a digest at its end, which unpickling leaves aside."""

    def _dump(self, obj: Any) -> bytes:
        content: bytes = super()._dump(obj)
        return content + hashlib.sha256(content).digest()

    def _load_index(self) -> Any:
        # Numba's version comes first, in a pickle of its own.
        self._check(self._index_path, len(pickle.dumps(self._version, protocol=-1)))
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        self._check(self._data_path(name), 0)
        return super()._load_data(name)

    def _check(self, path: str, begin: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            content = Path(path).read_bytes()[begin:]
            if hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]:
                raise ValueError(f"{path} is damaged")
