"""Turned and mirrored images: what the group does to channels, and networks that do not mind."""

import pytest
import torch
from mmengine.structures import InstanceData
from timm.layers import Conv2dSame
from torch import nn

from pipedet.engine import Muon
from pipedet.models import (
    CenterHead,
    HeatmapDetector,
    HeatmapHead,
    PeakFocalLoss,
    TimmBiFPN,
    TimmPyramid,
)
from pipedet.models.equivariance import (
    FIELD,
    SCALAR,
    STRETCH,
    VECTOR,
    _products,
    _turned,
    side_by_side,
    tie,
    tie_conv,
)
from pipedet.models.large_kernels import LargeKernelBlock
from pipedet.models.tip_detector import on_top_of
from pipedet.structures import TipDataSample

ENCODER = dict(
    type=TimmPyramid,
    name='mobilenetv4_conv_small_050',
    levels=(1, 2, 3),
    channels=16,
    pretrained=False,
    contrast_radii=(4, 16),
    patch_stem=True,
    large_kernels=((), (5,), (7,)),
    equivariant=True,
)
HEAD = dict(
    type=HeatmapHead,
    out_stride=4,
    hidden=8,
    sigma=5.0,
    merge='max',
    separation=12.0,
    loss=dict(type=PeakFocalLoss),
)
CENTERS = dict(
    type=CenterHead,
    hidden=8,
    kinds=1,
    sigma=5.0,
    separation=12.0,
    loss=dict(type=PeakFocalLoss),
    offset_weight=1.0,
)


def detector(**encoder):
    torch.manual_seed(0)
    return HeatmapDetector(
        enhancer=None,
        encoder=ENCODER | encoder,
        coarse=dict(HEAD),
        max_tips=5,
        average_views=False,
        score_threshold=0.4,
    )


def assert_turns_with_the_image(draw, images):
    upright = draw(images)
    assert upright.std() > 0
    for element in range(8):
        turned = draw(_turned(images, element))
        assert torch.allclose(turned, _turned(upright, element), atol=1e-4 * upright.std())


@pytest.mark.parametrize('action', [SCALAR, FIELD, VECTOR, STRETCH, side_by_side(VECTOR, FIELD)])
def test_actions_compose_as_the_elements_do(action):
    for a in range(8):
        assert torch.allclose(action[a] @ action[a].T, torch.eye(action.shape[1]))
        for b in range(8):
            assert torch.allclose(action[a] @ action[b], action[_products()[a, b]])


def test_vectors_and_matrices_turn_as_what_is_seen_does():
    torch.manual_seed(0)
    image, along = torch.rand(5, 5), torch.arange(5.0) - 2

    def middle(seen):
        return torch.stack([(seen * along).sum(), (seen * along[:, None]).sum()])

    def stretch(seen):
        x, y = along.square(), along.square()[:, None]
        beside = (seen * along * along[:, None]).sum()
        return torch.stack([(seen * (x - y)).sum() / 2, beside])

    for element in range(8):
        seen = _turned(image, element)
        assert torch.allclose(middle(seen), VECTOR[element] @ middle(image), atol=1e-5)
        assert torch.allclose(stretch(seen), STRETCH[element] @ stretch(image), atol=1e-5)


@pytest.mark.parametrize('name', [ENCODER['name'], 'cs3darknet_s'])
@pytest.mark.parametrize('optimiser', [Muon, torch.optim.AdamW])
def test_a_tied_network_stays_tied_in_training(optimiser, name):
    model = detector(name=name)
    for block in model.modules():
        if isinstance(block, LargeKernelBlock):  # one that has learned something
            nn.init.ones_(block.body[-1].weight)
    optimiser = optimiser(model.parameters(), lr=0.01)
    images = torch.randn(2, 1, 64, 64)
    truth = TipDataSample(metainfo=dict(matrix=torch.eye(3).numpy(), img_shape=(64, 64)))
    truth.gt_tips = InstanceData(points=torch.tensor([[20.0, 31.0]]))
    for _ in range(4):
        optimiser.zero_grad()
        sum(model(images, [truth, truth], mode='loss').values()).backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        assert_turns_with_the_image(model, torch.randn(2, 1, 64, 64))


def test_tied_weights_begin_with_the_variance_of_free_ones():
    torch.manual_seed(0)
    layers = [nn.Conv2d(64, 64, 3), nn.Conv2d(3, 64, 4, 2), nn.Conv2d(64, 64, 5, groups=64)]
    for layer in layers:
        free = layer.weight.std().item()
        tie(nn.Sequential(layer))
        assert layer.weight.std().item() == pytest.approx(free, rel=0.15)


def test_vectors_out_of_fields_turn_with_the_image():
    torch.manual_seed(0)
    layer, images = nn.Conv2d(16, 2, 3, padding=1), torch.randn(1, 16, 9, 9)
    tie_conv(layer, FIELD, VECTOR)
    assert layer.bias.abs().max() < 1e-6  # no vector but zero looks the same from all sides
    with torch.no_grad():
        for element in range(8):
            fields = _turned(images, element).unflatten(1, (2, 8))
            fields = torch.einsum('ij,bnjhw->bnihw', FIELD[element], fields).flatten(1, 2)
            expected = torch.einsum('ij,bjhw->bihw', VECTOR[element], layer(images))
            assert torch.allclose(layer(fields), _turned(expected, element), atol=1e-5)


@pytest.mark.parametrize('equivariant', [True, False])
@pytest.mark.parametrize('size', [(80, 64), (48, 112), (64, 96)])
def test_sides_need_not_be_multiples_of_the_coarsest_stride(equivariant, size):
    torch.manual_seed(0)
    options = {k: v for k, v in ENCODER.items() if k != 'type'}
    kernels = ((), (5,), (7,), ())
    options |= dict(levels=(1, 2, 3, 4), large_kernels=kernels, equivariant=equivariant)
    pyramid = TimmPyramid(**options).eval()
    with torch.no_grad():
        assert pyramid(torch.randn(1, 1, *size)).shape == (1, 16, size[0] // 4, size[1] // 4)


def test_what_is_built_without_values_spoils_nothing():
    with torch.device('meta'):
        assert detector().encoder.net.conv_stem.weight.is_meta
    with torch.no_grad():
        assert detector().eval()(torch.randn(1, 1, 64, 64)).isfinite().all()


def test_even_strides_get_even_kernels_and_reduce_as_before():
    pyramid = detector().encoder
    strided = [m for m in pyramid.modules() if isinstance(m, nn.Conv2d) and m.stride[0] % 2 == 0]
    assert strided and all(layer.kernel_size[0] % 2 == 0 for layer in strided)
    assert pyramid(torch.randn(1, 1, 64, 96)).shape == (1, 16, 16, 24)


@pytest.mark.parametrize(
    ('net', 'message'),
    [
        (nn.Conv2d(8, 12, 3), 'fields of eight'),
        (nn.BatchNorm2d(12), 'fields of eight'),
        (nn.LayerNorm(8), 'LayerNorm'),
        (Conv2dSame(8, 8, 3, stride=2), 'Conv2dSame'),
        (nn.MaxPool2d(3, stride=2, padding=1), 'prefers a side'),
        (nn.Conv2d(8, 8, 1, stride=2), 'prefers a side'),
        (nn.Conv2d(8, 8, 3, padding=(0, 1)), 'prefers a side'),
        (nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), 'prefers a side'),
        (nn.Conv2d(16, 16, 3, groups=2), 'fields of eight'),
    ],
)
def test_what_cannot_be_tied_is_refused(net, message):
    with pytest.raises(ValueError, match=message):
        tie(nn.Sequential(net))


def test_trained_weights_and_other_heads_are_refused(monkeypatch):
    with pytest.raises(ValueError, match='pretrained=False'):
        TimmPyramid(**{k: v for k, v in ENCODER.items() if k != 'type'} | dict(pretrained=True))
    monkeypatch.delattr(HeatmapHead, 'tie')
    with pytest.raises(ValueError, match=r'HeatmapHead cannot be tied.*equivariant=False'):
        detector()


def test_beads_turn_with_the_micrograph():
    torch.manual_seed(0)
    encoder = TimmBiFPN(
        name='mobilenetv4_conv_small_050',
        levels=(1, 2),
        channels=16,
        rounds=2,
        out_stride=2,
        pretrained=False,
        equivariant=True,
    )
    head = on_top_of(encoder, CENTERS)
    with torch.no_grad():
        head.offset[-1].weight.copy_(head.offset[0].weight[:2, :8, :1, :1])
        tie_conv(head.offset[-1], FIELD, VECTOR)
        encoder.double().train()  # normalised: untrained, it draws next to nothing
        head.double()
        image = torch.randn(1, 1, 64, 64, dtype=torch.float64)
        assert_turns_with_the_image(lambda x: head(encoder(x))[:, :1], image)
        upright, turned = (head(encoder(x))[:, 1:] for x in (image, _turned(image, 5)))
        expected = torch.einsum('ij,bjhw->bihw', VECTOR[5].double(), _turned(upright, 5))
        assert upright.std() > 0
        assert torch.allclose(turned, expected, atol=1e-4 * upright.std())
