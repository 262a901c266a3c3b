"""RUNet's rival: Attention U-Net (Oktay et al. 2018), from MONAI."""

from mmengine.config import read_base

from pipedet.models import MonaiGenerator

with read_base():
    from .runet import *

model.generator = dict(
    type=MonaiGenerator,
    name='AttentionUnet',
    options=dict(channels=(32, 64, 128, 256, 512), strides=(2, 2, 2, 2)),
)
