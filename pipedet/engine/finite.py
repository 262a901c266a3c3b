"""No loss or gradient that is not finite reaches a weight."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from pipedet.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """mmengine's wrapper, which refuses to step where a number is not finite."""

    def update_params(self, loss: Tensor, *args, **kwargs) -> None:
        """Check the loss, then let it through to `step`."""
        if not loss.isfinite():
            raise FloatingPointError(f'the loss became {loss.item()}')
        super().update_params(loss, *args, **kwargs)

    def step(self, **kwargs) -> None:
        """Check the gradients, then clip and step."""
        weights = (w for group in self.param_groups for w in group['params'])
        gradients = [w.grad for w in weights if w.grad is not None]
        if not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise FloatingPointError('a gradient is not finite')
        super().step(**kwargs)
