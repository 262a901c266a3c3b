"""What the rows of Table IV at a quarter of the width share: half a budget is the CycleGAN's."""

from mmengine.config import read_base

with read_base():
    from ._base import *

first = dict(
    part='enhancer.generator', config='../enhancers/cyclegan_small.py', weights=None, share=0.5
)
