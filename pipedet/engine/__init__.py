"""Training: staged loops, schedules, checkpoints, wall-clock budgets."""

from pipedet.engine.finite import FiniteOptimWrapper
from pipedet.engine.hooks import SaveCheckpoint
from pipedet.engine.loops import LossValLoop, StagedTrainLoop
from pipedet.engine.optim import Muon
from pipedet.engine.runner import TipRunner
from pipedet.engine.schedules import Plateau, WarmupCosine
