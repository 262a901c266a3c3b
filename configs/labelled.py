"""TipNet on labelled images of your own: goes on from the weights that ship, beside new scenes.

For a folder of images (in it or in its `images`) and its annotations, COCO or a tip table:

    python -m pipedet train configs/labelled.py --data FOLDER --annotations tips.csv

and `--pixel-size-um` where neither files nor annotations say it. Sessions stay whole: 70 % of the
images train, 15 % validate, 15 % test, so that there must be three sessions or more; what
`calibrate` makes of the run is judged by the 15 % that validate. With few sessions,
`pipedet crossval configs/labelled.py --data FOLDER` tests on each.
"""

from mmengine.config import read_base

from pipedet.datasets import JointPipettes

with read_base():
    from ._base_.labelled import *
    from .tipnet_s import *

load_from = 'tipnet_s'
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
