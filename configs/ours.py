"""The paper's model (arXiv 2504.01044): CycleGAN, ViT-B/16 heatmap, ResNet-18 coordinates.

The CycleGAN is trained first, unless `first.weights` names a file, then the localiser in three
stages. Random weights, so that it trains on a machine without a model hub; `pretrained=True`, or
the path of a weights file, starts from ImageNet as the paper does. An epoch is 1600 fresh scenes
where the paper has one pass over its images. The whole image is enhanced: `ours_oracle.py` has the
paper's crops round the labels.
"""

from mmengine.config import read_base

from pipedet.engine import Plateau, StagedTrainLoop
from pipedet.models import (
    BackboneHead,
    CoarseToFineDetector,
    DiceLoss,
    DistanceCost,
    Enhancement,
    HeatmapHead,
    HungarianMatcher,
    ResNetGenerator,
    TimmTransformer,
    TipDistanceLoss,
)

with read_base():
    from ._base_.runtime import *
    from ._base_.synthetic import *

# What is trained before, into which part, and its share of a budget.
first = dict(part='enhancer.generator', config='enhancers/cyclegan.py', weights=None, share=0.25)
model = dict(
    type=CoarseToFineDetector,
    enhancer=dict(
        type=Enhancement,
        generator=dict(type=ResNetGenerator, width=64, blocks=9),
        crop='none',
    ),
    encoder=dict(
        type=TimmTransformer, name='vit_base_patch16_224', image_size=256, pretrained=False
    ),
    coarse=dict(
        type=HeatmapHead,
        out_stride=1,
        hidden=256,
        sigma=10.0,
        merge='sum',
        separation=10.0,
        loss=dict(type=DiceLoss),
    ),
    fine=dict(
        type=BackboneHead,
        name='resnet18',
        pretrained=False,
        num_tips=4,
        matcher=dict(type=HungarianMatcher, cost=dict(type=DistanceCost, presence=0.0)),
        loss=dict(type=TipDistanceLoss, norm='euclidean'),
        alpha=0.15,
    ),
    score_threshold=0.5,
)
train_dataloader.dataset.recipes = dict(rig=0.9, brightfield=0.1)
halve = dict(type=Plateau, patience=20)
train_cfg = dict(
    type=StagedTrainLoop,
    stages=[
        dict(name='encoder', parts=('encoder', 'coarse'), epochs=50, lr=1e-4, schedule=halve),
        dict(name='decoder', parts=('fine',), epochs=50, lr=1e-3, schedule=halve),
        dict(
            name='joint', parts=('encoder', 'coarse', 'fine'), epochs=100, lr=1e-4, schedule=halve
        ),
    ],
    val_interval=1,
)
