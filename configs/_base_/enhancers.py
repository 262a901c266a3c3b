"""What the trainings of enhancers share: noisy scenes to see, clean ones to compare with."""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler

from pipedet.datasets import CropAtTip, EpochSampler, PackPair, ScenePairs, ToUnit
from pipedet.engine import PictureGrid
from pipedet.evaluation import EnhancementMetric

with read_base():
    from .runtime import *

custom_hooks = [dict(type=PictureGrid)]
pair_pipeline = [dict(type=ToUnit), dict(type=PackPair)]
patch_pipeline = [
    dict(type=ToUnit), dict(type=CropAtTip, size=128, jitter=48), dict(type=PackPair)
]  # fmt: skip
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=EpochSampler, shuffle=True),
    dataset=dict(
        type=ScenePairs,
        recipes=dict(training=1.0),
        length=1600,
        pipeline=patch_pipeline,
        seed=1,
    ),
)  # fmt: skip
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=ScenePairs,
        recipes=dict(standard=1.0),
        length=32,
        pipeline=pair_pipeline,
        seed=2,
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=ScenePairs,
        recipes=dict(standard=1.0),
        length=200,
        pipeline=pair_pipeline,
        seed=3,
    ),
)
val_evaluator = dict(type=EnhancementMetric)
test_evaluator = dict(type=EnhancementMetric)
