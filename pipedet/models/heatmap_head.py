"""The coarse head: features -> heatmap of the tips (paper III.B.1)."""

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pipedet.models.equivariance import FIELD, SCALAR, tie_conv
from pipedet.models.heatmaps import blur, draw_gaussians, find_peaks
from pipedet.registry import MODELS

# A fresh head predicts 1 % everywhere: most cells hold no tip (Lin et al. 2017, focal loss).
PRIOR_LOGIT = -4.6
OVERLAP_LEVEL = 0.5


@MODELS.register_module()
class HeatmapHead(nn.Module):
    """3x3 convolution, ReLU, 1x1 convolution, bilinear upsampling.

    The paper upsamples first and convolves then. A 1x1 convolution commutes with an interpolation
    whose weights sum to 1, so this order is the same function of the same weights, with 256 times
    less to upsample.

    Args:
        in_channels: of the features.
        stride: of the features, input pixels.
        out_stride: of the heatmap, input pixels.
        hidden: channels between the convolutions.
        sigma: of the target Gaussians, input pixels.
        merge: how target Gaussians overlap, 'sum' or 'max'.
        separation: of two peaks that are read as two tips, input pixels.
        loss: config of a loss on (logits, target).
        blur: sigma in cells of a mean over the map before peaks are sought, 0 for none: it ranks by
            the chance of a tip being near, where the map is unsure of the very cell.
        refine: of a peak to a fraction of a cell, 'parabola' or 'centroid', see `find_peaks`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        stride: int,
        out_stride: int,
        hidden: int,
        sigma: float,
        merge: str,
        separation: float,
        loss: dict,
        blur: float = 0.0,
        refine: str = 'parabola',
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.predict_logit = nn.Conv2d(hidden, 1, 1)
        nn.init.constant_(self.predict_logit.bias, PRIOR_LOGIT)
        self.factor = stride // out_stride
        self.stride = out_stride
        self.sigma, self.merge = sigma, merge
        self.radius = round(separation / out_stride)
        self.blur, self.refine = blur, refine
        self.loss_function = MODELS.build(loss)

    def tie(self) -> None:
        """Tie the weights for an equivariant encoder, see `equivariance`."""
        tie_conv(self.conv, FIELD, FIELD)
        tie_conv(self.predict_logit, FIELD, SCALAR)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> logits (B, 1, h * factor, w * factor)."""
        logits = self.predict_logit(F.relu(self.conv(features)))
        if self.factor == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.factor, mode='bilinear')

    def loss(self, logits: Tensor, tips: list[InstanceData]) -> dict[str, Tensor]:
        """Compare with Gaussians drawn at the true tips."""
        return dict(loss_heatmap=self.loss_function(logits, self._target(logits, tips)))

    def overlap(self, logits: Tensor, tips: list[InstanceData]) -> Tensor:
        """Return the IoU (B,) of where heatmap and target reach `OVERLAP_LEVEL` (paper IV.D).

        The paper names no level. At half its height a Gaussian is a disc of 1.18 sigma.
        """
        drawn = logits.sigmoid() >= OVERLAP_LEVEL
        target = self._target(logits, tips) >= OVERLAP_LEVEL
        both, either = (x.sum(dim=(1, 2, 3)) for x in (drawn & target, drawn | target))
        return both / either.clamp(min=1)

    def _target(self, logits: Tensor, tips: list[InstanceData]) -> Tensor:
        return draw_gaussians(
            [t.points for t in tips],
            logits.shape[-2:],
            sigma=self.sigma,
            stride=self.stride,
            merge=self.merge,
        )

    def read(self, logits: Tensor, max_tips: int) -> tuple[Tensor, Tensor]:
        """Return the peaks, (B, K, 2) input pixels, and their heights (B, K)."""
        heatmap = logits.sigmoid()
        if self.blur:
            heatmap = blur(heatmap, self.blur)
        return find_peaks(
            heatmap,
            max_tips=max_tips,
            stride=self.stride,
            radius=self.radius,
            refine=self.refine,
        )


def branch(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """Return the convolutions of one head: 3x3, ReLU, 1x1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, out_channels, 1)
    )


def in_cells(head: nn.Sequential, features: Tensor, cells: Tensor) -> Tensor:
    """Return what a `branch` makes of (B, C, h, w) in cells (x, y): (B, K, 2) -> (B, K, O)."""
    three, _, one = head
    around = torch.tensor([-1, 0, 1], device=cells.device)
    column = cells[..., :1] + around.repeat(3)
    row = cells[..., 1:] + around.repeat_interleave(3)
    height, width = features.shape[-2:]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)  # (B, K, 9)
    flat = flat.flatten(1)[:, None].expand(-1, features.shape[1], -1)
    near = features.flatten(2).gather(2, flat).unflatten(2, inside.shape[1:])
    near = (near * inside[:, None]).transpose(1, 2).flatten(2)  # (B, K, 9 C), zero beyond
    hidden = F.linear(near, three.weight.flatten(1), three.bias).relu()
    return F.linear(hidden, one.weight.flatten(1), one.bias)
