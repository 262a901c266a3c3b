"""The paper's localiser at a quarter of the width, without its enhancer."""

from mmengine.config import read_base

with read_base():
    from ..ours import *
    from ._base import *

model.enhancer = None
model.encoder.name, model.encoder.image_size = 'vit_quarter', 128
model.coarse.hidden = 64
model.fine.name = 'resnet18_quarter'
train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
