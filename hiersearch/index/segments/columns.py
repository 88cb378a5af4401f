"""What an index of partitions keeps of its entries: the arrays of its segments beside the store's.

Lengths, order and ranges are checked as :mod:`hiersearch.index.store.columns` says.
"""

from __future__ import annotations

import math
from typing import Literal

from hiersearch.index.bounds.packing import COARSE, MIDDLE, PADDING, Frame
from hiersearch.index.store.columns import PIECEWISE, STORE_COLUMNS, Column, Known, chunks_of

_INTEGERS = ("|u1", "<i2", "<u2", "<i4", "<u4", "<i8")

PARTITION_COLUMNS = (
    # Runs of each entry, and the hierarchies that entries are cuts of.
    Column(
        "code",
        ("|u1",),
        "code bytes",
        "runs",
        chunk_bytes=PIECEWISE,
        padding=PADDING,
        decodes="entries",
    ),
    Column("code_ends", ("<i8",), "entries", "runs", ends_of="code bytes", decodes="entries"),
    Column("values", _INTEGERS, "regions", "runs", chunk_bytes=PIECEWISE, decodes="entries"),
    Column("n_runs", ("<i4",), "entries", "runs", low=1, high="pixels", decodes="entries"),
    Column(
        "n_regions",
        ("<i4",),
        "entries",
        "runs",
        sizes_of="regions",
        low=1,
        high="n_runs",
        decodes="entries",
    ),
    Column(
        "tree_code",
        ("|u1",),
        "tree code bytes",
        "runs",
        chunk_bytes=PIECEWISE,
        padding=PADDING,
        decodes="cuts",
    ),
    Column("tree_code_ends", ("<i8",), "trees", "runs", ends_of="tree code bytes", decodes="cuts"),
    Column("tree_runs", ("<i4",), "trees", "runs", low=1, high="pixels", decodes="cuts"),
    Column(
        "tree_leaves",
        ("<i4",),
        "trees",
        "runs",
        sizes_of="leaves",
        low=1,
        high="tree_runs",
        decodes="cuts",
    ),
    Column("tree_order", ("<i4",), "leaves", "runs", low=0, decodes="cuts"),
    Column("tree_parents", ("<i4",), "nodes", "runs", low=0, decodes="cuts"),
    Column("tree_altitudes", ("<f8",), "nodes", "runs", low=-math.inf, decodes="cuts"),
    Column(
        "tree_node_ends",
        ("<i8",),
        "trees",
        "runs",
        ends_of="nodes",
        every_piece=True,
        decodes="cuts",
    ),
    Column("tree", ("<i4",), "entries", low=-1, high="last tree", decodes="entries"),
    Column("altitude", ("<f8",), "entries", low=-math.inf, decodes="entries"),
    # What bounds are made of.
    Column("squares", ("<i8", "<f8"), "entries", "bounds", low=0, high="largest square"),
    Column("masses", ("|u1",), "mass bytes", "bounds", padding=PADDING),
    Column("mass_ends", ("<i8",), "entries", "bounds", ends_of="mass bytes"),
    Column("coarse", ("|u1",), "entries", "bounds", width="coarse pairs"),
    Column("middle", ("|u1",), "entries", "bounds", width="middle pairs"),
    Column("coarse_errors", ("<f4",), "entries", "bounds", low=0),
    Column("middle_errors", ("<f4",), "entries", "bounds", low=0),
    Column("block_ends", ("<i4",), "blocks", "bounds", ends_of="entries", every_piece=True),
    Column(
        "block_pivots",
        ("<i4",),
        "blocks",
        "bounds",
        low="begins of block_ends",
        high="lasts of block_ends",
    ),
    Column("block_radii", ("<f4",), "blocks", "bounds", low=0),
    Column("ring", ("<f8",), "entries", "bounds", low=0),
)
"""What an index of partitions keeps of its entries. Conditions name columns that come before."""
CHUNKS = chunks_of(PARTITION_COLUMNS)
"""Bytes under one checksum where arrays are read piecewise; elsewhere the store's default."""

_KINDS = {column.name: column.kind for column in (*STORE_COLUMNS, *PARTITION_COLUMNS)}


def known_of(frame: Frame, n_entries: int) -> Known:
    """Return the numbers that follow from an index, which the schema's conditions refer to."""
    square = frame.total * frame.total
    return {
        "entries": n_entries,
        "pixels": math.prod(frame.grid),
        "largest square": square if isinstance(square, int) else square * (1 + 1e-9),
        "coarse pairs": frame.n_pairs(COARSE),
        "middle pairs": frame.n_pairs(MIDDLE),
    }


def needed_for(decoded: Literal["entries", "cuts"]) -> list[Column]:
    """Return the columns that entries, or the hierarchies of cuts, are decoded from."""
    return [column for column in PARTITION_COLUMNS if column.decodes == decoded]


def kind_of(name: str) -> str:
    """Return what the bytes of an array are counted as."""
    return _KINDS.get(name, "other")
