"""Training: staged loops, schedules, checkpoints, wall-clock budgets."""

from pipedet.engine.average import WeightAverage
from pipedet.engine.finite import FiniteOptimWrapper
from pipedet.engine.hooks import PictureGrid, SaveCheckpoint
from pipedet.engine.loops import LossValLoop, StagedTrainLoop
from pipedet.engine.optim import Muon
from pipedet.engine.players import PlayersConstructor
from pipedet.engine.rates import PartRates
from pipedet.engine.runner import TipRunner
from pipedet.engine.schedules import HoldThenLinear, Plateau, WarmupCosine
from pipedet.engine.stages import Patience
