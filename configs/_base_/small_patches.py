"""Patches of kept scenes, mirrored and turned anew: rendering would be half the time."""

from mmengine.config import read_base

from pipedet.datasets import RandomFlip, RandomTurn, Warp

with read_base():
    from .enhancers import *

kept_patches = dict(
    length=2400,
    keep=None,
    pipeline=[
        dict(type=RandomFlip, vertical=0.0),
        dict(type=RandomTurn),
        dict(type=Warp),
        *patch_pipeline,
    ],
)
