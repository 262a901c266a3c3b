"""Maps of large images, window by window: of two that overlap, each gives what is nearer to it.

A network sees nothing beyond its window, so what it says near the border is the worst it has, and
is cut away up to the middle of the overlap. Nothing is averaged: a peak comes from one window, with
the offset of the same. (`tiling` blends, for images.)
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor


def windowed(
    network: Callable[[Tensor], Tensor], images: Tensor, *, window: int, overlap: int, stride: int
) -> Tensor:
    """Return the maps of (B, 1, H, W): (B, C, H / stride, W / stride).

    An image no larger than a window goes through as it is.

    Args:
        network: (B, 1, h, w) -> (B, C, h / stride, w / stride).
        images: of sides that are multiples of `stride`.
        window: side of a window, input pixels; a multiple of `stride`.
        overlap: of neighbouring windows at least, input pixels; a multiple of `stride`.
        stride: input pixels per cell of the maps.
    """
    rows, columns = (_cores(side, window, overlap, stride) for side in images.shape[-2:])
    bands = []
    for top, down in rows:
        cores = []
        for left, across in columns:
            maps = network(images[..., top : top + window, left : left + window])
            cores.append(maps[..., down, across])
        bands.append(torch.cat(cores, dim=-1))
    return torch.cat(bands, dim=-2)


def _cores(side: int, window: int, overlap: int, stride: int) -> list[tuple[int, slice]]:
    """Return where along a side each window begins, and which of its cells are kept."""
    if side <= window:
        return [(0, slice(0, side // stride))]
    # The last one is moved back to end with the image: there is nothing to see beyond.
    starts = [*range(0, side - window, window - overlap), side - window]
    # Amid the overlap of two windows, on the border of a cell.
    amid = [(before + window + start) // 2 // stride for before, start in pairwise(starts)]
    cuts = [0, *amid, side // stride]
    return [
        (start, slice(first - start // stride, last - start // stride))
        for start, (first, last) in zip(starts, pairwise(cuts), strict=True)
    ]
