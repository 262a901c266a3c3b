"""What enhancers share: a generator to keep, whatever trains it to leave behind."""

from abc import abstractmethod

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from pipedet.models.parts import StagedModel
from pipedet.models.preprocessor import PairPreprocessor
from pipedet.models.tiling import tiled
from pipedet.registry import MODELS
from pipedet.structures import TipDataSample, split_unread


class Enhancer(StagedModel):
    """Trains `generator`, an image-to-image network that any localiser can carry.

    Args:
        generator: config of a network (B, 1, H, W) -> (B, 1, H, W), both in [0, 1].
    """

    def __init__(self, *, generator: dict) -> None:
        super().__init__(data_preprocessor=PairPreprocessor())
        self.generator = MODELS.build(generator)

    @abstractmethod
    def loss(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return named losses of (B, 1, H, W) images and their targets, both in [0, 1]."""

    @abstractmethod
    def validation_loss(self, inputs: Tensor, targets: Tensor, enhanced: Tensor) -> Tensor:
        """Return what a validation reports for `enhanced`, the clamped output for `inputs`."""

    def enhance(self, inputs: Tensor) -> Tensor:
        """Return the generator's (B, 1, H, W) in [0, 1], for images of any size."""
        return tiled(self.generator, inputs).clamp(0, 1)

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor | None = None,
        data_samples: list[TipDataSample] | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[TipDataSample] | Tensor:
        """Run in mmengine's mode 'loss', 'predict' or 'tensor' (the enhanced images)."""
        if mode == 'loss':
            return self.loss(inputs, targets)
        enhanced = self.enhance(inputs)
        return enhanced if mode == 'tensor' else _fill_in(data_samples, inputs, enhanced, targets)

    def validate(self, data: dict) -> tuple[float, list[TipDataSample]]:
        """Return the validation loss and the enhanced samples of a collated batch."""
        batch = self.data_preprocessor(data)
        inputs, targets = batch['inputs'], batch['targets']
        enhanced = self.enhance(inputs)
        loss = float(self.validation_loss(inputs, targets, enhanced))
        return loss, _fill_in(batch['data_samples'], inputs, enhanced, targets)

    def test_step(self, data: dict) -> list[TipDataSample]:
        """Enhance a collated batch; images that could not be read come back as they are."""
        data, unread = split_unread(data)
        return (super().test_step(data) if data['data_samples'] else []) + unread


class AdversarialEnhancer(Enhancer):
    """An enhancer of two players, whose optimisers take turns.

    `players` names the parts that each optimises.
    """

    players = dict(generators=('generator',), critics=('critic',))

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """Update the generators against the critics, then the critics; return all losses."""
        batch = self.data_preprocessor(data, training=True)
        self._ask_for_gradients('critics', False)
        losses, fakes = self.generator_losses(batch['inputs'], batch['targets'])
        optim_wrapper['generators'].update_params(sum(losses.values()))
        self._ask_for_gradients('critics', True)
        judged = self.critic_losses(batch['inputs'], batch['targets'], fakes)
        optim_wrapper['critics'].update_params(sum(judged.values()))
        return BaseModel.parse_losses(self, losses | judged)[1]

    def loss(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the losses of both players."""
        losses, fakes = self.generator_losses(inputs, targets)
        return losses | self.critic_losses(inputs, targets, fakes)

    @abstractmethod
    def generator_losses(
        self, inputs: Tensor, targets: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Return named losses, and the generated images (detached) for the critics."""

    @abstractmethod
    def critic_losses(
        self, inputs: Tensor, targets: Tensor, fakes: tuple[Tensor, ...]
    ) -> dict[str, Tensor]:
        """Return named losses of telling generated images from real ones."""

    def _ask_for_gradients(self, player: str, wanted: bool) -> None:
        for name in self.players[player]:
            self.get_submodule(name).requires_grad_(wanted)


def agree_that(critic: nn.Module, images: Tensor, real: bool, *, squares: bool) -> Tensor:
    """Return how far a critic is from calling (B, C, H, W) `real`, or not.

    By least `squares` (Mao et al. 2017), otherwise by cross-entropy.
    """
    logits = critic(images)
    verdict = torch.full_like(logits, float(real))
    if squares:
        return nn.functional.mse_loss(logits, verdict)
    return nn.functional.binary_cross_entropy_with_logits(logits, verdict)


def _fill_in(
    samples: list[TipDataSample], inputs: Tensor, enhanced: Tensor, targets: Tensor
) -> list[TipDataSample]:
    for sample, before, after, clean in zip(samples, inputs, enhanced, targets, strict=True):
        for name, image in (('noisy', before), ('enhanced', after), ('clean', clean)):
            sample.set_field(image[0].cpu(), name)
    return samples
