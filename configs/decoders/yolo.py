"""Ours, with a YOLO-style grid of cells reading the heatmap."""

from mmengine.config import read_base

from pipedet.models import GridHead

with read_base():
    from ..ours import *

model.fine = dict(type=GridHead, width=32, max_tips=8, alpha=0.15)
