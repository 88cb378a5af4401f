"""Training with one loss: what is the same for every loss stands here.

The seed fixes the initial weights and the order and symmetry of the crops, whatever the loss, so
that runs with one seed are a pair. The schedule depends on the step alone, never on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.losses.data import Problem
from hiersearch.networks.unet import SmallUNet

Loss = Callable[[Tensor, Tensor, float], Tensor]
"""Logits (N, k, H, W), true classes (N, H, W), share of the training that is over → scalar."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What every loss may spend."""

    steps: int
    """Gradient steps of a run."""
    rates: tuple[float, ...]
    """Peak learning rates that are tried, each in one run."""
    weight_decay: float = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A network after its budget, and what that took."""

    network: SmallUNet
    diverged_at: int | None
    """Step at which loss or gradient was not finite: training ended before it."""
    loss_ms: float
    """Median milliseconds of the loss and its gradient by the logits."""
    step_ms: float
    """Median milliseconds of a whole step, drawing crops aside."""


def train(problem: Problem, loss: Loss, rate: float, seed: int, budget: Budget) -> Trained:
    """Train the problem's network by AdamW and a one-cycle schedule.

    A loss that is a module with parameters of its own has them trained along. O(steps).
    """
    torch.manual_seed(seed)
    network = SmallUNet(len(problem.class_names), problem.widths).train()
    network = network.to(memory_format=torch.channels_last)
    parameters = list(network.parameters())
    if isinstance(loss, nn.Module):
        parameters += list(loss.parameters())
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=budget.weight_decay)
    crops = Crops(problem, np.random.default_rng(seed))
    times = np.zeros((budget.steps, 2))
    for step in range(budget.steps):
        images, classes = crops.batch()
        share = step / budget.steps
        for group in optimiser.param_groups:
            group["lr"] = rate * one_cycle(share)
        begin = time.perf_counter()
        logits = network.forward_standardised(images)
        # Cut here, so that the loss is timed alone; the gradient is the same.
        leaf = logits.detach().requires_grad_()
        before = time.perf_counter()
        optimiser.zero_grad()
        value = loss(leaf, classes, share)
        value.backward()
        after = time.perf_counter()
        if not _finite(value, leaf.grad):
            return Trained(network.eval(), step, *_medians(times[:step]))
        logits.backward(leaf.grad)
        optimiser.step()
        times[step] = after - before, time.perf_counter() - begin
    return Trained(network.eval(), None, *_medians(times))


def one_cycle(share: float) -> float:
    """Share of the peak rate: a linear rise over the first tenth, then a cosine down to zero."""
    if share < 0.1:
        return 0.1 + 9 * share
    return 0.5 + 0.5 * float(np.cos(np.pi * (share - 0.1) / 0.9))


class Crops:
    """Draws crops: every image once before any comes again, a place and one of 8 symmetries."""

    def __init__(self, problem: Problem, rng: np.random.Generator):
        self.problem = problem
        self.rng = rng
        self.queue: list[int] = []

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return images (batch, 3, crop, crop) and classes (batch, crop, crop)."""
        images, classes = zip(*(self._one() for _ in range(self.problem.batch)), strict=True)
        stacked = torch.stack(images).contiguous(memory_format=torch.channels_last)
        return stacked, torch.stack(classes)

    def _one(self) -> tuple[Tensor, Tensor]:
        if not self.queue:
            self.queue = [int(i) for i in self.rng.permutation(len(self.problem.train))]
        sample = self.problem.train[self.queue.pop()]
        height, width = sample.classes.shape
        side = self.problem.crop
        top = int(self.rng.integers(height - side + 1))
        left = int(self.rng.integers(width - side + 1))
        turns, mirrored = int(self.rng.integers(4)), bool(self.rng.integers(2))
        image = sample.image[:, top : top + side, left : left + side].rot90(turns, (1, 2))
        classes = torch.from_numpy(sample.classes[top : top + side, left : left + side])
        classes = classes.rot90(turns)
        if mirrored:
            return image.flip(2), classes.flip(1)
        return image, classes


def _finite(value: Tensor, gradient: Tensor | None) -> bool:
    if gradient is None:
        raise ValueError("the loss must depend on the logits, got one without a gradient")
    return bool(value.isfinite()) and bool(gradient.isfinite().all())


def _medians(seconds: np.ndarray) -> tuple[float, float]:
    """Median milliseconds of the loss and of the step; NaN before the first step."""
    if not len(seconds):
        return float("nan"), float("nan")
    loss, step = 1e3 * np.median(seconds, axis=0)
    return float(loss), float(step)
