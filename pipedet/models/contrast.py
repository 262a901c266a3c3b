"""Local contrast: what an image looks like once its uneven brightness is taken out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LIMIT = 4.0  # standard deviations; bright cells go far beyond
_FLOOR = 1e-4  # of the variance, in squares of the image's own range: flat areas stay flat


class LocalContrast(nn.Module):
    """Put beside an image its deviation from the local mean, in local standard deviations.

    A tip is a few per cent of the light where it stands, and that light varies tenfold within a
    frame. A network of sums and thresholds cannot divide by it; this does, before the first layer.

    Args:
        radii: of the neighbourhoods, input pixels; H and W must be multiples of each.
    """

    def __init__(self, radii: Sequence[int]) -> None:
        super().__init__()
        self.radii = tuple(radii)
        self.channels = 1 + len(self.radii)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1 + number of radii, H, W)."""
        return torch.cat([images, *(_deviation(images, radius) for radius in self.radii)], dim=1)


def _deviation(images: Tensor, radius: int) -> Tensor:
    difference = images - _local_mean(images, radius)
    spread = (_local_mean(difference.square(), radius) + _FLOOR).sqrt()
    return (difference / spread).clamp(-_LIMIT, _LIMIT)


def _local_mean(images: Tensor, radius: int) -> Tensor:
    """Two passes of a 3x3 mean over cells of the radius; beyond the border there is nothing."""
    means = F.avg_pool2d(images, radius)
    for _ in range(2):
        means = F.avg_pool2d(means, 3, 1, 1, count_include_pad=False)
    return F.interpolate(means, scale_factor=radius, mode='bilinear')
