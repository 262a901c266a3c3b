import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# Small tensors are slower on many threads, and the last bits of a sum depend on their number.
torch.set_num_threads(1)
os.environ['OMP_NUM_THREADS'] = '1'  # the processes that tests start have a core each too


@pytest.fixture(autouse=True)
def _seed():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
    np.random.seed(0)


def pytest_addoption(parser):
    """Add how many examples hypothesis tries."""
    parser.addoption('--fuzz', type=int, default=300, help='examples of a fuzz test')


def pytest_configure(config):
    """Fuzz the same examples every time, without a deadline: the machine may be busy."""
    settings.register_profile(
        'pipedet', max_examples=config.getoption('--fuzz'), deadline=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    settings.load_profile('pipedet')
