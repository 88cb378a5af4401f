"""Training the small U-Net on images with label maps; ``hiersearch train`` is a thin layer on it.

Importing this module imports torch.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hiersearch.networks.channels import channel_names, target_of_labels
from hiersearch.networks.loading import torch_runner
from hiersearch.networks.models import ModelHeader
from hiersearch.networks.network import Network
from hiersearch.networks.training.checkpoints import Standing, read_checkpoint, write_checkpoint
from hiersearch.networks.training.crops import Augmentation, Crops
from hiersearch.networks.training.data import TrainingData
from hiersearch.networks.training.objectives import objective
from hiersearch.networks.training.result import Progress, Training
from hiersearch.networks.training.settings import TrainingSettings
from hiersearch.networks.training.validation import SCORES, validation_scores
from hiersearch.networks.unet import SmallUNet

import torch  # isort: skip - the small U-Net says what to install where it is missing

MOST_VALIDATED = 30
"""Held-out images that are scored; of more, the first of their random order."""

Report = Callable[[Progress], None]


def train(
    images: Sequence[ArrayLike],
    label_maps: Sequence[ArrayLike],
    settings: TrainingSettings | None = None,
    *,
    names: Sequence[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool | None = None,
    report: Report | None = None,
) -> Training:
    """Train the small U-Net on images with label maps.

    Parameters
    ----------
    images : sequence of arrays, each (H, W), (H, W, 1) or (H, W, 3)
        As :class:`~hiersearch.networks.Network` takes them; grey and colour may be mixed, and
        sizes differ.
    label_maps : sequence of integer arrays, each (H, W)
        Instances with 0 for background, or classes, as the settings' reading says.
    settings : TrainingSettings, optional
        Reading, loss, steps, seed and so on; its defaults where omitted.
    names : sequence of str, optional
        What messages call the images.
    checkpoint : path, optional
        File that keeps where the training stands, written every ``settings.every`` steps, when it
        is interrupted (Ctrl-C), and at its end.
    resume : bool, optional
        True: go on from the checkpoint, which must be there. False: start afresh. None: go on if
        it is there.
    report : callable, optional
        Called after every step with a :class:`Progress`. A KeyboardInterrupt that it raises ends
        the training with a checkpoint.

    Returns
    -------
    Training

    Raises
    ------
    ValueError, TypeError
        If images, label maps and settings do not go together, there are too few images to hold
        some out, the checkpoint is of another training, or the loss does not stay finite.
    FileFormatError
        If the checkpoint is damaged or something else.
    KeyboardInterrupt
        After the checkpoint was written, if there is one; the message says so.

    Warns
    -----
    DoubtfulInputWarning
        If no label map holds the label to be ignored.

    Notes
    -----
    One-cycle learning rate (a linear rise over the first tenth, then a cosine down to zero) with
    AdamW. With equal arguments, on one machine and with one number of torch's threads, the
    weights are equal to the bit, whether or not the training was interrupted and resumed. All
    images are held in memory as float32. Each step is O(batch · crop²).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(3)]
    >>> settings = TrainingSettings(
    ...     reading="classes", widths=(4, 6), steps=2, batch=2, crop=16, validation=0.3
    ... )
    >>> done = train(images, [image > 127 for image in images], settings)
    >>> done.network(images[0]).shape, len(done.losses), done.held_out
    ((2, 32, 32), 2, ('image 2',))
    """
    data = TrainingData.of(images, label_maps, names, settings or TrainingSettings())
    run = _Run(data, None if checkpoint is None else Path(checkpoint), resume)
    with _deferred_interrupts() as pause:
        try:
            run.go(report, pause)
        except KeyboardInterrupt as error:
            # In the midst of a step, the weights are not those of any step.
            if checkpoint is None or not run.whole:
                raise
            run.keep()
            kept = f"{run.step} of {run.settings.steps} steps are in {checkpoint}"
            raise KeyboardInterrupt(kept) from error
    return run.result()


def learning_rate(progress: float) -> float:
    """Return the share of the peak: a linear rise over the first tenth, then a cosine to zero."""
    if progress < 0.1:
        return 0.1 + 9 * progress
    return 0.5 + 0.5 * math.cos(math.pi * (progress - 0.1) / 0.9)


class _Run:
    """A training on its way."""

    def __init__(self, data: TrainingData, checkpoint: Path | None, resume: bool | None) -> None:
        self.data, self.checkpoint = data, checkpoint
        self.identity = data.identity
        self.settings = settings = data.identity.settings
        self.names = channel_names(
            settings.reading, classes=settings.classes or 0, offsets=self.identity.offsets or ()
        )
        augmentation = Augmentation(turns=settings.turns)
        self.crops = Crops(data.samples, settings.crop, settings.seed, augmentation)
        self.loss = objective(settings, self.identity.offsets)
        self.module = self._fresh()
        self.optimiser = torch.optim.AdamW(
            self.module.parameters(), settings.rate, weight_decay=settings.weight_decay
        )
        self.at = Standing(self.module.state_dict(), self.optimiser.state_dict())
        self.whole = True
        if resume is True or (resume is None and checkpoint is not None and checkpoint.exists()):
            self._resume()

    def _fresh(self) -> SmallUNet:
        """Return the network with its first weights; torch's random numbers stay as they are."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            return SmallUNet(len(self.names), self.settings.widths)

    def _resume(self) -> None:
        if self.checkpoint is None:
            raise ValueError("checkpoint must be given to resume, got None")
        self.at = read_checkpoint(self.checkpoint, self.identity, self.module)
        self.module.load_state_dict(self.at.weights)
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({**self.at.optimiser, "param_groups": groups})

    @property
    def step(self) -> int:
        return len(self.at.losses)

    def go(self, report: Report | None, pause: Callable[[], None]) -> None:
        """Make the steps that are left."""
        steps, every = self.settings.steps, self.settings.every
        while True:
            due = self.step > 0 and (self.step % every == 0 or self.step == steps)
            if due and (not self.at.scores or self.at.scores[-1]["step"] < self.step):
                self._validate(pause)
                self.keep()
            if self.step == steps:
                break
            self._advance()
            if report is not None:
                report(self._progress())
            pause()

    def _advance(self) -> None:
        """Make one step."""
        began = time.perf_counter()
        images, labels = self.crops.batch(self.step, self.settings.batch)
        targets = np.stack([target_of_labels(one, self.settings.reading) for one in labels])
        self.whole = False
        self.module.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * learning_rate(self.step / self.settings.steps)
        output = self.module.forward_standardised(torch.from_numpy(images))
        loss = self.loss(output, torch.from_numpy(targets))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"loss must stay finite, got {value} at step {self.step + 1}: try a lower rate"
            )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.at.losses.append(value)
        self.at.seconds += time.perf_counter() - began
        self.whole = True

    def _validate(self, pause: Callable[[], None]) -> None:
        """Score the network, and keep its weights if they are the best so far."""
        began = time.perf_counter()
        row: dict[str, float] = {"step": self.step}
        score = math.nan
        if self.data.held_out:
            scored = self.data.held_out[:MOST_VALIDATED]
            row |= validation_scores(
                self._network(self.module.eval()),
                [self.data.images[i] for i in scored],
                [self.data.labels[i] for i in scored],
                self.settings.reading,
                between=pause,
            )
            score = row[self._deciding]
        best = max(
            (one[self._deciding] for one in self.at.scores if self._deciding in one), default=-1.0
        )
        self.at.scores.append(row)
        # Where no score is known the last weights are taken; of equal ones, the later.
        if not score < best:
            self.at.best_step = self.step
            self.at.best_weights = _copy(self.module.state_dict())
        self.at.seconds += time.perf_counter() - began

    def keep(self) -> None:
        """Write a checkpoint."""
        if self.checkpoint is not None:
            self.at.weights = self.module.state_dict()
            self.at.optimiser = self.optimiser.state_dict()
            write_checkpoint(self.checkpoint, self.identity, self.at)

    @property
    def _deciding(self) -> str:
        return next(iter(SCORES[self.settings.reading]))

    def _progress(self) -> Progress:
        losses = self.at.losses[-min(50, self.settings.every) :]
        score = None
        if self.at.scores and self._deciding in self.at.scores[-1]:
            title = SCORES[self.settings.reading][self._deciding]
            score = (title, self.at.scores[-1][self._deciding])
        return Progress(self.step, self.settings.steps, float(np.mean(losses)), score)

    def _network(self, module: SmallUNet) -> Network:
        header = ModelHeader(
            self.settings.reading, self.names, self.identity.offsets, self.settings.widths, {}
        )
        return Network(
            "trained",
            torch_runner(module),
            header.activation,
            channels=self.names,
            reading=header.reading,
            offsets=header.offsets,
        )

    def result(self) -> Training:
        """Return what came out, with the best weights."""
        final = _copy(self.module.state_dict())
        best = self.at.best_weights
        assert best is not None  # the last step was validated
        module = self._fresh()
        module.load_state_dict(best)
        return Training(
            network=self._network(module.eval()),
            settings=self.settings,
            weights=best,
            final_weights=final,
            best_step=self.at.best_step,
            losses=tuple(self.at.losses),
            scores=tuple(row for row in self.at.scores if len(row) > 1),
            trained_on=len(self.data.samples),
            held_out=tuple(self.data.names[i] for i in self.data.held_out),
            seconds=self.at.seconds,
        )


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


@contextmanager
def _deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the function that this yields is called; a second one is not held.

    So are requests to end (SIGTERM, SIGHUP), where a handler answers them as it does Ctrl-C.
    """
    signals = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    previous = {
        number: handler
        for number in signals
        if number is not None and callable(handler := signal.getsignal(number))
    }
    if threading.current_thread() is not threading.main_thread() or not previous:
        yield lambda: None
        return
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    def pause() -> None:
        if asked:
            previous[signal.Signals(asked[0])](asked[0], None)
            raise KeyboardInterrupt

    for number in previous:
        signal.signal(number, note)
    try:
        yield pause
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
