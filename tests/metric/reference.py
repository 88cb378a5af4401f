"""The metric by its definition: sums over all pairs of pixels, for small grids."""

import itertools
from fractions import Fraction

import numpy as np


def comembership(labels):
    """A_pq of a label map, (n, n)."""
    flat = np.asarray(labels).reshape(-1)
    return (flat[:, None] == flat[None, :]).astype(np.int64)


def soft_comembership(probabilities):
    """C_pq = Σ_j P_jp P_jq of dense probabilities (k, *grid), (n, n)."""
    flat = np.asarray(probabilities, np.float64).reshape(len(probabilities), -1)
    return flat.T @ flat


def pair_sum(first, second, measure=None):
    """Σ_pq μ_p μ_q |A_pq − B_pq|; in Python's own numbers where all are integers."""
    n = len(first)
    weights = [1] * n if measure is None else np.asarray(measure).reshape(-1).tolist()
    if first.dtype.kind == second.dtype.kind == "i":
        gaps = np.abs(first - second).tolist()
        pairs = itertools.product(range(n), repeat=2)
        return sum(weights[p] * weights[q] * gaps[p][q] for p, q in pairs)
    return float(np.asarray(weights) @ np.abs(first - second) @ np.asarray(weights))


def total(measure, n):
    return n if measure is None else np.asarray(measure).sum().item()


def set_partitions(n):
    """All partitions of n points, as label lists: 52 of 5 points."""
    labels = [[0]]
    for _ in range(n - 1):
        labels = [[*row, new] for row in labels for new in range(max(row) + 2)]
    return labels


def double_sum(a, b, weight=lambda i, j: 1):
    """Σ_i Σ_j w(X_i, Y_j) |X_i Δ Y_j| |X_i ∩ Y_j| of two label lists, exactly."""
    result = Fraction(0)
    for i in set(a):
        for j in set(b):
            inside = sum(x == i and y == j for x, y in zip(a, b, strict=True))
            apart = sum((x == i) != (y == j) for x, y in zip(a, b, strict=True))
            result += Fraction(weight(i, j)) * apart * inside
    return result
