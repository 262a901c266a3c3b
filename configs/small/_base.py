"""What trains the paper's models at a quarter of their width on two CPU cores within minutes.

The same for all: kept scenes of which every epoch shows each once, turned anew; Adam at three times
the paper's rate, which decays with the budget; no enhancer, which has a table of its own.
"""

from mmengine.config import read_base

from pipedet.datasets import RandomFlip, RandomTurn, Warp
from pipedet.engine import WarmupCosine

with read_base():
    from .._base_.synthetic import *

first = None
train_dataloader.update(batch_size=8, num_workers=0, persistent_workers=False)
train_dataloader.dataset.update(
    length=3200,
    keep=True,
    recipes=dict(rig=0.9, brightfield=0.1),
    pipeline=[
        dict(type=RandomFlip, vertical=0.0),
        dict(type=RandomTurn),
        dict(type=Warp),
        *scene_pipeline,
    ],
)
decay = dict(type=WarmupCosine, warmup=0.05)
