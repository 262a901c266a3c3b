"""Muon (Jordan et al. 2024): momentum whose matrices are made orthogonal, AdamW for the rest.

In float32: torch's takes no convolutions, and timm's computes in bfloat16, which a CPU without
units for it emulates at several times the cost.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from pipedet.registry import OPTIMIZERS

# Quintic Newton-Schulz iteration: maps singular values in (0, 1] to about 1 in five steps.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_MOMENTUM = 0.95  # Nesterov's, of Muon
_BETAS = (0.9, 0.999)  # of AdamW
# Weights of a matrix from which AdamW takes it: to make VGG's first linear layer orthogonal would
# cost more than the rest of the step.
_LARGE = 4_000_000


@OPTIMIZERS.register_module()
class Muon(Optimizer):
    """Muon on weights of two axes or more, AdamW on biases, norms and other small sides.

    AdamW has every matrix with a side of 9 or less, as 3x3 depthwise convolutions and heads of few
    maps are, and the largest, of four million weights and more.

    Args:
        params: parameters.
        lr: rate of Muon; an update of a matrix has singular values of about `lr`.
        adamw_scale: rate of AdamW, as a share of `lr`.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        adamw_scale: float = 0.1,
    ) -> None:
        super().__init__(params, dict(lr=lr, adamw_scale=adamw_scale))

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            matrices, others = defaultdict(list), []
            for weight in group['params']:
                if weight.grad is None:
                    continue
                if _is_matrix(weight):
                    matrices[weight.flatten(1).shape].append(weight)
                else:
                    others.append(weight)
            # Weights are small and many: those of one shape, and all the others, go together.
            for weights in matrices.values():
                self._muon(weights, group)
            self._adamw(others, group)

    def _muon(self, weights: list[Tensor], group: dict) -> None:
        directions = torch.stack([self._direction(w) for w in weights])
        rows, columns = directions.shape[1:]
        rate = group['lr'] * max(1, rows / columns) ** 0.5
        for weight, update in zip(weights, orthogonalise(directions), strict=True):
            weight.sub_(update.view(weight.shape), alpha=rate)

    def _direction(self, weight: Tensor) -> Tensor:
        """Nesterov momentum, (rows, columns)."""
        state = self.state[weight]
        if not state:
            state['momentum'] = torch.zeros_like(weight)
        average = state['momentum'].lerp_(weight.grad, 1 - _MOMENTUM)
        return weight.grad.lerp(average, _MOMENTUM).flatten(1)

    def _adamw(self, weights: list[Tensor], group: dict) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight].update(
                    step=torch.tensor(0.0),
                    mean=torch.zeros_like(weight),
                    square=torch.zeros_like(weight),
                )
        states = [self.state[weight] for weight in weights]
        adamw(
            weights,
            [weight.grad for weight in weights],
            [state['mean'] for state in states],
            [state['square'] for state in states],
            [],
            [state['step'] for state in states],
            foreach=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=group['lr'] * group['adamw_scale'],
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def _is_matrix(weight: Tensor) -> bool:
    if weight.dim() < 2 or weight.numel() >= _LARGE:
        return False
    return min(weight.shape[0], weight[0].numel()) > 9  # a depthwise convolution has 1 and 9


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return about U V^T of the singular value decompositions U S V^T of (..., m, n) matrices."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    # Every iterate is p(X X^T) X with a polynomial p: on the short side it takes two fifths of the
    # products where kernels of 3x3 cells make the long one nine times as long.
    gram = x @ x.mT
    product = identity = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    for _ in range(_STEPS):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.mT if tall else x
