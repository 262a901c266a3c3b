"""TipNet's maps, averaged over the eight turns and mirrors of an image.

Unlike a heatmap's, their values turn with the image: places and directions as vectors, inverse
covariances as matrices.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipedet.models.symmetry import eight_views, mean_of_views
from pipedet.models.tip_head import DIRECTION, PLACE, SPREAD, factor, spread_of

_QUARTER = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])  # what `rot90` does to (x, y), y down
_MIRROR = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])


def square_views(images: Tensor) -> Tensor:
    """(B, 1, H, W) -> (8 B, 1, N, N), N the longer side: the last row or column goes on."""
    height, width = images.shape[-2:]
    side = max(height, width)
    padded = F.pad(images, (0, side - width, 0, side - height), mode='replicate')
    return eight_views(padded)


def mean_of_tip_views(maps: Tensor) -> Tensor:
    """Return the mean (B, 9, n, n) of the maps (8 B, 9, n, n) of `square_views`."""
    turned = []
    for index, view in enumerate(maps.unflatten(0, (8, -1))):
        back = torch.linalg.matrix_power(_QUARTER, index % 4)
        back = (back @ _MIRROR if index >= 4 else back).T.to(maps)
        turned.append(_turn(view, back))
    mean = mean_of_views(torch.cat(turned))
    mean[:, SPREAD] = spread_of(mean[:, SPREAD].movedim(1, -1)).movedim(-1, 1)
    return mean


def _turn(maps: Tensor, linear: Tensor) -> Tensor:
    """Turn vectors by `linear` (2, 2); the spread maps become xx, xy, yy of the precision."""
    maps = maps.clone()
    for vectors in (PLACE, DIRECTION):
        maps[:, vectors] = torch.einsum('ij,bjhw->bihw', linear, maps[:, vectors])
    a, b, c = factor(maps[:, SPREAD].movedim(1, -1))
    lower = torch.stack([a, torch.zeros_like(a), b, c], dim=-1).unflatten(-1, (2, 2))
    precision = linear @ lower @ lower.mT @ linear.mT
    maps[:, SPREAD] = torch.stack(
        [precision[..., 0, 0], precision[..., 0, 1], precision[..., 1, 1]], dim=1
    )
    return maps
