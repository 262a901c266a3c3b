"""The smallest run that still does everything, for tests: not a useful model."""

from mmengine.config import read_base

with read_base():
    from ..quickstart import *

train_dataloader.batch_size = 4
train_dataloader.dataset.length = 16
val_dataloader.num_workers = 0
val_dataloader.persistent_workers = False
val_dataloader.batch_size = 4
val_dataloader.dataset.length = 8
test_dataloader.num_workers = 0
test_dataloader.dataset = dict(
    type=SyntheticPipettes,
    recipes=dict(standard=1.0),
    length=8,
    pipeline=scene_pipeline,
    seed=3,
)
train_cfg.stages[0].epochs = 2
