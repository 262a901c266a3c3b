"""Tiles: the same as the whole image, without seams, one at a time."""

import pytest
import torch
from torch import nn

from pipedet.models import RUNet
from pipedet.models.tiling import GRID, TILE, tiled


@pytest.mark.parametrize('size', [(100, 70), (512, 512), (530, 1100), (700, 300)])
def test_pixelwise_network_is_untouched_by_tiling(size):
    images = torch.rand(2, 1, *size)
    assert torch.allclose(tiled(lambda x: 2 * x + 1, images), 2 * images + 1, atol=1e-5)


def test_tiled_equals_untiled_away_from_borders():
    torch.manual_seed(1)
    rows, columns = (
        nn.Conv2d(1, 1, (31, 1), padding='same'),
        nn.Conv2d(1, 1, (1, 31), padding='same'),
    )
    blur = nn.Sequential(rows, columns).requires_grad_(False)
    images = torch.rand(1, 1, 1024, 1024)
    far = (..., slice(64, -64), slice(64, -64))
    assert (tiled(blur, images) - blur(images))[far].abs().max() < 1e-5


def test_runet_tiled_equals_untiled():
    torch.manual_seed(1)
    net = RUNet(widths=(4, 8, 16)).eval().requires_grad_(False)
    images = torch.rand(1, 1, 800, 640)
    far = (..., slice(64, -64), slice(64, -64))
    assert (tiled(net, images) - net(images))[far].abs().max() < 1e-3


def test_network_sees_one_tile_at_a_time_on_the_grid():
    seen = []

    def network(images):
        seen.append(images.shape)
        return images

    tiled(network, torch.rand(1, 1, 1300, 530))
    assert len(seen) > 4
    assert all(max(s[-2:]) <= TILE and s[-1] % GRID == s[-2] % GRID == 0 for s in seen)
