"""The question: which loss segments nuclei best in three classes, at equal budgets.

As `losses_shapes`, on grey and stained images of at most 360 pixels a side: background, interior
and boundary of nuclei. 20 images of the train split are for validation; 40 images, spread evenly
over the test split, are scored. Nuclei are found the same way for every loss, and by arg-max alone
so that no threshold favours a calibration: components of the interior with 5 pixels or more are
flooded over interior and boundary along the interior's probability. Needs HIERSEARCH_NUCLEI.
"""

from __future__ import annotations

from benchmarks.losses.answer import sum_up
from benchmarks.question import NUCLEI, Answer, Question
from benchmarks.tables import Table

QUESTION = Question(
    "Which loss segments nuclei best in three classes at equal budgets, in class IoU, AP at IoU "
    "0.5?",
    minutes=100,
    data=(NUCLEI,),
    packages=("torch", "monai", "kornia"),
    in_readme=True,
)


def run() -> list[Table]:
    from benchmarks.losses import compare

    return compare.run("nuclei")


def answer(tables: list[Table]) -> Answer:
    return sum_up(tables[0], ("class IoU", "AP@0.5"))
