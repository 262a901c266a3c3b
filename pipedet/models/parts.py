"""Models whose parts (modules, by their dotted names) a stage of training freezes."""

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
        self._frozen: set[str] = set()  # children of which nothing is trained
        self._inner: tuple[str, ...] = ()  # what is trained of children that are not wholly

    def train_only(self, parts: Sequence[str]) -> None:
        """Freeze all but these; what is frozen also stays in eval mode.

        Args:
            parts: child modules, or with dotted names parts of them (`encoder.net.layer4`).
        """
        names = {
            n for n, part in self.named_children() if next(part.parameters(), None) is not None
        }
        modules = dict(self.named_modules())
        unknown = {part for part in parts if part not in modules or part.split('.')[0] not in names}
        if unknown:
            raise ValueError(
                f'no part {sorted(unknown)} to train; there are {sorted(names)}, and parts of '
                'theirs by dotted names'
            )
        self._frozen = names - {part.split('.')[0] for part in parts}
        self._inner = tuple(part for part in parts if '.' in part)
        for name in names:
            modules[name].requires_grad_(False)
        for part in parts:
            modules[part].requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> 'StagedModel':
        """Switch the mode; BatchNorm of what is frozen keeps its running statistics."""
        super().train(mode)
        for name in self._frozen | {part.split('.')[0] for part in self._inner}:
            getattr(self, name).eval()
        for part in self._inner:
            self.get_submodule(part).train(mode)
        return self


def unwrap(model: nn.Module) -> StagedModel:
    """Return the model inside a distributed wrapper, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights."""
    return sum(p.numel() for p in model.parameters())
