"""The quickstart, its heatmap read by SimCC in place of peaks: slots, matched one to one.

A reader that knows left from right learns from scenes that are turned.
"""

from mmengine.config import read_base

from pipedet.models import BinLoss, CoarseToFineDetector, SimCCHead

with read_base():
    from ._slots import *

fine = dict(
    type=SimCCHead, name='resnet18_quarter', pretrained=False, bins=512,
    loss=dict(type=BinLoss, sigma=6.0), alpha=0.02, **slots,
)  # fmt: skip
model = dict(
    type=CoarseToFineDetector, enhancer=None, encoder=model.encoder, coarse=model.coarse,
    fine=fine, score_threshold=0.5,
)  # fmt: skip
train_cfg.stages[0].parts = ('encoder', 'coarse', 'fine')
