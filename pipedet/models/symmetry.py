"""The eight turns and mirrors of a square image (the group D4), and back.

A heatmap does not care which way the microscope is mounted; a network does, a little. Its mean over
the eight views is more accurate than any one (as seed ensembles and MidasMap's test-time D4 are).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_AXES = (-2, -1)


def eight_views(images: Tensor) -> Tensor:
    """(B, C, N, N) -> (8 B, C, N, N), view by view."""
    mirrored = (images, images.flip(-1))
    return torch.cat([view.rot90(turns, _AXES) for view in mirrored for turns in range(4)])


def square_views(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (8 B, C, N, N), N the longer side: the last row or column goes on."""
    height, width = images.shape[-2:]
    side = max(height, width)
    return eight_views(F.pad(images, (0, side - width, 0, side - height), mode='replicate'))


def mean_of_views(maps: Tensor) -> Tensor:
    """Turn the maps of `eight_views` back and return their mean: (8 B, C, n, n) -> (B, C, n, n)."""
    views = maps.unflatten(0, (8, -1))
    back = [view.rot90(-(i % 4), _AXES) for i, view in enumerate(views)]
    return (sum(back[:4]) + sum(back[4:]).flip(-1)) / 8


def mean_of_vector_views(maps: Tensor) -> Tensor:
    """Return the mean of maps of (x, y) vectors, which turn with the image.

    (8 B, 2, n, n) of `eight_views` -> (B, 2, n, n).
    """
    views = []
    for i, view in enumerate(maps.unflatten(0, (8, -1))):
        x, y = view.unbind(dim=1)
        for _ in range(i % 4):  # a quarter turn of `rot90` made (x, y) into (y, -x)
            x, y = -y, x
        views.append(torch.stack([-x if i >= 4 else x, y], dim=1))
    return mean_of_views(torch.cat(views))
