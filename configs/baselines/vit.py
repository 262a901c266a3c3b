"""Baseline of the paper's Table II: ViT-B/16 on the image."""

from mmengine.config import read_base

with read_base():
    from .resnet18 import *

model.fine.name = 'vit_base_patch16_224'
model.fine.image_size = 256
