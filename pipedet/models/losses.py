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


def quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Return the quality focal loss (Li et al. 2020, arXiv 2006.04388, eq. 3 with beta 2), summed.

    The focal loss of a target that is a probability itself: 0 where the two agree.

    Args:
        logits: of any shape.
        target: probabilities of the same shape.
    """
    off = logits.sigmoid() - target
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    return (off.square() * entropy).sum()


@MODELS.register_module()
class TipDistanceLoss(nn.Module):
    """Distance of matched tips, summed over the tips of an image (paper eq. 7, L_h).

    Args:
        norm: 'euclidean' (the paper's), 'l1' or 'squared'.
    """

    def __init__(self, *, norm: str) -> None:
        super().__init__()
        norms = dict(
            # The subgradient of norm at 0 is 0; that of sqrt(sum of squares) is NaN.
            euclidean=lambda d: torch.linalg.vector_norm(d, dim=-1),
            l1=lambda d: d.abs().sum(dim=-1),
            squared=lambda d: d.square().sum(dim=-1),
        )
        if norm not in norms:
            raise ValueError(f'norm is one of {", ".join(norms)}, not {norm!r}')
        self.distance = norms[norm]

    def forward(self, places: Tensor, true: Tensor, slot: Tensor) -> Tensor:
        """Return the mean over the batch.

        Args:
            places: (B, S, 2), of every slot.
            true: (B, N, 2), padded.
            slot: (B, N), which slot each tip was matched with; -1: none, or padding.
        """
        matched = places.gather(1, slot.clamp(min=0)[..., None].expand(-1, -1, 2))
        return torch.where(slot >= 0, self.distance(matched - true), 0).sum(dim=1).mean()


@MODELS.register_module()
class ChamferLoss(nn.Module):
    """Each tip to its nearest slot, each slot to its nearest tip: the rival that needs no matching.

    The authors' script defines one too; nothing keeps two slots from the same tip.
    """

    def forward(self, places: Tensor, true: Tensor, slot: Tensor) -> Tensor:
        """Return the mean over the batch; arguments as those of `TipDistanceLoss`."""
        valid = slot >= 0
        apart = torch.linalg.vector_norm(places[:, :, None] - true[:, None], dim=-1)  # (B, S, N)
        if not valid.any():
            return places.sum() * 0
        far = torch.where(valid[:, None], apart, torch.inf)
        to_tip = torch.where(valid.any(dim=1)[:, None], far.amin(dim=2), 0).mean(dim=1)
        to_slot = torch.where(valid, apart.amin(dim=1), 0).sum(dim=1) / valid.sum(dim=1).clamp(1)
        return (to_tip + to_slot).mean()
