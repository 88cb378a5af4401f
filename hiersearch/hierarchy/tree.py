"""The merge tree: a few documented arrays, one validator, and the cuts that need no search."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._sealed import Sealed, private, sealed
from hiersearch._validate import (
    LARGEST_INT32,
    Grid,
    as_array,
    checked_count,
    checked_finite,
    checked_grid,
    checked_labels,
    checked_measure,
)
from hiersearch.hierarchy import _tree_kernels as kernels
from hiersearch.partitions._kernels import sum_up


def node_sizes(parents: NDArray[np.int64], leaf_sizes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the measure of every node from that of the leaves. O(nodes)."""
    sizes = np.zeros(parents.size)
    sizes[: leaf_sizes.size] = leaf_sizes
    sum_up(parents, sizes)
    return sizes


def is_identity(leaf_map: NDArray[np.int32]) -> bool:
    """Return whether leaf p is pixel p of the flattened grid. O(pixels)."""
    flat = leaf_map.reshape(-1)
    # Most maps already fail at their last pixel.
    return bool(flat[-1] == flat.size - 1 and (flat == np.arange(flat.size)).all())


@dataclass(frozen=True, slots=True, eq=False)
class MergeTree(Sealed):
    """A merging hierarchy of the regions of a grid.

    Nodes ``0..n_leaves-1`` are the leaves (superpixels, or pixels); every later node is the
    union of the nodes whose parent it is, so its id is larger than theirs, and the last node,
    the root, is the whole grid. Inner nodes have two or more children.

    The constructor checks arrays of the types below, as `validate` does, and copies them;
    `from_parents` converts them and computes sizes, too. A tree's arrays are read-only.

    Parameters
    ----------
    parents : ndarray of int64, shape (n_nodes,)
        Parent of each node; ``parents[i] > i``, and the root is its own parent.
    altitudes : ndarray of float64, shape (n_nodes,)
        Cost at which each node was formed, in the linkage's unit; leaves have 0 unless they
        were imported with other values. Some linkages make a node lower than its child: see
        `is_increasing` and `monotone`.
    sizes : ndarray of float64, shape (n_nodes,)
        Measure of each node: its number of pixels unless a measure was given. A leaf whose
        pixels all have measure zero has size 0.
    leaf_map : ndarray of int32, shape ``grid``
        Leaf of each pixel; every leaf has at least one pixel.

    Notes
    -----
    Nodes are numbered in 32 bits where many are kept: there are at most 2**31 - 1, hence at most
    2**30 leaves in a binary tree.

    Examples
    --------
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> tree.n_leaves, tree.root, tree.sizes.tolist()
    (3, 4, [1.0, 1.0, 2.0, 2.0, 4.0])
    >>> tree.labels_of(tree.horizontal_cut(1))
    array([[1, 1, 0, 0]], dtype=int32)
    """

    parents: NDArray[np.int64]
    altitudes: NDArray[np.float64]
    sizes: NDArray[np.float64]
    leaf_map: NDArray[np.int32]

    @staticmethod
    def from_parents(
        parents: ArrayLike,
        altitudes: ArrayLike,
        leaf_map: ArrayLike,
        sizes: ArrayLike | None = None,
    ) -> "MergeTree":
        """Build a validated merge tree.

        Parameters
        ----------
        parents : array_like of integers, shape (n_nodes,)
            See the class.
        altitudes : array_like of finite numbers, shape (n_nodes,)
            See the class.
        leaf_map : array_like of integers, 2-D or 3-D
            Leaf of each pixel.
        sizes : array_like of finite numbers, shape (n_nodes,), optional
            Measure of each node; pixel counts if left out.

        Returns
        -------
        MergeTree

        Raises
        ------
        TypeError
            If an array has no integer or real dtype where one is needed.
        ValueError
            If an array breaks a rule of `validate`.

        Notes
        -----
        O(nodes + pixels).

        Examples
        --------
        >>> MergeTree.from_parents([1, 1], [0, 2], [[0, 0]])
        Traceback (most recent call last):
            ...
        ValueError: parents: node 1 has one child; an inner node needs at least two
        """
        ids = as_array(parents, "parents")
        if ids.dtype.kind not in "iu":
            raise TypeError(f"parents must be an array of integers, got dtype {ids.dtype}")
        _check_node_count(ids)
        heights = checked_finite(altitudes, "altitudes")
        labels = checked_labels(leaf_map, "leaf_map")
        if int(labels.min()) < 0 or int(labels.max()) > LARGEST_INT32:
            raise ValueError(
                f"leaf_map must lie within 0..{LARGEST_INT32}, got values from {labels.min()} "
                f"to {labels.max()}"
            )
        measured = np.zeros(ids.shape) if sizes is None else checked_finite(sizes, "sizes")
        made = MergeTree(
            private(ids, np.int64),
            private(heights, np.float64),
            private(measured, np.float64),
            private(labels, np.int32),
        )
        if sizes is not None:
            return made
        return made._with_sizes(np.bincount(made.leaf_map.reshape(-1)))

    def __post_init__(self) -> None:
        _check_node_count(as_array(self.parents, "parents"))
        for name in self.__match_args__:
            self._keep(**{name: private(as_array(getattr(self, name), name))})
        self.validate()

    @staticmethod
    def _of(
        parents: NDArray[np.int64],
        altitudes: NDArray[np.float64],
        leaf_map: NDArray[np.int32],
        leaf_sizes: NDArray[Any],
    ) -> "MergeTree":
        """Make a tree of sound arrays, sealed in place, and of the measure of its leaves."""
        sealed(parents)
        sizes = node_sizes(parents, leaf_sizes)
        return MergeTree._unchecked(parents, altitudes, sizes, leaf_map)

    def _with_sizes(self, leaf_sizes: NDArray[Any]) -> "MergeTree":
        return self._of(self.parents, self.altitudes, self.leaf_map, leaf_sizes)

    def _with_altitudes(self, altitudes: NDArray[np.float64]) -> "MergeTree":
        return self._unchecked(self.parents, altitudes, self.sizes, self.leaf_map)

    @property
    def grid(self) -> Grid:
        """Shape of the image: (H, W) or (D, H, W)."""
        return self.leaf_map.shape

    @property
    def n_nodes(self) -> int:
        """Number of nodes, leaves and root included."""
        return int(self.parents.shape[0])

    @property
    def n_leaves(self) -> int:
        """Number of leaves; O(nodes), since the first inner node is the smallest parent."""
        return int(self.parents.min()) if self.n_nodes > 1 else 1

    @property
    def n_inner(self) -> int:
        """Number of nodes that are not leaves."""
        return self.n_nodes - self.n_leaves

    @property
    def root(self) -> int:
        """Id of the root, the last node."""
        return self.n_nodes - 1

    @property
    def has_pixel_leaves(self) -> bool:
        """Whether leaf p is pixel p of the flattened grid; O(pixels) at worst."""
        return is_identity(self.leaf_map)

    @property
    def is_binary(self) -> bool:
        """Whether every inner node has exactly two children."""
        return self.n_nodes == 2 * self.n_leaves - 1

    @property
    def is_increasing(self) -> bool:
        """Whether no node lies higher than its parent; O(nodes)."""
        return bool(kernels.first_inversion(self.parents, self.altitudes) < 0)

    def __repr__(self) -> str:
        """Name grid, leaves and nodes."""
        size = "×".join(str(side) for side in self.grid)
        return f"<MergeTree {size}: {self.n_leaves} leaves, {self.n_nodes} nodes>"

    def validate(self) -> None:
        """Check every rule that the class states.

        Raises
        ------
        TypeError
            If an array has another dtype than the class states.
        ValueError
            If an array has a wrong shape or breaks a rule; the sentence names the array, the
            rule and the first node that breaks it.

        Notes
        -----
        O(nodes + pixels).

        Examples
        --------
        >>> MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]]).validate()
        """
        self._check_arrays()
        rule, node, n_leaves = kernels.check_parents(self.parents)
        if rule != kernels.VALID:
            raise ValueError(f"parents: {_broken_rule(rule, node, self.parents)}")
        low, high = int(self.leaf_map.min()), int(self.leaf_map.max())
        if low < 0 or high >= n_leaves:
            raise ValueError(
                f"leaf_map must lie within 0..{n_leaves - 1} (the tree has {n_leaves} leaves), "
                f"got values from {low} to {high}"
            )
        unused = kernels.first_unused_leaf(self.leaf_map.reshape(-1), n_leaves)
        if unused >= 0:
            raise ValueError(f"leaf_map: leaf {unused} has no pixel")
        negative = np.flatnonzero(self.sizes < 0)
        if negative.size:
            node = int(negative[0])
            raise ValueError(f"sizes: node {node} has the negative size {self.sizes[node]}")
        wrong = kernels.first_wrong_size(self.parents, self.sizes, n_leaves)
        if wrong >= 0:
            raise ValueError(
                f"sizes: node {wrong} has size {self.sizes[wrong]}, "
                "which is not the sum of its children's sizes"
            )

    def _check_arrays(self) -> None:
        for name, array, dtype in (
            ("parents", self.parents, np.int64),
            ("altitudes", self.altitudes, np.float64),
            ("sizes", self.sizes, np.float64),
            ("leaf_map", self.leaf_map, np.int32),
        ):
            if array.dtype != dtype:
                raise TypeError(f"{name} must have dtype {np.dtype(dtype)}, got {array.dtype}")
        checked_grid(self.leaf_map.shape, "leaf_map")
        _check_node_count(self.parents)
        checked_finite(self.altitudes, "altitudes")
        checked_finite(self.sizes, "sizes")
        for name, array in (("altitudes", self.altitudes), ("sizes", self.sizes)):
            if array.shape != self.parents.shape:
                raise ValueError(
                    f"{name} must have one value per node, shape {self.parents.shape}, "
                    f"got {array.shape}"
                )

    def children(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the children of every node as compressed lists.

        Returns
        -------
        offsets : ndarray of int64, shape (n_nodes + 1,)
            The children of node i are ``nodes[offsets[i]:offsets[i + 1]]``, ascending; a
            leaf's list is empty.
        nodes : ndarray of int64, shape (n_nodes - 1,)
            Every node but the root.

        Notes
        -----
        O(nodes).

        Examples
        --------
        >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
        >>> offsets, nodes = tree.children()
        >>> nodes[offsets[4]:offsets[5]].tolist()
        [2, 3]
        """
        offsets, nodes = kernels.child_lists(self.parents)
        return offsets, nodes

    def horizontal_cut(self, altitude: float) -> NDArray[np.int64]:
        """Return the cut whose regions are merged at or below an altitude.

        Each region is the largest node in which every merge has an altitude of at most
        ``altitude``, or a leaf. Where the tree is not increasing this is the horizontal cut of
        `monotone`, as in SciPy's ``fcluster`` with the criterion "distance".

        Parameters
        ----------
        altitude : float
            Threshold, in the unit of ``altitudes``; infinity gives the root.

        Returns
        -------
        ndarray of int64, shape (n_regions,)
            Node ids, ascending.

        Raises
        ------
        ValueError
            If ``altitude`` is NaN.

        Notes
        -----
        O(nodes). The altitudes of leaves play no part.

        Examples
        --------
        >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
        >>> tree.horizontal_cut(0.5), tree.horizontal_cut(1), tree.horizontal_cut(5)
        (array([0, 1, 2]), array([2, 3]), array([4]))
        """
        threshold = float(altitude)
        if np.isnan(threshold):
            raise ValueError("altitude must be a number, got nan")
        n_leaves = self.n_leaves
        inner_altitudes = self.altitudes.copy()
        inner_altitudes[:n_leaves] = -np.inf
        highest = kernels.running_maximum(self.parents, inner_altitudes)
        # Leaves have −∞ here, so that they are taken wherever nothing above them is.
        return kernels.topmost(self.parents, highest <= threshold)

    def cut_with_regions(self, regions: int) -> NDArray[np.int64]:
        """Return the cut with a given number of regions: the last merges are undone.

        Parameters
        ----------
        regions : int
            Number of regions, 1 to ``n_leaves``.

        Returns
        -------
        ndarray of int64
            Node ids, ascending; exactly ``regions`` of them in a binary tree. Where a node
            has more children than two, undoing its merge can jump past ``regions``: then the
            cut before it is returned, which has fewer.

        Raises
        ------
        TypeError, ValueError
            If ``regions`` is not a whole number within 1..n_leaves.

        Notes
        -----
        O(nodes). Merges are undone in descending order of node id, which is the order in which
        they were made, so inversions of altitude play no part.

        Examples
        --------
        >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
        >>> tree.cut_with_regions(2)
        array([2, 3])
        """
        n_leaves = self.n_leaves
        wanted = checked_count(regions, "regions", 1, n_leaves)
        cut: NDArray[np.int64] = kernels.first_nodes_kept(self.parents, n_leaves, wanted)
        return cut

    def labels_of(self, cut: ArrayLike) -> NDArray[np.int32]:
        """Return the partition that a cut stands for, at full resolution.

        Parameters
        ----------
        cut : array_like of integers, shape (n_regions,)
            Node ids in any order that together cover each leaf exactly once.

        Returns
        -------
        ndarray of int32, shape ``grid``
            Label map: the pixels of ``cut[i]`` have label i.

        Raises
        ------
        TypeError
            If ``cut`` does not hold integers.
        ValueError
            If a node id is outside the tree, or a leaf is covered twice or not at all.

        Notes
        -----
        O(nodes + pixels).

        Examples
        --------
        >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
        >>> tree.labels_of([3, 2])
        array([[0, 0, 1, 1]], dtype=int32)
        >>> tree.labels_of([3, 0])
        Traceback (most recent call last):
            ...
        ValueError: cut covers a leaf twice: it holds node 0 and its ancestor 3
        """
        ids = self._checked_cut(cut)
        rule, node, other, positions = kernels.leaf_positions(self.parents, ids, self.n_leaves)
        if rule == kernels.COVERED_TWICE:
            raise ValueError(
                f"cut covers a leaf twice: it holds node {node} and its ancestor {other}"
            )
        if rule == kernels.NOT_COVERED:
            raise ValueError(f"cut must cover every leaf, but leaf {node} is in none of its nodes")
        return positions[self.leaf_map]

    def _checked_cut(self, cut: ArrayLike) -> NDArray[np.int64]:
        given = as_array(cut, "cut")
        if given.ndim != 1 or given.size == 0:
            raise ValueError(f"cut must be 1-D and not empty, got shape {given.shape}")
        if given.dtype.kind not in "iu":
            raise TypeError(f"cut must hold node ids (integers), got dtype {given.dtype}")
        if int(given.min()) < 0 or int(given.max()) > self.root:
            bad = given[(given < 0) | (given > self.root)][0]
            raise ValueError(f"cut must hold node ids within 0..{self.root}, got {bad}")
        ids = np.ascontiguousarray(given, dtype=np.int64)
        counts = np.bincount(ids)
        if int(counts.max()) > 1:
            raise ValueError(f"cut covers a leaf twice: it holds node {counts.argmax()} twice")
        return ids

    def monotone(self) -> "MergeTree":
        """Return the tree with each altitude raised to the largest one under it.

        Returns
        -------
        MergeTree
            Same nodes, increasing altitudes; the other arrays are shared.

        Notes
        -----
        O(nodes).

        Examples
        --------
        >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 2, 1], [[0, 1, 2, 2]])
        >>> tree.is_increasing, tree.monotone().altitudes.tolist()
        (False, [0.0, 0.0, 0.0, 2.0, 2.0])
        """
        return self._with_altitudes(kernels.running_maximum(self.parents, self.altitudes))

    def with_measure(self, measure: ArrayLike) -> "MergeTree":
        """Return the tree with its sizes taken in another measure.

        Parameters
        ----------
        measure : array_like of finite non-negative numbers, shape ``grid``
            Measure of each pixel.

        Returns
        -------
        MergeTree
            Same nodes and altitudes; the other arrays are shared.

        Raises
        ------
        ValueError
            If the measure has another shape, is negative or not finite, or is zero everywhere.

        Notes
        -----
        O(nodes + pixels).

        Examples
        --------
        >>> tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]])
        >>> tree.with_measure([[0.5, 2.0]]).sizes
        array([0.5, 2. , 2.5])
        """
        weights = checked_measure(measure, self.grid)
        of_leaves = np.bincount(self.leaf_map.reshape(-1), weights.reshape(-1))
        return self._with_sizes(of_leaves)


def _check_node_count(parents: NDArray[Any]) -> None:
    if parents.ndim != 1 or parents.shape[0] == 0:
        raise ValueError(f"parents must be 1-D and not empty, got shape {parents.shape}")
    if parents.shape[0] > LARGEST_INT32:
        raise ValueError(f"parents must name fewer than 2**31 nodes, got {parents.shape[0]}")


def _broken_rule(rule: int, node: int, parents: NDArray[Any]) -> str:
    """Say which rule of ``parents`` the node breaks."""
    last = parents.shape[0] - 1
    parent = int(parents[node])
    sentences = {
        kernels.PARENT_OUT_OF_RANGE: f"node {node} has parent {parent}, outside 0..{last}",
        kernels.PARENT_NOT_LATER: f"node {node} has parent {parent}; a parent must come later",
        kernels.ROOT_NOT_OWN_PARENT: (
            f"the last node, {node}, is the root and must be its own parent, got {parent}"
        ),
        kernels.SECOND_ROOT: (
            f"node {node} is its own parent, but only the last node, {last}, may be a root"
        ),
        kernels.INNER_BEFORE_LEAF: (
            f"node {node} has no children but follows a node that has; leaves must come first"
        ),
        kernels.SINGLE_CHILD: f"node {node} has one child; an inner node needs at least two",
    }
    return sentences[rule]
