"""CenterNet's head (Objects as Points, Zhou et al. 2019): a heatmap for each kind, and one offset.

An object is drawn as a Gaussian round the middle of the cell that it lies in, where the heatmap of
its kind is exactly 1 (CornerNet, Law and Deng 2018): drawn round its own place the map would reach
0.8 to 0.9, and a loss that knows positives by a 1 would see none. Where in its cell the object is,
two more maps say, which all kinds share.
"""

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pipedet.models.equivariance import FIELD, SCALAR, VECTOR, tie_conv
from pipedet.models.heatmap_head import PRIOR_LOGIT, branch
from pipedet.models.heatmaps import draw_gaussians, find_peaks
from pipedet.registry import MODELS


@MODELS.register_module()
class CenterHead(nn.Module):
    """Heatmaps by focal loss, offsets by L1 in the cells of the objects alone.

    Args:
        in_channels: of the features.
        stride: of the features and of the maps, input pixels; a power of 2, so that the middle of
            a cell is a number without rounding.
        hidden: channels between the convolutions.
        kinds: how many there are.
        sigma: of the target Gaussians, input pixels.
        separation: objects nearer to each other, input pixels, are read as one, whatever they are.
        loss: config of a loss on (logits, target).
        offset_weight: of the offsets' loss beside that of the heatmaps.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        stride: int,
        hidden: int,
        kinds: int,
        sigma: float,
        separation: float,
        loss: dict,
        offset_weight: float,
    ) -> None:
        super().__init__()
        self.heat = branch(in_channels, hidden, kinds)
        self.offset = branch(in_channels, hidden, 2)
        nn.init.constant_(self.heat[-1].bias, PRIOR_LOGIT)
        nn.init.zeros_(self.offset[-1].weight)  # a fresh head says: amid the cell
        nn.init.zeros_(self.offset[-1].bias)
        self.kinds, self.stride, self.sigma, self.separation = kinds, stride, sigma, separation
        self.loss_function = MODELS.build(loss)
        self.offset_weight = offset_weight

    def tie(self) -> None:
        """Tie the weights for an equivariant encoder, see `equivariance`."""
        for branched, action in ((self.heat, SCALAR), (self.offset, VECTOR)):
            tie_conv(branched[0], FIELD, FIELD)
            tie_conv(branched[-1], FIELD, action)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, kinds + 2, h, w): logits, then x and y in cells."""
        return torch.cat([self.heat(features), self.offset(features)], dim=1)

    def loss(self, maps: Tensor, objects: list[InstanceData]) -> dict[str, Tensor]:
        """Compare the heatmaps everywhere, the offsets in the cells of the true objects."""
        target = self.draw(objects, maps.shape[-2:])
        cells, offsets = zip(*(self.cells(o.points, maps.shape[-2:]) for o in objects), strict=True)
        image = torch.cat([c.new_full((len(c),), i) for i, c in enumerate(cells)])
        column, row = torch.cat(cells).unbind(dim=-1)
        off = maps[image, self.kinds :, row, column] - torch.cat(offsets)  # (N, 2)
        return dict(
            loss_heatmap=self.loss_function(maps[:, : self.kinds], target),
            loss_offset=self.offset_weight * off.abs().sum() / max(len(off), 1),
        )

    def draw(self, objects: list[InstanceData], size: tuple[int, int]) -> Tensor:
        """Return the target (B, kinds, h, w), exactly 1 in the cells of the objects.

        Raises:
            ValueError: an object's `kind` is missing, or is none of 0 to kinds - 1.
        """
        middles = []
        for own in objects:
            kind = self._kind_of(own)
            middle = (self.cells(own.points, size)[0] + 0.5) * self.stride - 0.5
            middles += [middle[kind == k] for k in range(self.kinds)]
        maps = draw_gaussians(middles, size, sigma=self.sigma, stride=self.stride, merge='max')
        return maps.view(len(objects), self.kinds, *size)

    def cells(self, points: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the cells (N, 2) long, x and y, of points in the input, and where in them."""
        place = (points + 0.5) / self.stride - 0.5
        last = torch.tensor(size[::-1], device=points.device) - 1
        cells = (place + 0.5).floor().long().clamp(min=0).minimum(last)
        return cells, place - cells

    def _kind_of(self, own: InstanceData) -> Tensor:
        if 'kind' not in own:
            raise ValueError(
                f'{len(own)} objects have no `kind`: give the dataset a tip field of that name'
            )
        wrong = (own.kind < 0) | (own.kind >= self.kinds)
        if wrong.any():
            raise ValueError(
                f'an object is of kind {own.kind[wrong][0]}, the head knows 0 to {self.kinds - 1}: '
                'set `kinds` to how many there are'
            )
        return own.kind

    def read(self, maps: Tensor, max_tips: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return points (B, K, 2) in input pixels, scores (B, K), and the `kind` (B, K) of each.

        K is `max_tips`, of all kinds together; best first, score 0: no such object.
        """
        size = maps.shape[-2:]
        middles, scores = find_peaks(
            maps[:, : self.kinds].flatten(0, 1)[:, None].sigmoid(),
            max_tips=min(max_tips, size.numel()),
            stride=self.stride,
            radius=max(1, round(self.separation / self.stride)),
            refine='none',
        )  # (B * kinds, M, 2)
        middles, scores = (
            x.unflatten(0, (-1, self.kinds)).flatten(1, 2) for x in (middles, scores)
        )
        kind = torch.arange(self.kinds, device=maps.device)
        kind = kind.repeat_interleave(scores.shape[1] // self.kinds).expand_as(scores)
        column, row = ((middles + 0.5) / self.stride - 0.5).round().long().unbind(dim=-1)
        flat = (row * size[1] + column)[:, None].expand(-1, 2, -1)
        offsets = maps[:, self.kinds :].flatten(2).gather(2, flat).transpose(1, 2)
        points = middles + self.stride * offsets
        scores = suppress(points, scores, self.separation)
        scores, best = scores.topk(min(max_tips, scores.shape[1]))
        return (
            points.gather(1, best[..., None].expand(-1, -1, 2)),
            scores,
            dict(kind=kind.gather(1, best)),
        )


def suppress(points: Tensor, scores: Tensor, distance: float) -> Tensor:
    """Return the scores, 0 where a better candidate that stays is nearer than `distance`.

    Candidates of all kinds together: one place holds one object. One that has lost takes no other
    with it.

    Args:
        points: (B, M, 2).
        scores: (B, M), 0 for no candidate.
        distance: in the unit of the points.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    points = points.gather(1, order[..., None].expand(-1, -1, 2))
    near = torch.cdist(points, points, compute_mode='donot_use_mm_for_euclid_dist') < distance
    stays = scores.gather(1, order) > 0
    for best in range(scores.shape[1]):
        stays[:, best + 1 :] &= ~(near[:, best, best + 1 :] & stays[:, best, None])
    return scores * torch.zeros_like(stays).scatter(1, order, stays)
