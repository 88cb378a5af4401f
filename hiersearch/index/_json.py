"""Reading JSON that somebody else may have written."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parsed(data: bytes | str) -> Any:
    """Return what a JSON text says. O(bytes).

    Raises
    ------
    ValueError
        If it is not UTF-8, not JSON, nested too deep, or has NaN or an infinity, which are none.

    Examples
    --------
    >>> parsed(b'{"grid": [2, 3]}')
    {'grid': [2, 3]}
    """
    try:
        return _DECODER.decode(data.decode() if isinstance(data, bytes) else data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
