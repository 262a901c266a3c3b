"""TipNet, small: any number of tips, each with its covariance, direction and height.

Turns and mirrors of an image are one to it, so that scenes are not turned. Long training on scenes
that keep coming: in each epoch every other is drawn anew. It can be stopped (Ctrl-C) and gone on
with (`--resume`) at will: what is validated, saved and tested are averaged weights, good at any
moment.
"""

from mmengine.config import read_base

from pipedet.datasets import Photometric, RandomScale, ToPixelSize
from pipedet.engine import Muon, StagedTrainLoop, WarmupCosine, WeightAverage
from pipedet.models import PeakFocalLoss, TimmPyramid, TipHead, TipNet

with read_base():
    from ._base_.runtime import *
    from ._base_.synthetic import *

predict_pipeline = [
    dict(type=ToPixelSize, low=0.5, high=1.0, side=256),
    dict(type=Warp),
    dict(type=PackTips),
]
model = dict(
    type=TipNet,
    enhancer=None,
    encoder=dict(
        type=TimmPyramid,
        name='mobilenetv4_conv_small',
        levels=(1, 2, 3),
        channels=32,
        pretrained=False,
        contrast_radii=(4, 16),
        patch_stem=True,
        large_kernels=((7,), (9,), (13, 13, 13)),  # 14, 36 and 104 px to either side
        equivariant=True,
    ),
    head=dict(
        type=TipHead,
        hidden=32,
        sigma=5.0,
        separation=8.0,
        blur=0.8,
        reach=7.0,
        loss=dict(type=PeakFocalLoss),
        weights=dict(place=0.5, direction=0.2, height=0.1),
    ),
    max_tips=8,
    score_threshold=0.25,
)
train_dataloader.update(batch_size=16, num_workers=0, persistent_workers=False)
train_dataloader.dataset.update(
    # By optics: taught by drawn ones alone, a waist of the fringes was taken for the tip.
    recipes=dict(training=0.45, neuropil=0.25, diffraction=0.15, brightfield=0.02, slice=0.13),
    length=4800,
    keep=2,
    pipeline=[
        dict(type=RandomScale, low=0.8, high=1.25, probability=0.5),
        dict(type=Warp),
        dict(type=Photometric, brightness=0.0, contrast=0.0, gamma=0.3, noise=0.03),
        dict(type=PackTips),
    ],
)
val_dataloader.dataset.length = 256
val_dataloader.num_workers = 0
val_dataloader.persistent_workers = False
optim_wrapper.optimizer = dict(type=Muon, lr=0.03)
optim_wrapper.clip_grad = dict(max_norm=1.0)
custom_hooks = [dict(type=WeightAverage, horizon=1000)]
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(
            name='all',
            parts=('encoder', 'head'),
            epochs=120,
            lr=0.03,
            schedule=dict(type=WarmupCosine, warmup=0.01),
        )
    ],
    val_interval=1,
)
