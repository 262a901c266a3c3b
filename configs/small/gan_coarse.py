"""Table IV at a quarter of the width: enhancer and heatmap."""

from mmengine.config import read_base

with read_base():
    from ..ablations.gan_coarse import *
    from ._gan import *

model.enhancer.generator.width, model.enhancer.generator.blocks = 16, 6
model.encoder.name, model.encoder.image_size = 'vit_quarter', 128
model.coarse.hidden = 64
train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
