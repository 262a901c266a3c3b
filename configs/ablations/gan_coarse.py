"""Table IV, second row: enhancer and heatmap, whose peaks are the tips."""

from mmengine.config import read_base

with read_base():
    from ..decoders.peaks import *
