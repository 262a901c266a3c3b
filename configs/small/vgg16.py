"""Baseline vgg16 at a quarter of the width."""

from mmengine.config import read_base

with read_base():
    from ..baselines.vgg16 import *
    from ._base import *

model.fine.name = 'vgg16_quarter'
train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
