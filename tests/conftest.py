"""Settings shared by all tests."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=120)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure(config):
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
