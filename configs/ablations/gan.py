"""Table IV, first row: a ViT regresses four slots from the enhanced image."""

from mmengine.config import read_base

from pipedet.models import DirectDetector

with read_base():
    from ..ours import *

model.fine.name, model.fine.image_size = 'vit_base_patch16_224', 256
model = dict(
    type=DirectDetector, enhancer=model.enhancer, fine=model.fine, score_threshold=0.5
)  # fmt: skip
train_cfg.stages = [dict(name='all', parts=('fine',), epochs=200, lr=1e-4, schedule=halve)]
