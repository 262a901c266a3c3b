"""TipNet, medium: a deeper backbone that sees farther."""

from mmengine.config import read_base

with read_base():
    from .tipnet_s import *

model.encoder.update(
    name='mobilenetv4_conv_medium',
    levels=(1, 2, 3, 4),
    channels=64,
    patch_stem=False,
    large_kernels=((), (9,), (13, 13), ()),
)
model.head.hidden = 64
