"""Losses on heatmaps and on matched tips."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipedet.registry import MODELS


@MODELS.register_module()
class DiceLoss(nn.Module):
    """1 - Dice between predicted and true heatmap, per image (paper eq. 7, L_m).

    With squares in the denominator (V-Net), because only then does a soft target have its minimum,
    zero, at the target itself.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the batch; `logits` and `target` are (B, 1, H, W)."""
        predicted = logits.sigmoid().flatten(1)
        target = target.flatten(1)
        overlap = 2 * (predicted * target).sum(dim=1)
        total = predicted.square().sum(dim=1) + target.square().sum(dim=1)
        # The 1 keeps an image without tips finite, and rewards an empty map for it.
        return (1 - (overlap + 1) / (total + 1)).mean()


@MODELS.register_module()
class PeakFocalLoss(nn.Module):
    """CornerNet's focal loss (Law and Deng 2018, eq. 1), for Gaussians drawn at sub-pixel places.

    There the peaks are exactly 1 at integer cells. Here the cell nearest to a tip is the positive
    one, and its neighbours are punished the less the higher the Gaussian stands on them.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the maps per tip; both (B, 1, h, w)."""
        probability = logits.sigmoid()
        # The nearest cell is at most 0.71 cells away: above 0.6 for any sigma of a cell or more.
        peak = (target == F.max_pool2d(target, 3, stride=1, padding=1)) & (target > 0.6)
        hit = (1 - probability).square() * F.logsigmoid(logits)
        miss = (1 - target) ** 4 * probability.square() * F.logsigmoid(-logits)
        return -torch.where(peak, hit, miss).sum() / peak.sum().clamp(min=1)


@MODELS.register_module()
class TipDistanceLoss(nn.Module):
    """Euclidean distance of matched tips, summed over the tips of an image (paper eq. 7, L_h)."""

    def forward(self, predicted: Tensor, true: Tensor, matched: Tensor) -> Tensor:
        """Return the mean over the batch.

        Args:
            predicted: (B, N, 2), row n the prediction matched with true tip n.
            true: (B, N, 2).
            matched: (B, N) bool, False for padding.
        """
        # The subgradient of norm at 0 is 0; that of sqrt(sum of squares) is NaN.
        distance = torch.linalg.vector_norm(predicted - true, dim=-1)
        return torch.where(matched, distance, 0).sum(dim=1).mean()
