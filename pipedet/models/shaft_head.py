"""An aid in training: every pixel says whether it lies on a shaft and where that shaft's tip is.

A heatmap of tips has a few positive cells an image; a shaft has hundreds, and each knows something
about the tip, as in voting for keypoints (Peng et al. 2019, PVNet). Nothing reads this head when
tips are predicted.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipedet.registry import MODELS

_UNIT = 32.0  # pixels that an offset of 1 stands for
_NEAR = 8.0  # an offset is to be right to a share of the distance plus this, pixels
_MARGIN = 3.0  # by which the blurred walls are wider than the glass, pixels


@MODELS.register_module()
class ShaftHead(nn.Module):
    """One 1x1 convolution: shaft logit, and the offset (x, y) to the tip.

    Args:
        in_channels: of the features.
        stride: of the features, input pixels.
        shaft_weight: of the cross-entropy of the shafts.
        vote_weight: of the relative error of the offsets, mean over the shafts' pixels.
    """

    def __init__(
        self, *, in_channels: int, stride: int, shaft_weight: float, vote_weight: float
    ) -> None:
        super().__init__()
        self.predict = nn.Conv2d(in_channels, 3, 1)
        self.stride = stride
        self.shaft_weight, self.vote_weight = shaft_weight, vote_weight

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, h, w)."""
        return self.predict(features)

    def loss(self, outputs: Tensor, shafts: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compare with the shafts of each image, (K_i, 3, 2): tip and two corners behind it."""
        on_shaft, offset = draw_shafts(shafts, outputs.shape[-2:], stride=self.stride)
        distance = torch.linalg.vector_norm(offset, dim=1)
        error = (outputs[:, 1:] * _UNIT - offset).abs().sum(dim=1) / (distance + _NEAR)
        vote = (error * on_shaft).sum() / on_shaft.sum().clamp(min=1)
        shaft = F.binary_cross_entropy_with_logits(outputs[:, 0], on_shaft)
        return dict(loss_shaft=self.shaft_weight * shaft, loss_vote=self.vote_weight * vote)


def draw_shafts(
    shafts: Sequence[Tensor], size: tuple[int, int], *, stride: int
) -> tuple[Tensor, Tensor]:
    """Draw where the shafts of each image are, and which way their tips lie.

    Args:
        shafts: (K_i, 3, 2) of each image, input pixels: the tip, and two corners behind it. The
            wedge goes on beyond the corners.
        size: (h, w) of the maps, in cells.
        stride: input pixels per cell.

    Returns:
        (B, h, w) in [0, 1], and (B, 2, h, w), pixels from the cell to the tip of the shaft which
        covers it most.
    """
    # Padding: a shaft far outside, pointing away.
    nowhere = torch.tensor([[-1e4, -1e4], [-2e4, -1e4], [-2e4, -1e4]], device=shafts[0].device)
    padded = pad_sequence([torch.cat([s, nowhere[None]]) for s in shafts], batch_first=True)
    padded = torch.where((padded == 0).all(dim=(-1, -2), keepdim=True), nowhere, padded)
    tip, left, right = padded.unbind(dim=2)  # each (B, K, 2)
    axis = (left + right) / 2 - tip
    length = torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
    cos, sin = (axis / length)[..., None, None].unbind(dim=2)  # each (B, K, 1, 1)
    slope = torch.linalg.vector_norm(left - right, dim=-1, keepdim=True) / (2 * length)

    y, x = (
        (torch.arange(n, device=tip.device, dtype=tip.dtype) + 0.5) * stride - 0.5 for n in size
    )
    dx = x[None, None, None, :] - tip[..., 0, None, None]
    dy = y[None, None, :, None] - tip[..., 1, None, None]
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin).abs()
    half_width = slope[..., None] * along.clamp(min=0) + _MARGIN
    covered = ((half_width - across) / 2).sigmoid() * ((along + 2) / 1.5).sigmoid()
    on_shaft, which = covered.max(dim=1, keepdim=True)
    offset = [-d.expand_as(covered).gather(1, which) for d in (dx, dy)]
    return on_shaft[:, 0], torch.cat(offset, dim=1)
