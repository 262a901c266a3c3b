"""Several optimisers for one model: each player of an adversarial training has its own."""

from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.optim import Optimizer

from pipedet.engine.finite import FiniteOptimWrapper
from pipedet.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PlayersConstructor:
    """Build one optimiser for each entry of the model's `players`, all from one config.

    Args:
        optim_wrapper_cfg: `optimizer`, the config of an optimiser; the rest is for each wrapper.
        paramwise_cfg: None, or an error: all weights of a player are treated alike.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if paramwise_cfg is not None:
            raise ValueError('paramwise_cfg has no meaning for players')
        self.options = dict(optim_wrapper_cfg)
        self.optimizer = self.options.pop('optimizer')

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Return the wrappers, by name of the player."""
        wrappers = {}
        for player, parts in model.players.items():
            weights = [w for part in parts for w in model.get_submodule(part).parameters()]
            optimiser = OPTIMIZERS.build(self.optimizer, default_args=dict(params=weights))
            wrappers[player] = AveragingOptimWrapper(optimiser, **self.options)
        return OptimWrapperDict(**wrappers)


class AveragingOptimWrapper(FiniteOptimWrapper):
    """Averages the gradients of all ranks before a step.

    DistributedDataParallel does so during the backward pass, but expects every weight to take part
    in one forward pass per step, where a generator is run three times and a critic stands still.
    """

    def step(self, **kwargs) -> None:
        """Average, check and step."""
        if get_world_size() > 1:
            for group in self.param_groups:
                for weight in group['params']:
                    if weight.grad is not None:
                        all_reduce(weight.grad, op='mean')
        super().step(**kwargs)


def optimisers(wrapper: OptimWrapper | OptimWrapperDict) -> list[Optimizer]:
    """Return the one optimiser of a wrapper, or those of all players."""
    if isinstance(wrapper, OptimWrapperDict):
        return [part.optimizer for part in wrapper.values()]
    return [wrapper.optimizer]
