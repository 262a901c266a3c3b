"""CycleGAN at a quarter of the width, to the paper's domain: brightfield, one pipette an image."""

from mmengine.config import read_base

from pipedet.datasets import SyntheticPipettes

with read_base():
    from .cyclegan_small import *

train_dataloader.dataset.target.type = SyntheticPipettes
train_dataloader.dataset.target.recipes = dict(brightfield=1.0)
