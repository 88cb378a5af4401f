"""Making a segment's arrays of entries: their order in blocks, and what is exact within those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch.hierarchy.tree import MergeTree
from hiersearch.index.bounds.blocks import blocks_of
from hiersearch.index.bounds.packing import MIDDLE, PADDING, Frame, Packed, ends_of, run_code
from hiersearch.index.segments.decoding import numbered_partition, overlaps_with
from hiersearch.partitions.partition import Partition


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Which entries are cuts of which stored hierarchies."""

    trees: Sequence[MergeTree]
    """The hierarchies."""
    tree: NDArray[np.int32]
    """(n,) number of the hierarchy that each entry is a cut of, -1: of none."""
    altitude: NDArray[np.float64]
    """(n,) the altitude of the cut."""

    @classmethod
    def none(cls, n: int) -> Cuts:
        """Return what says that no entry is a cut."""
        return cls((), np.full(n, -1, np.int32), np.zeros(n))


def arranged(
    frame: Frame, entries: Packed, cuts: Cuts
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32]]:
    """Put entries in the order of their blocks; return a segment's arrays, and that order.

    O(n log n) byte distances, and one exact distance an entry, to its block's pivot; between cuts
    of one hierarchy that is a difference of Σ a².
    """
    n_diagonal = frame.tiling.count(MIDDLE)
    blocks = blocks_of(entries.middle, n_diagonal, cuts.tree, entries.n_regions)
    order = blocks.order
    code = [entries.code[i] for i in order]
    values = _values([entries.values[i] for i in order])
    masses = [entries.masses[i] for i in order]
    arrays: dict[str, NDArray[Any]] = {
        "code": _joined(code, np.uint8, PADDING),
        "code_ends": ends_of(code),
        "values": values,
        "masses": _joined(masses, np.uint8, PADDING),
        "mass_ends": ends_of(masses),
        "block_ends": blocks.ends,
        "block_pivots": blocks.pivots,
        "tree": cuts.tree[order],
        "altitude": cuts.altitude[order],
        **_tree_arrays(cuts.trees),
    }
    for name in ("n_runs", "n_regions", "squares", "coarse", "middle"):
        arrays[name] = np.ascontiguousarray(getattr(entries, name)[order])
    arrays["coarse_errors"] = entries.coarse_errors[order]
    arrays["middle_errors"] = entries.middle_errors[order]
    for array in arrays.values():
        # As they will be when they are read: kernels are compiled for that.
        array.flags.writeable = False
    arrays["ring"] = rings(frame, arrays, blocks.ends, blocks.pivots)
    arrays["block_radii"] = radii(frame, arrays, blocks.ends, blocks.pivots)
    return arrays, order


def _joined(parts: list[NDArray[Any]], dtype: Any, padding: int = 0) -> NDArray[Any]:
    return np.concatenate([*parts, np.zeros(padding, dtype)])


def _values(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Join labels, which are below 2**63, in the smallest integer type that holds all of them."""
    joined = np.concatenate([part.astype(np.int64) for part in parts])
    low, high = int(joined.min()), int(joined.max())
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return joined.astype(dtype)
    raise AssertionError("labels are below 2**63")


def rings(
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    ends: NDArray[np.int32],
    pivots: NDArray[np.int32],
    first: int = 0,
) -> NDArray[np.float64]:
    """Return the exact ρ of entries to their block's pivot, for blocks that follow each other.

    ``ends`` and ``pivots`` are those of the blocks, ``first`` is where the first of them begins.
    """
    ring = np.empty(int(ends[-1]) - first if ends.size else 0)
    squares = arrays["squares"]
    begin = first
    for end, pivot in zip(ends.tolist(), pivots.tolist(), strict=True):
        rows = np.arange(begin, end, dtype=np.int32)
        if arrays["tree"][pivot] >= 0:
            # Nested: ρ is the difference of Σ a².
            found = np.abs(squares[begin:end] - squares[pivot])
        else:
            around = numbered_partition(frame, arrays, pivot)
            overlaps = overlaps_with(frame, arrays, rows, around)
            found = squares[begin:end] + squares[pivot] - 2 * overlaps
        ring[begin - first : end - first] = found
        begin = end
    # Sums in floating point may come out below zero.
    return np.maximum(ring, 0.0)


def radii(
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    ends: NDArray[np.int32],
    pivots: NDArray[np.int32],
    first: int = 0,
) -> NDArray[np.float32]:
    """Return the largest tile distance of blocks' members to their pivot, rounded up."""
    middle = arrays["middle"]
    owner = np.repeat(np.arange(ends.size), np.diff(ends, prepend=first))
    errors = arrays["middle_errors"]
    n_diagonal = frame.tiling.count(MIDDLE)
    reach = np.empty(owner.size)
    for begin in range(0, owner.size, 4096):
        part = slice(first + begin, first + min(begin + 4096, owner.size))
        around = pivots[owner[begin : begin + 4096]]
        off = np.abs(middle[part].astype(np.int32) - middle[around])
        steps = off[:, :n_diagonal].sum(axis=1) + 2 * off[:, n_diagonal:].sum(axis=1)
        own, others = errors[part].astype(np.float64), errors[around].astype(np.float64)
        reach[begin : begin + 4096] = steps * frame.pair_units[1] + own + others
    begins = np.concatenate([[0], ends[:-1] - first])
    largest = np.maximum.reduceat(reach, begins).astype(np.float32)
    above: NDArray[np.float32] = np.nextafter(largest, np.float32(np.inf))
    return above


def _tree_arrays(trees: Sequence[MergeTree]) -> dict[str, NDArray[Any]]:
    """Store hierarchies: their leaves as run code, and their nodes."""
    leaves = [Partition.from_labels(tree.leaf_map) for tree in trees]
    codes = [run_code(partition) for partition in leaves]
    return {
        "tree_code": _joined([code for code, _ in codes], np.uint8, PADDING),
        "tree_code_ends": ends_of([code for code, _ in codes]),
        "tree_runs": np.array([p.n_runs for p in leaves], np.int32),
        "tree_leaves": np.array([p.n_regions for p in leaves], np.int32),
        # The leaf that each number of the code stands for.
        "tree_order": _joined([order for _, order in codes], np.int32).astype(np.int32),
        "tree_parents": _joined([t.parents for t in trees], np.int32).astype(np.int32),
        "tree_altitudes": _joined([t.altitudes for t in trees], np.float64).astype(np.float64),
        "tree_node_ends": ends_of([t.parents for t in trees]),
    }
