"""Refining in one call: one method, or several in a row, each on the outcome of the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from hiersearch import _validate
from hiersearch.choices import REFINEMENT_METHODS, Reading
from hiersearch.device.choice import resolved
from hiersearch.partitions.output import Offsets, SoftOutput, as_soft_output
from hiersearch.partitions.soft import SoftPartition
from hiersearch.refinement.refinement import Refinement


class Method(NamedTuple):
    """One way of refining."""

    module: str
    """Where the function of its name is, imported when it is first used."""
    readings: tuple[Reading, ...]
    """What it can work on."""
    on_devices: bool = False
    """Whether it can use a GPU."""
    alone: bool = False
    """Whether nothing can come before or after it."""

    def function(self, name: str) -> Callable[..., Refinement]:
        """Return the function itself."""
        found: Callable[..., Refinement] = getattr(import_module(self.module), name)
        return found


_CHANNELS: tuple[Reading, ...] = ("regions", "classes", "boundaries")
METHODS: dict[str, Method] = {
    "tree_voting": Method("hiersearch.refinement.tree_voting", _CHANNELS, on_devices=True),
    "metric_merging": Method("hiersearch.refinement.metric_merging", (*_CHANNELS, "affinities")),
    "best_cut": Method(
        "hiersearch.refinement.best_cut", (*_CHANNELS, "affinities"), on_devices=True
    ),
    "objects": Method(
        "hiersearch.refinement.objects", ("objects", "boundaries", "affinities"), alone=True
    ),
}
"""The methods by name."""

DEFAULT_METHODS: dict[Reading, tuple[str, ...]] = {
    "regions": ("metric_merging",),
    "classes": ("tree_voting",),
    "boundaries": ("metric_merging",),
    "affinities": ("metric_merging",),
    "objects": ("objects",),
}
"""What `refine` does for each reading unless told otherwise, chosen by the benchmarks; but for
affinities with a foreground, of which "objects" alone makes use."""


def refine(
    image: ArrayLike | None,
    soft: SoftOutput | SoftPartition | ArrayLike,
    *,
    reading: str | None = None,
    offsets: Offsets | None = None,
    method: str | Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | None = "cpu",
) -> Refinement:
    """Refine a network's soft output with the help of the image that it was made of.

    Parameters
    ----------
    image : array of finite numbers, shape of the grid, with or without a last axis of channels
        May be None where the methods do without it.
    soft : SoftOutput, SoftPartition or float array
        What to refine. An array has its channels first, (k, *grid), and comes with ``reading``; a
        boundary map may lack the axis of channels.
    reading : {"regions", "classes", "boundaries", "affinities", "objects"}, optional
        What an array's channels mean. "objects": background, interior and boundary of objects,
        which become instances.
    offsets : sequence of offsets, optional
        Of an array of affinities; see :class:`~hiersearch.partitions.SoftOutput`.
    method : str or sequence of str, optional
        "tree_voting", "metric_merging", "best_cut", or several of them: each refines the
        output that the one before has left. Or "objects", for boundaries, affinities and objects.
        ``DEFAULT_METHODS`` of the reading where omitted.
    options : mapping of str to mapping, optional
        Keyword arguments of each method, e.g. ``{"tree_voting": {"trees": 1, "steps": 1}}``.
    device : {"cpu", "cuda", "cuda:N", "auto"}
        For the methods that can use a GPU, unless their options say otherwise: "tree_voting" and
        "best_cut". The others work on the CPU.

    Returns
    -------
    Refinement
        Of the last method; the trace tells of all.

    Raises
    ------
    TypeError, ValueError
        If a method is unknown or can't work on the reading, if options are given to a method that
        isn't used, if there is no such device, and as the methods themselves.

    Notes
    -----
    The cost is that of the methods: :func:`~hiersearch.refinement.tree_voting.tree_voting`,
    :func:`~hiersearch.refinement.metric_merging.metric_merging`,
    :func:`~hiersearch.refinement.best_cut.best_cut`,
    :func:`~hiersearch.refinement.objects.objects`.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((20, 20), np.uint8); image[5:15, 5:15] = 100
    >>> inside = np.where(image > 0, 0.7, 0.3); inside[8, 8] = 0.2
    >>> soft = np.stack([1 - inside, inside])
    >>> found = refine(image, soft, reading="classes")
    >>> int(found.labels[8, 8]), [step.method for step in found.trace][-1:]
    (1, ['tree_voting'])
    """
    resolved(device)
    output = as_soft_output(soft, reading, offsets=offsets)
    names = _checked_methods(method, output)
    chosen = {} if options is None else dict(options)
    unused = sorted(set(chosen) - set(names))
    if unused:
        raise ValueError(
            f"options must be for the methods used, {', '.join(names)}, got some for {unused[0]!r}"
        )
    trace: list[Any] = []
    found: Refinement | None = None
    for name in names:
        arguments: dict[str, Any] = {"device": device} if METHODS[name].on_devices else {}
        arguments |= chosen.get(name, {})
        found = METHODS[name].function(name)(image, output, **arguments)
        output = found.output
        trace += found.trace
    assert found is not None
    return replace(found, trace=tuple(trace))


def _checked_methods(method: str | Sequence[str] | None, output: SoftOutput) -> tuple[str, ...]:
    if method is None:
        return ("objects",) if output.foreground else DEFAULT_METHODS[output.reading]
    names = (method,) if isinstance(method, str) else tuple(method)
    if not names:
        raise ValueError(f"method must name at least one of {', '.join(METHODS)}, got none")
    for name in names:
        _validate.checked_choice(name, REFINEMENT_METHODS, "method")
        if METHODS[name].alone and len(names) > 1:
            raise ValueError(f"method {name!r} must come alone, got {', '.join(names)}")
        if output.reading not in METHODS[name].readings:
            fitting = [other for other in METHODS if output.reading in METHODS[other].readings]
            raise ValueError(
                f"method {name!r} needs reading {', '.join(METHODS[name].readings)}, got "
                f"{output.reading!r}, which goes with {', '.join(fitting)}"
            )
    return names
