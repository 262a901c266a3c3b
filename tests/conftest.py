import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    """Small tensors are slower on many threads; every test starts from the same random state."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
