"""Baseline of the paper's Table II: a ResNet-18 regresses four slots from the image, 200 epochs."""

from mmengine.config import read_base

from pipedet.models import DirectDetector

with read_base():
    from ..ours import *

first = None
model = dict(type=DirectDetector, enhancer=None, fine=model.fine, score_threshold=0.5)
train_cfg.stages = [dict(name='all', parts=('fine',), epochs=200, lr=1e-4, schedule=halve)]
