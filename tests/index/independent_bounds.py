"""What format 1 keeps of a label map for searches, as docs/format.md says; nothing of the package.

One region, tile and pair after the other, and so for small grids alone.
"""

import itertools
import math

import numpy as np


def tiles_of(grid):
    """Return the tile of each pixel at the coarse, middle, fine and finest level."""
    split = min(
        (s for s in itertools.product(range(1, 7), repeat=len(grid)) if math.prod(s) == 6),
        key=lambda s: (_spread([math.log(n / parts) for n, parts in zip(grid, s, strict=True)]), s),
    )
    numbers = np.arange(6).reshape(split)
    for _ in range(3):
        sides = [n / parts for n, parts in zip(grid, split, strict=True)]
        # Of equal sides the first.
        low, high = sorted(sorted(range(len(grid)), key=lambda axis: -sides[axis])[:2])
        split = tuple(2 * p if axis in (low, high) else p for axis, p in enumerate(split))
        places = np.indices(split)
        parents = [place // 2 if a in (low, high) else place for a, place in enumerate(places)]
        numbers = 4 * numbers[tuple(parents)] + 2 * (places[low] % 2) + places[high] % 2
    parts_of = []
    for n, parts in zip(grid, split, strict=True):
        edges = [round(i * n / parts) for i in range(parts + 1)]
        parts_of.append(np.repeat(np.arange(parts), np.diff(edges)))
    finest = numbers[np.ix_(*parts_of)]
    return [finest // 4**below for below in (3, 2, 1, 0)]


def _spread(values):
    return max(values) - min(values)


def bounds_of(labels, measure):
    """Return what is kept of a label map, by the names of the arrays."""
    weights = np.ones(labels.shape) if measure is None else measure.astype(float)
    regions = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    exact = measure is None or measure.dtype.kind == "i"
    coarse_tiles, middle_tiles, _, finest = tiles_of(labels.shape)
    coarse, coarse_error = pair_codes(regions, weights, coarse_tiles, 6)
    middle, middle_error = pair_codes(regions, weights, middle_tiles, 24)
    return {
        "squares": np.square(np.bincount(regions.ravel(), weights.ravel())).sum(),
        "n_regions": regions.max() + 1,
        "n_runs": 1 + np.count_nonzero(np.diff(regions.ravel())),
        "coarse": coarse,
        "middle": middle,
        "coarse_errors": coarse_error,
        "middle_errors": middle_error,
        "masses": mass_bytes(regions, weights, finest, exact),
    }


def pair_unit(weights, tiles, n_tiles):
    """Return what a byte of the pair sums counts."""
    return np.bincount(tiles.ravel(), weights.ravel(), n_tiles).max() ** 2 / 255


def pair_codes(regions, weights, tiles, n_tiles):
    """Return the pair sums of a level in bytes, and how far off they are, rounded up."""
    unit = pair_unit(weights, tiles, n_tiles)
    masses = np.zeros((n_tiles, regions.max() + 1))
    np.add.at(masses, (tiles, regions), weights)
    sums = masses @ masses.T
    pairs = [(i, i) for i in range(n_tiles)]
    pairs += [(i, j) for i in range(n_tiles) for j in range(i + 1, n_tiles)]
    codes = [min(math.floor(sums[pair] / unit + 0.5), 255) for pair in pairs]
    error = sum(
        (1 if i == j else 2) * abs(sums[i, j] - code * unit)
        for (i, j), code in zip(pairs, codes, strict=True)
    )
    return np.array(codes, np.uint8), above(error)


def above(value):
    """Return the 32-bit number after the nearest one, which is never below a value."""
    return np.nextafter(np.float32(value), np.float32(np.inf))


def mass_bytes(regions, weights, finest, exact):
    """Return the stream of masses."""
    n_regions = int(regions.max()) + 1
    width = 1 if n_regions <= 256 else 2 if n_regions <= 65536 else 4
    flags, rest = 0, b""
    for parent in range(96):
        quarters = [
            _quarter(regions[finest == tile], weights[finest == tile])
            for tile in range(4 * parent, 4 * parent + 4)
        ]
        inside = {region for quarter, _ in quarters for region, _ in quarter}
        if len(inside) == 1:
            flags |= 1 << parent
            rest += inside.pop().to_bytes(width, "little")
            continue
        counts = [len(quarter) for quarter, _ in quarters]
        two = sum(min(count, 15) << 4 * i for i, count in enumerate(counts))
        rest += two.to_bytes(2, "little")
        rest += b"".join(count.to_bytes(4, "little") for count in counts if count >= 15)
        for quarter, total in quarters:
            unit = 1.0
            if not (exact and total <= 255):
                unit = math.nextafter(1.0, 2.0) if total == 255 else total / 255
            rest += b"".join(region.to_bytes(width, "little") for region, _ in quarter)
            rest += bytes(min(255, math.ceil(mass / unit)) for _, mass in quarter[:-1])
    return flags.to_bytes(12, "little") + rest


def _quarter(regions, weights):
    """Return (region, mass) in the order of the stream, and the tile's measure."""
    seen = list(dict.fromkeys(regions.tolist()))[::-1]
    found = [(region, float(weights[regions == region].sum())) for region in seen]
    found = [one for one in found if one[1] > 0]
    if found:
        largest = max(range(len(found)), key=lambda i: found[i][1])
        found[largest], found[-1] = found[-1], found[largest]
    return found, float(weights.sum())


def rho(one, other, measure):
    """Return the distance of two label maps, before it is divided."""
    weights = (np.ones(one.shape) if measure is None else measure).ravel().astype(float)
    rows, columns = (np.unique(x, return_inverse=True)[1].ravel() for x in (one, other))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), weights)
    squares = (np.square(table.sum(axis=axis)).sum() for axis in (0, 1))
    return sum(squares) - 2 * np.square(table).sum()


def block_radius(middle, errors, members, pivot, unit):
    """Return the largest tile distance of a block's members to its pivot, rounded up."""
    steps = np.abs(middle[members].astype(int) - middle[pivot])
    steps[:, 24:] *= 2
    reach = steps.sum(axis=1) * unit + errors[members].astype(float) + float(errors[pivot])
    return above(reach.max())
