"""What a network said, in one value: its channels, and what they mean.

The readings of channels are compared by name in this package alone; everyone else asks a
:class:`SoftOutput` what it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch.choices import READINGS, Reading
from hiersearch.partitions import _kernels, readings
from hiersearch.partitions.checks import (
    checked_offsets,
    checked_probabilities,
    checked_unit_map,
    pair_slices,
)
from hiersearch.partitions.partition import Partition, as_measure
from hiersearch.partitions.soft import Affinities, Memberships, SoftPartition

MOST_VALUES = 2**29
"""Values that a sparse soft partition may have once it is written out (2 GiB)."""

Labels = NDArray[np.integer[Any]]
Offsets = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False, repr=False)
class SoftOutput:
    """A network's channels and what they mean: what `match`, `refine` and searches take.

    Parameters
    ----------
    channels : float array, shape (k, H, W) or (k, D, H, W)
        As the network gave them.
    reading : {"regions", "classes", "boundaries", "affinities", "objects"}
        What the channels mean. "objects": background, interior and boundary.
    offsets : sequence of offsets, optional
        Of affinities, and needed there: as many integers as the grid has axes, one offset a
        channel. With one channel more than offsets, the first is the foreground.
    foreground : bool, optional
        Of affinities: whether channel 0 is the probability of an object; told by the number of
        channels where omitted.
    measure : array, shape of the grid, optional
        Non-negative weight of each pixel; 1 where omitted.
    pair_weights : array, shape (offsets,), optional
        Of affinities: non-negative weight of the pairs of each offset; 1 where omitted.

    Raises
    ------
    TypeError, ValueError
        If the reading is none of these, shapes do not fit, or an argument is given that the reading
        has no use for. Values are checked when they are first used.

    Examples
    --------
    >>> import numpy as np
    >>> inside = np.array([[0.9, 0.8, 0.1, 0.7]])
    >>> output = SoftOutput(np.stack([1 - inside, inside]), "classes")
    >>> output
    <SoftOutput 1×4: 2 channels, read as classes>
    >>> output.plain_labels().tolist(), output.partition().n_channels
    ([[1, 1, 0, 1]], 3)
    """

    channels: NDArray[Any]
    """(k, *grid) as the network gave them."""
    reading: Reading
    """What they mean."""
    offsets: tuple[tuple[int, ...], ...] | None = None
    """Of affinities: the step from a pixel to its partner, for each channel."""
    foreground: bool | None = None
    """Of affinities: whether the first channel is the foreground, before those of the offsets."""
    measure: NDArray[Any] | None = None
    """Shape of the grid: weight of each pixel, or None for 1 everywhere."""
    pair_weights: NDArray[np.float64] | None = None
    """(offsets,) of affinities: weight of the pairs of each offset, or None for 1."""
    _partition: SoftPartition | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Check what goes together; values are checked where they are used."""
        _validate.checked_choice(self.reading, READINGS, "reading")
        array = _validate.as_array(self.channels, "channels")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"channels must be real numbers, got dtype {array.dtype}")
        if array.ndim not in (3, 4) or array.shape[0] == 0:
            raise ValueError(
                "channels must have shape (k, H, W) or (k, D, H, W) with the channels first, "
                f"got {array.shape}"
            )
        grid = _validate.checked_grid(array.shape[1:], "channels' grid")
        object.__setattr__(self, "channels", array)
        self._check_count()
        self._take_offsets(grid)
        if self.measure is not None:
            object.__setattr__(self, "measure", as_measure(self.measure, grid).reshape(grid))

    def _check_count(self) -> None:
        """Check the number of channels where the reading fixes it."""
        count, names = len(self.channels), self.kind.channel_names
        if names is None or count == len(names):
            return
        if self.kind.is_map:
            raise ValueError(f"the {self.reading} reading needs one channel, got {count}")
        raise ValueError(
            f"the {self.reading} reading needs {len(names)} channels ({', '.join(names)}), "
            f"got {count}"
        )

    def _take_offsets(self, grid: tuple[int, ...]) -> None:
        """Check offsets, and settle whether there is a foreground."""
        if not self.kind.between_pixels:
            for name in ("offsets", "foreground", "pair_weights"):
                if getattr(self, name) not in (None, False):
                    raise ValueError(
                        f"{name} must be given for reading 'affinities' alone, got "
                        f"{getattr(self, name)!r} with {self.reading!r}"
                    )
            object.__setattr__(self, "foreground", False)
            return
        if self.offsets is None:
            raise ValueError("offsets must be given for reading 'affinities', got None")
        steps = _validate.as_array(self.offsets, "offsets")
        if steps.ndim != 2:
            raise ValueError(f"offsets must be a list of offsets, got {self.offsets!r}")
        count = len(steps)
        more = len(self.channels) - count
        if more not in (0, 1) or self.foreground not in (None, more == 1):
            expected = (
                "as many channels"
                if self.foreground is False
                else ("as many channels, or one more for the foreground")
            )
            raise ValueError(
                f"affinities with {count} offsets must have {expected}, got {len(self.channels)}"
            )
        steps = checked_offsets(steps, count, grid)
        object.__setattr__(self, "offsets", tuple(tuple(step) for step in steps.tolist()))
        object.__setattr__(self, "foreground", more == 1)

    @classmethod
    def of_partition(cls, soft: SoftPartition) -> SoftOutput:
        """Return a soft partition as the output that it can be read from again.

        Region channels are written out, class channels are the rows, and a boundary map is the map.

        Raises
        ------
        ValueError
            If sparse channels are too many to write out.
        TypeError
            If it has no channels but is of a hierarchy.
        """
        measure = None if soft.measure is None else soft.measure.reshape(soft.grid)
        if isinstance(soft, Affinities):
            output = cls(
                soft.values.reshape(-1, *soft.grid),
                "affinities",
                tuple(tuple(step) for step in soft.offsets.tolist()),
                measure=measure,
                pair_weights=soft.weights,
            )
        elif not isinstance(soft, Memberships):
            raise TypeError(
                f"soft must have channels, got {soft!r}: match and searches of an index take it as "
                "it is, and hard() is its nearest cut"
            )
        else:
            output = cls(*_written_out(soft), measure=measure)
        object.__setattr__(output, "_partition", soft)
        return output

    # --- what it stands for -------------------------------------------------------------------

    @property
    def kind(self) -> ReadingKind:
        """What follows from the reading."""
        return KINDS[self.reading]

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of the image or volume."""
        return self.channels.shape[1:]

    @property
    def has_background(self) -> bool:
        """Whether plain labels are objects from 1, with 0 where there is none."""
        return self.kind.of_objects or bool(self.foreground)

    @property
    def rows_are_classes(self) -> bool:
        """Whether channel c is class c, so that labels of pixels are classes."""
        return self.kind.of_classes

    def partition(self) -> SoftPartition:
        """Return the soft partition that the channels are read as. O(k · pixels), once.

        Raises
        ------
        TypeError, ValueError
            As the constructors of :class:`~hiersearch.partitions.soft.SoftPartition`.
        """
        if self._partition is None:
            object.__setattr__(self, "_partition", self.kind.partition(self))
        assert self._partition is not None
        return self._partition

    def plain_labels(self) -> Labels:
        """Return what the channels say pixel by pixel, before any search, shape of the grid.

        Of classes the class of each pixel and of regions the most probable channel; of boundaries
        the basin; of affinities the components of pairs that are rather joined than apart; of
        objects, and of affinities with a foreground, objects from 1 and 0 for none. O(k · pixels).
        """
        return self.kind.plain_labels(self)

    def with_channels(self, channels: ArrayLike) -> SoftOutput:
        """Return other channels of the same meaning, on the same grid."""
        return replace(self, channels=_validate.as_array(channels, "channels"))

    # --- parts of affinities ------------------------------------------------------------------

    @property
    def foreground_map(self) -> NDArray[Any] | None:
        """Shape of the grid: probability of an object, where affinities tell of it."""
        return self.channels[0] if self.foreground else None

    @property
    def pair_channels(self) -> NDArray[Any]:
        """(offsets, *grid) the affinities themselves, without the foreground."""
        return self.channels[1:] if self.foreground else self.channels

    # --- rows of probabilities ----------------------------------------------------------------

    def rows(self) -> NDArray[np.float32]:
        """Return the channels as rows (k, n) that sum to 1 at each pixel; of b both 1 − b and b.

        Raises
        ------
        TypeError
            If there are no channels at pixels: affinities are between pixels.
        ValueError
            If they are no probabilities.
        """
        if self.kind.between_pixels:
            raise TypeError(
                "channels must be at pixels (regions, classes, boundaries or objects), got "
                "affinities, which lie between pixels"
            )
        if self.kind.is_map:
            flat = checked_unit_map(self.channels[0], "boundary").reshape(-1).astype(np.float32)
            return np.stack([1 - flat, flat])
        return checked_probabilities(self.channels)[0].astype(np.float32, copy=False)

    def with_rows(self, rows: NDArray[np.float32]) -> SoftOutput:
        """Return the output whose :meth:`rows` these are."""
        kept = rows[1:] if self.kind.is_map else rows
        return self.with_channels(kept.reshape(-1, *self.grid))

    def outcome(self) -> tuple[NDArray[np.int32], Partition]:
        """Return labels of pixels and the partition that the channels come down to.

        Of classes the labels are classes and the regions their connected components; else labels
        number the regions. O(k · pixels).
        """
        if self.rows_are_classes:
            labels = _best(self)
            return labels, connected_components(labels)
        partition = Partition.from_labels(self.plain_labels())
        return partition.labels, partition

    def __repr__(self) -> str:
        """Name grid, channels and reading."""
        size = "×".join(str(side) for side in self.grid)
        count = len(self.channels)
        channels = "1 channel" if count == 1 else f"{count} channels"
        return f"<SoftOutput {size}: {channels}, read as {self.reading}>"


OBJECT_CHANNELS = ("background", "interior", "boundary")
"""Channels of the objects reading, in order."""

SoftLike = SoftOutput | SoftPartition | NDArray[Any]
"""What stands for a network's output; a bare array comes with its reading."""


def as_soft_output(
    soft: SoftOutput | SoftPartition | ArrayLike,
    reading: str | None = None,
    *,
    offsets: Offsets | None = None,
    measure: ArrayLike | None = None,
) -> SoftOutput:
    """Wrap what was given at the edge; an array comes with its reading.

    A boundary map may lack the axis of channels: (H, W), or a volume (D, H, W) with D > 1.

    Raises
    ------
    TypeError, ValueError
        If an array has no reading, or reading, offsets or measure are given beside something that
        knows them, or as :class:`SoftOutput`.
    """
    if isinstance(soft, (SoftOutput, SoftPartition)):
        if reading not in (None, soft.reading):
            raise ValueError(
                f"reading must be that of the {_kind(soft)}, {soft.reading!r}, got {reading!r}"
            )
        for what, value in (("offsets", offsets), ("measure", measure)):
            if value is not None:
                raise ValueError(f"{what} must be given with the {_kind(soft)}, not beside it")
        return soft if isinstance(soft, SoftOutput) else SoftOutput.of_partition(soft)
    if reading is None:
        raise ValueError(
            f"reading must say what the channels of an array mean, one of {', '.join(READINGS)}"
        )
    kind = reading_kind(reading)
    array = _validate.as_array(soft, "soft")
    if kind.is_map and (array.ndim == 2 or (array.ndim == 3 and array.shape[0] != 1)):
        # A bare map; one of a single row or slice cannot be told from one with its axis.
        array = array[None]
    return SoftOutput(array, reading, offsets, measure=measure)  # type: ignore[arg-type]


def as_soft_partition(
    soft: SoftOutput | SoftPartition | ArrayLike,
    reading: str | None = None,
    *,
    offsets: Offsets | None = None,
) -> SoftPartition:
    """Return what :func:`as_soft_output` is read as; a soft partition is taken as it is."""
    if isinstance(soft, SoftPartition) and reading in (None, soft.reading) and offsets is None:
        return soft
    return as_soft_output(soft, reading, offsets=offsets).partition()


def _kind(soft: SoftOutput | SoftPartition) -> str:
    return "soft output" if isinstance(soft, SoftOutput) else "soft partition"


def connected_components(labels: NDArray[Any]) -> Partition:
    """Return the partition into 4-connected (in 3-D 6-connected) pieces of equal labels."""
    return Partition.from_labels(readings.connected(labels, background=-1))


# --- one row a reading ------------------------------------------------------------------------


def _affinities(output: SoftOutput) -> SoftPartition:
    assert output.offsets is not None
    return SoftPartition.from_affinities(
        output.pair_channels,
        output.offsets,
        weights=output.pair_weights,
        measure=output.measure,
    )


def _best(output: SoftOutput) -> NDArray[np.int32]:
    """Most probable channel of each pixel; of equals the first."""
    return _kernels.best_channel(np.ascontiguousarray(output.rows())).reshape(output.grid)


def _hard(output: SoftOutput) -> NDArray[np.int32]:
    soft = output.partition()
    assert isinstance(soft, Memberships)
    return soft.hard().labels


def _joined(output: SoftOutput) -> Labels:
    """Components of the pairs that are rather joined than apart; 0 outside of a foreground."""
    from scipy import sparse

    soft = output.partition()
    assert isinstance(soft, Affinities)
    pixels = np.arange(soft.n_pixels).reshape(soft.grid)
    ends = []
    for values, offset in zip(soft.values, soft.offsets, strict=True):
        source, target = pair_slices(offset, soft.grid)
        joined = values.reshape(soft.grid)[source] > 0.5
        ends.append(np.stack([pixels[source][joined], pixels[target][joined]]))
    one, other = np.concatenate(ends, axis=1)
    graph = sparse.coo_array((np.ones(one.size), (one, other)), shape=(pixels.size, pixels.size))
    found = sparse.csgraph.connected_components(graph, directed=False)[1]
    labels = np.asarray(found, np.int32).reshape(soft.grid)
    inside = output.foreground_map
    return labels if inside is None else np.where(inside > 0.5, labels + 1, 0)


class ReadingKind(NamedTuple):
    """What follows from what channels mean: a row of :data:`KINDS`."""

    partition: Callable[[SoftOutput], SoftPartition]
    """The soft partition that they are read as."""
    plain_labels: Callable[[SoftOutput], Labels]
    """What they say pixel by pixel, before any search."""
    channel_names: tuple[str, ...] | None = None
    """The channels, where their number is fixed."""
    exclusive: bool = True
    """Whether they exclude each other: then they sum to 1 at each pixel."""
    of_classes: bool = False
    """Whether channel c is class c, whatever its regions are."""
    of_objects: bool = False
    """Whether plain labels are objects from 1, with 0 where there is none."""
    between_pixels: bool = False
    """Whether each channel is of pairs of pixels, at an offset."""

    @property
    def is_map(self) -> bool:
        """Whether there is one channel by its nature, so that its axis may be missing."""
        return self.channel_names is not None and len(self.channel_names) == 1

    @property
    def may_be_one_of_two(self) -> bool:
        """Whether a single channel p can stand for two, 1 − p and p."""
        return self.exclusive and self.channel_names is None


KINDS: dict[Reading, ReadingKind] = {
    "regions": ReadingKind(
        lambda o: SoftPartition.from_regions(o.channels, measure=o.measure), _best
    ),
    "classes": ReadingKind(
        lambda o: SoftPartition.from_classes(o.channels, measure=o.measure), _best, of_classes=True
    ),
    "boundaries": ReadingKind(
        lambda o: SoftPartition.from_boundaries(o.channels[0], measure=o.measure),
        _hard,
        channel_names=("boundary",),
        exclusive=False,
    ),
    "affinities": ReadingKind(_affinities, _joined, exclusive=False, between_pixels=True),
    "objects": ReadingKind(
        lambda o: SoftPartition.from_objects(o.channels, measure=o.measure),
        _hard,
        channel_names=OBJECT_CHANNELS,
        of_objects=True,
    ),
}
"""The one table of readings: everyone else asks it, or a :class:`SoftOutput`."""


def reading_kind(reading: str) -> ReadingKind:
    """Return what follows from a reading.

    Raises
    ------
    TypeError, ValueError
        If it is none.
    """
    return KINDS[cast(Reading, _validate.checked_choice(reading, READINGS, "reading"))]


def _written_out(soft: Memberships) -> tuple[NDArray[Any], Reading]:
    """Return channels (k, *grid) of memberships and how they are read again."""
    if soft.boundary is not None:
        return soft.boundary[None], "boundaries"
    if soft.rows_are_classes or soft.channels is None:
        return soft.values.reshape(-1, *soft.grid), soft.reading
    count = soft.n_channels * math.prod(soft.grid)
    if count > MOST_VALUES:
        raise ValueError(
            f"soft must have at most {MOST_VALUES} values once written out, got {count} of {soft!r}"
        )
    return soft.probabilities(), "regions"
