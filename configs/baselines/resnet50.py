"""Baseline of the paper's Table II: ResNet-50 on the image."""

from mmengine.config import read_base

with read_base():
    from .resnet18 import *

model.fine.name = 'resnet50'
