"""A running mean of the weights: what a long training at a high rate is worth at any moment."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from pipedet.models.parts import unwrap
from pipedet.registry import HOOKS


@HOOKS.register_module()
class WeightAverage(Hook):
    """Average the weights over the last steps; validate, and in the end save and test, the mean.

    So a run may be stopped and used anywhere, and not only once its rate has fallen to nothing.
    Weights read from one of its checkpoints are the mean too; a resumed run has both.

    Args:
        horizon: steps that the mean looks back on, weighted exponentially.
    """

    priority = 'HIGH'  # before the checkpoint of the same moment is written

    def __init__(self, *, horizon: int) -> None:
        self.horizon = horizon
        self.steps = 0
        self.weights: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Begin with the weights as they are, unless the run is resumed."""
        state = unwrap(runner.model).state_dict()
        # A checkpoint was read to the CPU, whatever the model is on.
        self.weights = {
            name: self.weights.get(name, value).to(value.device, copy=True)
            for name, value in state.items()
        }

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Let the mean follow; in the beginning it looks back on a tenth of all steps."""
        self.steps += 1
        share = 1 / min(self.horizon, 1 + self.steps / 10)
        for name, value in unwrap(runner.model).state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, share)
            else:
                self.weights[name].copy_(value)

    def before_val(self, runner: Runner) -> None:
        """Put the mean in the place of the weights."""
        self._exchange(runner)

    def after_val(self, runner: Runner) -> None:
        """Put the weights back."""
        self._exchange(runner)

    def after_train(self, runner: Runner) -> None:
        """Leave the mean in the model."""
        self._exchange(runner)

    @torch.no_grad()
    def _exchange(self, runner: Runner) -> None:
        for name, value in unwrap(runner.model).state_dict().items():
            kept = value.clone()
            value.copy_(self.weights[name])
            self.weights[name].copy_(kept)

    def state_dict(self) -> dict:
        """Return what a resumed run needs to know."""
        return dict(steps=self.steps, weights=self.weights)

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`."""
        self.steps, self.weights = state['steps'], state['weights']
