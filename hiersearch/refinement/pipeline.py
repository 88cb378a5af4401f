"""Refining in one call: one method, or several in a row, each on the outcome of the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hiersearch import _validate
from hiersearch.device.choice import resolved
from hiersearch.partitions.soft import READINGS, Affinities, Memberships, SoftPartition
from hiersearch.refinement.channels import soft_partition
from hiersearch.refinement.refinement import Refinement

METHODS = ("tree_voting", "metric_merging", "best_cut", "objects")

ON_DEVICES = ("tree_voting", "best_cut")
"""Methods that can use a GPU."""

DEFAULT_METHODS: dict[str, tuple[str, ...]] = {
    "regions": ("metric_merging",),
    "classes": ("tree_voting",),
    "boundaries": ("metric_merging",),
    "affinities": ("metric_merging",),
    "objects": ("objects",),
}
"""What `refine` does for each reading unless told otherwise, chosen by the benchmarks."""

OBJECTS = "objects"

_OBJECT_CHANNELS = {
    "objects": "background-interior-boundary",
    "boundaries": "boundary",
    "affinities": "affinities",
}


def refine(
    image: ArrayLike | None,
    soft: SoftPartition | ArrayLike,
    *,
    reading: str | None = None,
    method: str | Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | None = "cpu",
) -> Refinement:
    """Refine a network's soft output with the help of the image that it was made of.

    Parameters
    ----------
    image : array of finite numbers, shape of the grid, with or without a last axis of channels
        May be None where the methods do without it.
    soft : SoftPartition or float array
        What to refine. An array has its channels first, (k, *grid), and comes with ``reading``; a
        boundary map may lack the axis of channels. Affinities come as a soft partition, which
        knows their offsets.
    reading : {"regions", "classes", "boundaries", "objects"}, optional
        What an array's channels mean. "objects": background, interior and boundary of objects,
        which become instances.
    method : str or sequence of str, optional
        "tree_voting", "metric_merging", "best_cut", or several of them: each refines the
        probabilities that the one before has left. Or "objects", for boundaries and affinities.
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
    meaning = _reading_of(soft, reading)
    names = _checked_methods(method, meaning)
    chosen = {} if options is None else dict(options)
    unused = sorted(set(chosen) - set(names))
    if unused:
        raise ValueError(
            f"options must be for the methods used, {', '.join(names)}, got some for {unused[0]!r}"
        )
    trace: list[Any] = []
    found: Refinement | None = None
    for name in names:
        if found is not None:
            soft = _refined_soft(soft, found.probabilities)
        arguments = chosen.get(name, {})
        if name in ON_DEVICES:
            arguments = {"device": device, **arguments}
        found = _run(name, image, soft, meaning, arguments)
        trace += found.trace
    assert found is not None
    return Refinement(found.probabilities, found.labels, found.partition, tuple(trace))


def _reading_of(soft: SoftPartition | ArrayLike, reading: str | None) -> str:
    choices = (*READINGS, OBJECTS)
    if isinstance(soft, SoftPartition):
        if reading not in (None, soft.reading):
            raise ValueError(
                f"reading must be that of the soft partition, {soft.reading!r}, got {reading!r}"
            )
        return soft.reading
    if reading is None:
        raise ValueError(
            f"reading must say what the channels of an array mean, one of {', '.join(choices)}"
        )
    return _validate.checked_choice(reading, choices, "reading")


def _checked_methods(method: str | Sequence[str] | None, reading: str) -> tuple[str, ...]:
    if method is None:
        return DEFAULT_METHODS[reading]
    names = (method,) if isinstance(method, str) else tuple(method)
    if not names:
        raise ValueError(f"method must name at least one of {', '.join(METHODS)}, got none")
    for name in names:
        _validate.checked_choice(name, METHODS, "method")
    if reading == OBJECTS and names != (OBJECTS,):
        raise ValueError(f"reading 'objects' needs method 'objects', got {', '.join(names)}")
    if OBJECTS in names:
        if len(names) > 1:
            raise ValueError(f"method 'objects' must come alone, got {', '.join(names)}")
        if reading not in _OBJECT_CHANNELS:
            raise ValueError(
                f"method 'objects' needs reading {', '.join(_OBJECT_CHANNELS)}, got {reading!r}"
            )
    return names


def _run(
    name: str,
    image: ArrayLike | None,
    soft: SoftPartition | ArrayLike,
    reading: str,
    options: Mapping[str, Any],
) -> Refinement:
    own_reading = None if isinstance(soft, SoftPartition) else reading
    method: Callable[..., Refinement]
    if name == "tree_voting":
        from hiersearch.refinement.tree_voting import tree_voting as method
    elif name == "best_cut":
        from hiersearch.refinement.best_cut import best_cut as method
    elif name == "metric_merging":
        from hiersearch.refinement.metric_merging import metric_merging

        return metric_merging(image, soft_partition(soft, own_reading), **options)
    else:
        return _objects(image, soft, reading, options)
    return method(image, soft, reading=own_reading, **options)


def _objects(
    image: ArrayLike | None,
    soft: SoftPartition | ArrayLike,
    reading: str,
    options: Mapping[str, Any],
) -> Refinement:
    from hiersearch.refinement.objects import objects

    channels: Any = _OBJECT_CHANNELS[reading]
    if isinstance(soft, Affinities):
        values = soft.values.reshape(-1, *soft.grid)
        return objects(image, values, channels=channels, offsets=soft.offsets.tolist(), **options)
    if isinstance(soft, SoftPartition):
        raise ValueError(f"method 'objects' needs the boundary map itself, got {soft!r}")
    return objects(image, soft, channels=channels, **options)


def _refined_soft(
    soft: SoftPartition | ArrayLike, probabilities: ArrayLike
) -> SoftPartition | ArrayLike:
    """Return refined probabilities in the form that the soft output came in."""
    if isinstance(soft, Affinities):
        return SoftPartition.from_affinities(
            probabilities, soft.offsets.tolist(), weights=soft.weights, measure=_measure(soft)
        )
    if isinstance(soft, Memberships):
        values = np.asarray(probabilities)
        if soft.reading == "classes":
            return SoftPartition.from_classes(values, measure=_measure(soft))
        if soft.reading == "boundaries" and values.shape[0] == 1:
            return SoftPartition.from_boundaries(values[0], measure=_measure(soft))
        return SoftPartition.from_regions(values, measure=_measure(soft))
    return probabilities


def _measure(soft: SoftPartition) -> ArrayLike | None:
    return None if soft.measure is None else soft.measure.reshape(soft.grid)
