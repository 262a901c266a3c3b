"""Endless scenes to train on, a fixed stream to validate on, the three frozen sets to test on."""

from mmengine.dataset import DefaultSampler

from pipedet.datasets import (
    EpochSampler,
    FrozenPipettes,
    JointPipettes,
    PackTips,
    Resize,
    SyntheticPipettes,
    Warp,
)
from pipedet.evaluation import TipMetric

# Scenes are made at the size of the input; fresh ones need no augmentation.
scene_pipeline = [dict(type=PackTips)]
# Any image, at the paper's input size.
predict_pipeline = [dict(type=Resize, size=256), dict(type=Warp), dict(type=PackTips)]

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    # Neighbouring scenes share a session; a batch should not be all of one.
    sampler=dict(type=EpochSampler, shuffle=True),
    dataset=dict(
        type=SyntheticPipettes,
        recipes=dict(training=0.9, diffraction=0.1),
        length=1600,
        pipeline=scene_pipeline,
        seed=1,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=SyntheticPipettes,
        recipes=dict(standard=1.0),
        length=128,
        pipeline=scene_pipeline,
        seed=2,
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=JointPipettes,
        sets=[
            dict(type=FrozenPipettes, subset='clear', pipeline=scene_pipeline),
            dict(type=FrozenPipettes, subset='standard', pipeline=scene_pipeline),
            dict(type=FrozenPipettes, subset='starved', pipeline=scene_pipeline),
        ],
    ),
)
val_evaluator = dict(type=TipMetric)
test_evaluator = dict(type=TipMetric)
