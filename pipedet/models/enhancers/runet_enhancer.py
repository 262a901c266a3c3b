"""RUNet's training (arXiv 2406.01187): a network and a mixed loss on pairs, no adversary."""

from torch import Tensor

from pipedet.models.enhancers.base import Enhancer
from pipedet.registry import MODELS


@MODELS.register_module()
class RUNetEnhancer(Enhancer):
    """Regression of the clean image, for RUNet and its rivals.

    Args:
        generator: config of a network.
        criterion: config of a loss on (images, targets).
    """

    def __init__(self, *, generator: dict, criterion: dict) -> None:
        super().__init__(generator=generator)
        self.criterion = MODELS.build(criterion)

    def loss(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Take noisy `inputs` and the same scenes clean, `targets`."""
        return dict(loss_image=self.criterion(self.generator(inputs), targets))

    def validation_loss(self, inputs: Tensor, targets: Tensor, enhanced: Tensor) -> Tensor:
        """Return the training loss."""
        return self.criterion(enhanced, targets)
