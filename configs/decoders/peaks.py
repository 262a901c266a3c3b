"""Ours without a decoder: the peaks of the heatmap, refined as in DARK, are the tips."""

from mmengine.config import read_base

from pipedet.models import HeatmapDetector

with read_base():
    from ..ours import *

model = dict(
    type=HeatmapDetector, enhancer=model.enhancer, encoder=model.encoder, coarse=model.coarse,
    max_tips=8, average_views=False, score_threshold=0.5,
)  # fmt: skip
train_cfg.stages = train_cfg.stages[:1]
train_cfg.stages[0].epochs = 200
