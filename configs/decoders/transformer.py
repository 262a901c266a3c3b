"""Ours, with learned queries asking patches of the heatmap."""

from mmengine.config import read_base

from pipedet.models import Patches, TransformerHead

with read_base():
    from ..ours import *

slots = dict(num_tips=4, matcher=model.fine.matcher, loss=model.fine.loss, alpha=0.15)
patches = dict(type=Patches, size=16, channels=256)
model.fine = dict(type=TransformerHead, encoder=patches, width=256, layers=3, heads=8, **slots)
