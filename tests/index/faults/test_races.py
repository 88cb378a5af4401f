"""Whoever meddles with a store at the same moment, nothing is lost and all stays readable."""

import os

import pytest

from tests.exploration import seeds
from tests.index.faults.races import KINDS, race_rounds

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


def check(kind, rounds, seed, scratch):
    found = race_rounds(kind, rounds, seed, scratch)
    assert found.examples == []
    assert (found.rounds, found.lost, found.unreadable, found.wrong) == (rounds, 0, 0, 0)
    assert found.acknowledged > 0


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_races(tmp_path, kind, seed):
    check(kind, 5, seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_races(tmp_path, kind):
    check(kind, 200, 1, tmp_path)
