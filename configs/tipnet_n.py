"""TipNet, nano: half the backbone's channels, for loops that count milliseconds.

It learns from tipnet_m beside the labels.
"""

from mmengine.config import read_base

with read_base():
    from .tipnet_s import *

model.encoder.update(name='mobilenetv4_conv_small_050', channels=24)
model.head.hidden = 24
teacher = dict(name='tipnet_m', share=0.5)
