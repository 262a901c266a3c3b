"""CenterNet: what its head draws and reads, windows, views, and the phases of its training."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from torch import nn

from pipedet.commands.common import build_runner
from pipedet.engine import Muon, Patience
from pipedet.models import CenterHead, CenterNet, PeakFocalLoss, TimmBiFPN
from pipedet.models.bifpn import BiFPN, Merger
from pipedet.models.center_head import suppress
from pipedet.models.symmetry import eight_views, mean_of_vector_views
from pipedet.models.windows import windowed

CONFIG = Path(__file__).parent.parent / 'configs/detectors/midasmap.py'
HEAD = dict(
    type=CenterHead, hidden=8, kinds=2, sigma=2.0, separation=8.0, loss=dict(type=PeakFocalLoss),
    offset_weight=1.0,
)  # fmt: skip
ENCODER = dict(
    type=TimmBiFPN, name='mobilenetv4_conv_small', levels=(1, 2, 3), channels=8, rounds=2,
    out_stride=2, pretrained=False,
)  # fmt: skip
POINTS = torch.tensor([[20.3, 31.7], [40.0, 12.4], [50.5, 41.5], [-0.4, 63.4]])
KINDS = torch.tensor([0, 1, 0, 1])
SIZE = (32, 36)  # cells


def head(**changes):
    options = {key: value for key, value in HEAD.items() if key != 'type'}
    return CenterHead(in_channels=4, stride=2, **options | changes)


def objects(points=POINTS, kinds=KINDS):
    return InstanceData(points=points, kind=kinds)


def perfect_maps():
    """Maps that show the objects as they are drawn, and say in every cell where the nearest is."""
    own = head()
    heat = own.draw([objects()], SIZE)
    cells, offsets = own.cells(POINTS, SIZE)
    maps = torch.cat([heat.logit(1e-6), torch.zeros(1, 2, *SIZE)], dim=1)
    maps[0, 2:, cells[:, 1], cells[:, 0]] = offsets.T
    return maps


def test_targets_are_one_in_the_cell_of_the_object_and_nowhere_else():
    torch.manual_seed(0)
    points = 70 * torch.rand(40, 2)
    target = head().draw([objects(points, torch.arange(40) % 2)], SIZE)
    column, row = ((points + 0.5) / 2).floor().long().unbind(dim=1)
    expected = torch.zeros(2, *SIZE, dtype=torch.bool)
    inside = (column < SIZE[1]) & (row < SIZE[0])
    expected[torch.arange(40)[inside] % 2, row[inside], column[inside]] = True
    inner = (slice(None), slice(None, -1), slice(None, -1))  # others are drawn at the border
    assert ((target[0] == 1) == expected)[inner].all()
    # These are the cells that the loss takes for positive.
    pooled = nn.functional.max_pool2d(target, 3, stride=1, padding=1)
    assert ((target == 1) == ((target == pooled) & (target > 0.6))).all()


def test_perfect_maps_are_read_exactly():
    points, scores, fields = head().read(perfect_maps(), 6)
    assert points.shape == (1, 6, 2) and (scores[0] > 0.9).tolist() == [True] * 4 + [False] * 2
    order = points[0, :4, 0].argsort()
    true = POINTS[:, 0].argsort()
    assert torch.allclose(points[0, order], POINTS[true], atol=1e-4)
    assert fields['kind'][0, order].tolist() == KINDS[true].tolist()


def test_losses_vanish_at_the_truth_and_push_towards_it():
    maps, own = perfect_maps().requires_grad_(), head()
    losses = own.loss(maps, [objects()])
    assert losses['loss_offset'] < 1e-6 and losses['loss_heatmap'] < 0.2
    unsure = torch.zeros(1, 4, *SIZE, requires_grad=True)
    own.loss(unsure, [objects()])['loss_heatmap'].backward()
    peaks = own.draw([objects()], SIZE) == 1
    assert (unsure.grad[:, :2][peaks] < 0).all() and (unsure.grad[:, :2][~peaks] >= 0).all()
    sure = torch.where(peaks, 20.0, -20.0).requires_grad_()
    PeakFocalLoss()(sure, own.draw([objects()], SIZE)).backward()
    assert sure.grad.abs().max() < 1e-6


def test_offsets_learn_in_the_cells_of_objects_alone():
    maps = torch.ones(2, 4, *SIZE, requires_grad=True)
    empty = objects(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    head().loss(maps, [objects(), empty])['loss_offset'].backward()
    column, row = head().cells(POINTS, SIZE)[0].unbind(dim=1)
    assert (maps.grad[:, 2:] != 0).sum() == 2 * len(POINTS)
    assert (maps.grad[0, 2:, row, column] != 0).all()
    only_empty = head().loss(maps, [empty])
    assert only_empty['loss_offset'] == 0 and only_empty['loss_heatmap'].isfinite()


def test_unknown_and_missing_kinds_are_named():
    with pytest.raises(ValueError, match='kind 2, the head knows 0 to 1'):
        head().draw([objects(kinds=torch.tensor([0, 1, 2, 0]))], SIZE)
    with pytest.raises(ValueError, match='no `kind`'):
        head().draw([InstanceData(points=POINTS)], SIZE)


def test_the_better_of_two_kinds_stays_and_losers_take_nobody_along():
    points = torch.tensor([[[0.0, 0.0], [14.0, 0.0], [7.0, 0.0], [0.0, 40.0], [5.0, 40.0]]])
    scores = torch.tensor([[0.9, 0.7, 0.8, 0.5, 0.6]])
    expected = torch.tensor([[0.9, 0.7, 0.0, 0.0, 0.6]])
    assert torch.equal(suppress(points, scores, 8.0), expected)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(suppress(points[:, order], scores[:, order], 8.0), expected[:, order])
    maps = torch.full((1, 4, *SIZE), -9.0)
    maps[:, 2:] = 0
    maps[0, 0, 10, 10], maps[0, 1, 10, 11] = 1.0, 2.0
    _, found, fields = head().read(maps, 4)
    assert (found[0] > 0.5).tolist() == [True, False, False, False] and fields['kind'][0, 0] == 1


@pytest.mark.parametrize('size', [(96, 128), (300, 128), (420, 308)])
def test_windows_show_what_the_whole_image_does(size):
    torch.manual_seed(1)
    blur = nn.Conv2d(1, 3, 32, stride=2, padding=15).requires_grad_(False)
    images, seen = torch.rand(2, 1, *size), []

    def network(part):
        seen.append(part.shape[-2:])
        return blur(part)

    maps = windowed(network, images, window=128, overlap=32, stride=2)
    assert torch.allclose(maps, blur(images), atol=1e-5)
    assert max(max(shape) for shape in seen) <= 128
    assert len(seen) == 1 or max(size) > 128


def test_vectors_turn_with_the_image():
    def slopes(images):  # central differences, borders left out: they turn as the image does
        x = images[..., 1:-1, 2:] - images[..., 1:-1, :-2]
        y = images[..., 2:, 1:-1] - images[..., :-2, 1:-1]
        return torch.cat([x, y], dim=1)

    images = torch.rand(3, 1, 12, 12)
    assert torch.allclose(mean_of_vector_views(slopes(eight_views(images))), slopes(images))


def detector(**changes):
    options = dict(
        enhancer=None, encoder=ENCODER, head=HEAD, max_tips=8, window=96, overlap=32,
        average_views=False, score_threshold=0.0,
    )  # fmt: skip
    return CenterNet(**options | changes).eval().requires_grad_(False)


def test_a_window_that_holds_the_image_changes_nothing():
    small = detector()
    large = detector(window=512)
    large.load_state_dict(small.state_dict())
    images = torch.randn(1, 1, 96, 80)
    for a, b in zip(small.read(images), large.read(images), strict=True):
        assert torch.equal(a, b)
    assert small(torch.randn(1, 1, 160, 112)).shape == (1, 4, 80, 56)
    with pytest.raises(ValueError, match='multiples of 32'):
        detector(window=100)


def test_averaged_views_find_in_a_mirror_what_they_find_without():
    model = detector(average_views=True)
    for part in (model.head.heat[-1], model.head.offset[-1]):
        nn.init.normal_(part.weight)
    images = torch.randn(1, 1, 64, 96)
    plain = model._final(images)
    mirrored = model._final(images.flip(-1)).flip(-1)
    # Beyond the shorter side the image is extended below, and a mirror changes nothing of that.
    assert torch.allclose(mirrored[:, :2], plain[:, :2], atol=1e-3)
    signs = torch.tensor([-1.0, 1.0])[:, None, None]
    assert torch.allclose(mirrored[:, 2:] * signs, plain[:, 2:], atol=1e-3)


def test_bifpn_merges_by_shares_that_it_learns():
    merger = Merger(3, 4)
    assert merger.shares.sum().item() == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        merger.weights.copy_(torch.tensor([-1.0, 1.0, 3.0]))
    assert torch.allclose(merger.shares, torch.tensor([0, 0.25, 0.75]), atol=1e-4)
    neck = BiFPN(in_channels=(3, 5, 7), channels=4, rounds=2)
    maps = [torch.randn(1, c, n, n + 2) for c, n in ((3, 22), (5, 11), (7, 6))]
    maps = [maps[0], maps[1][..., :12], maps[2][..., :6]]
    out = neck(maps)
    assert out.shape == (1, 4, 22, 24)
    out.square().sum().backward()
    assert all(p.grad is not None for p in neck.parameters())  # no merger is in vain
    with pytest.raises(ValueError, match='not reached by halving'):
        TimmBiFPN(**{k: v for k, v in ENCODER.items() if k != 'type'} | dict(out_stride=3))


def test_a_phase_trains_named_parts_of_the_encoder_alone():
    model = detector().requires_grad_(True)
    model.train_only(('encoder.neck', 'encoder.net.blocks.2', 'head'))
    model.train()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    prefixes = ('encoder.neck.', 'encoder.net.blocks.2.', 'head.')
    assert trained == {n for n, _ in model.named_parameters() if n.startswith(prefixes)}
    assert model.encoder.net.blocks[2].training and model.encoder.neck.training
    assert not model.encoder.net.bn1.training and not model.encoder.decoder.training
    model.train_only(('encoder', 'head'))
    assert all(w.requires_grad for w in model.parameters()) and model.encoder.net.bn1.training
    with pytest.raises(ValueError, match='encoder.net.layer9'):
        model.train_only(('encoder.net.layer9',))


def test_deeper_parts_of_the_backbone_have_higher_rates():
    config = Config.fromfile(CONFIG)
    config.model.encoder.update(name='resnet50_quarter', channels=8)
    model = detector(encoder=config.model.encoder).requires_grad_(True)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    assert groups[0]['share'] == 1 and len(groups) == 5
    shares = {id(weight): g['share'] for g in groups for weight in g['params']}
    assert len(shares) == len([*model.parameters()])
    net = model.encoder.net
    parts = (net.conv1, net.layer1, net.layer2, net.layer3, net.layer4, model.encoder.neck)
    found = [{shares[id(weight)] for weight in part.parameters()} for part in parts]
    assert found == [{0.005}, {0.005}, {0.01}, {0.02}, {0.1}, {1.0}]
    config.optim_wrapper.paramwise_cfg = {'encoder.net.layer9': 0.1}
    with pytest.raises(ValueError, match='layer9'):
        build_optim_wrapper(model, config.optim_wrapper)


def test_patience_ends_with_so_many_validations_without_a_new_best():
    patience = Patience(metric='f1', validations=2)
    ends = []
    for value in (10, 30, 20, 40, 40, 39):
        patience.after_validation(dict(f1=value))
        ends.append(patience.is_over)
    assert ends == [False] * 5 + [True]
    resumed = Patience(metric='f1', validations=2)
    resumed.load_state_dict(patience.state_dict())
    assert resumed.is_over
    with pytest.raises(ValueError, match='to watch'):
        patience.after_validation(dict(loss=1.0))


def test_a_patch_is_learnt_by_heart():
    torch.manual_seed(0)
    model = detector().requires_grad_(True).train()
    points, kinds = torch.tensor([[16.3, 20.8], [44.6, 40.2]]), torch.tensor([0, 1])
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    away = torch.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None])
    image = -2 * (away < torch.tensor([2.5, 4.5])[:, None, None]).any(dim=0)[None, None].float()
    images = torch.cat([image, image.flip(-1)])
    mirrored = torch.stack([63 - points[:, 0], points[:, 1]], dim=1)
    labels = [objects(points, kinds), objects(mirrored, kinds)]
    optimiser = Muon(model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        sum(model.head.loss(model._forward(images), labels).values()).backward()
        optimiser.step()
    found, scores, fields = model.head.read(model._forward(images).detach(), 2)
    order = fields['kind'][0].argsort()
    assert fields['kind'][0, order].tolist() == [0, 1] and scores.min() > 0.3
    assert (found[0, order] - points).norm(dim=1).max() < 1


def test_phases_end_early_free_the_backbone_and_go_on_where_they_stopped(tmp_path):
    config = Config.fromfile(CONFIG)
    config.work_dir, config.resume = str(tmp_path), False
    config.model.encoder.update(name='resnet18_quarter', channels=8)
    config.model.update(window=64, overlap=32)
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(micrographs=1, size=(64, 80), beads=3)
    config.train_dataloader.update(batch_size=2)
    config.train_dataloader.dataset.update(length=2, patch=64)
    for stage, epochs in zip(config.train_cfg.stages, (4, 1, 1), strict=True):
        stage.epochs = epochs
    # Nothing is better than the first: a fresh head finds nothing.
    config.train_cfg.stages[0].patience.validations = 2
    runner = build_runner(config)
    seen = []

    class Note(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            net = runner.model.encoder.net
            # Fresh residual branches begin at nothing: the last scale is the first to move.
            seen.append([part[0].bn2.weight.clone() for part in (net.layer1, net.layer4)])

    runner.register_hook(Note())
    runner.train()
    assert [stage.iters_done for stage in runner.train_loop.stages] == [3, 1, 1]
    stood = [[torch.equal(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(seen)]
    assert stood == [[True, True], [True, True], [True, False], [False, False]]
    config.resume = True
    again = build_runner(config)
    again.train()  # there is nothing left to do
    assert [stage.iters_done for stage in again.train_loop.stages] == [3, 1, 1]
    assert again.train_loop.stages[0].patience.is_over
