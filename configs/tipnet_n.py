"""TipNet, nano: half the backbone's channels, for loops that count milliseconds."""

from mmengine.config import read_base

with read_base():
    from .tipnet_s import *

model.encoder.update(name='mobilenetv4_conv_small_050', channels=24)
model.head.hidden = 24
