"""RUNet at a quarter of the width, on kept scenes: what a CPU can train in minutes."""

from mmengine.config import read_base

from pipedet.engine import Muon

with read_base():
    from .._base_.small_patches import *
    from .runet import *

model.generator.widths = (8, 16, 32, 64, 128)
train_dataloader.update(num_workers=0, persistent_workers=False)
train_dataloader.dataset.update(kept_patches)
# Muon learns from fewer images than Adam.
optim_wrapper.optimizer = dict(type=Muon, lr=0.02)
train_cfg.stages[0].lr = 0.02
