"""What trains the paper's models on two CPU cores in minutes: a quarter of the width, 128 pixels.

The same for all: kept scenes of which every epoch shows each once, turned anew, at half the paper's
resolution (lengths in pixels, as sigma, keep their numbers and so are twice as long on the scene);
Muon, as the paper's Adam stays at chance for this long, at one rate that decays with the budget;
no enhancer, which has a table of its own.
"""

from mmengine.config import read_base

from pipedet.datasets import RandomFlip, RandomTurn, Resize, Warp
from pipedet.engine import Muon, WarmupCosine

with read_base():
    from .._base_.runtime import *
    from .._base_.synthetic import *

first = None
predict_pipeline = [dict(type=Resize, size=128), dict(type=Warp), *scene_pipeline]
train_dataloader.update(batch_size=16, num_workers=0, persistent_workers=False)
train_dataloader.dataset.update(
    length=3200,
    keep=None,
    pipeline=[
        dict(type=RandomFlip, vertical=0.0),
        dict(type=RandomTurn),
        *predict_pipeline,
    ],
)
train_dataloader.dataset.recipes = dict(rig=0.9, brightfield=0.1)
val_dataloader.dataset.pipeline = predict_pipeline
test_dataloader.dataset.sets = [
    dict(own, pipeline=predict_pipeline) for own in test_dataloader.dataset.sets
]
optim_wrapper.optimizer = dict(type=Muon, lr=0.02)
optim_wrapper.clip_grad = dict(max_norm=1.0)
decay = dict(type=WarmupCosine, warmup=0.05)
