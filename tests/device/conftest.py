"""Settings of the tests that run on torch's CPU device."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Tensors are small here: a second thread would only be waited for.
    torch.set_num_threads(1)
