"""Merge trees in the forms of SciPy, Higra and NetworkX, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiersearch._validate import checked_finite
from hiersearch.hierarchy.tree import MergeTree

if TYPE_CHECKING:
    import networkx as nx


def to_linkage_matrix(tree: MergeTree) -> NDArray[np.float64]:
    """Return a binary merge tree as SciPy's linkage matrix.

    Parameters
    ----------
    tree : MergeTree
        Binary, with non-negative altitudes.

    Returns
    -------
    ndarray of float64, shape (n_leaves - 1, 4)
        Row i forms cluster ``n_leaves + i`` from the clusters in columns 0 and 1, at the
        distance in column 2, with as many leaves as column 3 says. Distances are the altitudes
        of `MergeTree.monotone`, and rows are in ascending order of them (ties as in the tree),
        so inner nodes keep their ids only where the altitudes ascend already.

    Raises
    ------
    ValueError
        If a node has more than two children or a negative altitude.

    Notes
    -----
    O(n log n). A tree with one leaf has no row; SciPy's own functions refuse that.

    Examples
    --------
    >>> tree = MergeTree.from_parents([3, 3, 4, 4, 4], [0, 0, 0, 1, 5], [[0, 1, 2, 2]])
    >>> to_linkage_matrix(tree)
    array([[0., 1., 1., 2.],
           [2., 3., 5., 3.]])
    """
    if not tree.is_binary:
        offsets, _ = tree.children()
        node = int(np.flatnonzero(np.diff(offsets) > 2)[0])
        raise ValueError(
            f"a linkage matrix needs a binary tree, but node {node} has "
            f"{offsets[node + 1] - offsets[node]} children"
        )
    n_leaves = tree.n_leaves
    inner = tree.altitudes.copy()
    inner[:n_leaves] = 0.0
    distances = tree._with_altitudes(inner).monotone().altitudes
    if tree.altitudes[n_leaves:].size and tree.altitudes[n_leaves:].min() < 0:
        node = n_leaves + int(tree.altitudes[n_leaves:].argmin())
        raise ValueError(
            "a linkage matrix needs non-negative altitudes, "
            f"but node {node} has {tree.altitudes[node]}"
        )
    order = np.argsort(distances[n_leaves:], kind="stable")
    renamed = np.arange(tree.n_nodes)
    renamed[n_leaves + order] = np.arange(n_leaves, tree.n_nodes)
    _, nodes = tree.children()
    pairs = np.sort(renamed[nodes.reshape(-1, 2)], axis=1)[order]
    counts = np.ones(tree.n_nodes)
    rows = np.empty((n_leaves - 1, 4))
    rows[:, :2] = pairs
    rows[:, 2] = distances[n_leaves:][order]
    for row, (one, other) in enumerate(pairs.tolist()):
        counts[n_leaves + row] = counts[one] + counts[other]
    rows[:, 3] = counts[n_leaves:]
    return rows


def from_linkage_matrix(matrix: ArrayLike, leaf_map: ArrayLike) -> MergeTree:
    """Return the merge tree of SciPy's linkage matrix.

    Parameters
    ----------
    matrix : array_like, shape (n_leaves - 1, 4)
        Linkage matrix, as `to_linkage_matrix` and ``scipy.cluster.hierarchy.linkage`` make it.
    leaf_map : array_like of integers, 2-D or 3-D
        Leaf (original observation) of each pixel.

    Returns
    -------
    MergeTree
        Binary, with the matrix's distances as altitudes and pixel counts as sizes.

    Raises
    ------
    TypeError, ValueError
        If the matrix is no valid linkage matrix, or the leaf map does not fit it.

    Notes
    -----
    O(n + pixels).

    Examples
    --------
    >>> from_linkage_matrix([[0, 1, 2.5, 2]], [[0, 0, 1]]).altitudes.tolist()
    [0.0, 0.0, 2.5]
    """
    rows = np.ascontiguousarray(checked_finite(matrix, "matrix"), dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"matrix must have the shape (n - 1, 4), got {rows.shape}")
    _check_rows(rows)
    n_leaves = rows.shape[0] + 1
    parents = np.empty(2 * n_leaves - 1, dtype=np.int64)
    parents[-1] = parents.size - 1
    formed = np.arange(n_leaves, parents.size)
    parents[rows[:, 0].astype(np.int64)] = formed
    parents[rows[:, 1].astype(np.int64)] = formed
    altitudes = np.concatenate((np.zeros(n_leaves), rows[:, 2]))
    return MergeTree.from_parents(parents, altitudes, leaf_map)


def _check_rows(rows: NDArray[np.float64]) -> None:
    """Raise unless rows form clusters that exist, once each, at distances that are none below 0.

    SciPy's own check passes a matrix of one row whatever it holds.
    """
    n_leaves = rows.shape[0] + 1
    counts = np.ones(2 * n_leaves - 1)
    formed_in = np.full(2 * n_leaves - 1, -1)
    for row, (one, other, distance, count) in enumerate(rows.tolist()):
        for cluster in (one, other):
            if not (cluster.is_integer() and 0 <= cluster < n_leaves + row):
                raise ValueError(
                    f"matrix: row {row} joins cluster {cluster:g}, but only the clusters "
                    f"0..{n_leaves + row - 1} exist by then"
                )
            if formed_in[int(cluster)] >= 0:
                raise ValueError(
                    f"matrix: row {row} joins cluster {cluster:g}, "
                    f"which row {formed_in[int(cluster)]} joined already"
                )
            formed_in[int(cluster)] = row
        if distance < 0:
            raise ValueError(f"matrix: row {row} has the negative distance {distance}")
        counts[n_leaves + row] = counts[int(one)] + counts[int(other)]
        if count != counts[n_leaves + row]:
            raise ValueError(
                f"matrix: row {row} must count {counts[n_leaves + row]:g} leaves, got {count:g}"
            )


def to_higra(tree: MergeTree) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a merge tree as the two arrays that Higra works with.

    Parameters
    ----------
    tree : MergeTree
        Any tree.

    Returns
    -------
    parents : ndarray of int64, shape (n_nodes,)
        Argument of ``higra.Tree``.
    altitudes : ndarray of float64, shape (n_nodes,)

    Notes
    -----
    O(n); copies, because Higra may change them. The leaf map stays behind: Higra's trees know
    their leaves by number.

    Examples
    --------
    >>> parents, altitudes = to_higra(MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]]))
    >>> parents.tolist(), altitudes.tolist()
    ([2, 2, 2], [0.0, 0.0, 1.0])
    """
    return tree.parents.copy(), tree.altitudes.copy()


def from_higra(parents: ArrayLike, altitudes: ArrayLike, leaf_map: ArrayLike) -> MergeTree:
    """Return the merge tree of a Higra tree.

    Parameters
    ----------
    parents : array_like of integers, shape (n_nodes,)
        ``tree.parents()``; nodes may have more than two children.
    altitudes : array_like of finite numbers, shape (n_nodes,)
        Altitudes of the nodes.
    leaf_map : array_like of integers, 2-D or 3-D
        Leaf of each pixel: for a tree on pixels, ``np.arange(n).reshape(grid)``.

    Returns
    -------
    MergeTree
        With pixel counts as sizes.

    Raises
    ------
    TypeError, ValueError
        As `MergeTree.from_parents`.

    Notes
    -----
    O(n + pixels).

    Examples
    --------
    >>> from_higra([3, 3, 3, 3], [0, 0, 0, 7], [[0, 1, 2]]).is_binary
    False
    """
    return MergeTree.from_parents(parents, altitudes, leaf_map)


def to_networkx(tree: MergeTree) -> "nx.DiGraph[int]":
    """Return a merge tree as a NetworkX arborescence.

    Parameters
    ----------
    tree : MergeTree
        Any tree.

    Returns
    -------
    networkx.DiGraph
        Edges go from parent to child; nodes carry ``altitude`` and ``size``, the graph
        ``leaf_map``.

    Notes
    -----
    O(n), in Python objects.

    Examples
    --------
    >>> graph = to_networkx(MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]]))
    >>> list(graph.edges), graph.nodes[2]["size"]
    ([(2, 0), (2, 1)], 2.0)
    """
    import networkx as nx

    graph: nx.DiGraph[int] = nx.DiGraph(leaf_map=tree.leaf_map.copy())
    values = zip(tree.altitudes.tolist(), tree.sizes.tolist(), strict=True)
    for node, (altitude, size) in enumerate(values):
        graph.add_node(node, altitude=altitude, size=size)
    graph.add_edges_from((parent, node) for node, parent in enumerate(tree.parents[:-1].tolist()))
    return graph


def from_networkx(graph: "nx.DiGraph[Any]") -> MergeTree:
    """Return the merge tree of a NetworkX arborescence as `to_networkx` makes it.

    Parameters
    ----------
    graph : networkx.DiGraph
        Nodes 0 to n - 1, leaves first and parents later than children, each with ``altitude``
        and ``size``; the graph attribute ``leaf_map`` gives the leaf of each pixel.

    Returns
    -------
    MergeTree

    Raises
    ------
    TypeError, ValueError
        If a node or attribute is missing, or as `MergeTree.from_parents`.

    Notes
    -----
    O(n + pixels).

    Examples
    --------
    >>> tree = MergeTree.from_parents([2, 2, 2], [0, 0, 1], [[0, 1]])
    >>> from_networkx(to_networkx(tree)).parents.tolist()
    [2, 2, 2]
    """
    n_nodes = graph.number_of_nodes()
    if n_nodes == 0 or set(graph.nodes) != set(range(n_nodes)):
        raise ValueError(f"graph must have the nodes 0..n-1, got {n_nodes} nodes named otherwise")
    if "leaf_map" not in graph.graph:
        raise ValueError("graph must carry the attribute leaf_map")
    parents = np.full(n_nodes, -1, dtype=np.int64)
    parents[-1] = n_nodes - 1
    for parent, node in graph.edges:
        if parents[node] != -1:
            raise ValueError(f"graph must be a tree whose root is node {n_nodes - 1}: see {node}")
        parents[node] = parent
    columns = []
    for name in ("altitude", "size"):
        values = graph.nodes(data=name)
        missing = [node for node, value in values if value is None]
        if missing:
            raise ValueError(f"node {missing[0]} must carry the attribute {name}")
        columns.append([graph.nodes[node][name] for node in range(n_nodes)])
    return MergeTree.from_parents(parents, columns[0], graph.graph["leaf_map"], columns[1])
