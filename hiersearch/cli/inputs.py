"""Label maps that belong to an image: superpixels, markers, the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.cli.errors import UsageError
from hiersearch.partitions.files import read_label_map


def labels_on_grid(path: Path, grid: tuple[int, ...], name: str) -> NDArray[np.integer[Any]]:
    """Read a label map that must lie on the image's grid: superpixels, or markers."""
    labels = read_label_map(path)
    if labels.shape != grid:
        raise UsageError(
            f"{name} must lie on the grid {grid} of the image, but {path} has shape {labels.shape}"
        )
    return labels
