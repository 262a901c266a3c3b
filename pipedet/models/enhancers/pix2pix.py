"""Pix2Pix (Isola et al. 2017), for which the scene engine has the pairs that a microscope has not.

The paper rules it out for want of them (section V.A).
"""

import torch
from torch import Tensor, nn

from pipedet.models.enhancers.base import AdversarialEnhancer, agree_that
from pipedet.registry import MODELS

_L1 = 2 * 100.0  # Isola's 100 is for images in [-1, 1]


@MODELS.register_module()
class Pix2PixEnhancer(AdversarialEnhancer):
    """A conditional GAN with L1 (100): the critic sees the noisy image beside either clean one.

    Args:
        generator: config of a generator.
        critic: config of a critic of two channels.
    """

    def __init__(self, *, generator: dict, critic: dict) -> None:
        super().__init__(generator=generator)
        self.critic = MODELS.build(critic)

    def generator_losses(
        self, inputs: Tensor, targets: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor]]:
        """Take noisy `inputs` and the same scenes clean, `targets`; see the base class."""
        clean = self.generator(inputs)
        losses = dict(
            loss_gan=agree_that(self.critic, torch.cat([inputs, clean], 1), True, squares=False),
            loss_l1=_L1 * nn.functional.l1_loss(clean, targets),
        )
        return losses, (clean.detach(),)

    def critic_losses(
        self, inputs: Tensor, targets: Tensor, fakes: tuple[Tensor]
    ) -> dict[str, Tensor]:
        """Halved, as in the original, to slow the critic down."""
        real, fake = (torch.cat([inputs, images], dim=1) for images in (targets, fakes[0]))
        right = agree_that(self.critic, real, True, squares=False)
        return dict(loss_critic=0.5 * (right + agree_that(self.critic, fake, False, squares=False)))

    def validation_loss(self, inputs: Tensor, targets: Tensor, enhanced: Tensor) -> Tensor:
        """Return the L1 loss: what a critic says changes with the critic."""
        return _L1 * nn.functional.l1_loss(enhanced, targets)
