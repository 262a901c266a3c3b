"""How alike two images are: structural similarity, correlation, cosine, and RUNet's mixture.

All take (B, 1, H, W) in [0, 1] and return one value per image, (B,); each can be trained on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipedet.registry import MODELS

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ssim(images: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, eq. 13), Gaussian windows inside the image."""
    offsets = torch.arange(_WINDOW, device=images.device) - _WINDOW // 2
    window = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window = (window / window.sum()).to(images)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    mu_x, mu_y = mean(images), mean(target)
    # Rounding can make the variance of a flat window slightly negative.
    var_x = (mean(images.square()) - mu_x.square()).clamp(min=0)
    var_y = (mean(target.square()) - mu_y.square()).clamp(min=0)
    covariance = mean(images * target) - mu_x * mu_y
    brightness = (2 * mu_x * mu_y + _C1) / (mu_x.square() + mu_y.square() + _C1)
    structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    return (brightness * structure).flatten(1).mean(dim=1)


def correlation(images: Tensor, target: Tensor) -> Tensor:
    """Pearson's correlation coefficient of the pixels; 0 where an image is flat."""
    x, y = images.flatten(1), target.flatten(1)
    return F.cosine_similarity(x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True))


def cosine_distance(images: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of the angle between the two images as vectors."""
    return 1 - F.cosine_similarity(images.flatten(1), target.flatten(1))


@MODELS.register_module()
class MixedImageLoss(nn.Module):
    """MSE + 0.2 (1 - SSIM) + 0.1 (1 - PCC) + 0.1 CD (arXiv 2406.01187, II.D)."""

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the batch."""
        mse = F.mse_loss(images, target)
        similar, correlated = ssim(images, target).mean(), correlation(images, target).mean()
        distance = cosine_distance(images, target).mean()
        return mse + 0.2 * (1 - similar) + 0.1 * (1 - correlated) + 0.1 * distance
