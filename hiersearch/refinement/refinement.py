"""What every way of refining returns: better probabilities, labels, a partition and a trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.partitions.output import SoftOutput
from hiersearch.partitions.partition import Partition


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done on the way."""

    method: str
    """What was done, e.g. "tree_voting"."""
    figures: dict[str, Any]
    """Numbers that tell how it went, JSON types only: counts, distances before and after, ..."""
    seconds: float
    """Wall time."""
    tree: Any = field(default=None, repr=False)
    """The merge tree that was made or searched, if one was (a MergeTree)."""


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """A refined soft output and the partition that it comes down to."""

    output: SoftOutput
    """Refined channels, of the same meaning as those that came in."""
    labels: NDArray[np.int32]
    """Shape of the grid. Class channels: the class of each pixel. Else: the region of each pixel,
    numbered as in ``partition``."""
    partition: Partition
    """The regions; for class channels the connected components of ``labels``."""
    trace: tuple[Step, ...]
    """What was done, in order."""
    has_background: bool = False
    """Whether labels are objects from 1, with 0 where there is none."""
