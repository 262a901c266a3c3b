"""The paper's model, enhancing crops round the tips that its heatmap of the raw image proposes."""

from mmengine.config import read_base

with read_base():
    from .ours import *

model.enhancer.crop = 'proposed'
