"""CycleGAN (Zhu et al. 2017; paper III.A): in vivo images made to look ex vivo, without pairs.

G: in vivo -> ex vivo is `generator`, G': ex vivo -> in vivo `inverse`; D_E is `critic_exvivo`, D_I
`critic_invivo`.
"""

import torch
from torch import Tensor, nn

from pipedet.models.enhancers.base import AdversarialEnhancer, agree_that
from pipedet.registry import MODELS

# Zhu's weights are for images in [-1, 1], where a difference is twice as large as here.
_CYCLE, _IDENTITY = 2 * 10.0, 2 * 5.0


@MODELS.register_module()
class CycleGANEnhancer(AdversarialEnhancer):
    """Least-squares GAN both ways, with cycle (10) and identity (5) losses (paper eq. 1).

    Args:
        generator: config of a generator; the inverse is another one like it.
        critic: config of a critic, of which there are two.
        image_size: side of the training images, for the pools of earlier ones.
    """

    players = dict(generators=('generator', 'inverse'), critics=('critic_exvivo', 'critic_invivo'))

    def __init__(self, *, generator: dict, critic: dict, image_size: int) -> None:
        super().__init__(generator=generator)
        self.inverse = MODELS.build(generator)
        self.critic_exvivo, self.critic_invivo = MODELS.build(critic), MODELS.build(critic)
        self.pool_exvivo, self.pool_invivo = ImagePool(image_size), ImagePool(image_size)

    def generator_losses(
        self, inputs: Tensor, targets: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Take in vivo `inputs` and unpaired ex vivo `targets`; see the base class."""
        # Both domains go through a generator in one batch: its own and the one to be left alone.
        exvivo, same_exvivo = self.generator(torch.cat([inputs, targets])).chunk(2)
        invivo, same_invivo = self.inverse(torch.cat([targets, inputs])).chunk(2)
        l1 = nn.functional.l1_loss
        losses = dict(
            loss_gan_exvivo=agree_that(self.critic_exvivo, exvivo, True, squares=True),
            loss_gan_invivo=agree_that(self.critic_invivo, invivo, True, squares=True),
            loss_cycle_invivo=_CYCLE * l1(self.inverse(exvivo), inputs),
            loss_cycle_exvivo=_CYCLE * l1(self.generator(invivo), targets),
            loss_identity=_IDENTITY * (l1(same_exvivo, targets) + l1(same_invivo, inputs)),
        )
        return losses, (exvivo.detach(), invivo.detach())

    def critic_losses(
        self, inputs: Tensor, targets: Tensor, fakes: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Compare real images with generated ones, some of them from earlier steps."""
        exvivo, invivo = self.pool_exvivo(fakes[0]), self.pool_invivo(fakes[1])
        return dict(
            loss_critic_exvivo=_telling_apart(self.critic_exvivo, targets, exvivo),
            loss_critic_invivo=_telling_apart(self.critic_invivo, inputs, invivo),
        )

    def validation_loss(self, inputs: Tensor, targets: Tensor, enhanced: Tensor) -> Tensor:
        """Return the cycle loss: pairs are not what this network is trained for."""
        return _CYCLE * nn.functional.l1_loss(self.inverse(enhanced), inputs)


def _telling_apart(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    right = agree_that(critic, real, True, squares=True)
    return 0.5 * (right + agree_that(critic, fake, False, squares=True))


class ImagePool(nn.Module):
    """The last 50 generated images (Shrivastava et al. 2017), half of what a critic is shown.

    Its images are buffers, so that a resumed run goes on with them; each of several ranks fills its
    own, and all go on with the first one's.
    """

    SIZE = 50

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.register_buffer('images', torch.zeros(self.SIZE, 1, image_size, image_size))
        self.register_buffer('count', torch.zeros((), dtype=torch.int64))

    def forward(self, fresh: Tensor) -> Tensor:
        """(B, 1, N, N) -> as many images, each the fresh one or, half the time, an old one."""
        shown = fresh.clone()
        for index, image in enumerate(fresh):
            if self.count < self.SIZE:
                self.images[self.count] = image
                self.count += 1
            elif torch.rand(()) < 0.5:
                place = torch.randint(self.SIZE, ())
                shown[index], self.images[place] = self.images[place].clone(), image
        return shown
