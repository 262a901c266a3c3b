"""RUNet's rival with a Swin encoder (Hatamizadeh et al. 2022, SwinUNETR), from MONAI."""

from mmengine.config import read_base

from pipedet.models import MonaiGenerator

with read_base():
    from .runet import *

# Batch statistics in the decoder: those of an instance would differ from tile to tile.
model.generator = dict(
    type=MonaiGenerator, name='SwinUNETR', options=dict(feature_size=24, norm_name='batch')
)
