"""RUNet (arXiv 2406.01187): residual U-Net, mixed image loss, whole scenes as patches.

The original's patches are 512 pixels wide; a scene has 256.
"""

from mmengine.config import read_base

from pipedet.engine import StagedTrainLoop, WarmupCosine
from pipedet.models import MixedImageLoss, RUNet, RUNetEnhancer

with read_base():
    from .._base_.enhancers import *

model = dict(
    type=RUNetEnhancer,
    generator=dict(type=RUNet, widths=(32, 64, 128, 256, 512)),
    criterion=dict(type=MixedImageLoss),
)
train_dataloader.dataset.pipeline = pair_pipeline
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(
            name='all',
            parts=('generator',),
            epochs=100,
            lr=1e-3,
            schedule=dict(type=WarmupCosine, warmup=0.02),
        )
    ],
    val_interval=1,
)
