"""Peaks of the heatmap, at a quarter of the width."""

from mmengine.config import read_base

with read_base():
    from ..decoders.peaks import *
    from ._base import *

model.enhancer = None
model.encoder.name, model.encoder.image_size = 'vit_quarter', 128
model.coarse.hidden = 64

train_cfg.stages = [dict(stage, lr=0.02, schedule=decay) for stage in train_cfg.stages]
