"""Compiled passes from pixels to region adjacency: relabelling, boundaries, pixel pairs, sorting.

Grids come as three sides (depth, height, width), with depth 1 for images, and flattened arrays.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Labels = NDArray[np.int32]
# What numbers edges: int32, or int64 where there are more than that can hold.
Numbers = NDArray[np.signedinteger[Any]]
# Any of uint8, uint16, float32, float64, in rows of one pixel each.
Values = NDArray[np.generic]

LARGEST_DIFFERENCE = 0
EUCLIDEAN = 1
LARGER_VALUE = 2


@compiled_part
def scattered(key: int, mask: int) -> int:
    """Return a table position for a key: multiplicative hashing, high bits folded down."""
    product = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return int(np.int64((product >> np.uint64(32)) & np.uint64(mask)))


@compiled_part
def contrast(values: Values, one: int, other: int, kind: int) -> float:
    """Return the contrast of two pixels; 0 if there are no channels."""
    result = 0.0
    for channel in range(values.shape[1]):
        a = np.float64(values[one, channel])
        b = np.float64(values[other, channel])
        if kind == LARGER_VALUE:
            result = max(a, b)
        elif kind == EUCLIDEAN:
            result += (a - b) * (a - b)
        else:
            result = max(result, abs(a - b))
    return np.sqrt(result) if kind == EUCLIDEAN else result


@compiled
def boundaries(
    leaf_map: Labels,
    sides: tuple[int, int, int],
    values: Values,
    kind: int,
    n_regions: int,
    table: Numbers,
) -> tuple[NDArray[np.int32], Floats, int]:
    """Return edges (m, 2), their statistics (m, 4): faces, sum, minimum, maximum; and m.

    One pass over the pixels; edges are found through an open-addressing table of edge numbers,
    behind a memory of the last edge met in each direction. The number m is -1 if there are more
    edges than half the places of the ``table``, a power of two. It comes empty: numbers begin with
    1, and zeros are cheap to make.
    """
    depth, height, width = sides
    steps = (1, width, width * height)
    capacity = table.size
    ends = np.empty((capacity // 2, 2), dtype=np.int32)
    statistics = np.empty((capacity // 2, 4))
    count = 0
    # The edge met last in each direction; u < v, so (0, 0) is no edge.
    last_u = np.zeros(3, dtype=np.int32)
    last_v = np.zeros(3, dtype=np.int32)
    last_edge = np.zeros(3, dtype=np.int64)
    rows_in_front = (depth - 1) * height
    crossings = np.empty(width, dtype=np.int64)
    for row in range(depth * height):
        start = row * width
        for axis in range(3):
            if (axis == 1 and row % height == height - 1) or (axis == 2 and row >= rows_in_front):
                continue
            step = steps[axis]
            found = 0
            # Collecting a row's crossings without a branch is faster than testing each pixel.
            for pixel in range(start, start + width - (1 if axis == 0 else 0)):
                crossings[found] = pixel
                found += leaf_map[pixel] != leaf_map[pixel + step]
            for index in range(found):
                pixel = crossings[index]
                u = min(leaf_map[pixel], leaf_map[pixel + step])
                v = max(leaf_map[pixel], leaf_map[pixel + step])
                edge = last_edge[axis]
                if u != last_u[axis] or v != last_v[axis]:
                    slot = scattered(int(u) * n_regions + v, capacity - 1)
                    edge = table[slot] - 1
                    while edge >= 0 and (ends[edge, 0] != u or ends[edge, 1] != v):
                        slot = (slot + 1) & (capacity - 1)
                        edge = table[slot] - 1
                    if edge < 0:
                        if 2 * count == capacity:
                            return ends, statistics, -1
                        edge = count
                        count += 1
                        table[slot] = count
                        ends[edge, 0] = u
                        ends[edge, 1] = v
                        statistics[edge, 0] = 0.0
                        statistics[edge, 1] = 0.0
                        statistics[edge, 2] = np.inf
                        statistics[edge, 3] = -np.inf
                    last_u[axis] = u
                    last_v[axis] = v
                    last_edge[axis] = edge
                value = contrast(values, pixel, pixel + step, kind)
                statistics[edge, 0] += 1.0
                statistics[edge, 1] += value
                statistics[edge, 2] = min(statistics[edge, 2], value)
                statistics[edge, 3] = max(statistics[edge, 3], value)
    return ends, statistics, count


@compiled
def region_sums(
    leaf_map: Labels, values: Values, measure: Floats, n_regions: int
) -> tuple[Floats, Floats]:
    """Return each region's measure and measure-weighted channel sums; no measure means 1."""
    sizes = np.zeros(n_regions)
    sums = np.zeros((n_regions, values.shape[1]))
    weighted = measure.shape[0] > 0
    n_pixels = leaf_map.shape[0]
    start = 0
    # Runs of one region are summed before they are added, so that no pixel waits for the store of
    # the one before it.
    while start < n_pixels:
        region = leaf_map[start]
        end = start + 1
        while end < n_pixels and leaf_map[end] == region:
            end += 1
        size = float(end - start)
        if weighted:
            size = 0.0
            for pixel in range(start, end):
                size += measure[pixel]
        sizes[region] += size
        for channel in range(values.shape[1]):
            total = 0.0
            for pixel in range(start, end):
                value = np.float64(values[pixel, channel])
                total += measure[pixel] * value if weighted else value
            sums[region, channel] += total
        start = end
    return sizes, sums


@compiled
def pixel_pairs(
    sides: tuple[int, int, int], values: Values, kind: int
) -> tuple[NDArray[np.int32], Floats]:
    """Return all pairs of neighbouring pixels, sorted, and their contrasts."""
    depth, height, width = sides
    n_pairs = (
        depth * height * (width - 1) + depth * (height - 1) * width + (depth - 1) * height * width
    )
    ends = np.empty((n_pairs, 2), dtype=np.int32)
    weights = np.empty(n_pairs)
    steps = (1, width, width * height)
    pair = 0
    pixel = -1
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                pixel += 1
                for axis in range(3):
                    if (
                        (axis == 0 and x + 1 == width)
                        or (axis == 1 and y + 1 == height)
                        or (axis == 2 and z + 1 == depth)
                    ):
                        continue
                    ends[pair, 0] = pixel
                    ends[pair, 1] = pixel + steps[axis]
                    weights[pair] = contrast(values, pixel, pixel + steps[axis], kind)
                    pair += 1
    return ends, weights


@compiled
def stable_order(weights: Floats, numbers: Numbers) -> Numbers:
    """Return the positions of finite weights in ascending order, ties by position.

    They are of the type of ``numbers``, an empty array.

    Counting sort where all weights are whole numbers below 65536, as 8- and 16-bit images give;
    otherwise a radix sort of their bits, least significant of four digits first.
    """
    count = weights.shape[0]
    # Adding zero turns -0.0 into 0.0, so that both tie.
    keys = (weights + 0.0).view(np.int64)
    order = np.empty(count, dtype=numbers.dtype)
    moved = np.empty(count, dtype=numbers.dtype)
    whole = True
    for position in range(count):
        order[position] = position
        weight = weights[position]
        whole = whole and 0.0 <= weight < 65536.0 and weight == np.floor(weight)
    digits = 1 if whole else 4
    for position in range(count):
        if whole:
            keys[position] = np.int64(weights[position])
        else:
            # Flips the lower bits of negative numbers: integer order is then numeric order.
            keys[position] ^= (keys[position] >> 63) & 0x7FFFFFFFFFFFFFFF
    first = np.empty(65537, dtype=np.int64)
    for digit in range(digits):
        shift = 16 * digit
        flip = 32768 if digit == 3 else 0
        for value in range(65537):
            first[value] = 0
        for position in range(count):
            first[(((keys[position] >> shift) & 65535) ^ flip) + 1] += 1
        if count == 0 or first[(((keys[0] >> shift) & 65535) ^ flip) + 1] == count:
            continue
        for value in range(65536):
            first[value + 1] += first[value]
        for position in range(count):
            item = order[position]
            value = ((keys[item] >> shift) & 65535) ^ flip
            moved[first[value]] = item
            first[value] += 1
        order, moved = moved, order
    return order
