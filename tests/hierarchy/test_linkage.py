"""Linkages as values, and users' functions."""

import numba
import pytest

from hiersearch.hierarchy.linkage import LINKAGES, Linkage, compiled_linkage, mix


def test_every_name_but_mix_is_a_linkage_by_itself():
    for name in LINKAGES:
        if name != "mix":
            assert Linkage(name) == Linkage(name)


def test_a_mix_says_what_it_looks_at():
    assert mix(colour=1.0).needs_colour
    assert not mix(colour=1.0).needs_contrast
    assert mix(soft=0.5, boundary=0.5).needs_contrast
    assert not mix(soft=0.5, boundary=0.5).needs_colour
    assert Linkage("ward").needs_colour
    assert Linkage("complete").needs_contrast


@pytest.mark.parametrize(
    "weights", [{}, {"colour": 0.5}, {"colour": 1.5, "soft": -0.5}, {"soft": float("nan")}]
)
def test_weights_of_a_mix_must_be_convex(weights):
    with pytest.raises(ValueError, match="non-negative with sum 1"):
        mix(**weights)


def test_unknown_names_and_useless_weights_are_refused():
    with pytest.raises(ValueError, match="linkage must be one of mean-colour, ward"):
        Linkage("median")
    with pytest.raises(ValueError, match="only a mix has weights"):
        Linkage("ward", colour=1.0)


def too_few(size_u, size_v):
    return size_u


def text(size_u, size_v, sum_u, sum_v, length, total, low, high):
    return "far"


def an_array(size_u, size_v, sum_u, sum_v, length, total, low, high):
    return sum_u


@pytest.mark.parametrize("function", [too_few, text, an_array, numba.njit(too_few)])
def test_a_function_that_does_not_compile_is_named(function):
    with pytest.raises(TypeError, match=f"{function.__name__!r} does not compile as f"):
        compiled_linkage(function)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="must be a name, a Linkage or a function, got 5"):
        compiled_linkage(5)
