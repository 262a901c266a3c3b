"""MidasMap for half an hour on a CPU: a light encoder, narrow maps, small micrographs.

One phase at one rate: random weights need no protection. Muon learns from fewer patches than AdamW.
"""

from mmengine.config import read_base

from pipedet.engine import Muon

with read_base():
    from .midasmap import *

model.encoder.update(name='mobilenetv4_conv_small', levels=(1, 2, 3), channels=32, equivariant=True)
model.head.hidden = 32
# All views are the same to it. `benchmarks/beads.py` chose 0.45 for small micrographs and 0.65 for
# whole ones.
model.update(average_views=False, score_threshold=0.6)
small = dict(size=(384, 400), beads=24)
train_dataloader.update(batch_size=16, num_workers=0, persistent_workers=False)
# Many small ones: what a bead is confused with differs from one to the next. Fewer beads than in
# those to test on: in a whole micrograph there are fewer still.
train_dataloader.dataset.update(small, micrographs=1000, length=800, patch=128)
train_dataloader.dataset.update(beads=8, near_beads=0.4, pasted=2)
val_dataloader.dataset.update(small, micrographs=4)
test_dataloader.dataset.update(small, micrographs=20)
optim_wrapper = dict(
    type=FiniteOptimWrapper, optimizer=dict(type=Muon, lr=0.02), clip_grad=dict(max_norm=1.0)
)
train_cfg.val_interval = 5
train_cfg.stages = [dict(name='all', parts=('encoder', 'head'), epochs=80, lr=0.02,
                         schedule=dict(type=WarmupCosine, warmup=0.05))]  # fmt: skip
