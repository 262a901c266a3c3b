"""What every run shares: hooks, logging, seed."""

from mmengine.hooks import LoggerHook
from mmengine.runner import TestLoop
from torch.optim import Adam

from pipedet.engine import FiniteOptimWrapper, LossValLoop, SaveCheckpoint

default_scope = None
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=20),
    checkpoint=dict(type=SaveCheckpoint),
    param_scheduler=None,
    sampler_seed=None,
)
log_processor = dict(by_epoch=True, window_size=20)
optim_wrapper = dict(type=FiniteOptimWrapper, optimizer=dict(type=Adam, lr=1e-4))
val_cfg = dict(type=LossValLoop)
test_cfg = dict(type=TestLoop)
