"""What the head of a segment says beside its arrays: enough to rebuild a lost catalogue."""

from __future__ import annotations

from typing import Any

from hiersearch.errors import Damage, DamageError
from hiersearch.index.store.columns import STORE_COLUMNS, check_heads
from hiersearch.index.store.segment import Segment

LARGEST_NUMBER = 10**8 - 1
"""Largest number of a segment: names of files have eight digits."""
MOST_ENTRIES = 2**31 - 1
"""Most entries of an index: their positions are 32-bit integers."""
LARGEST_NEXT_ID = 2**63
"""What the next automatic id may be at most: the first that is no id."""
LARGEST_COUNT = 2**62
"""Largest generation, and largest number of a removal: there is always a next one."""


def check_facts(segment: Segment) -> None:
    """Check what a recovery takes from the head of a segment. O(segments it names).

    Raises
    ------
    DamageError
        If a fact is missing or not what a writer puts there, or the arrays of ids and metadata are
        not of as many entries.
    """
    facts = segment.facts
    for name, low, high in (
        ("number", 1, LARGEST_NUMBER),
        ("generation", 1, LARGEST_COUNT),
        ("entries", 1, MOST_ENTRIES),
        ("next_id", 0, LARGEST_NEXT_ID),
    ):
        if not is_whole(facts.get(name), low, high):
            raise _wrong(segment, name, f"a whole number from {low} to {high}")
    numbers = facts.get("segments")
    if not isinstance(numbers, list) or not all(is_whole(n, 1, LARGEST_NUMBER) for n in numbers):
        raise _wrong(segment, "segments", "a list of numbers of segments")
    if not isinstance(facts.get("settings"), dict):
        raise _wrong(segment, "settings", "an object")
    check_heads(segment, STORE_COLUMNS, {"entries": facts["entries"]})


def is_whole(value: Any, low: int, high: int) -> bool:
    """Return whether a value is an int within low..high, and no bool."""
    return type(value) is int and low <= value <= high


def _wrong(segment: Segment, name: str, expected: str) -> DamageError:
    found = str(segment.facts.get(name))[:60]
    what = f"fact {name!r} of its head must be {expected}, got {found}"
    return DamageError(Damage(str(segment.path), what))
