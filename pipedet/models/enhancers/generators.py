"""Networks of adversarial training: two generators and a critic.

Images are (B, 1, H, W) in [0, 1]. A generator is applied to crops, tiles and whole images alike, so
nothing in it may depend on the rest of the image: instance normalisation, which the original
CycleGAN uses, would give one pixel another value in every tile.
"""

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from pipedet.registry import MODELS


@MODELS.register_module()
class ResNetGenerator(nn.Module):
    """CycleGAN's generator (Zhu et al. 2017; Johnson et al. 2016): down twice, residuals, up twice.

    Normalised over the channels of each pixel; batch statistics would mix the two domains that a
    generator sees in turn.

    Args:
        width: channels at full resolution.
        blocks: residual blocks at a quarter of it.
    """

    def __init__(self, *, width: int, blocks: int) -> None:
        super().__init__()
        w = width
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(1, w, 7), LayerNorm2d(w), nn.ReLU()]
        for c in (w, 2 * w):
            layers += [
                nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), LayerNorm2d(2 * c), nn.ReLU()
            ]  # fmt: skip
        layers += [_ReflectedResidual(4 * w) for _ in range(blocks)]
        for c in (4 * w, 2 * w):
            layers += [
                nn.ConvTranspose2d(c, c // 2, 3, stride=2, padding=1, output_padding=1),
                LayerNorm2d(c // 2),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(w, 1, 7))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 1, H, W) in (0, 1)."""
        return self.layers(images).sigmoid()


class _ReflectedResidual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), LayerNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), LayerNorm2d(channels),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


@MODELS.register_module()
class UNetGenerator(nn.Module):
    """Pix2Pix's generator (Isola et al. 2017): a U-Net of strided convolutions.

    Without dropout, which is Pix2Pix's source of variety: a microscope image has one answer. Five
    levels instead of eight, whose innermost feature map would be one pixel of a 256x256 image and
    fit no other size.

    Args:
        width: channels after the first level.
        levels: halvings of the resolution.
    """

    def __init__(self, *, width: int, levels: int) -> None:
        super().__init__()
        widths = [min(2**level, 8) * width for level in range(levels)]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, channels in enumerate(widths):
            outer = widths[level - 1] if level else 1
            first, last = level == 0, level == levels - 1
            self.down.append(
                nn.Sequential(
                    nn.Identity() if first else nn.LeakyReLU(0.2),
                    nn.Conv2d(outer, channels, 4, stride=2, padding=1),
                    nn.Identity() if first or last else nn.BatchNorm2d(channels),
                )
            )
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(
                        channels if last else 2 * channels, outer, 4, stride=2, padding=1
                    ),
                    nn.Identity() if first else nn.BatchNorm2d(outer),
                )
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 1, H, W) in (0, 1)."""
        skips = [images]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        features = skips.pop()
        for layer in reversed(self.up):
            features = torch.cat([layer(features), skips.pop()], dim=1)
        return features[:, :1].sigmoid()  # the last skip is the image itself


@MODELS.register_module()
class PatchCritic(nn.Module):
    """PatchGAN (Isola et al. 2017): one verdict for every patch, of 70x70 pixels with three layers.

    Args:
        in_channels: 1, or 2 for a critic that also sees what an image was made from.
        width: channels after the first layer.
        layers: strided convolutions.
    """

    def __init__(self, *, in_channels: int, width: int, layers: int) -> None:
        super().__init__()
        steps = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for layer in range(1, layers + 1):
            before, after = (min(2**k, 8) * width for k in (layer - 1, layer))
            steps += [
                nn.Conv2d(before, after, 4, stride=1 if layer == layers else 2, padding=1),
                nn.InstanceNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        self.steps = nn.Sequential(*steps, nn.Conv2d(after, 1, 4, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, 1, h, w), high where a patch looks real."""
        return self.steps(images)
