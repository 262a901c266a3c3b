"""The paper's model as it was tested: crops round the labelled tips are enhanced (III.A).

For reproduction only: predictions need the labels, and `predict` and `latency` refuse it.
"""

from mmengine.config import read_base

with read_base():
    from .ours import *

model.enhancer.crop = 'oracle'
