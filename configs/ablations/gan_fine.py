"""Table IV, third row: a ResNet-18 regresses four slots from the enhanced image, no heatmap."""

from mmengine.config import read_base

with read_base():
    from .gan import *

model.fine.name, model.fine.image_size = 'resnet18', None
