"""Conditions on metadata: which entries of an index a search is restricted to.

A condition maps keys to what their values must be; all of it must hold::

    {"split": "train"}                     equal
    {"split": ["train", "test"]}           one of
    {"nuclei": {">=": 10, "<": 100}}       compared, with <, <=, >, >=, = and !=
    {"scan.stain": "H&E"}                  a key inside of the object at another key

An entry without the key does not match, whatever the operator. Numbers compare with numbers and
strings with strings; values of other types only equal or differ. ``!=`` a list is none of it.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiersearch._validate import plain
from hiersearch.index.store.metadata import MISSING, Column, MetadataTable

Condition = Mapping[str, Any]

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = (*ORDERS, "=", "!=")
_TEXT = re.compile(r"^(?P<key>[^<>=!]+)(?P<operator><=|>=|!=|<|>|=)(?P<value>.*)$", re.DOTALL)
LISTED_KEYS = 20


class Entries(Protocol):
    """What a condition is evaluated on: the entries of one segment."""

    @property
    def number(self) -> int:
        """Number of the segment."""

    @property
    def metadata(self) -> MetadataTable:
        """Metadata of its entries."""

    @property
    def live(self) -> NDArray[np.bool_]:
        """Which of its entries are not removed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of the value at one key."""

    key: str
    operator: str
    """One of :data:`OPERATORS`."""
    wanted: tuple[Any, ...]
    """Alternatives of ``=`` and ``!=``, or the one value to compare with."""

    def holds(self, value: Any) -> bool:
        """Return whether a value passes."""
        if value is MISSING:
            return False
        if self.operator in ORDERS:
            bound = self.wanted[0]
            return _ordered(value, bound) and ORDERS[self.operator](value, bound)
        return any(_equal(value, item) for item in self.wanted) == (self.operator == "=")


def comparisons_of(condition: Condition) -> list[Comparison]:
    """Return the comparisons that a condition is made of.

    Raises
    ------
    TypeError
        If it is not a mapping from strings, or a value can't be compared.
    ValueError
        If an operator is unknown, a list is empty or a number is not finite.

    Examples
    --------
    >>> comparisons_of({"nuclei": {">=": 10}, "split": "train"})
    [Comparison(key='nuclei', operator='>=', wanted=(10,)),
     Comparison(key='split', operator='=', wanted=('train',))]
    """
    if not isinstance(condition, Mapping):
        raise TypeError(
            f"condition must map keys to values, got {type(condition).__name__}: {condition!r}"
        )
    tests = []
    for key, value in condition.items():
        if not isinstance(key, str):
            raise TypeError(f"condition must have strings as keys, got {key!r}")
        comparisons = value if isinstance(value, Mapping) else {"=": value}
        if not comparisons:
            raise ValueError(f"condition on {key!r} must compare with something, got {{}}")
        for name, wanted in comparisons.items():
            if name not in OPERATORS:
                raise ValueError(
                    f"condition on {key!r} must use one of {', '.join(OPERATORS)}, got {name!r}"
                )
            tests.append(Comparison(key, name, _wanted(key, name, wanted)))
    return tests


def _wanted(key: str, name: str, value: Any) -> tuple[Any, ...]:
    value = plain(value)
    several = isinstance(value, list | tuple | set | frozenset | np.ndarray)
    if name in ORDERS and (several or value is None or isinstance(value, bool)):
        raise TypeError(f"condition on {key!r} must compare {name} a number or text, got {value!r}")
    alternatives = tuple(map(plain, value)) if several else (value,)
    if not alternatives:
        raise ValueError(f"condition on {key!r} must name at least one value, got an empty list")
    for item in alternatives:
        if item is not None and not isinstance(item, str | bool | int | float):
            raise TypeError(
                f"condition on {key!r} must compare with null, a bool, a number or text, "
                f"got {item!r}"
            )
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"condition on {key!r} must compare with finite numbers, got {item}")
    return alternatives


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ordered(value: Any, bound: Any) -> bool:
    both_text = isinstance(value, str) and isinstance(bound, str)
    return both_text or (_is_number(value) and _is_number(bound))


def _equal(value: Any, item: Any) -> bool:
    # In JSON true is not 1, while in Python it is.
    return bool(isinstance(value, bool) == isinstance(item, bool) and value == item)


def selected(condition: Condition, segments: Sequence[Entries]) -> dict[int, NDArray[np.bool_]]:
    """Return for each segment which of its live entries a condition holds for.

    Each comparison is made once per distinct value: O(texts + entries) once a key was used.

    Parameters
    ----------
    condition : mapping
        As described at the top of this module; an empty one holds for all.
    segments : sequence
        The segments of one snapshot.

    Returns
    -------
    dict from segment number to array, shape (entries,), bool

    Raises
    ------
    TypeError, ValueError
        If the condition is malformed, or no live entry has one of its keys.
    """
    comparisons = comparisons_of(condition)
    known = {comparison.key: False for comparison in comparisons}
    masks = {}
    for segment in segments:
        live, codes = segment.live, segment.metadata.codes()
        columns = segment.metadata.columns(known)
        passed = live.copy()
        for comparison in comparisons:
            column = columns[comparison.key]
            passed &= _of_values(comparison.holds, column)[codes]
        for key, column in columns.items():
            if not known[key] and column.values != (MISSING,):
                known[key] = bool((_of_values(_is_there, column)[codes] & live).any())
        masks[segment.number] = passed
    for key, is_known in known.items():
        if not is_known:
            raise ValueError(_unknown_key(key, segments))
    return masks


def _of_values(rule: Callable[[Any], bool], column: Column) -> NDArray[np.bool_]:
    """Return for each text what a rule says of its value, asking once per distinct value."""
    return np.array([rule(value) for value in column.values], np.bool_)[column.codes]


def _is_there(value: Any) -> bool:
    return value is not MISSING


def _unknown_key(key: str, segments: Sequence[Entries]) -> str:
    keys: set[str] = set()
    for segment in segments:
        used = np.unique(segment.metadata.codes()[segment.live])
        objects = list(segment.metadata.distinct())
        for code in used.tolist():
            keys.update(_keys(objects[code]))
    if not keys:
        return f"condition names the key {key!r}, but no entry has metadata"
    listed = ", ".join(sorted(keys)[:LISTED_KEYS]) + (", ..." if len(keys) > LISTED_KEYS else "")
    return f"condition names the key {key!r}, which no entry has: the keys are {listed}"


def _keys(item: Mapping[str, Any]) -> Iterable[str]:
    # No recursion: an object may be nested as deep as JSON is read.
    inner: list[tuple[str, Mapping[str, Any]]] = [("", item)]
    while inner:
        prefix, mapping = inner.pop()
        for key, value in mapping.items():
            if isinstance(value, Mapping) and value:
                inner.append((f"{prefix}{key}.", value))
            else:
                yield prefix + key


def parse_condition(text: str) -> dict[str, dict[str, Any]]:
    """Return the condition that a text such as ``nuclei>=10`` stands for.

    What follows the operator is read as JSON where it is JSON, else as text. After ``=`` and
    ``!=`` an unquoted number, true, false or null also stands for the text that it looks like.

    Raises
    ------
    ValueError
        If the text has no key or no operator.

    Examples
    --------
    >>> parse_condition("nuclei>=10"), parse_condition("split=train")
    ({'nuclei': {'>=': 10}}, {'split': {'=': 'train'}})
    >>> parse_condition("year=2018")
    {'year': {'=': [2018, '2018']}}
    """
    match = _TEXT.match(text)
    if match is None or not match["key"].strip():
        raise ValueError(
            f"condition must be KEY, one of {' '.join(OPERATORS)}, and a value, got {text!r}"
        )
    key, name, written = match["key"].strip(), match["operator"], match["value"].strip()
    try:
        value = json.loads(written, parse_constant=str)
    except (ValueError, RecursionError):
        value = written
    if name in ("=", "!=") and not isinstance(value, str | list | dict):
        value = [value, written]
    condition = {key: {name: value}}
    comparisons_of(condition)
    return condition


def parse_conditions(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the condition that holds where each of several texts does.

    Raises
    ------
    ValueError
        If a text is malformed or one key is compared twice in the same way.

    Examples
    --------
    >>> parse_conditions(["nuclei>=10", "nuclei<20"])
    {'nuclei': {'>=': 10, '<': 20}}
    """
    merged: dict[str, dict[str, Any]] = {}
    for text in texts:
        for key, comparisons in parse_condition(text).items():
            for name, value in comparisons.items():
                if name in merged.setdefault(key, {}):
                    raise ValueError(f"condition must compare {key!r} {name} only once, got twice")
                merged[key][name] = value
    return merged
