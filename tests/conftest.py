import numpy as np
import pytest
import torch

# Small tensors are slower on many threads, and the last bits of a sum depend on their number.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
    np.random.seed(0)
