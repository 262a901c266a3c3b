"""Ours, with x and y of each tip classified into bins of half a pixel."""

from mmengine.config import read_base

from pipedet.models import BinLoss, SimCCHead

with read_base():
    from ..ours import *

model.fine = dict(
    type=SimCCHead,
    name='resnet18',
    pretrained=False,
    bins=512,
    num_tips=4,
    matcher=model.fine.matcher,
    loss=dict(type=BinLoss, sigma=6.0),
    # Of cross-entropies, ten times and more as large as distances.
    alpha=0.02,
)
