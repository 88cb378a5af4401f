"""Objects over arrays that compiled functions index with: checked once, and unchanged from then on.

A compiled function follows a parent, a label or a start wherever it points to. So what was
validated must stay as it was: objects keep private copies of what they are given, and nobody can
write to their arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def sealed(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Make an array read-only in its place and return it: for arrays that nobody else holds.

    Examples
    --------
    >>> sealed(np.arange(3)).flags.writeable
    False
    """
    if array.flags.writeable:
        array.setflags(write=False)
    return array


def private(array: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
    """Return an array that nobody can write to: itself if that is so already, else a copy.

    Parameters
    ----------
    array : ndarray
        Of any layout and byte order.
    dtype : dtype, optional
        What type it is to be of; its own where omitted.

    Returns
    -------
    ndarray
        Contiguous, aligned, in the machine's byte order, read-only. A read-only view of what can
        be written to, by its owner or by another process, is copied.

    Notes
    -----
    O(values) where it is copied, else O(1).

    Examples
    --------
    >>> given = np.arange(3)
    >>> kept = private(given)
    >>> given[0] = 7
    >>> kept.tolist(), private(kept) is kept
    ([0, 1, 2], True)
    """
    wanted = np.dtype(array.dtype if dtype is None else dtype).newbyteorder("=")
    if array.dtype == wanted and _is_private(array):
        return array
    return sealed(np.array(array, dtype=wanted, order="C"))


def _is_private(array: NDArray[Any]) -> bool:
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned and array.dtype.isnative):
        return False
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return owner is None or isinstance(owner, bytes)


@cache
def _setters(kind: type[Sealed]) -> tuple[Callable[[Any, Any], None], ...]:
    """Return what writes each field, in order: half as slow as ``object.__setattr__``."""
    return tuple(getattr(kind, name).__set__ for name in kind.__match_args__)


class Sealed:
    """A frozen dataclass whose arrays are read-only; its constructor checks and copies them.

    The package itself goes past the checks with `_unchecked`, where it has made the arrays.
    Copies and unpickled objects are sealed, too.
    """

    __slots__ = ()
    __match_args__: tuple[str, ...]

    @classmethod
    def _unchecked(cls, *values: Any) -> Self:
        """Make an object of sound fields, in order, and seal their arrays in place."""
        kind: Any = cls
        made = object.__new__(cls)
        for store, value in zip(_setters(kind), values, strict=True):
            # Asking first is half as slow as setting again.
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value.setflags(write=False)
            store(made, value)
        return made

    def _keep(self, **values: Any) -> None:
        """Set fields while the object is being made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy field by field, so that what comes back is sealed."""
        return self._unchecked, tuple(getattr(self, name) for name in self.__match_args__)
