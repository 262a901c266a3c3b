"""Heatmaps of tips, both ways: points -> Gaussians (paper eqs. 4 and 5) -> sub-pixel points.

Cell i of a heatmap of stride s has its centre at input pixel (i + 0.5) s - 0.5.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def draw_gaussians(
    points: Sequence[Tensor], size: tuple[int, int], *, sigma: float, stride: int, merge: str
) -> Tensor:
    """Draw one heatmap per image.

    Args:
        points: (N_i, 2) tips of each image, input pixels.
        size: (h, w) of the heatmap, in cells.
        sigma: of the Gaussians, input pixels.
        stride: input pixels per cell.
        merge: 'sum' (eq. 5) or 'max' where Gaussians overlap.

    Returns:
        (B, 1, h, w).
    """
    if merge not in ('sum', 'max'):
        raise ValueError(f"merge is 'sum' or 'max', not {merge!r}")
    device = points[0].device
    # Padding far outside the frame draws nothing.
    padded = pad_sequence([*points], batch_first=True, padding_value=-1e4)
    cells = (padded + 0.5) / stride - 0.5
    gx, gy = (
        torch.exp(
            -0.5 * ((torch.arange(n, device=device) - cells[..., axis, None]) * stride / sigma) ** 2
        )
        for axis, n in ((0, size[1]), (1, size[0]))
    )
    if merge == 'sum' or padded.shape[1] == 0:
        return (gy.transpose(1, 2) @ gx)[:, None]
    return (gy[..., :, None] * gx[..., None, :]).amax(dim=1, keepdim=True)


def blur(heatmap: Tensor, sigma: float) -> Tensor:
    """Return the mean of each cell's neighbourhood, weighted by a Gaussian of `sigma` cells."""
    reach = int(3 * sigma + 1)
    weights = torch.exp(
        -0.5 * (torch.arange(-reach, reach + 1, device=heatmap.device) / sigma) ** 2
    )
    weights = weights / weights.sum()
    padded = F.pad(heatmap, (reach,) * 4, mode='replicate')
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def find_peaks(
    heatmap: Tensor, *, max_tips: int, stride: int, radius: int, refine: str = 'parabola'
) -> tuple[Tensor, Tensor]:
    """Read the highest local maxima of a heatmap of probabilities.

    A plateau is no peak: flat, saturated or non-finite maps give scores of 0.

    Args:
        heatmap: (B, 1, h, w) in [0, 1].
        max_tips: K, peaks returned per image.
        stride: input pixels per cell.
        radius: a peak is the highest cell within so many cells.
        refine: 'parabola' through the logarithm of the neighbours, exact for a Gaussian (DARK,
            Zhang et al. 2020); 'centroid' of the cells within `radius`, a soft-argmax of each peak;
            'none' for the centre of the highest cell, where something else knows the rest.

    Returns:
        points (B, K, 2) in input pixels and scores (B, K), best first; score 0: no such peak.
    """
    if refine not in ('parabola', 'centroid', 'none'):
        raise ValueError(f"refine is 'parabola', 'centroid' or 'none', not {refine!r}")
    heatmap = heatmap.float()
    width = heatmap.shape[-1]
    log = heatmap.clamp(min=1e-8).log()
    around = F.pad(log, (1, 1, 1, 1), mode='replicate')
    curve_x = 2 * log - around[..., 1:-1, :-2] - around[..., 1:-1, 2:]
    curve_y = 2 * log - around[..., :-2, 1:-1] - around[..., 2:, 1:-1]
    highest = _highest_within(heatmap, radius)
    # On the border one neighbour is missing, so the curvature along the border decides alone.
    is_peak = (heatmap == highest) & (curve_x > 1e-4) & (curve_y > 1e-4) & heatmap.isfinite()
    # A tip halfway between cells makes two of equal height: the first one stands for both.
    count = heatmap[0].numel()
    order = torch.arange(count, 0, -1, device=heatmap.device, dtype=heatmap.dtype)
    order = torch.where(is_peak, order.view_as(heatmap[0]), 0)
    is_peak &= order == _highest_within(order, radius)
    scores, cells = torch.where(is_peak, heatmap, 0).flatten(1).topk(max_tips)

    if refine == 'centroid':
        x, y = _centroids(heatmap, cells, radius)
    elif refine == 'none':
        x, y = cells % width, cells // width
    else:
        x = cells % width + _to_top(log, -1, cells)
        y = cells // width + _to_top(log, -2, cells)
    return (torch.stack([x, y], dim=-1) + 0.5) * stride - 0.5, scores


def _highest_within(values: Tensor, radius: int) -> Tensor:
    """Return the highest of each cell's square neighbourhood: of columns of the highest of rows."""
    side = 2 * radius + 1
    rows = F.max_pool2d(values, (1, side), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(radius, 0))


def _to_top(log: Tensor, axis: int, cells: Tensor) -> Tensor:
    """Return how far, in cells along an axis, parabolas through flat `cells` (B, K) have their top.

    Beyond the border the parabola through the last three cells goes on, as that of a Gaussian does.
    """
    last = log.shape[axis] - 1
    beyond = []
    for cells_inwards in ((0, 1, 2), (last, last - 1, last - 2)):
        edge, second, third = (log.narrow(axis, cell, 1) for cell in cells_inwards)
        further = 3 * edge - 3 * second + third
        beyond.append(torch.where(further.isfinite(), further, edge))
    around = torch.cat([beyond[0], log, beyond[1]], dim=axis)
    before, after = (
        around.narrow(axis, start, last + 1).flatten(1).gather(1, cells) for start in (0, 2)
    )
    curve = 2 * log.flatten(1).gather(1, cells) - before - after
    return (0.5 * (after - before) / curve.clamp(min=1e-4)).clamp(-0.5, 0.5)


def _centroids(heatmap: Tensor, cells: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Return x and y (B, K), in cells, of the mean place within `radius` of flat `cells` (B, K)."""
    height, width = heatmap.shape[-2:]
    reach = torch.arange(-radius, radius + 1, device=heatmap.device)
    x = (cells % width)[..., None, None] + reach  # (B, K, 1, n)
    y = (cells // width)[..., None, None] + reach[:, None]  # (B, K, n, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    around = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    weights = heatmap.flatten(1).gather(1, around.flatten(1)).view_as(around) * inside
    mass = weights.sum(dim=(2, 3)).clamp(min=1e-8)
    return (weights * x).sum(dim=(2, 3)) / mass, (weights * y).sum(dim=(2, 3)) / mass
