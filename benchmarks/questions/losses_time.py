"""Time and memory of one step, forward and backward, of the loss beside those of the field.

Logits and labels are given; the network is not part of it. Ratios are to MONAI's Dice with softmax
and one-hot labels. Peak memory is what the process takes beyond the logits, the labels and the
libraries: the largest resident size during a step in a fresh process (Linux only).
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.measuring import ROOT, in_turn, peak, restarted_peak
from benchmarks.question import Answer, Question
from benchmarks.tables import Table, figure, shown

QUESTION = Question(
    "How long, and how much memory, does a step of the loss take, with 21 channels of 512²?",
    minutes=8,
    packages=("torch", "monai", "kornia"),
)
CASES = {"21 channels, 512², batch 1": (1, 21, 512), "4 channels, 128², batch 8": (8, 4, 128)}
"""Name: images, channels and side."""

PEER = "MONAI Dice"


def losses() -> dict[str, Callable[[Any, Any], Any]]:
    """Losses of logits (N, k, H, W) and labels (N, H, W), by name."""
    from kornia.losses import lovasz_softmax_loss
    from monai.losses import DiceCELoss, DiceLoss, FocalLoss
    from torch.nn import functional

    from hiersearch.losses import PartitionMetricLoss

    dice = DiceLoss(softmax=True, to_onehot_y=True)
    dice_and_entropy = DiceCELoss(softmax=True, to_onehot_y=True)
    focal = FocalLoss(use_softmax=True, to_onehot_y=True)
    settings: dict[str, dict[str, Any]] = {
        "squared": {},
        "squared, no checks": {"checks": False},
        "root": {"form": "root"},
        "expected": {"form": "expected"},
        "squared, class-balanced": {"measure": "class-balanced"},
        "squared, region-balanced": {"measure": "region-balanced"},
        "squared, boundary": {"measure": "boundary"},
        "squared, straight-through": {"straight_through": True},
    }
    ours = {f"ours, {name}": PartitionMetricLoss(**chosen) for name, chosen in settings.items()}
    return {
        PEER: lambda output, target: dice(output, target[:, None]),
        "MONAI Dice + cross-entropy": lambda output, target: dice_and_entropy(
            output, target[:, None]
        ),
        "MONAI focal": lambda output, target: focal(output, target[:, None]),
        "torch cross-entropy": functional.cross_entropy,
        "kornia Lovász": lovasz_softmax_loss,
        **ours,
    }


def _inputs(images: int, channels: int, side: int) -> tuple[Any, Any]:
    """Logits of a network halfway through training and labels in 8 × 8 squares of many sizes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, channels, (images, 8, 8), generator=generator)
    target = coarse.repeat_interleave(side // 8, 1).repeat_interleave(side // 8, 2)
    output = torch.randn(images, channels, side, side, generator=generator)
    output.scatter_add_(
        1, target[:, None], torch.full((1, 1, 1, 1), 2.0).expand(images, 1, side, side)
    )
    return output.requires_grad_(), target


def step(loss: Callable[[Any, Any], Any], output: Any, target: Any) -> None:
    """One forward and backward pass."""
    output.grad = None
    loss(output, target).backward()


def run() -> list[Table]:
    import torch

    tables = []
    for case, sizes in CASES.items():
        output, target = _inputs(*sizes)
        functions = {
            name: functools.partial(step, loss, output, target) for name, loss in losses().items()
        }
        times = in_turn(functions, repeats=15)
        memory = {name: _peak_memory(name, case) for name in functions}
        columns = ("loss", "ms", f"÷ {PEER}", "peak MB", f"÷ {PEER} ")
        table = Table(f"{case}: forward and backward", columns)
        for name, time in times.items():
            table.rows.append(
                (
                    name,
                    str(time),
                    f"{time.median / times[PEER].median:.2f}",
                    shown(memory[name]),
                    f"{memory[name] / memory[PEER]:.2f}",
                )
            )
        table.notes.append(f"{torch.get_num_threads()} threads.")
        tables.append(table)
    return tables


def _peak_memory(name: str, case: str) -> float:
    """Megabytes that one step takes in a process of its own."""
    command = [sys.executable, "-m", __name__, name, case]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def _measure_peak(name: str, case: str) -> float:
    """Run a small step to load all code, then a full one; return what that added at most."""
    loss = losses()[name]
    images, channels, _ = CASES[case]
    step(loss, *_inputs(images, channels, 16))
    output, target = _inputs(*CASES[case])
    before = restarted_peak()
    step(loss, output, target)
    return peak() - before


def answer(tables: list[Table]) -> Answer:
    table = tables[0]
    time, ratio, memory, of_memory = range(1, 5)
    ours = table.row("ours, squared")

    def of(row: list[str]) -> str:
        megabytes = f", {row[memory]} MB" if row[memory] else ""
        return f"{figure(row[time])} ms{megabytes}"

    return Answer(
        of(ours),
        f"{PEER} {of(table.row(PEER))} ({ours[ratio]}, {ours[of_memory]}); torch cross-entropy "
        f"{of(table.row('torch cross-entropy'))}",
    )


if __name__ == "__main__":
    print(_measure_peak(*sys.argv[1:]))
