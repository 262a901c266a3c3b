"""The quickstart, validated and saved as the mean of the weights of its last steps."""

from mmengine.config import read_base

from pipedet.engine import WeightAverage

with read_base():
    from ..quickstart import *

custom_hooks = [dict(type=WeightAverage, horizon=100)]
