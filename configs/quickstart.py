"""A small localiser that trains to something useful in ten minutes or a few more on two CPU cores.

CSPDarknet-small, from patches on, with a feature pyramid draws a heatmap at a quarter of the
resolution; its peaks, refined to a fraction of a pixel, are the tips.
"""

from mmengine.config import read_base

from pipedet.datasets import RandomScale, Warp
from pipedet.engine import Muon, StagedTrainLoop, WarmupCosine
from pipedet.models import HeatmapDetector, HeatmapHead, PeakFocalLoss, TimmPyramid

with read_base():
    from ._base_.runtime import *
    from ._base_.synthetic import *

model = dict(
    type=HeatmapDetector,
    enhancer=None,
    encoder=dict(
        type=TimmPyramid,
        name='cs3darknet_s',
        levels=(1, 2, 3),
        channels=32,
        pretrained=False,
        contrast_radii=(4, 16),
        patch_stem=True,
        equivariant=True,
    ),
    coarse=dict(
        type=HeatmapHead,
        out_stride=4,
        hidden=32,
        sigma=5.0,
        merge='max',
        separation=8.0,
        blur=0.8,
        loss=dict(type=PeakFocalLoss),
    ),
    max_tips=8,
    average_views=False,
    score_threshold=0.22,
)
# A scene turned is no new one to an equivariant network: each serves for two epochs, then another
# takes its place.
train_dataloader.update(batch_size=16, num_workers=0, persistent_workers=False)
train_dataloader.dataset.update(
    length=3600,
    keep=2,
    pipeline=[
        dict(type=RandomScale, low=0.8, high=1.25, probability=0.5),
        dict(type=Warp),
        *scene_pipeline,
    ],
)
# Muon learns from fewer images than AdamW, and images are what minutes are short of.
optim_wrapper.optimizer = dict(type=Muon, lr=0.03)
optim_wrapper.clip_grad = dict(max_norm=1.0)
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(
            name='all',
            parts=('encoder', 'coarse'),
            epochs=5,
            lr=0.03,
            schedule=dict(type=WarmupCosine, warmup=0.05),
        )
    ],
    val_interval=2,
)
