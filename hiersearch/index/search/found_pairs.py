"""The nearest entries so far of many queries at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 2**63 - 1024
"""Largest int64 that float64 holds."""


class FoundPairs:
    """Pairs of a query and an entry that may be answers, and how near an answer must be.

    Examples
    --------
    >>> found = FoundPairs(np.array([np.inf, np.inf]), k=1, whole=True, slack=0)
    >>> found.add(np.array([0, 1, 0]), np.array([7, 7, 8]), np.array([5, 2, 4]))
    >>> found.highest, found.of(0)
    (array([4, 2]), (array([8]), array([4])))
    """

    def __init__(
        self, radii: NDArray[np.float64], k: int | None, whole: bool, slack: float
    ) -> None:
        """Begin with none.

        Parameters
        ----------
        radii : array, shape (queries,)
            What an answer's distance must not exceed.
        k : int, optional
            How many are asked for; all within the radius where omitted.
        whole : bool
            Whether distances are integers.
        slack : float
            How far beyond its radius an answer may seem to be: what rounding does.
        """
        self.k = k
        self.slack = 0 if whole else slack
        if whole:
            self.highest: NDArray[Any] = np.floor(np.minimum(radii, _LARGEST)).astype(np.int64)
        else:
            self.highest = radii + slack
        """(queries,) largest distance that is of interest."""
        self.numbers = np.empty(0, np.int64)
        """Query of each pair, in ascending order."""
        self.columns = np.empty(0, np.int64)
        """Entry of each."""
        self.distances = np.empty(0, self.highest.dtype)
        """Distance of each, in ascending order for each query."""

    def add(
        self, numbers: NDArray[np.int64], columns: NDArray[np.int64], distances: NDArray[Any]
    ) -> None:
        """Take pairs into account that were not there before. O(pairs log pairs)."""
        numbers = np.concatenate([self.numbers, numbers])
        distances = np.concatenate([self.distances, distances])
        order = np.lexsort((distances, numbers))
        numbers, distances = numbers[order], distances[order]
        if self.k is not None:
            edges = np.searchsorted(numbers, np.arange(self.highest.size + 1))
            enough = np.flatnonzero(np.diff(edges) >= self.k)
            radii = distances[edges[enough] + self.k - 1] + self.slack
            self.highest[enough] = np.minimum(self.highest[enough], radii)
        kept = distances <= self.highest[numbers]
        self.numbers, self.distances = numbers[kept], distances[kept]
        self.columns = np.concatenate([self.columns, columns])[order][kept]

    def of(self, number: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the entries of a query, nearest first, and their distances."""
        begin, end = np.searchsorted(self.numbers, [number, number + 1]).tolist()
        return self.columns[begin:end], self.distances[begin:end]
