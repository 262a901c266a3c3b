"""The quickstart's encoder asked by learned queries, matched one to one: no heatmap."""

from mmengine.config import read_base

from pipedet.models import DirectDetector, TipDistanceLoss, TransformerHead

with read_base():
    from ._slots import *

model.encoder.levels, model.encoder.channels = (3,), 128  # cells of 16 px
head = dict(
    type=TransformerHead, encoder=model.encoder, width=128, layers=3, heads=8,
    loss=dict(type=TipDistanceLoss, norm='euclidean'), alpha=1.0, **slots,
)  # fmt: skip
model = dict(type=DirectDetector, enhancer=None, fine=head, score_threshold=0.5)
train_cfg.stages[0].parts = ('fine',)
