"""Baseline ViT at a quarter of the width."""

from mmengine.config import read_base

with read_base():
    from ..baselines.vit import *
    from ._base import *

model.fine.name, model.fine.image_size = 'vit_quarter', 128
train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
