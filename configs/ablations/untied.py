"""MobileNetV4-small without tied weights: turned scenes teach what it does not know itself.

Scenes are kept and turned anew in each of five epochs, and predictions are the mean of eight views.
"""

from mmengine.config import read_base

from pipedet.datasets import RandomFlip, RandomTurn

with read_base():
    from ..quickstart import *

model.encoder.update(name='mobilenetv4_conv_small', equivariant=False)
model.average_views = True
train_dataloader.batch_size = 8
train_dataloader.dataset.update(
    length=4800,
    keep=None,
    pipeline=[
        dict(type=RandomFlip, vertical=0.0),
        dict(type=RandomTurn),
        dict(type=Warp),
        *scene_pipeline,
    ],
)
