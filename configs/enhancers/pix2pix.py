"""Pix2Pix (Isola et al. 2017) on scenes rendered noisy and clean."""

from mmengine.config import read_base
from torch.optim import Adam

from pipedet.engine import HoldThenLinear, PlayersConstructor, StagedTrainLoop
from pipedet.models import PatchCritic, Pix2PixEnhancer, UNetGenerator

with read_base():
    from .._base_.enhancers import *

model = dict(
    type=Pix2PixEnhancer,
    generator=dict(type=UNetGenerator, width=64, levels=5),
    critic=dict(type=PatchCritic, in_channels=2, width=64, layers=3),
)
optim_wrapper = dict(
    constructor=PlayersConstructor, optimizer=dict(type=Adam, lr=2e-4, betas=(0.5, 0.999))
)
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(
            name='both players',
            parts=('generator', 'critic'),
            epochs=200,
            lr=2e-4,
            schedule=dict(type=HoldThenLinear),
        )
    ],
    val_interval=1,
)
