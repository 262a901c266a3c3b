"""Table IV at a quarter of the width: enhancer and ResNet-18, no heatmap."""

from mmengine.config import read_base

with read_base():
    from ..ablations.gan_fine import *
    from ._gan import *

model.enhancer.generator.width, model.enhancer.generator.blocks = 16, 6
model.fine.name = 'resnet18_quarter'
train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
