"""The loss from its definition, over all pairs of pixels: nothing but small cases."""

import numpy as np


def one_hot(labels, channels):
    return np.eye(channels)[np.asarray(labels).reshape(-1)].T


def pairwise_loss(output, target, measure=None, anchor=1.0, form="squared"):
    """Loss of one image: probabilities (k, n) and (k', n), measure (n,)."""
    n = output.shape[1]
    measure = np.ones(n) if measure is None else np.asarray(measure, float)
    pairs = np.outer(measure, measure) / measure.sum() ** 2
    difference = output.T @ output - target.T @ target
    shares = measure / measure.sum()
    if form == "expected":
        value = (pairs * np.abs(difference)).sum()
        step = np.abs(output - target).sum(0) / 2 if anchor else 0.0
        return value + anchor * (shares * step).sum()
    value = (pairs * difference**2).sum()
    step = ((output - target) ** 2).sum(0) if anchor else 0.0
    value += anchor * (shares * step).sum()
    return value if form == "squared" else np.sqrt(value)
