"""Patches of kept scenes, mirrored and turned anew: rendering would be half the time."""

from pipedet.datasets import CropAtTip, PackPair, RandomFlip, RandomTurn, ToUnit, Warp

kept_patches = dict(
    length=2400,
    keep=True,
    pipeline=[
        dict(type=RandomFlip, vertical=0.0),
        dict(type=RandomTurn),
        dict(type=Warp),
        dict(type=ToUnit),
        dict(type=CropAtTip, size=128, jitter=48),
        dict(type=PackPair),
    ],
)
