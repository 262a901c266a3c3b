"""Local contrast: what an image looks like once its uneven brightness is taken out."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LIMIT = 4.0  # standard deviations; bright cells go far beyond
_SMALL = 512  # px, the longest side up to which products are faster than passes
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
    spread = (_local_mean(difference * difference, radius) + _FLOOR).sqrt()
    return (difference / spread).clamp(-_LIMIT, _LIMIT)


def _local_mean(images: Tensor, radius: int) -> Tensor:
    """Two passes of a 3x3 mean over cells of the radius; beyond the border there is nothing.

    Pooling, means and interpolation all act on rows and columns apart, and are linear: each axis
    has a matrix to the means of cells and one back. For images of the usual size few small products
    take half the time of eight passes; the larger ones would pay for them with the cube of a side.
    """
    if max(images.shape[-2:]) > _SMALL:
        means = F.avg_pool2d(images, radius)
        for _ in range(2):
            means = F.avg_pool2d(means, 3, 1, 1, count_include_pad=False)
        return F.interpolate(means, scale_factor=radius, mode='bilinear')
    (down_y, up_y), (down_x, up_x) = (
        _axis(side, radius, images.device, images.dtype) for side in images.shape[-2:]
    )
    means = F.linear(F.linear(images, down_x).mT, down_y)  # columns first, (.., w, h)
    return F.linear(F.linear(means, up_y).mT, up_x)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _axis(
    side: int, radius: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the matrices (cells, side) to smoothed means of cells, and (side, cells) back."""
    cells = torch.eye(side // radius, dtype=torch.float64, device='cpu')[:, None]  # as signals
    means = cells
    for _ in range(2):
        means = F.avg_pool1d(means, 3, 1, 1, count_include_pad=False)
    down = means[:, 0].T.repeat_interleave(radius, dim=1) / radius
    up = F.interpolate(cells, scale_factor=radius, mode='linear')[:, 0].T
    return tuple(matrix.to(device, dtype).contiguous() for matrix in (down, up))
