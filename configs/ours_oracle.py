"""The paper's way to apply its enhancer: to crops round the labelled tips (III.A).

For reproduction only: predictions need the labels, and `predict` and `latency` refuse it.
"""

from mmengine.config import read_base

with read_base():
    from .ours import *

model.enhancer.crop = 'oracle'
