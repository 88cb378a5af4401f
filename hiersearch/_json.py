"""JSON from files and options: read without surprises, or refused in one sentence."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn


def parsed_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Parameters
    ----------
    text : str or bytes
        In bytes UTF-8, with or without a byte order mark, or UTF-16 or UTF-32.

    Raises
    ------
    ValueError
        If it is no JSON, or nested too deep to be read, names a key twice in one object, or has a
        number that JSON does not have (NaN, infinities) or that is too long.

    Notes
    -----
    O(characters).

    Examples
    --------
    >>> parsed_json('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> parsed_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: it has the key 'a' twice in one object
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not Unicode text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    except ValueError as error:
        # Python's own words advise to lift its limit of digits.
        if re.search(r"Exceeds the limit \(\d+", str(error)):
            raise ValueError("it has a whole number of thousands of digits") from error
        raise


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"it has the key {key!r} twice in one object")
            seen.add(key)
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it has {name}, which is no number of JSON")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def stored_json(data: bytes | str) -> Any:
    """Return what a JSON text says that this package wrote, or somebody in its place. O(bytes).

    Quicker than :func:`parsed_json`: of a key that comes twice the last counts.

    Raises
    ------
    ValueError
        If it is not UTF-8, not JSON, nested too deep, or has NaN or an infinity, which are none.

    Examples
    --------
    >>> stored_json(b'{"grid": [2, 3]}')
    {'grid': [2, 3]}
    """
    try:
        return _DECODER.decode(data.decode() if isinstance(data, bytes) else data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
