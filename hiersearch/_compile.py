"""The one place where kernels are compiled, so that all share the same options."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a kernel with Numba: cached on disk, without the GIL, without fast-math.

    Kernels take arrays and numbers that were already validated and return arrays and numbers.
    Fast-math stays off, because integer-valued sums must stay exact and NaN must stay visible.
    """
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))


def compiled_part(function: Function) -> Function:
    """Compile a part of kernels that Python itself never calls.

    As :func:`compiled`, without the wrappers for calls from Python and C, which take about a
    third of the time to compile a small function.
    """
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy", **options)(function))
