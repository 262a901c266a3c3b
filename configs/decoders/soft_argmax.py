"""Ours without a decoder: a soft-argmax of each peak of the heatmap is a tip."""

from mmengine.config import read_base

with read_base():
    from .peaks import *

model.coarse.refine = 'centroid'
