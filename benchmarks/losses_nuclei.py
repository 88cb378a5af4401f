"""The question: which loss segments nuclei best in three classes, at equal budgets.

As `losses_shapes`, on grey and stained images of at most 360 pixels a side: background, interior
and boundary of nuclei. 20 images of the train split are for validation; 40 images, spread evenly
over the test split, are scored. Nuclei are found the same way for every loss, and by arg-max alone
so that no threshold favours a calibration: components of the interior with 5 pixels or more are
flooded over interior and boundary along the interior's probability. Needs HIERSEARCH_NUCLEI.
"""

from __future__ import annotations

from benchmarks.losses import compare
from benchmarks.measuring import Table


def run() -> list[Table]:
    return compare.run("nuclei")
