"""TipNet on labelled images of your own: goes on from the weights that ship, beside new scenes.

For a folder of images (in it or in its `images`) and its annotations, COCO or a tip table:

    python -m pipedet train configs/labelled.py --data FOLDER --annotations tips.csv

and `--pixel-size-um` where neither files nor annotations say it. Sessions stay whole: 70 % of the
images train, 15 % validate, 15 % test; what `calibrate` makes of the run is judged by the 15 % that
validate. With few sessions, `pipedet crossval configs/labelled.py --data FOLDER` tests on each.
"""

from mmengine.config import read_base

from pipedet.datasets import JointPipettes, PipetteImages, RandomFlip, RandomRotate

with read_base():
    from .tipnet_s import *

load_from = 'tipnet_s'
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
train_dataloader.dataset.length = 1200
train_dataloader.dataset = dict(
    type=JointPipettes,
    sets=[train_dataloader.dataset, dict(**frames, split='train', pipeline=varied)],
)
val_dataloader.dataset = dict(**frames, split='val', pipeline=predict_pipeline)
test_dataloader.dataset = dict(**frames, split='test', pipeline=predict_pipeline)
custom_hooks = [dict(type=WeightAverage, horizon=200)]
# Of weights that know something already a high rate would make them forget it.
train_cfg.stages[0].update(epochs=8, lr=0.01)
