"""TipNet, medium: dense convolutions, twice as many channels, at twice the time of an image."""

from mmengine.config import read_base

with read_base():
    from .tipnet_s import *

model.encoder.update(name='cs3darknet_s', large_kernels=((), (), (13,)))
