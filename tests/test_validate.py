"""Checks at the edge say in one sentence which argument, what was expected and what came."""

import numpy as np
import pytest

from hiersearch import _validate


def test_a_grid_is_two_or_three_sides_of_at_least_one_pixel():
    assert _validate.checked_grid((np.int64(3), 4), "grid") == (3, 4)
    assert _validate.checked_grid([1, 2, 3], "grid") == (1, 2, 3)
    for shape in ((), (3,), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match=r"grid must be 2-D \(H, W\) or 3-D \(D, H, W\), got"):
            _validate.checked_grid(shape, "grid")
    for shape in ((0, 3), (3, 4, 0)):
        with pytest.raises(ValueError, match="grid must have at least one pixel, got shape"):
            _validate.checked_grid(shape, "grid")
    for shape in ((1.5, 4), (np.float32(3), 4), (True, 4), ("3", 4)):
        with pytest.raises(TypeError, match="grid must be whole numbers, got"):
            _validate.checked_grid(shape, "grid")


def test_labels_keep_their_type_and_become_native():
    for dtype in (np.uint8, np.int64, np.uint64):
        assert _validate.checked_labels(np.zeros((2, 2), dtype), "labels").dtype == dtype
    swapped = np.array([[1, 258]], np.dtype(np.int32).newbyteorder())
    checked = _validate.checked_labels(swapped, "labels")
    assert checked.dtype == np.int32
    assert checked.dtype.isnative
    assert checked.tolist() == [[1, 258]]
    assert _validate.checked_labels([[True, False]], "labels").tolist() == [[1, 0]]


def test_grids_too_large_for_32_bit_positions_are_refused():
    huge = np.broadcast_to(np.uint8(0), (2**16, 2**15))
    with pytest.raises(ValueError, match=r"labels must have fewer than 2\*\*31 pixels, got shape"):
        _validate.checked_labels(huge, "labels")


def test_finite_values_become_floating_without_losing_digits():
    for dtype in (np.float32, np.float64):
        values = np.array([0.1, 2.0], dtype)
        assert _validate.checked_finite(values, "x") is values
    for dtype in (np.bool_, np.uint8, np.int16, np.float16):
        assert _validate.checked_finite(np.ones(2, dtype), "x").dtype == np.float32
    for dtype in (np.int32, np.uint64):
        assert (
            _validate.checked_finite(np.full(2, 2**31 - 1, dtype), "x").tolist() == [2**31 - 1] * 2
        )


def test_large_finite_values_are_not_taken_for_infinite():
    values = np.array([1e308, 1e308, -1e308])
    assert _validate.checked_finite(values, "x") is values
    half = np.full(100, 65504, np.float16)
    assert (_validate.checked_finite(half, "x") == 65504).all()


def test_values_that_are_not_finite_are_counted_and_the_first_is_named():
    values = np.zeros((2, 3))
    values[1, 0], values[1, 2] = np.inf, -np.inf
    with pytest.raises(ValueError, match=r"x must be finite, got inf at index \(1, 0\) \(2 such"):
        _validate.checked_finite(values, "x")
    for bad in (["a"], [None], [1j]):
        with pytest.raises(TypeError, match="x must be an array of real numbers, got dtype"):
            _validate.checked_finite(bad, "x")


def test_a_measure_names_its_first_fault():
    measure = _validate.checked_measure([[1, 0], [2, 3]], (2, 2))
    assert measure.dtype == np.float64
    assert measure.flags.c_contiguous
    for values, message in (
        ([[1, 2]], r"measure must have the grid's shape \(2, 2\), got \(1, 2\)"),
        ([[1, 2], [-1, -3]], r"measure must not be negative, got -3.* at index \(1, 1\)"),
        ([[0, 0], [0, 0]], "measure must be positive somewhere, got zero at every pixel"),
    ):
        with pytest.raises(ValueError, match=message):
            _validate.checked_measure(values, (2, 2))


def test_grids_are_compared_by_name():
    _validate.checked_same_grid((2, 3), (2, 3), "a", "b")
    with pytest.raises(ValueError, match=r"a and b must share one grid, got \(2, 3\) and \(3, 2\)"):
        _validate.checked_same_grid((2, 3), (3, 2), "a", "b")


def test_a_choice_lists_what_there_is():
    assert _validate.checked_choice("x", ("x", "y"), "axis") == "x"
    with pytest.raises(ValueError, match="axis must be one of x, y, got 'z'"):
        _validate.checked_choice("z", ("x", "y"), "axis")


def test_a_count_is_a_whole_number_within_its_range():
    assert _validate.checked_count(np.int32(3), "k", 1) == 3
    assert type(_validate.checked_count(np.int32(3), "k", 1)) is int
    assert _validate.checked_count(5, "k", 1, 5) == 5
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        _validate.checked_count(0, "k", 1)
    with pytest.raises(ValueError, match=r"k must be within 1\.\.5, got 6"):
        _validate.checked_count(6, "k", 1, 5)
    for value in (2.0, True, "3", None):
        with pytest.raises(TypeError, match="k must be a whole number, got"):
            _validate.checked_count(value, "k", 1)
