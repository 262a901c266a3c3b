"""Table IV at a quarter of the width: enhancer and ViT."""

from mmengine.config import read_base

with read_base():
    from ..ablations.gan import *
    from ._gan import *

model.enhancer.generator.width, model.enhancer.generator.blocks = 16, 6
model.fine.name, model.fine.image_size = 'vit_quarter', 128
train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
