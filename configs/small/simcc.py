"""Bins for x and y as the decoder, at a quarter of the width."""

from mmengine.config import read_base

with read_base():
    from ..decoders.simcc import *
    from ._base import *

model.enhancer = None
model.encoder.name, model.encoder.image_size = 'vit_quarter', 128
model.coarse.hidden = 64
model.fine.update(name='resnet18_quarter', bins=256)
train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
