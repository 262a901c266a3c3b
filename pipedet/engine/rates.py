"""Discriminative learning rates (Howard and Ruder 2018): parts of a model at shares of the rate."""

from mmengine.optim import OptimWrapper
from torch import nn

from pipedet.models.parts import unwrap
from pipedet.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartRates:
    """Build one optimiser with a group of weights for each share.

    A stage's rate times a group's `share` is the rate of its weights.

    Args:
        optim_wrapper_cfg: the wrapper's config with `optimizer`, the config of an optimiser.
        paramwise_cfg: share of the rate by dotted name of a module. Of two names that both hold a
            weight the longer one counts; a weight that none holds has a share of 1.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict[str, float]) -> None:
        self.wrapper = dict(optim_wrapper_cfg)
        self.optimizer = self.wrapper.pop('optimizer')
        self.shares = dict(paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return the wrapper.

        Raises:
            ValueError: the model has no module of a name.
        """
        model = unwrap(model)
        unknown = self.shares.keys() - dict(model.named_modules()).keys()
        if unknown:
            raise ValueError(f'paramwise_cfg: the model has no part named {sorted(unknown)}')
        groups = {1.0: []}  # first, because logs tell the rate of the first group
        for name, weight in model.named_parameters():
            groups.setdefault(self._share(name), []).append(weight)
        params = [dict(params=weights, share=share) for share, weights in groups.items()]
        optimiser = OPTIMIZERS.build(self.optimizer, default_args=dict(params=params))
        return OPTIM_WRAPPERS.build(self.wrapper, default_args=dict(optimizer=optimiser))

    def _share(self, weight: str) -> float:
        holders = [part for part in self.shares if weight.startswith(f'{part}.')]
        return self.shares[max(holders, key=len)] if holders else 1.0
