"""Labelled images of one's own, varied where they train."""

from pipedet.datasets import (
    PackTips,
    Photometric,
    PipetteImages,
    RandomFlip,
    RandomRotate,
    RandomScale,
    ToPixelSize,
    Warp,
)

frames = dict(
    type=PipetteImages,
    root='YOUR FOLDER',
    annotations='annotations.json',
    subset='labelled',
    seed=0,
)
varied = [
    dict(type=ToPixelSize, low=0.5, high=1.0, side=256),
    dict(type=RandomFlip),  # of one rig all pipettes come in alike: normalisation should not
    dict(type=RandomScale, low=0.8, high=1.25),
    dict(type=RandomRotate, degrees=20),
    dict(type=Warp),
    dict(type=Photometric, brightness=0.1, contrast=0.2, gamma=0.3, noise=0.05),
    dict(type=PackTips),
]
