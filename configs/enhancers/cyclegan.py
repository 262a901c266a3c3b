"""The paper's enhancer (III.A, IV.C): CycleGAN from in vivo to a clear background, on 80x80 crops.

The target are other scenes in a clear bath. The paper's, brightfield images of one pipette, is in
`cyclegan_brightfield_small.py`: between shadows and refracted light there is no telling what should
become what. An epoch is 1600 fresh pairs of crops where the paper has 6584 images.
"""

from mmengine.config import read_base
from torch.optim import Adam

from pipedet.datasets import (
    ClearScenes,
    CropAtTip,
    PackTips,
    SyntheticPipettes,
    ToUnit,
    UnpairedDomains,
)
from pipedet.engine import HoldThenLinear, PlayersConstructor, StagedTrainLoop
from pipedet.models import CycleGANEnhancer, PatchCritic, ResNetGenerator

with read_base():
    from .._base_.enhancers import *

model = dict(
    type=CycleGANEnhancer,
    generator=dict(type=ResNetGenerator, width=64, blocks=9),
    critic=dict(type=PatchCritic, in_channels=1, width=64, layers=3),
    image_size=80,
)
crop_pipeline = [
    dict(type=ToUnit), dict(type=CropAtTip, size=80, jitter=0), dict(type=PackTips)
]  # fmt: skip
train_dataloader.dataset = dict(
    type=UnpairedDomains,
    source=dict(
        type=SyntheticPipettes,
        recipes=dict(standard=1.0),
        length=1600,
        pipeline=crop_pipeline,
        seed=1,
    ),
    target=dict(
        type=ClearScenes,
        recipes=dict(standard=1.0),
        length=1600,
        pipeline=crop_pipeline,
        seed=4,
    ),
)
optim_wrapper = dict(
    constructor=PlayersConstructor, optimizer=dict(type=Adam, lr=2e-4, betas=(0.5, 0.999))
)
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(
            name='both players',
            parts=('generator', 'inverse', 'critic_exvivo', 'critic_invivo'),
            epochs=200,
            lr=2e-4,
            schedule=dict(type=HoldThenLinear),
        )
    ],
    val_interval=1,
)
