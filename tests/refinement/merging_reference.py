"""Greedy merging by the book: the objective of a whole partition, computed anew for every merge."""

import itertools

import numpy as np

from hiersearch.partitions.checks import pair_slices
from hiersearch.partitions.soft import Affinities


def pairs_of(offsets, grid):
    """Flat pixel numbers of all pairs at each offset: (offset number, one, other)."""
    pixels = np.arange(int(np.prod(grid))).reshape(grid)
    found = []
    for d, offset in enumerate(np.asarray(offsets)):
        source, target = pair_slices(offset, grid)
        found += [(d, p, q) for p, q in zip(pixels[source].flat, pixels[target].flat, strict=True)]
    return found


def objective(soft, labels, price=0.0, class_weight=0.0, boundary=None, boundary_weight=1.0):
    """All terms, from pixels; co-membership is compared pair by pair."""
    flat = np.asarray(labels).reshape(-1)
    n = flat.size
    measure = np.ones(n) if soft.measure is None else np.asarray(soft.measure, float)
    if isinstance(soft, Affinities):
        total, apart = 0.0, 0.0
        for d, p, q in pairs_of(soft.offsets, soft.grid):
            w = soft.weights[d] * measure[p] * measure[q]
            total += w
            apart += w * abs(float(soft.values[d, p]) - (flat[p] == flat[q]))
        value = apart / total
    else:
        P = soft.probabilities().reshape(soft.n_channels, n).astype(float)
        weight = np.outer(measure, measure)
        together = flat[:, None] == flat[None]
        # The polynomial of soft against hard: expected disagreement, ordered pairs, p = q included.
        C = P.T @ P
        value = (weight * (C * ~together + (1 - C) * together)).sum() / measure.sum() ** 2
    if class_weight:
        rows = soft.values.astype(float)
        missed = 0.0
        for region in np.unique(flat):
            mine = flat == region
            missed += measure[mine].sum() - (rows[:, mine] * measure[mine]).sum(axis=1).max()
        value += class_weight * missed / measure.sum()
    if boundary is not None:
        b = np.asarray(boundary, float).reshape(-1)
        steps = np.eye(len(soft.grid), dtype=int)
        faces = [(p, q) for _, p, q in pairs_of(steps, soft.grid)]
        wrong = sum(
            max(b[p], b[q]) if flat[p] == flat[q] else 1 - max(b[p], b[q]) for p, q in faces
        )
        value += boundary_weight * wrong / len(faces)
    return value + price * np.unique(flat).size


def stake(soft, one, other, boundary_weight=0.0):
    """Weight of the pairs of pixels between two sets of pixels, as the objective counts them."""
    n = int(np.prod(soft.grid))
    measure = np.ones(n) if soft.measure is None else np.asarray(soft.measure, float)
    steps = np.eye(len(soft.grid), dtype=int)
    faces = [(p, q) for _, p, q in pairs_of(steps, soft.grid)]
    between = sum((p in one) != (q in one) and (p in other) != (q in other) for p, q in faces)
    value = boundary_weight * between / len(faces)
    if isinstance(soft, Affinities):
        total = 0.0
        mine = 0.0
        for d, p, q in pairs_of(soft.offsets, soft.grid):
            w = soft.weights[d] * measure[p] * measure[q]
            total += w
            if (p in one and q in other) or (p in other and q in one):
                mine += w
        return value + mine / total
    return value + 2 * measure[list(one)].sum() * measure[list(other)].sum() / measure.sum() ** 2


def greedy(soft, labels, order="mean", touching=True, forbidden=(), **terms):
    """Merge regions by the book until nothing lowers the objective; return label map and trace."""
    labels = np.array(labels)
    steps = np.eye(len(soft.grid), dtype=int)
    faces = [(p, q) for _, p, q in pairs_of(steps, soft.grid)]
    known = faces
    if isinstance(soft, Affinities):
        known = faces + [(p, q) for _, p, q in pairs_of(soft.offsets, soft.grid)]
    trace = [objective(soft, labels, **terms)]
    while True:
        flat = labels.reshape(-1)
        best = None
        for i, j in itertools.combinations(np.unique(flat), 2):
            one, other = set(np.flatnonzero(flat == i)), set(np.flatnonzero(flat == j))
            linked = faces if touching else known
            if not any((p in one and q in other) or (p in other and q in one) for p, q in linked):
                continue
            if any((p in one and q in other) or (p in other and q in one) for p, q in forbidden):
                continue
            trial = np.where(labels == j, i, labels)
            change = objective(soft, trial, **terms) - trace[-1]
            key = change
            if order == "mean":
                evidence = terms.get("boundary_weight", 1.0) if "boundary" in terms else 0.0
                weight = stake(soft, one, other, evidence)
                key = change / weight if weight > 0 else change
            if best is None or key < best[0] - 1e-12:
                best = (key, change, trial)
        if best is None or best[0] >= -1e-12:
            return labels, trace
        labels = best[2]
        trace.append(trace[-1] + best[1])
