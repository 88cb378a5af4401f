"""Grid and measure come back from JSON, or are refused before memory for them is taken."""

import base64
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from hiersearch.errors import FormatError
from hiersearch.index.segments import settings
from hiersearch.index.segments.settings import frame_of, settings_of
from hiersearch.partitions.partition import as_measure

FOLDER = Path("folder")


def packed(array):
    text = base64.b64encode(zlib.compress(array.tobytes())).decode()
    return {"dtype": array.dtype.str, "zlib": text}


@pytest.mark.parametrize("measure", [None, np.arange(12).reshape(3, 4), np.full((3, 4), 0.1)])
def test_grid_and_measure_come_back(measure):
    weights = None if measure is None else as_measure(measure, (3, 4))
    frame = frame_of(settings_of((3, 4), weights), FOLDER)
    assert frame.grid == (3, 4)
    if weights is None:
        assert frame.measure is None
        assert frame.totals.sum() == 12
    else:
        assert frame.measure.dtype == weights.dtype
        assert frame.measure.tolist() == weights.tolist()


@pytest.mark.parametrize("grid", [(5, 7), (1, 9), (13, 1), (128, 192), (3, 4, 5), (2, 9, 11)])
def test_tiles_count_their_pixels(grid):
    frame = frame_of({"grid": list(grid), "measure": None}, FOLDER)
    tiles = frame.tiling.tile_map(3).reshape(-1)
    assert frame.totals.tolist() == np.bincount(tiles, minlength=frame.totals.size).tolist()


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([10**5, 10**5], r"must have at most 2147483647 pixels, got \[100000, 100000\]"),
        ([2**70, 1], "must have at most 2147483647 pixels"),
        ([-1, 5], "must be 2 or 3 sides of at least 1, got"),
        ([0, 5], "must be 2 or 3 sides of at least 1"),
        ([320], "must be 2 or 3 sides"),
        ([1, 2, 3, 4], "must be 2 or 3 sides"),
        ([1.5, 4], "must be 2 or 3 sides"),
        ([True, 4], "must be 2 or 3 sides"),
        (["4", 4], "must be 2 or 3 sides"),
        ([[4], 4], "must be 2 or 3 sides"),
        (5, "must be 2 or 3 sides"),
        (None, "must be 2 or 3 sides"),
    ],
)
def test_a_grid_that_is_none_is_refused(grid, message):
    with pytest.raises(FormatError, match=f"^folder must be an index.*its grid {message}"):
        frame_of({"grid": grid, "measure": None}, FOLDER)


def test_settings_without_grid_or_measure_are_refused():
    with pytest.raises(FormatError, match="it has no 'grid'"):
        frame_of({}, FOLDER)
    with pytest.raises(FormatError, match="it has no 'measure'"):
        frame_of({"grid": [3, 4]}, FOLDER)


def test_a_grid_that_memory_has_no_room_for_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(settings, "memory_bytes", lambda: 10**9)
    with pytest.raises(FormatError, match=r"takes 1\.6 GB at least, more than the 1\.0 GB"):
        frame_of({"grid": [10**4, 10**4], "measure": None}, FOLDER)
    monkeypatch.undo()
    assert 2**28 < settings.memory_bytes() <= 2**63


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (5, "must be compressed text"),
        ({"dtype": "<f8"}, "must be compressed text"),
        ({"dtype": "<f8", "zlib": 5}, "must be compressed text"),
        ({"dtype": "|O", "zlib": ""}, "must be of type"),
        ({"dtype": ["<f8"], "zlib": ""}, "must be of type"),
        ({"dtype": "<f8", "zlib": "é"}, "ASCII"),
        ({"dtype": "<f8", "zlib": "AAA"}, "can't be unpacked"),
        ({"dtype": "<f8", "zlib": "AAAA"}, "can't be unpacked"),
        (packed(np.ones(11)), "must have 96 bytes"),
        (packed(np.ones(13)), "must have 96 bytes"),
        (packed(np.full(12, np.nan)), "must be finite"),
        (packed(np.full(12, -1)), "must not be negative"),
        (packed(np.zeros(12)), "must be positive somewhere"),
        (packed(np.full(12, 2**40)), "total of at most"),
        (packed(np.full(12, 1e200)), "total whose square is a float64"),
    ],
)
def test_a_measure_that_is_none_is_refused(measure, message):
    with pytest.raises(FormatError, match=f"must be an index of partitions, got .*{message}"):
        frame_of({"grid": [3, 4], "measure": measure}, FOLDER)


def test_a_measure_that_unpacks_to_more_than_the_grid_is_not_unpacked():
    bomb = packed(np.zeros(2**24))
    tracemalloc.start()
    with pytest.raises(FormatError, match="must have 96 bytes"):
        frame_of({"grid": [3, 4], "measure": bomb}, FOLDER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_rows_longer_than_the_run_code_has_steps_for_are_refused():
    with pytest.raises(ValueError, match=r"grid must have rows of at most 134217727 pixels, got"):
        settings_of((2, 2**27), None)
    stored = {"grid": [2, 2**27], "measure": None}
    with pytest.raises(FormatError, match="its grid must have rows of at most 134217727 pixels"):
        frame_of(stored, FOLDER)
