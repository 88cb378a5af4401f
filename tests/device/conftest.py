"""Settings of the tests that run on torch's CPU device."""

import importlib.util

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Tensors are small here: a second thread would only be waited for.
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)
