"""TipNet's head: where tips are, and in every cell what a tip beside it would be.

Of nine maps the first is a heatmap; the others hold the place of the nearest tip, how sure the
network is of it, the direction of its shaft and its height. They are learned in the cells round a
tip alone and read at the peaks of the heatmap alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipedet.models.equivariance import FIELD, SCALAR, STRETCH, VECTOR, side_by_side, tie_conv
from pipedet.models.heatmap_head import PRIOR_LOGIT, branch, in_cells
from pipedet.models.heatmaps import blur, draw_gaussians, find_peaks
from pipedet.registry import MODELS

PLACE, SPREAD, DIRECTION, _HEIGHT = slice(1, 3), slice(3, 6), slice(6, 8), 8
_MAPS = 9
_HEIGHT_UM = 5.0  # one unit of the height map
_FIRST_SIGMA = 3.0  # pixels that a fresh head believes to be off by
_SHARPEST, _FLATTEST = 6.0, -8.0  # bounds of the mean logarithm of 1 / sigma^2, in 1 / px^2
_LONGEST = 4.0  # bound of the logarithm of the longer sigma over the shorter
# What a turned image does to the maps of the branch that describes: (x, y), the logarithm of a
# matrix, (x, y) and a height.
_DESCRIPTION = side_by_side(VECTOR, SCALAR, STRETCH, VECTOR, SCALAR)


class Unread(NamedTuple):
    """Features (B, C, h, w) whose maps are to be made at the peaks of their heatmap alone."""

    features: Tensor


@MODELS.register_module()
class TipHead(nn.Module):
    """Heatmap by focal loss, place and its covariance by likelihood.

    Args:
        in_channels: of the features.
        stride: of the features and of the maps, input pixels.
        hidden: channels between the convolutions.
        sigma: of the target Gaussians, input pixels.
        separation: of two peaks that are read as two tips, input pixels.
        blur: sigma in cells of a mean over the heatmap before peaks are sought.
        reach: cells nearer to a tip than so many input pixels learn to describe it.
        loss: config of a loss on (logits, target).
        weights: of the losses `place`, `direction` and `height` beside that of the heatmap.
        spread: factor on predicted covariances, from a calibration.
        score: scale and shift of the scores' log-odds, from a calibration.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        stride: int,
        hidden: int,
        sigma: float,
        separation: float,
        blur: float,
        reach: float,
        loss: dict,
        weights: dict[str, float],
        spread: float = 1.0,
        score: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        super().__init__()
        self.heat = branch(in_channels, hidden, 1)
        self.describe = branch(in_channels, hidden, _MAPS - 1)
        nn.init.constant_(self.heat[-1].bias, PRIOR_LOGIT)
        with torch.no_grad():  # maps of this branch begin at the second
            self.describe[-1].weight.mul_(0.1)
            self.describe[-1].bias.zero_()
            self.describe[-1].bias[2] = -2 * torch.tensor(_FIRST_SIGMA).log()
        self.stride, self.sigma, self.blur, self.reach = stride, sigma, blur, reach
        self.radius = round(separation / stride)
        self.loss_function = MODELS.build(loss)
        self.weights = dict(weights)
        self.spread, self.score = spread, score

    def tie(self) -> None:
        """Tie the weights for an equivariant encoder, see `equivariance`."""
        for branched, action in ((self.heat, SCALAR), (self.describe, _DESCRIPTION)):
            tie_conv(branched[0], FIELD, FIELD)
            tie_conv(branched[-1], FIELD, action)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 9, h, w)."""
        return torch.cat([self.heat(features), self.describe(features)], dim=1)

    def loss(self, maps: Tensor, tips: list[InstanceData]) -> dict[str, Tensor]:
        """Compare the heatmap everywhere, the other maps in the cells round the true tips."""
        points = [t.points for t in tips]
        target = draw_gaussians(
            points, maps.shape[-2:], sigma=self.sigma, stride=self.stride, merge='max'
        )
        losses = dict(loss_heatmap=self.loss_function(maps[:, :1], target))
        image, row, column, tip = self._cells_near(points, maps.shape[-2:])
        own = maps[image, :, row, column]  # (M, 9)
        cells = torch.stack([column, row], dim=-1)
        offset = self._places(own, cells) - _padded(points)[image, tip]
        described = dict(
            place=_unlikelihood(offset, own[:, SPREAD]),
            direction=_distance(own[:, DIRECTION], _field(tips, 'direction', 2)[image, tip]),
            height=_distance(own[:, _HEIGHT:], _field(tips, 'z_um', 1)[image, tip] / _HEIGHT_UM),
        )
        return losses | {
            f'loss_{name}': self.weights[name] * value for name, value in described.items()
        }

    def read(
        self, maps: Tensor | Unread, max_tips: int
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return points (B, K, 2) in input pixels, scores (B, K), and what else is known of each.

        That is `covariance` (B, K, 2, 2) px^2, `direction` (B, K, 2) and `z_um` (B, K).
        """
        if isinstance(maps, Unread):
            cells, scores = self._peaks(self.heat(maps.features), max_tips)
            described = in_cells(self.describe, maps.features, cells)
            return self._tips(cells, scores, F.pad(described, (1, 0)))  # the heatmap is known
        cells, scores = self._peaks(maps[:, :1], max_tips)
        flat = (cells[..., 1] * maps.shape[-1] + cells[..., 0])[:, None]
        own = maps.flatten(2).gather(2, flat.expand(-1, maps.shape[1], -1)).transpose(1, 2)
        return self._tips(cells, scores, own)

    def _peaks(self, logits: Tensor, max_tips: int) -> tuple[Tensor, Tensor]:
        """Return cells (x, y) of the highest peaks of (B, 1, h, w), (B, K, 2) long, and scores."""
        heatmap = blur(logits.sigmoid(), self.blur)
        peaks, scores = find_peaks(
            heatmap, max_tips=max_tips, stride=1, radius=self.radius, refine='none'
        )
        return peaks.round().long(), scores

    def _tips(self, cells: Tensor, scores: Tensor, own: Tensor) -> tuple[Tensor, Tensor, dict]:
        """Return what `read` does, of the maps' values (B, K, 9) in cells (B, K, 2)."""
        fields = dict(
            covariance=self.spread * covariance(own[..., SPREAD]),
            direction=F.normalize(own[..., DIRECTION], dim=-1),
            z_um=own[..., _HEIGHT] * _HEIGHT_UM,
        )
        return self._places(own, cells), self._odds(scores), fields

    def _odds(self, scores: Tensor) -> Tensor:
        scale, shift = self.score
        return torch.where(scores > 0, (scale * scores.logit(1e-6) + shift).sigmoid(), 0)

    def _places(self, own: Tensor, cells: Tensor) -> Tensor:
        """Return the places, (..., 2) input pixels, that (..., 9) values of `cells` speak of."""
        return (cells + 0.5 + own[..., PLACE]) * self.stride - 0.5

    def _cells_near(self, points: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return image, row and column of the M cells within reach of a tip, and which tip it is.

        A cell within reach of two describes the nearer one.
        """
        device = points[0].device
        padded = _padded(points)
        if padded.shape[1] == 0:
            return tuple(torch.zeros(4, 0, dtype=torch.long, device=device))
        y, x = ((torch.arange(n, device=device) + 0.5) * self.stride - 0.5 for n in size)
        across, down = x - padded[..., :1], y - padded[..., 1:]  # (B, N, w) and (B, N, h)
        apart = across.square()[:, :, None] + down.square()[..., None]
        nearest, tip = apart.min(dim=1)  # (B, h, w)
        image, row, column = (nearest < self.reach**2).nonzero(as_tuple=True)
        return image, row, column, tip[image, row, column]


def covariance(spread: Tensor) -> Tensor:
    """(..., 3) of the spread maps -> covariances (..., 2, 2) in px^2."""
    return _exponential(-_bounded(spread))


def _bounded(spread: Tensor) -> Tensor:
    mean, stretch = spread[..., :1], spread[..., 1:]
    shrink = (_LONGEST / _length(stretch)).clamp(max=1)
    return torch.cat([mean.clamp(_FLATTEST, _SHARPEST), stretch * shrink], dim=-1)


def _exponential(logarithm: Tensor) -> Tensor:
    """(..., 3) -> (..., 2, 2), the exponential of a symmetric matrix.

    The three are half its trace, half the difference of its diagonal entries, and the entry beside
    them: so they turn with an image as its entries do.
    """
    mean, stretch = logarithm[..., :1].exp(), logarithm[..., 1:]
    length = _length(stretch)
    even = (mean * length.cosh())[..., 0]
    along, beside = (mean * length.sinh() / length * stretch).unbind(dim=-1)
    return torch.stack([even + along, beside, beside, even - along], dim=-1).unflatten(-1, (2, 2))


def _length(stretch: Tensor) -> Tensor:
    return (stretch.square().sum(dim=-1, keepdim=True) + 1e-12).sqrt()


def _unlikelihood(offset: Tensor, spread: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of (M, 2) offsets, times sigma.

    Left alone, a likelihood learns least where it is off most, for there it claims a large sigma;
    the factor, through which no gradient flows, gives that back (beta-NLL, Seitzer et al. 2022).
    """
    if not len(offset):
        return offset.sum() + spread.sum()
    logarithm = _bounded(spread)
    squared = (offset[:, None] @ _exponential(logarithm) @ offset[..., None]).flatten()
    certainty = logarithm[:, 0]  # half the logarithm of the determinant
    sigma = (-certainty.detach() / 2).exp()
    return (sigma * (0.5 * squared - certainty)).mean()


def _distance(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared distance where the truth is known, not NaN; both (M, C)."""
    known = true.isfinite().all(dim=1)
    return (predicted - true)[known].square().sum(dim=1).sum() / known.sum().clamp(min=1)


def _field(tips: list[InstanceData], name: str, size: int) -> Tensor:
    """Return one field of every tip, (B, N, size), NaN where a sample does not know it."""
    return _padded(
        [
            t[name].view(-1, size) if name in t else t.points.new_full((len(t), size), torch.nan)
            for t in tips
        ]
    )


def _padded(rows: list[Tensor]) -> Tensor:
    """Pad with what is far outside the frame."""
    return pad_sequence([*rows], batch_first=True, padding_value=-1e4)
