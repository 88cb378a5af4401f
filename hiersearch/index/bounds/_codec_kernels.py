"""Kernels of the run code: runs of a row predicted from the runs of the row before it.

The grid is taken as ``rows`` of ``width`` pixels, one after the other; a run of the flattened grid
is first cut at the ends of rows. A row's runs are coded from left to right beside a pointer into
the runs of the row above. All codes are prefix codes in a stream of bits, lowest bit first:

row     1: the same as the row above; 0: coded
label   0: of the run above at the pointer, which moves on; 10: of the run after that one, the
        pointer moves behind it; 110: of the run two back in this row; 111: a number follows, 0 for
        a region not seen before (regions are numbered in the order in which they appear)
end     relative to the end of the run above that gave the label, or of the run at the pointer:
        0: the same; 10 and a sign: one pixel off; 110 and a sign: two; 111 and a sign: Elias's
        gamma code of what is beyond two

Before each label the pointer skips the runs above that end where the new run begins or earlier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiersearch._compile import compiled, compiled_part


@compiled_part
def _put(out: NDArray[np.uint8], at: int, value: int, bits: int) -> int:
    """Append a value of some bits, at most 62; return the new end in bits."""
    end = at + bits
    while at < end:
        out[at >> 3] |= np.uint8((value << (at & 7)) & 255)
        step = 8 - (at & 7)
        value >>= step
        at += step
    return end


@compiled_part
def _bit_length(value: int) -> int:
    """Return how many bits a positive number has."""
    bits = 0
    while value > 0:
        value >>= 1
        bits += 1
    return bits


@compiled
def encode_runs(
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
    n_regions: int,
    rows: int,
    width: int,
    out: NDArray[np.uint8],
    names: NDArray[np.int32],
) -> int:
    """Write the code of a run list to ``out``, which is zero; return the bytes written.

    ``names`` (n_regions,) is filled with the region that each number of the code stands for. -1 is
    returned where ``out`` is too short: 6 bytes a run and row are enough for most.
    """
    number = np.full(n_regions, -1, np.int64)
    seen = 0
    above_ends = np.empty(width, np.int32)
    above_labels = np.empty(width, np.int32)
    ends = np.empty(width, np.int32)
    names_here = np.empty(width, np.int32)
    n_above = 1
    above_ends[0] = width
    above_labels[0] = -1
    at = 0
    run = 0
    limit = 8 * out.size - 200
    for row in range(rows):
        if at > limit:
            return -1
        first = row * width
        count = 0
        x = 0
        # The runs of this row.
        while x < width:
            while run + 1 < starts.size and starts[run + 1] <= first + x:
                run += 1
            stop = width
            if run + 1 < starts.size and starts[run + 1] - first < width:
                stop = starts[run + 1] - first
            ends[count] = stop
            names_here[count] = labels[run]
            count += 1
            x = stop
        same = count == n_above
        if same:
            for i in range(count):
                if ends[i] != above_ends[i] or names_here[i] != above_labels[i]:
                    same = False
                    break
        if same:
            out[at >> 3] |= np.uint8(1 << (at & 7))
            at += 1
            continue
        # Each run's code is gathered in a word; the first begins with the row's bit.
        word = 0
        bits = 1
        pointer = 0
        x = 0
        for i in range(count):
            if at > limit:
                return -1
            while pointer < n_above - 1 and above_ends[pointer] <= x:
                pointer += 1
            label = names_here[i]
            guess = above_ends[pointer]
            if label == above_labels[pointer]:
                bits += 1
                pointer = min(pointer + 1, n_above - 1)
            elif pointer + 1 < n_above and label == above_labels[pointer + 1]:
                word |= 1 << bits
                bits += 2
                guess = above_ends[pointer + 1]
                pointer = min(pointer + 2, n_above - 1)
            elif i >= 2 and label == names_here[i - 2]:
                word |= 3 << bits
                bits += 3
            else:
                word |= (7 | ((number[label] + 1) << 3)) << bits
                bits += 3 + _bit_length(seen)
                if number[label] < 0:
                    names[seen] = label
                    number[label] = seen
                    seen += 1
            off = ends[i] - guess
            size = abs(off)
            sign = 1 if off < 0 else 0
            if size == 0:
                bits += 1
            elif size == 1:
                word |= (1 | (sign << 2)) << bits
                bits += 3
            elif size == 2:
                word |= (3 | (sign << 3)) << bits
                bits += 4
            else:
                word |= (7 | (sign << 3)) << bits
                bits += 4
                at = _put(out, at, word, bits)
                # Elias's gamma code: the length in ones, a zero, then the rest.
                rest = _bit_length(size - 2) - 1
                word = ((1 << rest) - 1) | ((size - 2 - (1 << rest)) << (rest + 1))
                bits = 2 * rest + 1
            at = _put(out, at, word, bits)
            word = 0
            bits = 0
            x = ends[i]
        for i in range(count):
            above_ends[i] = ends[i]
            above_labels[i] = names_here[i]
        n_above = count
    return (at + 7) >> 3


@compiled_part
def _window(code: NDArray[np.uint8], at: int) -> Any:
    """Return 32 bits or more of a code from bit ``at`` on; 8 bytes must follow the code."""
    b = at >> 3
    value = np.int64(code[b]) | (np.int64(code[b + 1]) << 8) | (np.int64(code[b + 2]) << 16)
    value |= (np.int64(code[b + 3]) << 24) | (np.int64(code[b + 4]) << 32)
    return value >> (at & 7)


# What four bits of an end's code say: how far off, and how many bits that took; 7 and 15 escape.
_OFF = np.array([0, 1, 0, 2, 0, -1, 0, 0, 0, 1, 0, -2, 0, -1, 0, 0], np.int64)
_BITS = np.array([1, 3, 1, 4, 1, 3, 1, 4, 1, 3, 1, 4, 1, 3, 1, 4], np.int64)


@compiled
def decode_runs(
    code: NDArray[np.uint8],
    begin: int,
    end: int,
    rows: int,
    width: int,
    n_regions: int,
    starts: NDArray[np.int32],
    labels: NDArray[np.int32],
    scratch: NDArray[np.int32],
) -> int:
    """Write the runs of a code to ``starts`` and ``labels``; return their number, -1 if unsound.

    The code is ``code[begin:end]``, with 8 readable bytes behind it. Regions keep the numbers of
    the code, in the order in which they appear. ``scratch`` (4, width).
    """
    above_ends, above_labels, ends, names = scratch[0], scratch[1], scratch[2], scratch[3]
    n_above = 1
    above_ends[0] = width
    above_labels[0] = -1
    at = 8 * begin
    stop_at = 8 * end
    total = 0
    seen = 0
    seen_bits = 0
    last = -1
    for row in range(rows):
        if at >= stop_at:
            return -1
        first = row * width
        same = (code[at >> 3] >> (at & 7)) & 1
        at += 1
        if same == 1:
            if above_labels[0] < 0:
                return -1
            if n_above == 1 and above_labels[0] == last:
                continue
            x = 0
            for i in range(n_above):
                if above_labels[i] != last:
                    if total >= starts.size:
                        return -1
                    last = above_labels[i]
                    starts[total] = first + x
                    labels[total] = last
                    total += 1
                x = above_ends[i]
            continue
        pointer = 0
        x = 0
        count = 0
        while x < width:
            if at >= stop_at:
                return -1
            while pointer < n_above - 1 and above_ends[pointer] <= x:
                pointer += 1
            window = _window(code, at)
            guess = above_ends[pointer]
            if window & 1 == 0:
                at += 1
                window >>= 1
                label = above_labels[pointer]
                pointer = min(pointer + 1, n_above - 1)
            elif window & 2 == 0:
                at += 2
                window >>= 2
                if pointer + 1 >= n_above:
                    return -1
                label = above_labels[pointer + 1]
                guess = above_ends[pointer + 1]
                pointer = min(pointer + 2, n_above - 1)
            elif window & 4 == 0:
                at += 3
                window >>= 3
                if count < 2:
                    return -1
                label = names[count - 2]
            else:
                label = ((window >> 3) & ((1 << seen_bits) - 1)) - 1
                at += 3 + seen_bits
                if at >= stop_at:
                    return -1
                window = _window(code, at)
                if label < 0:
                    label = seen
                    seen += 1
                    seen_bits = _bit_length(seen)
            if label < 0 or label >= seen or seen > n_regions:
                return -1
            four = window & 15
            off = _OFF[four]
            at += _BITS[four]
            if four & 7 == 7:
                bits = 0
                window >>= 4
                while window & 1 == 1 and bits < 31:
                    bits += 1
                    window >>= 1
                at += bits + 1
                if at > stop_at or bits > 26:
                    return -1
                size = 2 + ((1 << bits) | (_window(code, at) & ((1 << bits) - 1)))
                at += bits
                off = -size if four & 8 else size
            stop = guess + off
            if stop <= x or stop > width:
                return -1
            if label != last:
                if total >= starts.size:
                    return -1
                last = label
                starts[total] = first + x
                labels[total] = label
                total += 1
            ends[count] = stop
            names[count] = label
            count += 1
            x = stop
        # What was this row is the row above the next.
        above_ends, ends = ends, above_ends
        above_labels, names = names, above_labels
        n_above = count
    return total if seen == n_regions and at <= stop_at else -1
