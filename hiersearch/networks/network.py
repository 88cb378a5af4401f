"""What a network is to the package: a callable from an image to probabilities, channels first.

Nothing here imports torch: any function from arrays to arrays can be wrapped in a
:class:`Network`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.choices import ACTIVATIONS, READINGS, Activation, Reading
from hiersearch.errors import DoubtfulInputWarning, NetworkError
from hiersearch.networks.images import MOST_PADDING, Float32, extended, image_batch
from hiersearch.partitions.checks import SUM_TOLERANCE
from hiersearch.partitions.output import SoftOutput, reading_kind

RANGE_TOLERANCE = 1e-3
"""How far outside 0..1 a network's own probabilities may lie: half precision stays within it."""

MOST_REASON = 300
"""Characters of what a network raised that a message repeats."""

USUAL_MULTIPLE = 32
"""Of which the sides must be multiples for most networks that ask for it: five halvings."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A segmentation network: call it with an image to get probabilities.

    Build one with :func:`~hiersearch.networks.nuclei_network`,
    :func:`~hiersearch.networks.load_network`, or from any function of your own.

    Examples
    --------
    >>> import numpy as np
    >>> def brightness(batch):
    ...     return np.concatenate([1 - batch, batch], axis=1)
    >>> network = Network("brightness", brightness, "none", channels=("dark", "bright"))
    >>> network(np.array([[0, 255]], dtype=np.uint8))
    array([[[1., 0.]],
           [[0., 1.]]], dtype=float32)
    """

    name: str
    """What messages call it."""
    run: Callable[[Float32], NDArray[Any]]
    """From float32 (1, C, H, W) in 0..1 to an array (1, k, H, W) or (k, H, W)."""
    activation: Activation
    """What makes ``run``'s output probabilities: softmax over the channels, sigmoid of each
    channel, or none where it gives probabilities itself."""
    channels: tuple[str, ...] | None = None
    """What each output channel means, if known."""
    input_channels: int | None = None
    """1: colour images become grey (luminance); 3: grey images become three equal channels;
    None: both are passed on as they are."""
    mean: tuple[float, ...] | None = None
    """Subtracted from each input channel after scaling to 0..1."""
    std: tuple[float, ...] | None = None
    """Each input channel is divided by it, after ``mean`` was subtracted."""
    reading: Reading | None = None
    """What the channels mean, if known."""
    offsets: tuple[tuple[int, ...], ...] | None = None
    """Of affinities: one for each channel. With one channel more, the first is the foreground."""
    pad: int | None = None
    """The image is extended to sides that are multiples of it, below and on the right by
    reflection, and the output cut back; 1 to ``MOST_PADDING``, None for networks that take every
    size."""

    def __post_init__(self) -> None:
        """Check what the caller chose."""
        _validate.checked_choice(self.activation, ACTIVATIONS, "activation")
        if self.input_channels not in (None, 1, 3):
            raise ValueError(f"input_channels must be 1, 3 or None, got {self.input_channels}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, 3):
                raise ValueError(f"{name} must hold 1 or 3 numbers, got {len(values)}")
        if self.std is not None and not min(self.std) > 0:
            raise ValueError(f"std must be positive, got {min(self.std)}")
        if self.pad is not None:
            _validate.checked_count(self.pad, "pad", 1, MOST_PADDING)
        if self.reading is not None:
            _validate.checked_choice(self.reading, READINGS, "reading")
        between = self.reading is not None and reading_kind(self.reading).between_pixels
        if between != (self.offsets is not None):
            raise ValueError(
                f"offsets must be given for reading 'affinities', and for it alone, got "
                f"{self.offsets} with {self.reading!r}"
            )

    def __call__(self, image: ArrayLike) -> Float32:
        """Return the probabilities of every channel at every pixel.

        Parameters
        ----------
        image : array, shape (H, W), (H, W, 1) or (H, W, 3)
            bool, uint8 (divided by 255), uint16 (divided by 65535), or floating point within
            0..1 (taken as it is).

        Returns
        -------
        float32 array, shape (k, H, W)
            Summing to 1 over the channels after softmax; each within 0..1 after sigmoid. One
            channel of a network with the reading "classes" or "regions" is the probability p of
            the second of two: (2, H, W) with 1 − p first.

        Raises
        ------
        NetworkError
            If the network raises anything, or its output is not finite, not on the image's grid,
            has another number of channels than ``channels``, is one channel under a softmax, or
            claims to be probabilities and is not.
        ValueError
            If the image's shape or range is another one or it is not finite.
        TypeError
            If the image has another type.

        Warns
        -----
        DoubtfulInputWarning
            If what goes into a softmax or sigmoid are probabilities already.

        Notes
        -----
        One pass of the network on the whole image.
        """
        batch = self._prepared(image_batch(image))
        grid = batch.shape[2:]
        given = batch if self.pad is None else extended(batch, self.pad)
        try:
            raw = np.asarray(self.run(given))
        except MemoryError:
            raise
        except Exception as error:  # a program of the user's: it may raise anything
            # What is said of its output has nothing to do with the size.
            hint = "" if isinstance(error, NetworkError) else self._padding_hint(grid)
            raise NetworkError(
                f"network {self.name} cannot process an input of shape {given.shape}: "
                f"{_reason(error)}{hint}"
            ) from error
        output = self._checked_output(raw, given.shape[2:])[:, : grid[0], : grid[1]]
        return self._named(self._both_classes(self._probabilities(np.ascontiguousarray(output))))

    def predict(self, image: ArrayLike, *, measure: ArrayLike | None = None) -> SoftOutput:
        """Return what the network says of an image: its channels and what they mean.

        Parameters
        ----------
        image : array, shape (H, W), (H, W, 1) or (H, W, 3)
            As calling the network takes it.
        measure : array, shape (H, W), optional
            Non-negative weight of each pixel; 1 where omitted.

        Returns
        -------
        SoftOutput
            What `match`, `refine` and searches of an index take.

        Raises
        ------
        ValueError, TypeError
            If it is not known what the channels mean, if there are other channels than that goes
            with, and as calling the network.

        Examples
        --------
        >>> import numpy as np
        >>> edges = Network("edges", lambda batch: batch, "none", reading="boundaries")
        >>> edges.predict(np.array([[0, 255, 0]], dtype=np.uint8))
        <SoftOutput 1×3: 1 channel, read as boundaries>
        """
        reading = self._known_reading()
        channels = self(image)
        try:
            weights = None if measure is None else np.asarray(measure)
            return SoftOutput(channels, reading, self.offsets, measure=weights)
        except ValueError as error:
            raise ValueError(f"output of network {self.name}: {error}") from error

    def _known_reading(self) -> Reading:
        if self.reading is None:
            raise ValueError(
                f"network {self.name} must have a reading, one of {', '.join(READINGS)}: "
                "use dataclasses.replace(network, reading=...)"
            )
        return self.reading

    def _prepared(self, batch: Float32) -> Float32:
        colours = batch.shape[1]
        if self.input_channels == 3 and colours == 1:
            batch = np.repeat(batch, 3, axis=1)
        elif self.input_channels == 1 and colours == 3:
            luminance = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
            batch = np.einsum("nchw,c->nhw", batch, luminance)[:, None]
        for values, apply in ((self.mean, np.subtract), (self.std, np.divide)):
            if values is not None:
                if len(values) not in (1, batch.shape[1]):
                    raise ValueError(
                        f"network {self.name} normalises {len(values)} input channels, "
                        f"got an image with {batch.shape[1]}"
                    )
                batch = apply(batch, np.array(values, dtype=np.float32)[:, None, None])
        return np.ascontiguousarray(batch, dtype=np.float32)

    def _checked_output(self, raw: NDArray[Any], grid: tuple[int, ...]) -> Float32:
        output = raw[0] if raw.ndim == 4 and raw.shape[0] == 1 else raw
        if output.ndim != 3 or output.shape[1:] != grid or output.shape[0] < 1:
            hint = self._padding_hint(grid) if raw.ndim in (3, 4) else ""
            raise NetworkError(
                f"network {self.name} must give shape (k, {grid[0]}, {grid[1]}) or "
                f"(1, k, {grid[0]}, {grid[1]}) for an input of {grid[0]} × {grid[1]} pixels, "
                f"got {raw.shape}{hint}"
            )
        if self.activation != "none" and output.dtype.kind in "iub":
            raise NetworkError(
                f"network {self.name} must give floating-point channels for {self.activation}, "
                f"got {output.dtype}: let it return them before any arg-max"
            )
        try:
            finite = _validate.checked_finite(output, f"output of network {self.name}")
        except (ValueError, TypeError) as error:
            raise NetworkError(str(error)) from error
        return finite.astype(np.float32, copy=False)

    def _probabilities(self, output: Float32) -> Float32:
        if self.activation == "softmax":
            if len(output) == 1:
                raise NetworkError(
                    f"network {self.name} must give two channels or more for a softmax, which is 1 "
                    f"everywhere over one, got 1: say activation='sigmoid' (--activation sigmoid), "
                    "or 'none' if it gives probabilities"
                )
            self._warn_of_probabilities(output)
            powers: Float32 = np.exp(output - output.max(axis=0))
            powers /= powers.sum(axis=0)
            return powers
        if self.activation == "sigmoid":
            self._warn_of_probabilities(output)
            # The tanh form cannot overflow.
            chances: Float32 = np.tanh(np.float32(0.5) * output)
            return np.float32(0.5) * (chances + np.float32(1))
        low, high = float(output.min()), float(output.max())
        if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
            raise NetworkError(
                f"output of network {self.name} must be probabilities within 0..1, got "
                f"{low:.4g}..{high:.4g}: say activation='softmax' or 'sigmoid' if it gives logits"
            )
        return output

    def _warn_of_probabilities(self, output: Float32) -> None:
        """Warn if the output needs no activation; a second one would flatten it.

        Logits that are all within 0..1 would make a sigmoid at least ½ everywhere; logits that
        sum to 1 at every pixel as well, a softmax that is hardly sure of anything.
        """
        low, high = float(output.min()), float(output.max())
        if low < 0 or high > 1 or low == high:
            return
        if self.activation == "softmax":
            sums = output.sum(axis=0)
            if max(float(sums.max()) - 1, 1 - float(sums.min())) > SUM_TOLERANCE:
                return
        warnings.warn(
            f"output of network {self.name} is probabilities already, which a {self.activation} "
            "flattens: say activation='none' (--activation none) if it ends with one itself",
            DoubtfulInputWarning,
            stacklevel=4,
        )

    def _both_classes(self, probabilities: Float32) -> Float32:
        """Add the first of two classes to a single channel, which is the second's."""
        one_of_two = self.reading is not None and reading_kind(self.reading).may_be_one_of_two
        if len(probabilities) > 1 or not one_of_two:
            return probabilities
        return np.concatenate([np.float32(1) - probabilities, probabilities])

    def _named(self, probabilities: Float32) -> Float32:
        """Check the number of channels against their names."""
        if self.channels is not None and len(probabilities) != len(self.channels):
            raise NetworkError(
                f"network {self.name} must give the {len(self.channels)} channels "
                f"{', '.join(self.channels)}, got {len(probabilities)}"
            )
        return probabilities

    def _padding_hint(self, grid: tuple[int, ...]) -> str:
        """Say how sides are made multiples, where they were not and nobody asked for it."""
        if self.pad is not None or not any(side % USUAL_MULTIPLE for side in grid):
            return ""
        return (
            f" (if it needs sides that are multiples of {USUAL_MULTIPLE}, say "
            f"pad={USUAL_MULTIPLE}, on the command line --pad {USUAL_MULTIPLE})"
        )


def _reason(error: Exception) -> str:
    """Return what a network raised in one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback of TorchScript") for line in lines):
        # Above it stands the network's own code.
        lines = [re.sub(r"^([\w.]*Error: )+", "", lines[-1])]
    text = " ".join(lines) or type(error).__name__
    printable = "".join(mark if mark.isprintable() else " " for mark in text)
    return printable if len(printable) <= MOST_REASON else f"{printable[:MOST_REASON]}…"
