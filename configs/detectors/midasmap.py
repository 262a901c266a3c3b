"""MidasMap: gold beads of two sizes in electron micrographs, in full, on scenes of our own.

ResNet-50, BiFPN and a transposed convolution to stride 2; trained in three phases, deeper parts of
the backbone at higher rates than shallower ones. MidasMap begins with weights of CEM500K
(`--cfg-options model.encoder.pretrained=FILE`): with random ones, as here, there is nothing for the
first phase to protect. Its +-8 % of brightness and contrast are left out because the preprocessor,
which takes an image's percentiles as its scale, undoes both; a gamma it does not undo stands for
them.
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from torch.optim import AdamW

from pipedet.datasets import (
    BeadMicrographs,
    BeadPatches,
    EpochSampler,
    PackBeads,
    PackTips,
    Photometric,
    RandomFlip,
    RandomTurn,
    Warp,
)
from pipedet.engine import FiniteOptimWrapper, PartRates, Patience, StagedTrainLoop, WarmupCosine
from pipedet.evaluation import KindMetric
from pipedet.models import CenterHead, CenterNet, PeakFocalLoss, TimmBiFPN

with read_base():
    from .._base_.runtime import *

model = dict(
    type=CenterNet,
    enhancer=None,
    encoder=dict(
        type=TimmBiFPN,
        name='resnet50',
        levels=(1, 2, 3, 4),
        channels=128,
        rounds=2,
        out_stride=2,
        pretrained=False,
    ),
    head=dict(
        type=CenterHead,
        hidden=64,
        kinds=2,
        sigma=3.0,
        separation=16.0,
        loss=dict(type=PeakFocalLoss),
        offset_weight=1.0,
    ),
    max_tips=128,
    window=512,
    overlap=128,
    average_views=True,
    score_threshold=0.3,
)
# Any image, at its own size: beads are known by their pixels.
predict_pipeline = [dict(type=Warp), dict(type=PackTips)]
whole = [dict(type=Warp), dict(type=PackBeads)]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=EpochSampler, shuffle=True),
    dataset=dict(
        type=BeadPatches,
        micrographs=10,
        length=200,
        patch=512,
        near_beads=0.7,
        pasted=4,
        pipeline=[
            dict(type=RandomFlip),
            dict(type=RandomTurn),
            dict(type=Warp),
            dict(type=Photometric, brightness=0.0, contrast=0.0, gamma=0.08, noise=0.03),
            dict(type=PackBeads),
        ],
        seed=1,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=BeadMicrographs, micrographs=2, pipeline=whole, seed=2),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=BeadMicrographs, micrographs=10, pipeline=whole, seed=3),
)
val_evaluator = dict(type=KindMetric, names=('6nm', '12nm'), radius=5)
test_evaluator = dict(type=KindMetric, names=('6nm', '12nm'), radius=5)
# Layer 3 at 0.02 x 5e-4 = 1e-5 and the stem at 0.005 x 2e-4 = 1e-6 are MidasMap's lowest rates of
# its second and third phase.
optim_wrapper = dict(
    type=FiniteOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=1e-4),
    constructor=PartRates,
    paramwise_cfg={
        'encoder.net': 0.005,
        'encoder.net.layer2': 0.01,
        'encoder.net.layer3': 0.02,
        'encoder.net.layer4': 0.1,
    },
)
top = ('encoder.neck', 'encoder.decoder', 'head')
deep = (*top, 'encoder.net.layer3', 'encoder.net.layer4')
common = dict(
    schedule=dict(type=WarmupCosine, warmup=0.05),
    patience=dict(type=Patience, metric='kind/f1@5px', validations=20),
)
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(name='warm-up', parts=top, epochs=40, lr=1e-3, **common),
        dict(name='deep', parts=deep, epochs=40, lr=5e-4, **common),
        dict(name='full', parts=('encoder', 'head'), epochs=60, lr=2e-4, **common),
    ],
    val_interval=1,
)
