"""Soft partitions: what a network says about which pixels belong together.

A network's channels can mean five different things, and the reading is an explicit choice of the
caller (never guessed from the values): :meth:`SoftPartition.from_regions`, ``from_classes``,
``from_boundaries``, ``from_affinities`` and ``from_objects``. Affinities give :class:`Affinities`,
the others :class:`Memberships`.

An array is one image or one volume, never a batch: (a, b, H, W) is read as a channels on a volume
of b slices, and (a, H, W) as a channels on an image. The images of a batch go in one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch import _validate
from hiersearch._sealed import Sealed, private
from hiersearch.choices import READINGS, Reading
from hiersearch.partitions import _kernels, readings
from hiersearch.partitions.checks import (
    check_within_unit,
    checked_affinities,
    checked_channels,
    checked_leaves,
    checked_offsets,
    checked_pair_weights,
    checked_parents,
    checked_probabilities,
    checked_table,
    checked_unit_map,
    leaf_count,
    pair_slices,
)
from hiersearch.partitions.partition import Measure, Partition, as_measure, flat_measure


class Tree(Protocol):
    """What is needed of a merge tree."""

    @property
    def parents(self) -> NDArray[np.int64]:
        """(nodes,) parent of each node."""

    @property
    def leaf_map(self) -> NDArray[np.int32]:
        """Shape of the grid: leaf of each pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class SoftPartition(Sealed):
    """A soft partition of a grid; build one with a ``from_...`` constructor.

    Subclasses say how co-membership is stored: :class:`Memberships` (probabilities of channels)
    :class:`Affinities` (co-membership itself, on pairs of pixels at given offsets), or
    :class:`Merges` (co-membership for each merge of a tree). Their
    constructors check what they are given, as ``from_...`` does.

    Probabilities are many, so those of the right type are not copied: who changes the array
    afterwards changes the soft partition, and its distances with it. Whatever numbers pixels,
    channels or offsets is copied and read-only.
    """

    grid: tuple[int, ...]
    """Shape of the image or volume, (H, W) or (D, H, W)."""
    measure: Measure | None
    """(n,) measure of each pixel of the flattened grid, or None for 1 everywhere."""
    reading: Reading
    """What the channels were read as; "hierarchy" where there are none, but merges."""

    def __post_init__(self) -> None:
        raise TypeError("a SoftPartition is built with SoftPartition.from_..., not by its name")

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the grid."""
        return math.prod(self.grid)

    @property
    def reads_boundaries(self) -> bool:
        """Whether the regions are basins of a boundary map."""
        return self.reading == "boundaries"

    @property
    def rows_are_classes(self) -> bool:
        """Whether row c of the values is class c, whatever its components are."""
        return self.reading == "classes"

    @property
    def total(self) -> float:
        """Measure of the whole grid, M."""
        return float(self.n_pixels if self.measure is None else self.measure.sum())

    @staticmethod
    def from_regions(probabilities: ArrayLike, *, measure: ArrayLike | None = None) -> Memberships:
        """Read each channel as one region (instances, colourings, soft superpixels).

        Parameters
        ----------
        probabilities : float array, shape (k, H, W) or (k, D, H, W)
            Of one image or volume; non-negative, summing to 1 over the first axis within 0.002.
            Values are used as given. A single probability p of the second of two regions is
            ``np.stack([1 - p, p])``.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel; 1 where omitted.

        Raises
        ------
        ValueError
            If a value is not finite or negative, or if a pixel's sum is not 1 (the message names
            the pixel), or if the shapes do not fit.

        Notes
        -----
        O(k · pixels). A single-precision array is kept without a copy.

        Examples
        --------
        >>> import numpy as np
        >>> soft = SoftPartition.from_regions(np.full((2, 4, 5), 0.5))
        >>> soft.n_channels, soft.grid
        (2, (4, 5))
        """
        values, grid = checked_probabilities(probabilities)
        weights = None if measure is None else as_measure(measure, grid)
        return Memberships._of_table(grid, weights, "regions", values, None, values.shape[0])

    @staticmethod
    def from_sparse(
        values: ArrayLike,
        channels: ArrayLike,
        *,
        n_channels: int | None = None,
        measure: ArrayLike | None = None,
    ) -> Memberships:
        """Read sparse region channels: at each pixel m (channel, probability) pairs.

        Parameters
        ----------
        values : float array, shape (m, H, W) or (m, D, H, W)
            Probabilities, non-negative, summing to 1 over the first axis.
        channels : integer array of the same shape
            The channel of each probability, 0..n_channels - 1. A channel may come up twice at one
            pixel: its probabilities add up.
        n_channels : int, optional
            Number of channels; the largest one found plus one where omitted.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel.

        Raises
        ------
        ValueError, TypeError
            As :meth:`from_regions`, and if channels are not integers within the range.
        """
        checked, grid = checked_probabilities(values, name="values")
        index = _validate.as_array(channels, "channels")
        if index.shape != (checked.shape[0], *grid):
            raise ValueError(
                f"channels must have the shape of values {(checked.shape[0], *grid)}, "
                f"got {index.shape}"
            )
        flat, count = checked_channels(index.reshape(checked.shape), n_channels)
        weights = None if measure is None else as_measure(measure, grid)
        return Memberships._of_table(grid, weights, "regions", checked, flat, count)

    @staticmethod
    def from_classes(probabilities: ArrayLike, *, measure: ArrayLike | None = None) -> Memberships:
        """Read each channel as a class, and split it into the components of its arg-max map.

        Two nuclei of one class are two regions: at each pixel, the probability of class c goes to
        the component of c that is nearest to the pixel. A class that wins nowhere stays one
        channel.

        Parameters
        ----------
        probabilities : float array, shape (k, H, W) or (k, D, H, W)
            Of one image or volume; non-negative, summing to 1 over the first axis. A single
            probability p of the second of two classes is ``np.stack([1 - p, p])``.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel; 1 where omitted.

        Returns
        -------
        Memberships
            Sparse: k probabilities a pixel, row c those of class c, however many components there
            are. Channels are numbered class by class.

        Raises
        ------
        ValueError, TypeError
            As :meth:`from_regions`.

        Notes
        -----
        Components are 4-connected in 2-D and 6-connected in 3-D. O(k · pixels): one Euclidean
        distance transform for each class with two components or more.

        Examples
        --------
        Two foreground pixels apart from each other become two regions:

        >>> import numpy as np
        >>> foreground = np.array([[0.9, 0.2, 0.1, 0.8]])
        >>> soft = SoftPartition.from_classes(np.stack([1 - foreground, foreground]))
        >>> soft.n_channels, soft.channels.tolist()
        (3, [[0, 0, 0, 0], [1, 1, 2, 2]])
        """
        flat, grid = checked_probabilities(probabilities)
        weights = None if measure is None else as_measure(measure, grid)
        channels, count = readings.class_regions(flat, grid)
        return Memberships._of_table(grid, weights, "classes", flat, channels, count)

    @staticmethod
    def from_objects(probabilities: ArrayLike, *, measure: ArrayLike | None = None) -> Memberships:
        """Read background, interior and boundary channels as one background and many objects.

        Interior is what the boundary channel keeps apart: each connected component of the pixels
        where interior is most probable seeds one object. At every pixel, interior and boundary
        together are the probability of an object, and it goes to the nearest seed (Euclidean).

        Parameters
        ----------
        probabilities : float array, shape (3, H, W) or (3, D, H, W)
            Background, interior and boundary; non-negative, summing to 1 over the first axis.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel; 1 where omitted.

        Returns
        -------
        Memberships
            Sparse, two probabilities a pixel: channel 0 is the background, channel i the i-th
            object. Without any seed there is one object channel.

        Raises
        ------
        ValueError, TypeError
            As :meth:`from_regions`; also if there are not three channels.

        Notes
        -----
        O(pixels): one labelling of components and one distance transform.

        Examples
        --------
        >>> import numpy as np
        >>> interior = np.array([[0.9, 0.8, 0.1, 0.8, 0.9]])
        >>> boundary = np.array([[0.1, 0.2, 0.9, 0.2, 0.1]])
        >>> soft = SoftPartition.from_objects(np.stack([np.zeros((1, 5)), interior, boundary]))
        >>> soft.n_channels, soft.hard().labels.tolist()
        (3, [[0, 0, 0, 1, 1]])
        """
        flat, grid = checked_probabilities(probabilities)
        if flat.shape[0] != 3:
            raise ValueError(
                "probabilities must have 3 channels (background, interior, boundary), "
                f"got {flat.shape[0]}"
            )
        weights = None if measure is None else as_measure(measure, grid)
        values, channels, count = readings.object_regions(flat, grid)
        return Memberships._of_table(grid, weights, "objects", values, channels, count)

    @staticmethod
    def from_boundaries(
        boundary: ArrayLike,
        *,
        spread: Literal["passes", "random-walk"] = "passes",
        depth: float = 0.1,
        softness: float = 0.03,
        neighbours: int = 4,
        measure: ArrayLike | None = None,
    ) -> Memberships:
        """Read one channel as the probability of a boundary; its basins become soft regions.

        Seeds are the minima of the map that are at least ``depth`` deep. With ``spread="passes"`` a
        pixel p with boundary value b_p in the basin of seed i belongs to i with weight
        exp(-b_p / softness), and to an adjacent basin j with weight
        exp(-max(b_p, w_ij) / softness), where w_ij is the lowest pass between the two basins:
        membership is certain inside a basin with high walls, shared on the ridge, and shared widely
        where a pass is low. With ``spread="random-walk"`` it is the probability that a random walk
        from the pixel, which crosses steps of the map rarely, reaches seed j first (scikit-image).

        Parameters
        ----------
        boundary : float array, shape (H, W) or (D, H, W)
            Probability of a boundary at each pixel, within [0, 1]. Three axes are one volume: the
            maps of a batch go in one by one.
        spread : {"passes", "random-walk"}
            How seeds spread to pixels.
        depth : float
            Depth of a minimum, in units of the map, below which it is no seed of its own. Positive.
        softness : float
            Difference of the map over which membership falls by a factor e ("passes"). Positive.
        neighbours : int
            The most channels kept at a pixel, the pixel's own basin among them.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel; 1 where omitted.

        Returns
        -------
        Memberships
            Sparse: at most ``neighbours`` channels a pixel, one channel a basin. It keeps the map
            itself, too, which refining works on.

        Raises
        ------
        ValueError, TypeError
            If the map is not finite or leaves [0, 1], or a parameter is out of its range.

        Notes
        -----
        "passes" is O(pixels log pixels). "random-walk" solves one sparse linear system of all
        pixels for each seed: meant for a few dozen seeds. A softness as large as the walls between
        basins spreads every pixel over several regions, and the nearest cut then leaves many pixels
        single.

        Examples
        --------
        >>> import numpy as np
        >>> soft = SoftPartition.from_boundaries(np.array([[0.0, 0.1, 0.9, 0.1, 0.0]]))
        >>> soft.n_channels, np.round(soft.probabilities()[0], 2).tolist()
        (2, [[1.0, 1.0, 0.5, 0.0, 0.0]])
        """
        field = checked_unit_map(boundary, "boundary")
        _validate.checked_choice(spread, ("passes", "random-walk"), "spread")
        _validate.checked_count(neighbours, "neighbours", 1)
        for name, value in (("depth", depth), ("softness", softness)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        weights = None if measure is None else as_measure(measure, field.shape)
        values, channels, count = readings.basins(field, spread, depth, softness, neighbours)
        return Memberships._of_table(
            field.shape, weights, "boundaries", values, channels, count, field
        )

    @staticmethod
    def from_affinities(
        affinities: ArrayLike,
        offsets: Sequence[Sequence[int]],
        *,
        weights: ArrayLike | None = None,
        measure: ArrayLike | None = None,
    ) -> Affinities:
        """Read channel d as the probability that pixels p and p + offsets[d] share a region.

        Parameters
        ----------
        affinities : float array, shape (d, H, W) or (d, D, H, W)
            Of one image or volume; within [0, 1]. Values whose partner lies outside the grid are
            not used.
        offsets : sequence of d offsets, each of as many integers as the grid has axes
            Distinct pairs of pixels: no zero offset, no offset beside its own negative.
        weights : array, shape (d,), optional
            Non-negative weight of each offset's pairs; 1 where omitted.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel: a pair weighs the product of its pixels.

        Raises
        ------
        ValueError
            If a value is not finite or outside [0, 1], if offsets do not fit the channels or the
            grid, or if no pair has positive weight.

        Notes
        -----
        The metric restricted to these pairs is a pseudo-metric: partitions that agree on all of
        them have distance 0. O(d · pixels).
        """
        flat, grid = checked_affinities(affinities)
        steps = checked_offsets(offsets, flat.shape[0], grid)
        pair_weights = checked_pair_weights(weights, flat.shape[0])
        pixel_weights = None if measure is None else as_measure(measure, grid)
        soft = Affinities._unchecked(grid, pixel_weights, "affinities", flat, steps, pair_weights)
        soft._check_pairs()
        return soft

    @staticmethod
    def from_hierarchy(
        tree: Tree, probabilities: ArrayLike, *, measure: ArrayLike | None = None
    ) -> Merges:
        """Read each merge of a hierarchy as likely as its two sides belong together.

        Two pixels belong together with the probability of the merge that joins them, their lowest
        common ancestor; pixels of one leaf do so for sure.

        Parameters
        ----------
        tree : MergeTree
            The hierarchy, of any number of children a merge.
        probabilities : float array, shape (merges,) or (nodes,)
            Within [0, 1], in the order of the nodes' numbers; those of leaves don't count.
        measure : array, shape of the grid, optional
            Non-negative weight of each pixel; 1 where omitted.

        Returns
        -------
        Merges

        Raises
        ------
        ValueError, TypeError
            If the probabilities are not finite, outside [0, 1] or not one for each merge.

        Notes
        -----
        O(nodes). Distances to hard partitions are L1 distances of co-memberships, so that the
        triangle inequality holds through any hard partition. A cut of the same tree costs the sum
        over its merges of pairs · (1 − 2 C): the nearest is found in one pass.
        """
        return Merges.of(tree, probabilities, measure)


@dataclass(frozen=True, slots=True, eq=False)
class Memberships(SoftPartition):
    """A soft partition as probabilities P of k channels, dense or sparse per pixel."""

    values: NDArray[np.float32] | NDArray[np.float64]
    """(m, n) probabilities; dense: row j is channel j."""
    channels: NDArray[np.int32] | None
    """(m, n) the channel of each probability, or None where dense."""
    n_channels: int
    """Number of channels, k."""
    boundary: NDArray[np.float64] | None = None
    """Shape of the grid: the boundary map that the regions were read from, or None."""

    def __post_init__(self) -> None:
        grid = _validate.checked_grid(self.grid, "grid")
        kinds = tuple(kind for kind in READINGS if kind != "affinities")
        _validate.checked_choice(self.reading, kinds, "reading")
        table = checked_table(self.values, grid)
        checked_probabilities(table.reshape(-1, *grid), name="values")
        channels, count = None, table.shape[0]
        if self.channels is not None:
            index = _validate.as_array(self.channels, "channels")
            if index.shape != table.shape:
                raise ValueError(
                    f"channels must have the shape of values {table.shape}, got {index.shape}"
                )
            channels, count = checked_channels(index, self.n_channels)
        if self.n_channels != count:
            raise ValueError(
                f"n_channels must be the number of rows of dense values, {count}, "
                f"got {self.n_channels}"
            )
        measure = None if self.measure is None else flat_measure(self.measure, grid)
        self._keep(
            grid=grid,
            measure=measure,
            values=table,
            channels=channels,
            n_channels=count,
            boundary=self._checked_boundary(grid),
        )

    def _checked_boundary(self, grid: tuple[int, ...]) -> NDArray[np.float64] | None:
        if self.boundary is None:
            return None
        if self.reading != "boundaries":
            raise ValueError(
                f"boundary must be given for reading 'boundaries' alone, got {self.reading!r}"
            )
        return private(checked_unit_map(self.boundary, "boundary", grid))

    @classmethod
    def _of_table(
        cls,
        grid: tuple[int, ...],
        measure: Measure | None,
        reading: Reading,
        values: NDArray[Any],
        channels: NDArray[np.int32] | None,
        n_channels: int,
        boundary: NDArray[np.float64] | None = None,
    ) -> Memberships:
        """Make memberships of sound arrays, of which ``values`` may be the caller's."""
        # A view, since the caller's own array must not become read-only.
        field = None if boundary is None else boundary.view()
        return cls._unchecked(grid, measure, reading, values.view(), channels, n_channels, field)

    def probabilities(self) -> NDArray[Any]:
        """Return the dense probabilities, shape (k, *grid). O(k · pixels)."""
        if self.channels is None:
            return self.values.reshape(self.n_channels, *self.grid)
        dense = np.zeros((self.n_channels, self.n_pixels), self.values.dtype)
        pixels = np.arange(self.n_pixels)
        for row, channel in zip(self.values, self.channels, strict=True):
            np.add.at(dense, (channel, pixels), row)
        return dense.reshape(self.n_channels, *self.grid)

    def hard(self) -> Partition:
        """Return the partition by most probable channel, of equals the first in ``values``.

        O(k · pixels) dense, O(m² · pixels) from m pairs a pixel, as a channel may come up twice.
        """
        if self.channels is None:
            labels = self.values.argmax(axis=0)
        else:
            labels = _kernels.most_probable(self.values, self.channels)
        return Partition.from_labels(labels.reshape(self.grid))._under(self.measure)

    def with_measure(self, measure: ArrayLike | None) -> Memberships:
        """Return the same soft partition under another measure (None: 1 everywhere)."""
        return self._under(None if measure is None else as_measure(measure, self.grid))

    def _under(self, weights: Measure | None) -> Memberships:
        return self._unchecked(
            self.grid,
            weights,
            self.reading,
            self.values,
            self.channels,
            self.n_channels,
            self.boundary,
        )

    def __repr__(self) -> str:
        """Name grid, channels and reading."""
        size = "×".join(str(side) for side in self.grid)
        form = "dense" if self.channels is None else f"{self.values.shape[0]} a pixel"
        return f"<Memberships {size}: {self.n_channels} channels ({form}), read as {self.reading}>"


@dataclass(frozen=True, slots=True, eq=False)
class Affinities(SoftPartition):
    """A soft partition known on pairs of pixels: the probability that each pair is joined."""

    values: NDArray[np.float32]
    """(d, n) probability that pixel p and pixel p + offsets[d] share a region."""
    offsets: NDArray[np.int64]
    """(d, axes) step from a pixel to its partner."""
    weights: NDArray[np.float64]
    """(d,) weight of each offset's pairs."""

    def __post_init__(self) -> None:
        grid = _validate.checked_grid(self.grid, "grid")
        _validate.checked_choice(self.reading, ("affinities",), "reading")
        flat, _ = checked_affinities(checked_table(self.values, grid).reshape(-1, *grid))
        self._keep(
            grid=grid,
            measure=None if self.measure is None else flat_measure(self.measure, grid),
            values=flat,
            offsets=checked_offsets(self.offsets, flat.shape[0], grid),
            weights=checked_pair_weights(self.weights, flat.shape[0]),
        )
        self._check_pairs()

    def _check_pairs(self) -> None:
        if not self.pair_total > 0:
            raise ValueError(
                f"affinities must know a pair of pixels with positive weight, got none on grid "
                f"{self.grid} with offsets {self.offsets.tolist()}"
            )

    @property
    def pair_total(self) -> float:
        """Sum of the weights of all pairs inside the grid: what distances are divided by."""
        return float(sum(self.pair_weights(d).sum() for d in range(self.weights.size)))

    def pair_weights(self, d: int) -> NDArray[np.float64]:
        """Weights of the pairs of offset ``d`` that lie inside the grid, on their sub-grid."""
        source, target = pair_slices(self.offsets[d], self.grid)
        if self.measure is None:
            shape = np.empty(self.grid, np.bool_)[source].shape
            return np.full(shape, self.weights[d])
        field = self.measure.reshape(self.grid).astype(np.float64)
        weighted: NDArray[np.float64] = self.weights[d] * field[source] * field[target]
        return weighted

    def with_measure(self, measure: ArrayLike | None) -> Affinities:
        """Return the same affinities under another measure (None: 1 everywhere)."""
        return self._under(None if measure is None else as_measure(measure, self.grid))

    def _under(self, weights: Measure | None) -> Affinities:
        return self._unchecked(
            self.grid, weights, self.reading, self.values, self.offsets, self.weights
        )

    def __repr__(self) -> str:
        """Name grid and offsets."""
        size = "×".join(str(side) for side in self.grid)
        return f"<Affinities {size}: {self.offsets.shape[0]} offsets>"


@dataclass(frozen=True, slots=True, eq=False)
class Merges(SoftPartition):
    """A soft partition whose co-membership is a number for each merge of a hierarchy.

    Two pixels belong together as likely as the two sides of the merge that joins them do, C_pq =
    g(lowest common ancestor); pixels of one leaf do so for sure.
    """

    parents: NDArray[np.int64]
    """(nodes,) parent of each node, above it in number; the last is the root, its own parent."""
    leaf_map: NDArray[np.int32]
    """(n,) leaf of each pixel, 0..leaves − 1."""
    joined: NDArray[np.float64]
    """(nodes,) probability that what a node merges belongs together; 1 for leaves."""

    def __post_init__(self) -> None:
        grid = _validate.checked_grid(self.grid, "grid")
        _validate.checked_choice(self.reading, ("hierarchy",), "reading")
        parents = checked_parents(self.parents)
        leaves = _validate.as_array(self.leaf_map, "leaf_map")
        if leaves.size != math.prod(grid):
            raise ValueError(
                f"leaf_map must have a leaf for each of the {math.prod(grid)} pixels, got "
                f"{leaves.size}"
            )
        n_leaves = leaf_count(parents)
        flat = checked_leaves(leaves.reshape(-1), n_leaves)
        joined = _validate.checked_finite(self.joined, "joined")
        if joined.shape != parents.shape or not (joined[:n_leaves] == 1).all():
            raise ValueError(
                f"joined must be {parents.size} probabilities, one for each node and 1 for leaves, "
                f"got shape {joined.shape}"
            )
        check_within_unit(joined, "joined", 0)
        measure = None if self.measure is None else flat_measure(self.measure, grid)
        self._keep(
            grid=grid,
            measure=measure,
            parents=parents,
            leaf_map=flat,
            joined=private(joined, np.float64),
        )

    @classmethod
    def of(cls, tree: Tree, probabilities: ArrayLike, measure: ArrayLike | None = None) -> Merges:
        """Make one of a merge tree, see :meth:`SoftPartition.from_hierarchy`."""
        grid = _validate.checked_grid(tree.leaf_map.shape, "tree's grid")
        n_nodes = tree.parents.size
        n_leaves = leaf_count(tree.parents)
        given = _validate.checked_finite(probabilities, "probabilities")
        if given.shape not in ((n_nodes - n_leaves,), (n_nodes,)):
            raise ValueError(
                f"probabilities must be {n_nodes - n_leaves} numbers, one for each merge of the "
                f"tree, or {n_nodes}, one for each node, got shape {given.shape}"
            )
        check_within_unit(given, "probabilities", n_nodes - given.size)
        joined = np.ones(n_nodes)
        joined[n_leaves:] = given[given.size - (n_nodes - n_leaves) :]
        weights = None if measure is None else as_measure(measure, grid)
        leaves = private(tree.leaf_map.reshape(-1), np.int32)
        parents = private(tree.parents, np.int64)
        return cls._unchecked(grid, weights, "hierarchy", parents, leaves, joined)

    @property
    def n_leaves(self) -> int:
        """Number of leaves."""
        return leaf_count(self.parents)

    @property
    def n_nodes(self) -> int:
        """Number of nodes, leaves among them."""
        return int(self.parents.size)

    def node_sizes(self) -> NDArray[np.float64]:
        """Measure of each node, (nodes,). O(pixels + nodes)."""
        sizes = np.zeros(self.n_nodes)
        sizes[: self.n_leaves] = np.bincount(self.leaf_map, self.measure, self.n_leaves)
        _kernels.sum_up(self.parents, sizes)
        return sizes

    def node_costs(self) -> NDArray[np.float64]:
        """Return Σ 1 − 2 C over the ordered pairs of pixels of each node, (nodes,).

        What a node costs as a region of a cut of the hierarchy itself. O(pixels + nodes).
        """
        return _kernels.costs_of_merges(self.parents, self.node_sizes(), 1 - 2 * self.joined)

    def hard(self) -> Partition:
        """Return the nearest cut of the hierarchy itself, of equals the one with fewest regions.

        O(pixels + nodes).
        """
        regions = _kernels.cheapest_cut(self.parents, self.node_costs(), self.n_leaves)
        labels = regions[self.leaf_map].reshape(self.grid)
        return Partition.from_labels(labels)._under(self.measure)

    def with_measure(self, measure: ArrayLike | None) -> Merges:
        """Return the same soft partition under another measure (None: 1 everywhere)."""
        return self._under(None if measure is None else as_measure(measure, self.grid))

    def _under(self, weights: Measure | None) -> Merges:
        return self._unchecked(
            self.grid, weights, self.reading, self.parents, self.leaf_map, self.joined
        )

    def __repr__(self) -> str:
        """Name grid and hierarchy."""
        size = "×".join(str(side) for side in self.grid)
        merges = self.n_nodes - self.n_leaves
        return f"<Merges {size}: {self.n_leaves} leaves, probabilities of {merges} merges>"
