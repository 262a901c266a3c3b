"""A YOLO-style head (Redmon et al. 2016): every cell says whether a tip is in it, and where."""

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pipedet.models.center_head import suppress
from pipedet.models.heatmap_head import PRIOR_LOGIT
from pipedet.registry import MODELS


@MODELS.register_module()
class GridHead(nn.Module):
    """Objectness and offset for each cell of 16 pixels, without anchors or boxes.

    Of two tips in one cell it can answer with one.

    Args:
        width: channels of the first of four strided convolutions.
        max_tips: K, the most tips in one image.
        alpha: weight of both losses.
    """

    STRIDE = 16
    SEPARATION = 10.0  # input pixels, as of the heatmap's peaks in `configs/ours.py`

    def __init__(self, *, width: int, max_tips: int, alpha: float) -> None:
        super().__init__()
        self.max_tips, self.alpha = max_tips, alpha
        widths = (1, width, 2 * width, 4 * width, 4 * width)
        layers = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.SiLU(),
            ]
        self.net = nn.Sequential(*layers, nn.Conv2d(after, 3, 1))
        nn.init.constant_(self.net[-1].bias, 0)
        self.net[-1].bias.data[2] = PRIOR_LOGIT

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) -> offsets (B, 2, h, w) in [0, 1] of a cell, objectness logits (B, h, w)."""
        raw = self.net(picture)
        return raw[:, :2].sigmoid(), raw[:, 2]

    def loss(
        self, outputs: tuple[Tensor, Tensor], tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Cross-entropy of objectness, L1 of the offset where a tip is; both summed over cells."""
        offsets, objectness = outputs
        cells = torch.cat([(t.points + 0.5) / self.STRIDE for t in tips])  # (M, 2)
        image = torch.cat([torch.full((len(t),), i) for i, t in enumerate(tips)])
        limit = cells.new_tensor(objectness.shape[:0:-1]) - 1
        corner = cells.floor().clamp(min=0).minimum(limit).long()
        place = (image.to(corner.device), corner[:, 1], corner[:, 0])
        present = torch.zeros_like(objectness)
        present[place] = 1
        right = F.binary_cross_entropy_with_logits(objectness, present, reduction='sum')
        found = offsets[place[0], :, place[1], place[2]]  # (M, 2)
        apart = (found - (cells - corner)).abs().sum()
        scale = self.alpha / len(tips)
        return dict(loss_objectness=scale * right, loss_offset=scale * apart)

    def read(self, outputs: tuple[Tensor, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return points (B, K, 2) in input pixels and scores (B, K), best first.

        Of two answers nearer than `SEPARATION` the better one stands, the other scores 0.
        """
        offsets, objectness = outputs
        width, count = objectness.shape[-1], objectness[0].numel()
        scores, cell = objectness.sigmoid().flatten(1).topk(min(4 * self.max_tips, count))
        corner = torch.stack([cell % width, cell // width], dim=-1)
        offset = offsets.flatten(2).transpose(1, 2).gather(1, cell[..., None].expand(-1, -1, 2))
        points = (corner + offset) * self.STRIDE - 0.5
        scores, best = suppress(points, scores, self.SEPARATION).topk(min(self.max_tips, count))
        return points.gather(1, best[..., None].expand(-1, -1, 2)), scores
