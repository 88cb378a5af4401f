"""What is read from the code of a segment's entries."""

import numpy as np
import pytest

from hiersearch import Partition
from hiersearch.errors import DamageError
from hiersearch.index.bounds.packing import Frame, packed
from hiersearch.index.segments import decoding
from hiersearch.index.segments.arranging import Cuts, arranged
from hiersearch.index.segments.decoding import decoded_runs, numbered_partition, overlaps_with
from hiersearch.metric.queries import HardQuery
from hiersearch.partitions.partition import as_measure
from tests.index.small_collections import random_collection, random_measure

GRID = (7, 11)


def coded(kind="none", count=12):
    """Return a frame, the arrays of random partitions, and these in the order of the arrays."""
    rng = np.random.default_rng(0)
    weights = random_measure(rng, kind, GRID)
    measure = None if weights is None else as_measure(weights, GRID)
    frame = Frame(GRID, measure)
    maps = random_collection(rng, GRID, count)
    partitions = [Partition.from_labels(labels)._under(measure) for labels in maps]
    arrays, order = arranged(frame, packed(frame, partitions), Cuts.none(count))
    return frame, arrays, [partitions[i] for i in order]


def test_regions_are_numbered_as_they_appear():
    frame, arrays, partitions = coded()
    for row, partition in enumerate(partitions):
        found = numbered_partition(frame, arrays, row)
        assert found == partition
        _, first = np.unique(found.run_labels, return_index=True)
        assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("kind", ["none", "integer", "float"])
def test_overlaps_are_the_same_however_large_the_tables(kind, monkeypatch):
    frame, arrays, partitions = coded(kind)
    rows = np.array([5, 0, 11, 3], np.int32)
    query = HardQuery(partitions[2], frame.measure)
    expected = [query.overlap(partitions[row]) for row in rows]
    for largest in (2**19, 20, 1):
        monkeypatch.setattr(decoding, "LARGEST_TABLE", largest)
        found = overlaps_with(frame, arrays, rows, partitions[2])
        assert found.dtype == frame.prefix.dtype
        assert found == pytest.approx(expected, rel=1e-12)


def test_runs_are_written_where_they_are_asked_for(monkeypatch):
    frame, arrays, partitions = coded()
    monkeypatch.setattr(decoding, "ROWS_A_THREAD", 1)
    rows = np.array([4, 1], np.int32)
    lengths = [partitions[row].n_runs for row in rows]
    begins = np.array([1, lengths[0] + 2])
    starts, labels = decoded_runs(frame, arrays, rows, begins, sum(lengths) + 3, "a file")
    filled = np.zeros(starts.size, bool)
    for row, begin, length in zip(rows, begins, lengths, strict=True):
        piece = slice(begin, begin + length)
        filled[piece] = True
        assert starts[piece].tolist() == partitions[row].run_starts.tolist()
        assert labels[piece].tolist() == numbered_partition(frame, arrays, row).run_labels.tolist()
    assert not starts[~filled].any()
    assert not labels[~filled].any()


def test_code_that_means_nothing_is_named_with_its_entry_and_file():
    frame, arrays, partitions = coded()
    # Whatever its bytes are, they are no code of so many runs.
    runs = arrays["n_runs"].copy()
    runs[3] += 1
    runs.flags.writeable = False
    wrong = {**arrays, "n_runs": runs}
    rows = np.arange(12, dtype=np.int32)
    begins = np.cumsum(runs) - runs
    for read in (
        lambda: numbered_partition(frame, wrong, 3, "00000007.seg"),
        lambda: overlaps_with(frame, wrong, rows, partitions[0], "00000007.seg"),
        lambda: decoded_runs(frame, wrong, rows, begins, int(runs.sum()), "00000007.seg"),
    ):
        with pytest.raises(DamageError, match=r"00000007\.seg: the code of entry 3 can't be dec"):
            read()
