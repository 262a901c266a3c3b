"""How the learning rate moves within a stage: a factor on the stage's own rate."""

import math

from pipedet.registry import HOOKS


@HOOKS.register_module()
class Plateau:
    """Halve whenever the validation loss has not improved for so many epochs (paper IV.C).

    Args:
        patience: epochs without improvement.
    """

    def __init__(self, *, patience: int) -> None:
        self.patience = patience
        self.scale, self.best, self.waited = 1.0, math.inf, 0

    def factor(self, progress: float) -> float:
        """Return the factor; `progress`, the share of the stage done, does not matter here."""
        return self.scale

    def after_validation(self, loss: float) -> None:
        """Take note of an epoch's validation loss."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.scale, self.waited = self.scale / 2, 0

    def state_dict(self) -> dict:
        """Return what a resumed run needs to know."""
        return dict(scale=self.scale, best=self.best, waited=self.waited)

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`."""
        self.scale, self.best, self.waited = state['scale'], state['best'], state['waited']


class _SetInAdvance:
    """A factor that is a function of the progress: there is nothing to watch or remember."""

    def after_validation(self, loss: float) -> None:
        """Do nothing: the course is set in advance."""

    def state_dict(self) -> dict:
        """Return nothing: the factor is a function of the progress."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore nothing."""


@HOOKS.register_module()
class WarmupCosine(_SetInAdvance):
    """Rise linearly over the share `warmup` of the stage, then fall along a cosine to zero."""

    def __init__(self, *, warmup: float) -> None:
        self.warmup = warmup

    def factor(self, progress: float) -> float:
        """Return the factor at `progress`, the share of the stage done."""
        if progress < self.warmup:
            # Not from zero: the first step should count.
            return 0.05 + 0.95 * progress / self.warmup
        fallen = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return 0.5 * (1 + math.cos(math.pi * fallen))


@HOOKS.register_module()
class HoldThenLinear(_SetInAdvance):
    """Stay for half of the stage, then fall linearly to zero (CycleGAN; paper IV.C)."""

    def factor(self, progress: float) -> float:
        """Return the factor at `progress`, the share of the stage done."""
        return min(1.0, 2 * (1 - min(progress, 1.0)))
