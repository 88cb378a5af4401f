"""Settings shared by all tests."""

import os
import signal

import pytest
from hypothesis import settings

from tests.exploration import PROFILE, SEED

settings.load_profile(PROFILE)


def pytest_report_header():
    """Say how to see the cases of this run again."""
    return f"cases: make test-random SEED={SEED}" if PROFILE == "random" else None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    # Before Hypothesis's plugin looks for it.
    if PROFILE == "random" and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(SEED)
    # Triton's kernels run in its interpreter, unless tests on a GPU are asked for. It must be told
    # before anything imports it.
    if "not gpu" in config.option.markexpr:
        os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def heard_interrupts():
    """Hear Ctrl-C even where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
