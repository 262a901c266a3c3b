import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from pipedet.models import (
    BackboneHead,
    BinLoss,
    CNNHead,
    CoarseToFineDetector,
    DiceLoss,
    DirectDetector,
    DistanceCost,
    GridHead,
    HeatmapDetector,
    HeatmapHead,
    HungarianMatcher,
    Patches,
    PeakFocalLoss,
    SimCCHead,
    TimmPyramid,
    TimmTransformer,
    TipDistanceLoss,
    TransformerHead,
    encoders,
)
from pipedet.models.contrast import LocalContrast
from pipedet.models.encoders import create_backbone
from pipedet.models.fusing import fuse
from pipedet.models.heatmaps import draw_gaussians
from pipedet.models.large_kernels import LargeKernelBlock, grow
from pipedet.models.preprocessor import normalise
from pipedet.models.symmetry import eight_views, mean_of_views
from pipedet.registry import MODELS
from pipedet.structures import TipDataSample


def slot_options(num_tips=4):
    return dict(
        num_tips=num_tips,
        matcher=dict(type=HungarianMatcher, cost=dict(type=DistanceCost, presence=0.0)),
        loss=dict(type=TipDistanceLoss, norm='euclidean'),
        alpha=0.15,
    )


def slot_head(num_tips=4):
    return BackboneHead(name='resnet18', pretrained=False, **slot_options(num_tips))


HEADS = {
    'resnet18': dict(
        type=BackboneHead, name='resnet18_quarter', pretrained=False, **slot_options()
    ),
    'cnn': dict(type=CNNHead, width=4, **slot_options()),
    'transformer': dict(
        type=TransformerHead, encoder=dict(type=Patches, size=16, channels=16), width=16, layers=1,
        heads=2, **slot_options(),
    ),
    'simcc': dict(
        type=SimCCHead, name='resnet18_quarter', pretrained=False, bins=192,
        **slot_options() | dict(loss=dict(type=BinLoss, sigma=4.0)),
    ),
    'yolo': dict(type=GridHead, width=4, max_tips=4, alpha=0.15),
}  # fmt: skip


@pytest.mark.parametrize('name', HEADS)
def test_every_head_learns_where_a_single_dot_is(name):
    torch.manual_seed(0)
    head = MODELS.build(HEADS[name]).train()
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    points = [torch.tensor([[20.0, 40.0]]), torch.tensor([[70.0, 61.0]]), torch.empty(0, 2)]
    tips = [InstanceData(points=p) for p in points]
    pictures = draw_gaussians(points, (96, 96), sigma=6.0, stride=1, merge='max')
    for _ in range(150):
        loss = sum(head.loss(head(pictures), tips, (96, 96)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for module in head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # three pictures are no statistics
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    found, scores = head.eval().read(head(pictures), (96, 96))
    for i in (0, 1):
        best = scores[i].argmax()
        assert torch.linalg.vector_norm(found[i, best] - points[i][0]) < 3
        assert scores[i, best] > 0.5
    assert scores[2].max() < 0.5


def test_grid_reads_back_what_its_cells_say():
    head = GridHead(width=4, max_tips=3, alpha=1.0)
    tips = [InstanceData(points=torch.tensor([[20.0, 40.0], [95.2, 5.0]]))]
    offsets, objectness = torch.full((1, 2, 6, 6), 0.5), torch.full((1, 6, 6), -9.0)
    for x, y in ((20.5 / 16, 40.5 / 16), (95.7 / 16, 5.5 / 16)):
        objectness[0, int(y), int(x)] = 9.0
        offsets[0, :, int(y), int(x)] = torch.tensor([x % 1, y % 1])
    points, scores = head.read((offsets, objectness), (96, 96))
    assert torch.allclose(points[0, :2].sort(dim=0)[0], torch.tensor([[20.0, 5.0], [95.2, 40.0]]))
    assert (scores[0, :2] > 0.99).all() and scores[0, 2] < 0.01
    losses = head.loss((offsets, objectness), tips, (96, 96))
    assert losses['loss_offset'] < 1e-4 and losses['loss_objectness'] < 0.01


def test_an_answer_of_the_grid_that_has_lost_takes_no_other_with_it():
    head = GridHead(width=4, max_tips=3, alpha=1.0)
    offsets, objectness = torch.full((1, 2, 6, 6), 0.5), torch.full((1, 6, 6), -9.0)
    objectness[0, 2, 1:4] = torch.tensor([3.0, 2.0, 1.0])
    offsets[0, 0, 2, 1:4] = torch.tensor([0.9, 0.4, 0.0])  # 8 and 9.6 px from each to the next
    points, scores = head.read((offsets, objectness), (96, 96))
    assert (scores[0] > 0.5).tolist() == [True, True, False]
    assert torch.allclose(points[0, :2, 0], torch.tensor([29.9, 47.5]))


def test_bins_of_the_truth_cost_least_and_read_back_finer_than_a_pixel():
    options = slot_options(2) | dict(loss=dict(type=BinLoss, sigma=1.0))
    head = SimCCHead(name='resnet18_quarter', pretrained=False, bins=512, **options)
    true = torch.tensor([[20.3, 40.8], [150.0, 7.1]])
    tips, size = [InstanceData(points=true), InstanceData(points=torch.empty(0, 2))], (128, 256)
    bins = (((true + 0.5) / torch.tensor(size[::-1])) * 512).long()
    answers = torch.zeros(2, 2, 2, 512)
    answers[0].scatter_(2, bins[..., None], 20.0)
    presence = torch.tensor([[9.0, 9.0], [-9.0, -9.0]])
    points, scores = head.read((answers, presence), size)
    assert (points[0] - true).abs().max() <= 0.25  # half a bin
    assert (scores[0] > 0.99).all() and (scores[1] < 0.01).all()
    losses = head.loss((answers, presence), tips, size)
    swapped = head.loss((answers.flip(1), presence), tips, size)
    wrong = head.loss((answers.roll(9, dims=-1), presence), tips, size)
    assert losses['loss_hungarian'] == pytest.approx(swapped['loss_hungarian'].item())
    assert losses['loss_hungarian'] < wrong['loss_hungarian'] - 2
    assert losses['loss_presence'] < 0.01


def test_direct_detector_reads_the_image_itself():
    detector = DirectDetector(enhancer=None, fine=HEADS['cnn'], score_threshold=0.5)
    inputs, truth = torch.randn(2, 1, 64, 64), samples((2, 0))
    sum(detector(inputs, truth, mode='loss').values()).backward()
    assert all(p.grad is not None for p in detector.parameters())
    assert detector.eval().read(inputs)[0].shape == (2, 4, 2)


def heatmap_detector():
    return HeatmapDetector(
        enhancer=None,
        encoder=dict(
            type=TimmPyramid, name='mobilenetv4_conv_small_050', levels=(1, 2), channels=8,
            pretrained=False,
        ),
        coarse=dict(
            type=HeatmapHead, out_stride=4, hidden=8, sigma=5.0, merge='max', separation=12.0,
            loss=dict(type=PeakFocalLoss),
        ),
        max_tips=5,
        average_views=False,
        score_threshold=0.4,
    )  # fmt: skip


def paper_detector():
    return CoarseToFineDetector(
        enhancer=None,
        encoder=dict(
            type=TimmTransformer, name='vit_tiny_patch16_224', image_size=64, pretrained=False
        ),
        coarse=dict(
            type=HeatmapHead, out_stride=1, hidden=8, sigma=10.0, merge='sum', separation=10.0,
            loss=dict(type=DiceLoss),
        ),
        fine=dict(type=BackboneHead, name='resnet18', pretrained=False, **slot_options()),
        score_threshold=0.5,
    )  # fmt: skip


def samples(counts, size=64):
    out = []
    for count in counts:
        sample = TipDataSample(gt_tips=InstanceData(points=torch.rand(count, 2) * (size - 1)))
        sample.set_metainfo(
            dict(
                matrix=torch.eye(3).numpy(),
                source='test',
                pixel_size_um=(1.0, 1.0),
                img_shape=(size, size),
            )
        )
        out.append(sample)
    return out


def test_the_fast_head_equals_the_papers_order_of_operations():
    head = HeatmapHead(
        in_channels=12, stride=16, out_stride=1, hidden=7, sigma=10.0, merge='sum', separation=10.0,
        loss=dict(type=DiceLoss),
    )  # fmt: skip
    features = torch.randn(2, 12, 6, 5)
    hidden = F.relu(head.conv(features))
    slow = head.predict_logit(F.interpolate(hidden, scale_factor=16, mode='bilinear'))
    assert slow.shape == (2, 1, 96, 80)
    assert torch.allclose(head(features), slow, atol=1e-5)


@pytest.mark.parametrize('build', [heatmap_detector, paper_detector])
@pytest.mark.parametrize('counts', [(2, 0), (0, 0), (5, 1)])
def test_losses_are_finite_and_predictions_are_well_formed(build, counts):
    detector = build()
    inputs, truth = torch.randn(2, 1, 64, 64), samples(counts)
    losses = detector(inputs, truth, mode='loss')
    total = sum(losses.values())
    total.backward()
    assert total.isfinite() and all(name.startswith('loss_') for name in losses)
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())
    detector.eval()
    with torch.no_grad():
        for sample in detector(inputs, truth, mode='predict'):
            tips = sample.pred_tips
            assert tips.points.shape == (len(tips.scores), 2)
            assert ((tips.scores >= 0) & (tips.scores <= 1)).all()
            assert (tips.scores.diff() <= 0).all()
            assert len(sample.detected.scores) <= len(tips.scores)


def test_slot_losses_ignore_the_order_of_the_tips():
    head = slot_head().eval()
    slots = head(torch.rand(3, 1, 64, 64))
    points = torch.rand(4, 2) * 63
    orders = (torch.arange(4), torch.tensor([3, 1, 0, 2]))
    a, b = (
        head.loss(slots, [InstanceData(points=points[order])] * 3, (64, 64)) for order in orders
    )
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)


def test_twice_the_batch_is_the_same_loss():
    detector = paper_detector().eval()
    inputs, truth = torch.randn(2, 1, 64, 64), samples((2, 3))
    once = detector(inputs, truth, mode='loss')
    twice = detector(inputs.repeat(2, 1, 1, 1), truth * 2, mode='loss')
    assert all(torch.allclose(once[key], twice[key], rtol=1e-4) for key in once)


def test_slots_read_back_what_they_mean():
    head = slot_head(num_tips=2)
    places = torch.tensor([[[0.5 / 64, 0.5 / 32], [1.0, 1.0]]])
    points, scores = head.read((places, torch.zeros(1, 2)), (32, 64))
    assert torch.allclose(points[0], torch.tensor([[0.0, 0.0], [63.5, 31.5]]))
    assert torch.allclose(scores, torch.full((1, 2), 0.5))


def test_losses_are_zero_for_a_perfect_prediction():
    points = [torch.tensor([[20.0, 30.0], [44.0, 12.0]])]
    target = draw_gaussians(points, (64, 64), sigma=5.0, stride=1, merge='max').clamp(
        1e-6, 1 - 1e-6
    )
    assert DiceLoss()(target.logit(), target).item() == pytest.approx(0, abs=1e-4)
    one = draw_gaussians([points[0][:1]], (64, 64), sigma=5.0, stride=1, merge='max')
    perfect = torch.where(one == one.amax(), 20.0, -20.0)
    assert PeakFocalLoss()(perfect, one).item() < 1e-6 < PeakFocalLoss()(-perfect, one).item()
    assert DiceLoss()(torch.full((1, 1, 8, 8), -20.0), torch.zeros(1, 1, 8, 8)).item() < 1e-6


def test_distance_loss_has_a_finite_gradient_at_the_truth():
    predicted = torch.rand(2, 3, 2, requires_grad=True)
    slot = torch.arange(3).expand(2, 3)
    loss = TipDistanceLoss(norm='euclidean')(predicted, predicted.detach(), slot)
    loss.backward()
    assert loss == 0 and predicted.grad.isfinite().all()


def test_frozen_parts_stay_in_eval_and_get_no_gradient():
    detector = paper_detector()
    detector.train_only(['fine'])
    detector.train()
    assert not detector.encoder.training and not detector.coarse.training and detector.fine.training
    sum(detector(torch.randn(2, 1, 64, 64), samples((1, 2)), mode='loss').values()).backward()
    assert all(p.grad is None for p in detector.encoder.parameters())
    assert any(p.grad is not None for p in detector.fine.parameters())
    detector.train_only(['encoder', 'coarse', 'fine'])
    assert detector.encoder.training
    with pytest.raises(ValueError, match='no part'):
        detector.train_only(['decoder'])


def test_predictions_come_back_in_original_pixels():
    sample = samples((0,))[0]
    matrix = torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1.0]]).double().numpy()
    sample.set_metainfo(dict(matrix=matrix))
    sample.set_prediction(torch.tensor([[10.0, 20.0], [3.0, 4.0]]), torch.tensor([0.2, 0.9]), 0.5)
    assert torch.allclose(sample.pred_tips.points, torch.tensor([[6.5, 8.5], [20.5, 40.5]]))
    assert torch.allclose(sample.detected.points, torch.tensor([[6.5, 8.5]]))


def test_normalise_is_blind_to_gain_and_offset_and_survives_flat_images():
    images = torch.rand(2, 1, 64, 64)
    assert torch.allclose(normalise(images), normalise(1000 * images + 77), atol=1e-3)
    assert (normalise(torch.full((1, 1, 64, 64), 7.0)) == 0).all()


def test_missing_pretrained_weights_say_what_to_do(tmp_path):
    with pytest.raises(RuntimeError, match='pretrained=False'):
        create_backbone('resnet18', str(tmp_path / 'missing.safetensors'), in_chans=1)


def test_pretrained_weights_load_from_a_local_file(tmp_path):
    path = tmp_path / 'resnet18.pth'
    source = create_backbone('resnet18', False, in_chans=3)
    torch.save(source.state_dict(), path)
    loaded = create_backbone('resnet18', str(path), in_chans=1, num_classes=12)
    assert torch.equal(loaded.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert loaded.conv1.weight.shape[1] == 1


def test_eight_views_come_back_to_the_image_and_make_reading_turn_with_it():
    images = torch.randn(2, 1, 64, 64)
    views = eight_views(images)
    assert len({view.numpy().tobytes() for view in views}) == 16
    assert torch.allclose(mean_of_views(views), images, atol=1e-6)
    detector = heatmap_detector().eval()
    detector.average_views = True
    with torch.no_grad():
        points, scores = detector.read(images)
        turned, same_scores = detector.read(images.rot90(1, (-2, -1)))  # (x, y) -> (y, 63 - x)
    assert torch.allclose(scores, same_scores, atol=1e-5)
    expected = torch.stack([points[..., 1], 63 - points[..., 0]], dim=-1)
    seen = scores > 0
    assert seen.any() and torch.allclose(turned[seen], expected[seen], atol=1e-2)


def test_no_stage_is_computed_in_vain():
    pyramid = heatmap_detector().encoder
    pyramid(torch.randn(2, 1, 64, 64)).sum().backward()
    assert all(weight.grad is not None for weight in pyramid.parameters())


def test_local_contrast_does_not_know_the_brightness():
    images = torch.rand(2, 1, 64, 48)
    contrast = LocalContrast((2, 16))
    once, brighter = contrast(images), contrast(3 * images + 7)
    assert once.shape == (2, 3, 64, 48) and torch.equal(once[:, :1], images)
    assert torch.allclose(once[:, 1:], brighter[:, 1:], atol=0.02)
    assert contrast(torch.full((1, 1, 32, 32), 0.3))[:, 1:].abs().max() < 1e-3


def test_local_contrast_turns_with_the_image():
    images = torch.rand(1, 1, 64, 64)
    contrast = LocalContrast((4, 16))
    turned = contrast(images.rot90(1, (2, 3)))
    assert torch.allclose(turned, contrast(images).rot90(1, (2, 3)), atol=1e-4)


@pytest.mark.parametrize('side', [256, 272])
def test_levels_of_a_pyramid_stay_in_place_whatever_the_side(monkeypatch, side):
    pyramid = TimmPyramid(
        name='mobilenetv4_conv_small_050', levels=(1, 2, 3, 4), channels=1, pretrained=False
    )
    pyramid.laterals = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
    pyramid.merges = torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))

    def places(length, stride):
        """Every cell's own x in input pixels."""
        x = (torch.arange(length // stride) + 0.5) * stride - 0.5
        return x.expand(1, 1, len(x), len(x))

    def levels(net, images):
        return [places(images.shape[-1], stride) for stride in (4, 8, 16, 32)]

    monkeypatch.setattr(encoders, 'feature_maps', levels)
    merged = pyramid(torch.zeros(1, 1, side, side))
    assert merged.shape == (1, 1, side // 4, side // 4)
    inside = slice(8, -8)  # beyond the outermost centres there is nothing to interpolate
    assert torch.allclose(merged[..., inside], 4 * places(side, 4)[..., inside])


def test_a_large_kernel_sees_as_far_as_it_is_wide():
    torch.manual_seed(0)
    block = LargeKernelBlock(channels=4, side=13).eval()
    maps = torch.randn(1, 4, 31, 31, requires_grad=True)
    assert torch.equal(block(maps), maps)  # nothing learned yet
    torch.nn.init.ones_(block.body[-1].weight)
    block(maps)[0, :, 15, 15].sum().backward()
    seen = maps.grad[0].abs().sum(0) > 0
    assert seen[9:22, 9:22].all()
    assert seen.sum() == 13**2


def test_a_large_kernel_must_have_a_middle():
    with pytest.raises(ValueError, match='middle'):
        LargeKernelBlock(channels=4, side=12)


@pytest.mark.parametrize('name', ['mobilenetv4_conv_small_050', 'resnet18', 'cs3darknet_s'])
def test_large_kernels_end_the_stages_of_their_levels(name):
    sides = ((), (5,), (7, 9))
    options = dict(name=name, levels=(1, 2, 3), channels=8, pretrained=False)
    plain, far = TimmPyramid(**options), TimmPyramid(**options, large_kernels=sides)
    assert set(plain.state_dict()) < set(far.state_dict())
    maps = torch.randn(2, 1, 70, 50)
    assert far(maps).shape == plain(maps).shape
    far(maps).sum().backward()
    for info, own in zip(far.net.feature_info.get_dicts(), sides, strict=True):
        stages = dict(far.net.named_modules())
        ends = f'{info["module"].replace(".", "_")}_far'  # of networks whose stages cannot grow
        stage = stages.get(ends, stages.get(info['module'], ()))
        blocks = [end for end in stage if isinstance(end, LargeKernelBlock)]
        assert [block.body[0].kernel_size[0] for block in blocks] == list(own)
        assert not own or isinstance(stage[-1], LargeKernelBlock)
        assert all(block.body[-1].weight.grad.abs().sum() > 0 for block in blocks)


@pytest.mark.parametrize('equivariant', [False, True])
@pytest.mark.parametrize('name', ['mobilenetv4_conv_small_050', 'cs3darknet_s'])
def test_a_network_grown_by_large_kernels_answers_as_before_and_learns(name, equivariant):
    torch.manual_seed(0)
    options = dict(
        name=name,
        levels=(1, 2, 3),
        channels=8,
        pretrained=False,
        patch_stem=True,
        equivariant=equivariant,
    )
    small = TimmPyramid(**options, large_kernels=((), (), (7,))).eval()
    deep = TimmPyramid(**options, large_kernels=((), (5,), (7, 9))).eval()
    for block in small.modules():
        if isinstance(block, LargeKernelBlock):  # one that has learned something
            torch.nn.init.ones_(block.body[-1].weight)
    state = small.state_dict()
    new = grow(deep, state)
    deep.load_state_dict(state)
    assert len(new) == 2 and all(isinstance(deep.get_submodule(n), LargeKernelBlock) for n in new)
    maps = torch.randn(2, 1, 64, 64)
    assert torch.allclose(deep(maps), small(maps), atol=1e-6)
    deep.train()(maps).square().sum().backward()
    for name in new:
        assert deep.get_submodule(name).body[-1].weight.grad.abs().sum() > 0


def test_nothing_grows_where_nothing_is_new():
    block = LargeKernelBlock(channels=4, side=3)
    for model in (block, torch.nn.Sequential(block)):
        state = model.state_dict()
        kept = {key: value.clone() for key, value in state.items()}
        assert grow(model, state) == []
        assert all(torch.equal(state[key], kept[key]) for key in kept)
        state.pop(next(iter(state)))  # a block that is there in part is no new one
        assert grow(model, state) == []


def test_large_kernels_need_a_stage_that_can_grow():
    options = dict(
        name='swin_tiny_patch4_window7_224', image_size=224, levels=(0, 1), channels=8,
        pretrained=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match='no block can be added to layers.1'):
        TimmPyramid(**options, large_kernels=((), (5,)))


def test_large_kernels_are_one_list_a_level():
    with pytest.raises(ValueError, match='2 lists of sides for 3 levels'):
        TimmPyramid(
            name='resnet18',
            levels=(1, 2, 3),
            channels=8,
            pretrained=False,
            large_kernels=((), (5,)),
        )


def test_a_patch_stem_needs_levels_from_a_quarter_on():
    options = dict(channels=8, pretrained=False, patch_stem=True)
    with pytest.raises(ValueError, match='patch_stem'):
        TimmPyramid(name='mobilenetv4_conv_small_050', levels=(0, 1), **options)
    with pytest.raises(ValueError, match='patch_stem'):
        TimmPyramid(name='resnet18', levels=(1, 2), **options)
    with pytest.raises(ValueError, match='patch_stem'):
        TimmPyramid(name='cspresnet50d', levels=(1, 2), **options)
    for name in ('mobilenetv4_conv_small_050', 'cs3darknet_s'):
        assert TimmPyramid(name=name, levels=(2, 3), **options).stride == 8


def test_local_means_of_large_images_are_those_of_small_ones(monkeypatch):
    images = torch.rand(2, 1, 96, 64)
    products = LocalContrast((4, 16))(images)
    monkeypatch.setattr('pipedet.models.contrast._SMALL', 0)
    assert torch.allclose(products, LocalContrast((4, 16))(images), atol=1e-4)


ENCODERS = {
    'vit_tiny_patch16_224': dict(type=TimmTransformer, image_size=64),
    'vit_small_patch16_224': dict(type=TimmTransformer, image_size=64),
    'vit_base_patch16_224': dict(type=TimmTransformer, image_size=32),
    'convnext_atto': dict(type=TimmPyramid, levels=(0, 1, 2), channels=8),
    'swin_tiny_patch4_window7_224': dict(
        type=TimmPyramid, levels=(0, 1, 2), channels=8, image_size=64
    ),
    'efficientvit_b0': dict(type=TimmPyramid, levels=(0, 1, 2), channels=8),
    'resnet18_quarter': dict(type=TimmPyramid, levels=(1, 2), channels=8),
}


@pytest.mark.parametrize('name', ENCODERS)
def test_any_backbone_says_its_channels_and_stride(name):
    options = ENCODERS[name]
    encoder = MODELS.build(dict(options, name=name, pretrained=False)).eval()
    side = options.get('image_size', 64)
    with torch.no_grad():
        features = encoder(torch.rand(1, 1, side, side))
    assert features.shape == (1, encoder.channels, side // encoder.stride, side // encoder.stride)


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'vgg16'])
def test_a_quarter_of_the_channels_is_a_quarter(name):
    full, quarter = (
        create_backbone(n, False, in_chans=1, num_classes=12) for n in (name, f'{name}_quarter')
    )
    ratio = quarter.num_features / full.num_features
    assert ratio == 0.25
    assert quarter(torch.rand(2, 1, 64, 64)).shape == (2, 12)
    with pytest.raises(RuntimeError, match='pretrained=False'):
        create_backbone(f'{name}_quarter', True)


def test_heatmap_overlap_is_1_for_the_target_itself_and_0_for_nothing():
    head = HeatmapHead(
        in_channels=4, stride=4, out_stride=4, hidden=4, sigma=10.0, merge='sum', separation=8.0,
        loss=dict(type=DiceLoss),
    )  # fmt: skip
    tips = [
        InstanceData(points=torch.tensor([[30.0, 40.0]])),
        InstanceData(points=torch.tensor([[20.0, 20.0], [90.0, 90.0]])),
    ]
    target = draw_gaussians([t.points for t in tips], (32, 32), sigma=10.0, stride=4, merge='sum')
    drawn = target.clamp(1e-4, 1 - 1e-4).logit()
    assert torch.allclose(head.overlap(drawn, tips), torch.ones(2))
    assert torch.allclose(head.overlap(torch.full_like(drawn, -9), tips), torch.zeros(2))
    drawn[1, :, 16:] = -9  # the second tip of two
    assert 0.4 < head.overlap(drawn, tips)[1] < 0.6


@pytest.mark.parametrize('name', ['mobilenetv4_conv_small', 'resnet18_quarter'])
def test_fusing_changes_no_output(name):
    net = create_backbone(name, False, num_classes=5)
    for module in net.modules():  # statistics of a network that has learned something
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    with pytest.raises(ValueError, match='eval'):
        fuse(net)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = net.eval()(images)
        after = fuse(net)(images)
    assert torch.allclose(before, after, rtol=1e-3, atol=1e-4 * before.abs().max().item())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
