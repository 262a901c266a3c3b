"""The quickstart, with TipNet's head: each cell near a tip says where it is, and how sure it is."""

from mmengine.config import read_base

from pipedet.models import PeakFocalLoss, TipHead, TipNet

with read_base():
    from ..quickstart import *

head = dict(
    type=TipHead, hidden=32, sigma=5.0, separation=8.0, blur=0.8, reach=7.0,
    loss=dict(type=PeakFocalLoss), weights=dict(place=0.5, direction=0.2, height=0.1),
)  # fmt: skip
model = dict(
    type=TipNet, enhancer=None, encoder=model.encoder, head=head, max_tips=8, score_threshold=0.25
)  # fmt: skip
train_cfg.stages[0].parts = ('encoder', 'head')
