"""Models whose parts (child modules) a stage of training freezes."""

from collections.abc import Sequence

from mmengine.model import BaseModel
from torch import nn


class StagedModel(BaseModel):
    """A model that trains only the parts that it is told to.

    Args:
        data_preprocessor: what turns a collated batch into the arguments of `forward`.
    """

    def __init__(self, *, data_preprocessor: nn.Module) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self._frozen: set[str] = set()

    def train_only(self, parts: Sequence[str]) -> None:
        """Freeze every part (child module) but these; frozen parts also stay in eval mode."""
        names = {
            n for n, part in self.named_children() if next(part.parameters(), None) is not None
        }
        unknown = set(parts) - names
        if unknown:
            raise ValueError(f'no part {sorted(unknown)} to train; there are {sorted(names)}')
        self._frozen = names - set(parts)
        for name, part in self.named_children():
            part.requires_grad_(name not in self._frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> 'StagedModel':
        """Switch the mode; BatchNorm of a frozen part keeps its running statistics."""
        super().train(mode)
        for name in self._frozen:
            getattr(self, name).eval()
        return self


def unwrap(model: nn.Module) -> StagedModel:
    """Return the model inside a distributed wrapper, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights."""
    return sum(p.numel() for p in model.parameters())
