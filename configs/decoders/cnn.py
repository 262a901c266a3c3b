"""Ours, with three convolutions reading the heatmap."""

from mmengine.config import read_base

from pipedet.models import CNNHead

with read_base():
    from ..ours import *

slots = dict(num_tips=4, matcher=model.fine.matcher, loss=model.fine.loss, alpha=0.15)
model.fine = dict(type=CNNHead, width=32, **slots)
