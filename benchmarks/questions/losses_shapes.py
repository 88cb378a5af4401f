"""The question: which loss segments synthetic shapes best, at equal budgets.

The same small network, initial weights, crops and steps for every loss, pair by pair; the learning
rate of each is the best of three on the validation split, with a seed of its own; the test split
is scored once for each seed. Shapes are found as connected components of the class map, of 8
pixels or more. Class IoU pools the pixels of all images; foreground ARI (over the pixels of true
shapes), AP (TP / (TP + FP + FN), whatever the class) and boundary F (within 2 pixels) are of the
shapes found, means over images; the calibration error has 15 bins. Milliseconds are medians over
the steps of the runs: the loss with its gradient by the logits, and the whole step.
"""

from __future__ import annotations

from benchmarks.losses.answer import sum_up
from benchmarks.question import Answer, Question
from benchmarks.tables import Table

QUESTION = Question(
    "Which loss segments synthetic shapes best at equal budgets, in class IoU, foreground ARI?",
    minutes=120,
    packages=("torch", "monai", "kornia"),
    in_readme=True,
)


def run() -> list[Table]:
    from benchmarks.losses import compare

    return compare.run("shapes")


def answer(tables: list[Table]) -> Answer:
    return sum_up(tables[0], ("class IoU", "foreground ARI"))
