"""RUNet (arXiv 2406.01187): a residual U-Net, and the rivals it was compared with."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipedet.registry import MODELS


@MODELS.register_module()
class RUNet(nn.Module):
    """Encoder and decoder of residual blocks with skip connections.

    Args:
        widths: channels of each level, from full resolution down; each level halves it.
    """

    def __init__(self, *, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(zip(widths, widths[1:], strict=False))
        self.first = _Residual(1, widths[0], stride=1)
        self.down = nn.ModuleList(_Residual(fine, deep, stride=2) for fine, deep in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, 2) for fine, deep in pairs)
        self.up = nn.ModuleList(_Residual(2 * fine, fine, stride=1) for fine, _ in pairs)
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> the same shape, about in [0, 1]."""
        skips = [self.first(images)]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        features = skips.pop()
        for grow, layer in zip(reversed(self.grow), reversed(self.up), strict=True):
            features = layer(torch.cat([grow(features), skips.pop()], dim=1))
        return self.last(features)


class _Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        # The mean of four pixels, not one of them; and torch 2.15 corrupts memory in the backward
        # pass of a strided 1x1 convolution of four channels (channels last, CPU).
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride), nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)
        )

    def forward(self, features: Tensor) -> Tensor:
        return (self.body(features) + self.shortcut(features)).relu()


@MODELS.register_module()
class MonaiGenerator(nn.Module):
    """A two-dimensional network of MONAI's, one channel in and one out.

    Args:
        name: class in `monai.networks.nets`, such as 'AttentionUnet' or 'SwinUNETR'.
        options: its other arguments.
    """

    def __init__(self, *, name: str, options: dict) -> None:
        super().__init__()
        try:
            from monai.networks import nets  # takes seconds: only for those who ask for it
        except ImportError as error:
            raise RuntimeError(
                f"{name} is MONAI's: pip install -e '.[rivals]' installs it"
            ) from error
        self.net = getattr(nets, name)(spatial_dims=2, in_channels=1, out_channels=1, **options)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> the same shape, about in [0, 1]."""
        return self.net(images)
