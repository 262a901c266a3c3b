"""Learned queries asking the ViT's own tokens: no heatmap."""

from mmengine.config import read_base

from pipedet.models import DirectDetector, TransformerHead

with read_base():
    from ..ours import *

slots = dict(num_tips=4, matcher=model.fine.matcher, loss=model.fine.loss, alpha=0.15)
head = dict(type=TransformerHead, encoder=model.encoder, width=256, layers=3, heads=8, **slots)
model = dict(type=DirectDetector, enhancer=model.enhancer, fine=head, score_threshold=0.5)
train_cfg.stages = [dict(name='all', parts=('fine',), epochs=200, lr=1e-4, schedule=halve)]
