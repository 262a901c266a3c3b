"""The quickstart without tied weights: turned scenes teach what the network does not know itself.

Without large kernels either: scenes are kept and turned anew in each of five epochs, and
predictions are the mean of eight views.
"""

from mmengine.config import read_base

from pipedet.datasets import RandomFlip, RandomTurn

with read_base():
    from ..quickstart import *

model.encoder.equivariant = False
model.encoder.large_kernels = ()
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
