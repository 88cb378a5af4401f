"""What votes are about: the channels of a soft output as rows of probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiersearch.partitions import _kernels
from hiersearch.partitions.output import SoftOutput
from hiersearch.partitions.partition import Measure


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """Probabilities of channels that sum to 1 at each pixel, and the output that they are of."""

    values: NDArray[np.float32]
    """(k, n) probabilities; of a boundary map b two rows, 1 − b and b."""
    output: SoftOutput
    """What they were read from."""

    @classmethod
    def of(cls, output: SoftOutput) -> Channels:
        """Read the rows of an output; TypeError for affinities, which have none."""
        return cls(np.ascontiguousarray(output.rows()), output)

    @property
    def measure(self) -> Measure | None:
        """(n,) measure of each pixel, or None for 1 everywhere."""
        return None if self.output.measure is None else self.output.measure.reshape(-1)

    def changed_to(self, values: NDArray[np.float32]) -> Channels:
        """Return channels of the same meaning with other probabilities."""
        return replace(self, values=values)

    def winners(self) -> NDArray[np.int32]:
        """Return the most probable channel of each pixel, (n,); of equals the first. O(k · n)."""
        return _kernels.best_channel(self.values)

    def refined(self) -> SoftOutput:
        """Return the output with these probabilities."""
        return self.output.with_rows(self.values)
