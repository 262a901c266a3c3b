"""TipNet, medium: dense convolutions and twice as many channels and more."""

from mmengine.config import read_base

with read_base():
    from .tipnet_s import *

model.encoder.update(name='cs3darknet_s', large_kernels=((), (), (13,)))
