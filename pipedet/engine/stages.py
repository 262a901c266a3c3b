"""One stage of a training: what it trains, for how long, at which rate; and when it ends early."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipedet.registry import HOOKS


@HOOKS.register_module()
class Patience:
    """End a stage once a metric has not risen for so many validations (early stopping).

    The next stage goes on from the last weights, not from the best.

    Args:
        metric: a key of the validation's metrics, larger the better.
        validations: without a new best.
    """

    def __init__(self, *, metric: str, validations: int) -> None:
        self.metric = metric
        self.validations = validations
        self.best, self.waited = -math.inf, 0

    def __str__(self) -> str:
        return f'no {self.metric} above {self.best:.4g} in {self.waited} validations'

    @property
    def is_over(self) -> bool:
        """Whether the stage should end."""
        return self.waited >= self.validations

    def after_validation(self, metrics: dict[str, float]) -> None:
        """Take note of a validation.

        Raises:
            ValueError: there is no such metric.
        """
        if self.metric not in metrics:
            raise ValueError(
                f'no metric {self.metric!r} to watch; the validation gives {sorted(metrics)}'
            )
        if metrics[self.metric] > self.best:
            self.best, self.waited = metrics[self.metric], 0
        else:
            self.waited += 1

    def state_dict(self) -> dict:
        """Return what a resumed run needs to know."""
        return dict(best=self.best, waited=self.waited)

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`."""
        self.best, self.waited = state['best'], state['waited']


@dataclass
class Stage:
    """One stage of a recipe.

    `share_s` is its share of a wall-clock budget, None without one (`has_budget`) and where the
    recipe fits it; `step_s` what a step was measured to take. `patience` ends it early, where there
    is one.
    """

    name: str
    parts: Sequence[str]
    epochs: int
    lr: float
    schedule: object
    patience: Patience | None = None
    has_budget: bool = False
    share_s: float | None = None
    step_s: float | None = None
    elapsed_s: float = 0.0
    iters_done: int = 0

    @property
    def has_lost_patience(self) -> bool:
        """Whether it should end before its epochs are over."""
        return self.patience is not None and self.patience.is_over

    def after_validation(self, metrics: dict[str, float]) -> None:
        """Take note of a validation."""
        self.schedule.after_validation(metrics['loss'])
        if self.patience is not None:
            self.patience.after_validation(metrics)

    def state_dict(self) -> dict:
        """Return how far it has come, as plain numbers."""
        state = dict(elapsed_s=self.elapsed_s, iters_done=self.iters_done, share_s=self.share_s)
        if self.patience is not None:
            state['patience'] = self.patience.state_dict()
        return state | self.schedule.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`; where there is a budget, its first plan stands."""
        self.elapsed_s, self.iters_done = state['elapsed_s'], state['iters_done']
        if self.has_budget:
            self.share_s = state['share_s']
        if self.patience is not None:
            self.patience.load_state_dict(state['patience'])
        self.schedule.load_state_dict(state)


def build_stage(config: dict) -> Stage:
    """Build a stage from its fields, of which `schedule` and `patience` are configs themselves."""
    built = {key: HOOKS.build(config[key]) for key in ('schedule', 'patience') if key in config}
    return Stage(**config | built)
