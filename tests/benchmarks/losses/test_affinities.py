"""The comparison of affinities with three classes counts touching nuclei as it says."""

from dataclasses import asdict

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.losses.affinities import (
    ARMS,
    Scores,
    objects_from_affinities,
    tables,
    touching_found,
    watershed_from_interiors,
)


def truth():
    """Two nuclei 2 pixels apart, a third far from both."""
    labels = np.zeros((12, 30), np.int32)
    labels[2:8, 2:8], labels[2:8, 9:15], labels[2:8, 22:28] = 1, 2, 3
    return labels


def test_touching_nuclei_are_those_within_two_pixels_and_found_by_half_their_union():
    labels = truth()
    assert touching_found(labels, labels) == (2, 2)
    # One object over both covers neither by more than half; the third does not count.
    joined = np.where(labels == 2, 1, labels)
    assert touching_found(joined, labels) == (0, 2)
    eaten = labels.copy()
    eaten[2:5, 2:8] = 0  # 18 of 36 pixels are left: not more than half
    assert touching_found(eaten, labels) == (1, 2)
    assert touching_found(0 * labels, labels) == (0, 2)
    apart = np.where(labels == 2, 0, labels)
    assert touching_found(apart, apart) == (0, 0)


def test_both_ways_read_sure_channels_rightly():
    labels = truth()
    interior = np.zeros(labels.shape, np.float32)
    interior[3:7, 3:7] = interior[3:7, 10:14] = interior[3:7, 23:27] = 1
    inside = (labels > 0).astype(np.float32)
    three = np.stack([1 - inside, interior, inside - interior])
    found = watershed_from_interiors(three, 0.5, 0.0, 0.5, 5)
    assert np.array_equal(found, labels)
    offsets = [(0, 1), (1, 0), (0, 4), (4, 0)]
    affinities = np.full((5, *labels.shape), 0.95, np.float32)
    affinities[0] = inside
    found = objects_from_affinities(affinities, offsets, 0.3, 0.5, 20)
    assert np.array_equal(found > 0, labels > 0)
    assert touching_found(found, labels) == (2, 2)


def test_arms_differ_in_their_channels_and_loss_only():
    one, other = (asdict(settings) for settings in ARMS.values())
    assert {key for key in one if one[key] != other[key]} == {"reading", "loss", "size"}


def test_tables_show_means_and_paired_differences():
    def of(ap):
        return Scores((0.5,), ap, ap, ap / 2, 0.9, 0.4, 30.0)

    runs = {
        "three classes, watershed": [of(0.7), of(0.72)],
        "affinities, objects": [of(0.75), of(0.79)],
    }
    scores, paired = tables(runs)
    assert scores.rows[1][:2] == ("affinities, objects", "0.770 ± 0.028")
    assert paired.rows[0][1].startswith("+6.0 ± 1.4 [-6.7, +18.7] 2/2")
