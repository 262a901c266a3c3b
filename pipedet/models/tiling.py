"""Images of any size through a network made for patches: overlapping tiles, blended.

A network sees nothing beyond the border of its tile, so what it says near there is dropped, and
the tiles are joined along half Hann windows, which add up to one (RUNet, arXiv 2406.01187, II.C).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 512
GRID = 32  # sides and steps are multiples of it: no network's total stride is larger
_DROPPED, _RAMP = 64, 64  # pixels at each border of a tile; a U-Net of five levels reaches 60
_STEP = TILE - 2 * _DROPPED - _RAMP


def tiled(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return `network` of (B, 1, H, W), of any height and width.

    Up to the size of a tile the image goes through as it is. Beyond, one tile is in work at a time:
    memory beside input and output does not grow with the image.
    """
    height, width = images.shape[-2:]
    if max(height, width) <= TILE:
        bottom, right = _up_to_grid(height), _up_to_grid(width)
        return network(_window(images, 0, 0, bottom, right))[..., :height, :width]
    tops, lefts = _starts(height), _starts(width)
    tall, wide = (min(TILE, _up_to_grid(side)) for side in (height, width))
    result = torch.zeros_like(images)
    for top in tops:
        rows = _weights(top, tops, tall).to(images)[:, None]
        for left in lefts:
            columns = _weights(left, lefts, wide).to(images)
            tile = network(_window(images, top, left, tall, wide)) * (rows * columns)
            here = result[..., top : top + tall, left : left + wide]
            here += tile[..., : here.shape[-2], : here.shape[-1]]
    return result


def _starts(side: int) -> list[int]:
    """Where tiles begin along a side; the last one may reach beyond it."""
    count = 1 if side <= TILE else 1 + -(-(side - TILE) // _STEP)
    return [index * _STEP for index in range(count)]


def _weights(start: int, starts: list[int], length: int) -> Tensor:
    """Weights of a tile along one side, (length,): the border of the image has no ramp."""
    weights = torch.ones(length)
    rise = torch.sin((torch.arange(_RAMP) + 0.5) * (torch.pi / 2 / _RAMP)).square()
    if start != starts[0]:
        weights[:_DROPPED] = 0
        weights[_DROPPED : _DROPPED + _RAMP] = rise
    if start != starts[-1]:
        weights[length - _DROPPED :] = 0
        weights[length - _DROPPED - _RAMP : length - _DROPPED] = rise.flip(0)
    return weights


def _window(images: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Cut out a window; beyond the lower and right border the last pixels go on."""
    cut = images[..., top : top + height, left : left + width]
    return F.pad(cut, (0, width - cut.shape[-1], 0, height - cut.shape[-2]), mode='replicate')


def _up_to_grid(side: int) -> int:
    return -(-side // GRID) * GRID
