"""A small localiser that trains to something useful in ten minutes on two CPU cores.

MobileNetV4-small with a feature pyramid draws a heatmap at a quarter of the resolution; its peaks,
refined to a fraction of a pixel, are the tips.
"""

from mmengine.config import read_base
from torch.optim import AdamW

from pipedet.engine import StagedTrainLoop, WarmupCosine
from pipedet.models import HeatmapDetector, HeatmapHead, QualityFocalLoss, TimmPyramid

with read_base():
    from ._base_.runtime import *
    from ._base_.synthetic import *

model = dict(
    type=HeatmapDetector,
    encoder=dict(
        type=TimmPyramid,
        name='mobilenetv4_conv_small',
        levels=(1, 2, 3),
        channels=32,
        pretrained=False,
    ),
    coarse=dict(
        type=HeatmapHead,
        out_stride=4,
        hidden=32,
        sigma=5.0,
        merge='max',
        loss=dict(type=QualityFocalLoss),
    ),
    max_tips=8,
    score_threshold=0.4,
)
train_dataloader.batch_size = 16
optim_wrapper.optimizer = dict(type=AdamW, lr=3e-3, weight_decay=1e-2)
optim_wrapper.clip_grad = dict(max_norm=1.0)
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(
            name='all',
            parts=('encoder', 'coarse'),
            epochs=12,
            lr=3e-3,
            schedule=dict(type=WarmupCosine, warmup=0.05),
        )
    ],
    val_interval=3,
)
