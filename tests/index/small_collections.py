"""Small random collections of partitions, soft queries beside them, and brute force over both."""

import math

import numpy as np

from hiersearch import SoftPartition, distance
from hiersearch.index.formats.entries import Entry
from hiersearch.index.index import PartitionIndex
from hiersearch.index.search.results import id_key

GRIDS = ((5, 7), (1, 9), (13, 1), (12, 18), (17, 23), (3, 4, 5), (2, 9, 11))
"""Grids that tiles fit and grids that they don't."""
MEASURES = ("none", "integer", "float", "zeros")
SOFT = ("regions", "half precision", "classes", "boundaries", "sparse", "affinities")


def random_measure(rng, kind, grid):
    """Return weights of the pixels, or None for 1 everywhere."""
    if kind == "none":
        return None
    if kind == "integer":
        return rng.integers(1, 700, grid)
    if kind == "float":
        return rng.random(grid) * 10.0 ** rng.integers(-3, 4)
    weights = rng.integers(0, 2, grid) * rng.integers(0, 5, grid)
    weights.flat[int(rng.integers(weights.size))] = 3
    return weights


def random_labels(rng, grid, regions=None):
    """Return a label map: cells of random seeds, runs, or noise."""
    n = math.prod(grid)
    k = int(rng.integers(1, 9)) if regions is None else regions
    style = int(rng.integers(4))
    if style == 0:
        return rng.integers(-k, k, grid)
    if style == 1:
        return np.sort(rng.integers(0, 3 * k, n)).reshape(grid) % (k + 1)
    places = np.stack(np.meshgrid(*(np.arange(s) for s in grid), indexing="ij"), axis=-1)
    seeds = rng.random((k, len(grid))) * np.array(grid)
    off = np.square(places[..., None, :] - seeds).sum(axis=-1)
    return off.argmin(axis=-1) * 7 - 3


def changed(rng, labels, share=0.1):
    """Return a label map near another one: some pixels take a label from elsewhere."""
    out = labels.copy().reshape(-1)
    places = rng.integers(out.size, size=max(1, int(share * out.size)))
    out[places] = out[rng.integers(out.size, size=places.size)]
    return out.reshape(labels.shape)


def random_collection(rng, grid, count):
    """Return label maps of which many lie near others, and some are equal."""
    maps = [random_labels(rng, grid) for _ in range(max(1, count // 4))]
    while len(maps) < count:
        one = maps[int(rng.integers(len(maps)))]
        maps.append(changed(rng, one, rng.choice([0.02, 0.1, 0.4])))
    return maps


def random_soft(rng, kind, labels):
    """Return a soft partition that is like a label map."""
    grid = labels.shape
    if kind == "boundaries":
        edges = np.zeros(grid)
        for axis in range(len(grid)):
            edges += np.abs(np.diff(labels, axis=axis, prepend=np.take(labels, [0], axis))) > 0
        return SoftPartition.from_boundaries(np.clip(edges, 0, 1) * rng.random(grid))
    if kind == "affinities":
        offsets = np.eye(len(grid), dtype=int)[[axis for axis, s in enumerate(grid) if s > 1]]
        return SoftPartition.from_affinities(rng.random((len(offsets), *grid)), offsets)
    k = 4
    values = rng.dirichlet(np.full(k, 0.3), grid)
    values = np.moveaxis(values, -1, 0) + 2 * (
        np.arange(k).reshape(-1, *[1] * len(grid)) == labels % k
    )
    values /= values.sum(axis=0)
    if kind == "classes":
        return SoftPartition.from_classes(values)
    if kind == "half precision":
        # Sums up to 1.0019 are let through.
        return SoftPartition.from_regions(values * (1 + 0.0019 * rng.random(grid)))
    if kind == "sparse":
        channels = rng.integers(0, 9, (k, *grid))
        return SoftPartition.from_sparse(values, channels, n_channels=9)
    return SoftPartition.from_regions(values)


def has_pairs(measure):
    """Return whether affinities know a pair of neighbours with positive weight under a measure."""
    if measure is None:
        return True
    counts = measure > 0
    return any(
        (np.take(counts, range(1, side), axis) & np.take(counts, range(side - 1), axis)).any()
        for axis, side in enumerate(counts.shape)
    )


def made(path, maps, measure=None, ids=None, metadata=None):
    """Return a new index of label maps, open for writing."""
    index = PartitionIndex.create(path, maps[0].shape, measure=measure)
    ids = range(len(maps)) if ids is None else ids
    metadata = [None] * len(maps) if metadata is None else metadata
    index.add_many(map(Entry, maps, ids, metadata))
    return index


def brute_force(query, entries, measure=None):
    """Return (distance before division, id) of every entry of a mapping, nearest first."""
    found = [
        (distance(query, labels, measure=measure, normalized=False), id)
        for id, labels in entries.items()
    ]
    return sorted(found, key=lambda pair: (pair[0], id_key(pair[1])))


def pairs_of(result):
    """Return (distance before division, id) of a search's neighbours."""
    return [(one.rho, one.id) for one in result]


def total_of(measure, grid):
    """Return the measure of the grid."""
    return math.prod(grid) if measure is None else measure.sum()


def assert_same(found, expected, exact=True, total=0.0):
    """Assert that neighbours are those of brute force; distances of soft queries up to rounding.

    Distances are differences of numbers as large as the squared measure ``total``, at which they
    are rounded. Entries whose distances differ by rounding alone may come in either order.
    """
    if exact:
        assert found == expected
        return
    assert len(found) == len(expected)
    largest = max((abs(d) for d, _ in expected), default=0.0)
    rounding = 1e-11 * max(largest, 0.1 * total**2)
    for (one, _), (other, _) in zip(found, expected, strict=True):
        assert math.isclose(one, other, rel_tol=1e-9, abs_tol=rounding)
    ties = {}
    for d, id in expected:
        key = next((k for k in ties if math.isclose(k, d, rel_tol=1e-9, abs_tol=rounding)), d)
        ties.setdefault(key, set()).add(id)
    last = max(ties, default=0.0)
    for d, id in found:
        key = next(k for k in ties if math.isclose(k, d, rel_tol=1e-9, abs_tol=rounding))
        # Of the last tie some may have been left out.
        assert key == last or id in ties[key]
