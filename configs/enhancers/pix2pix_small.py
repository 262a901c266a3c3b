"""Pix2Pix at a quarter of the width, on kept scenes: what a CPU can train in minutes."""

from mmengine.config import read_base

with read_base():
    from .._base_.small_patches import *
    from .pix2pix import *

model.generator.width = 16
model.critic.width = 16
train_dataloader.update(num_workers=0, persistent_workers=False)
train_dataloader.dataset.update(kept_patches)
