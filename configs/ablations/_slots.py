"""What the quickstart needs for slots that are matched with the tips one to one.

Slots know left from right: scenes are turned.
"""

from mmengine.config import read_base

from pipedet.datasets import RandomFlip, RandomTurn
from pipedet.models import DistanceCost, HungarianMatcher

with read_base():
    from ..quickstart import *

slots = dict(
    num_tips=8, matcher=dict(type=HungarianMatcher, cost=dict(type=DistanceCost, presence=0.1))
)
turns = [dict(type=RandomFlip, vertical=0.0), dict(type=RandomTurn)]
train_dataloader.dataset.pipeline = turns + train_dataloader.dataset.pipeline
