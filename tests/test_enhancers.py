"""Enhancers: losses that mean what they say, crops that stay in place, labels never needed."""

import copy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from pipedet.commands.common import build_runner
from pipedet.engine import HoldThenLinear, PlayersConstructor, players
from pipedet.engine.checkpoint import load_part, save_weights
from pipedet.engine.players import AveragingOptimWrapper
from pipedet.evaluation.frechet import frechet_distance
from pipedet.evaluation.tip_contrast import measure_tip_contrast
from pipedet.formats import read_image
from pipedet.models import (
    CLAHE,
    CycleGANEnhancer,
    Enhancement,
    MixedImageLoss,
    NonLocalMeans,
    PatchCritic,
    ResNetGenerator,
    TopHat,
    UNetGenerator,
)
from pipedet.models.enhancers import enhancement
from pipedet.models.enhancers.cyclegan import ImagePool
from pipedet.models.image_losses import correlation, cosine_distance, ssim
from pipedet.models.parts import unwrap
from pipedet.models.preprocessor import from_unit, to_unit
from pipedet.registry import MODELS
from pipedet.structures import TipDataSample
from pipedet.synthesis import draw_scene

CONFIGS = Path(__file__).parent.parent / 'configs'
CLASSICAL = [
    dict(type=CLAHE, clip_limit=2.0),
    dict(type=TopHat, size=9),
    dict(type=NonLocalMeans, strength=1.0),
]


def cyclegan():
    return CycleGANEnhancer(
        generator=dict(type=ResNetGenerator, width=4, blocks=1),
        critic=dict(type=PatchCritic, in_channels=1, width=4, layers=2),
        image_size=32,
    )


def test_equal_images_have_no_loss():
    image = torch.rand(2, 1, 32, 32)
    assert ssim(image, image) == pytest.approx(torch.ones(2))
    assert correlation(image, 0.3 * image + 0.2) == pytest.approx(torch.ones(2), abs=1e-5)
    assert cosine_distance(image, 0.5 * image) == pytest.approx(torch.zeros(2), abs=1e-5)
    assert MixedImageLoss()(image, image).item() == pytest.approx(0, abs=1e-5)


def test_ssim_is_monai_s():
    from monai.metrics.regression import SSIMMetric

    x, y = torch.rand(2, 3, 1, 40, 48)
    theirs = SSIMMetric(spatial_dims=2, data_range=1.0)(x, y)[:, 0]
    assert ssim(x, y) == pytest.approx(theirs, abs=1e-4)


def test_flat_images_have_finite_gradients():
    image = torch.full((1, 1, 32, 32), 0.5, requires_grad=True)
    MixedImageLoss()(image, torch.zeros(1, 1, 32, 32)).backward()
    assert image.grad.isfinite().all()


@pytest.mark.parametrize(
    'net', [ResNetGenerator(width=4, blocks=1), UNetGenerator(width=4, levels=3)],
    ids=['ResNet', 'UNet'],
)  # fmt: skip
def test_generator_keeps_size_and_range(net):
    image = net.eval()(torch.rand(2, 1, 48, 32))
    assert image.shape == (2, 1, 48, 32)
    assert 0 <= image.min() and image.max() <= 1


def test_generator_gives_a_pixel_the_same_value_in_any_crop():
    net = ResNetGenerator(width=4, blocks=1).eval().requires_grad_(False)
    image = torch.rand(1, 1, 96, 96)
    crop = net(image[..., 16:80, 16:80])
    assert torch.allclose(crop[..., 24:40, 24:40], net(image)[..., 40:56, 40:56], atol=1e-5)


def test_critic_s_patches_are_70_pixels():
    critic = PatchCritic(in_channels=1, width=4, layers=3)
    steps = [layer for layer in critic.steps if hasattr(layer, 'kernel_size')]
    field = 1
    for layer in reversed(steps):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 70


@pytest.mark.parametrize('config', CLASSICAL, ids=lambda c: c['type'].__name__)
def test_classical_enhancers_keep_shape_range_and_order(config):
    net, images = MODELS.build(config), torch.rand(2, 1, 64, 48)
    both = net(images)
    assert both.shape == images.shape and 0 <= both.min() and both.max() <= 1
    assert torch.equal(net(images.flip(0)), both.flip(0))


def test_clip_limit_acts():
    image = torch.linspace(0.4, 0.6, 256).expand(1, 1, 256, 256) + 0.02 * torch.rand(256, 256)
    assert CLAHE(clip_limit=2.0)(image).std() < 0.8 * CLAHE(clip_limit=40.0)(image).std()


def test_non_local_means_removes_noise():
    clean = torch.full((1, 1, 64, 64), 0.5)
    clean[..., 20:44] = 0.7
    noisy = clean + 0.03 * torch.randn(clean.shape)
    after = NonLocalMeans(strength=1.0)(noisy)
    assert (after - clean).abs().mean() < 0.5 * (noisy - clean).abs().mean()


def test_unit_range_and_back():
    image = torch.linspace(-2, 2, 16).view(1, 1, 4, 4)
    assert torch.allclose(from_unit(to_unit(image)), image, atol=1e-6)


class Invert(torch.nn.Module):
    def forward(self, images):
        return 1 - images


@pytest.fixture
def inverting(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'Invert', Invert)
    monkeypatch.setattr(enhancement, 'SIZE', 16)
    return partial(Enhancement, generator=dict(type=Invert))


def test_crops_are_enhanced_in_place_and_padded_at_the_border(inverting):
    images = torch.rand(2, 1, 64, 64)
    centres = [torch.tensor([[30.0, 20.0], [0.0, 63.0]]), torch.empty(0, 2)]
    after = inverting(crop='proposed').at(images, centres)
    assert torch.allclose(after[0, 0, 12:28, 22:38], -images[0, 0, 12:28, 22:38], atol=1e-5)
    assert torch.allclose(after[0, 0, 55:, :8], -images[0, 0, 55:, :8], atol=1e-5)
    changed = (after != images).sum()
    assert changed <= 16 * 16 + 9 * 8
    assert torch.equal(after[1], images[1])


def test_overlapping_crops_do_not_depend_on_their_order(inverting):
    images, centres = torch.rand(1, 1, 64, 64), torch.tensor([[30.0, 30.0], [36.0, 33.0]])
    part = inverting(crop='oracle')
    assert torch.allclose(part.at(images, [centres]), part.at(images, [centres.flip(0)]))


def test_unknown_crop_is_refused(inverting):
    with pytest.raises(ValueError, match='none, proposed, oracle'):
        inverting(crop='labels')


def detector(crop):
    config = Config.fromfile(CONFIGS / '_base_' / 'tiny.py').model
    config.encoder.name, config.average_views = 'mobilenetv4_conv_small_050', False
    generator = dict(type=ResNetGenerator, width=4, blocks=1)
    config.enhancer = dict(type=Enhancement, generator=generator, crop=crop)
    return MODELS.build(config).eval().requires_grad_(False)


@pytest.mark.parametrize('crop', ['none', 'proposed', 'oracle'])
def test_detector_trains_behind_every_crop(crop):
    model = detector(crop)
    model.train_only(('encoder', 'coarse'))
    model.train()
    samples = [InstanceData(gt_tips=InstanceData(points=torch.tensor([[40.0, 50.0]])))] * 2
    sum(model.loss(torch.randn(2, 1, 128, 128), samples).values()).backward()
    assert all(w.grad is None for w in model.enhancer.parameters())
    assert model.encoder.net.conv_stem.weight.grad.abs().sum() > 0


def test_only_the_oracle_looks_at_labels():
    images, tips = torch.randn(1, 1, 128, 128), [InstanceData(points=torch.tensor([[40.0, 50.0]]))]
    for crop in ('none', 'proposed'):
        model = detector(crop)
        model.refuse_labels()
        for mine, other in zip(model.read(images, tips), model.read(images), strict=True):
            assert torch.equal(mine, other)
    with pytest.raises(ValueError, match='labelled tips'):
        detector('oracle').read(images)
    assert detector('oracle').read(images, tips)[0].shape == (1, 8, 2)


def test_pool_shows_old_images_half_the_time():
    pool = ImagePool(4)
    for i in range(ImagePool.SIZE):
        assert (pool(torch.full((1, 1, 4, 4), float(i))) == i).all()
    shown = torch.cat([pool(torch.full((1, 1, 4, 4), 100.0 + i)) for i in range(200)])
    old = (shown[:, 0, 0, 0] != 100 + torch.arange(200)).float().mean()
    assert 0.35 < old < 0.65


def batch_of_two():
    sample = TipDataSample(metainfo=dict(source='a'))
    images = torch.rand(4, 1, 32, 32)
    return dict(inputs=[*images[:2]], targets=[*images[2:]], data_samples=[sample] * 2)


def by_descent(model):
    cfg = dict(optimizer=dict(type=torch.optim.SGD, lr=0.1))
    return PlayersConstructor(cfg)(model)


def test_a_critic_moves_by_its_own_loss_alone():
    model, batch = cyclegan(), batch_of_two()
    twin = copy.deepcopy(model)
    inputs, targets = (torch.stack(batch[key]) for key in ('inputs', 'targets'))
    _, fakes = twin.generator_losses(inputs, targets)
    twin.zero_grad()
    sum(twin.critic_losses(inputs, targets, fakes).values()).backward()
    model.train_step(batch, by_descent(model))
    pairs = zip(model.critic_exvivo.parameters(), twin.critic_exvivo.parameters(), strict=True)
    for after, before in pairs:
        assert torch.allclose(after, before - 0.1 * before.grad, atol=1e-6)
    moved = zip(model.generator.parameters(), twin.generator.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in moved)


def test_ranks_step_by_the_mean_of_their_gradients(monkeypatch):
    weight = torch.nn.Parameter(torch.zeros(2))
    wrapper = AveragingOptimWrapper(torch.optim.SGD([weight], lr=1.0))
    other = torch.tensor([2.0, -6.0])  # the other rank's gradient
    monkeypatch.setattr(players, 'get_world_size', lambda: 2)
    monkeypatch.setattr(players, 'all_reduce', lambda g, op: g.copy_((g + other) / 2))
    wrapper.update_params((weight * torch.tensor([4.0, 0.0])).sum())
    assert weight.tolist() == [-3.0, 3.0]


def test_players_take_the_options_of_a_wrapper():
    cfg = dict(optimizer=dict(type=torch.optim.SGD, lr=0.1), clip_grad=dict(max_norm=1e-9))
    model = cyclegan()
    before = copy.deepcopy(model.state_dict())
    model.train_step(batch_of_two(), PlayersConstructor(cfg)(model))
    for name, weight in model.generator.named_parameters():
        assert torch.allclose(weight, before[f'generator.{name}'], atol=1e-6)
    with pytest.raises(ValueError, match='paramwise_cfg'):
        PlayersConstructor(cfg, dict(bias_lr_mult=2))


def test_hold_then_linear():
    factor = HoldThenLinear().factor
    assert [factor(p) for p in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]


def test_generator_s_weights_pass_into_a_localiser(tmp_path):
    trained, carrier = cyclegan(), detector('none')
    save_weights(tmp_path / 'model.safetensors', trained)
    load_part(tmp_path / 'model.safetensors', 'generator', carrier.enhancer.generator)
    image = torch.rand(1, 1, 64, 64)
    assert torch.equal(carrier.enhancer.generator(image), trained.generator(image))
    with pytest.raises(RuntimeError, match='another model'):
        load_part(tmp_path / 'model.safetensors', 'inverse', carrier.encoder)


def tiny_run(name, folder, resume=False):
    config = Config.fromfile(CONFIGS / 'enhancers' / f'{name}_small.py')
    config.work_dir, config.resume = str(folder), resume
    for part in ('source', 'target'):
        if part in config.train_dataloader.dataset:
            config.train_dataloader.dataset[part].update(length=4, keep=1)
    if 'source' not in config.train_dataloader.dataset:
        config.train_dataloader.dataset.update(length=4, keep=1)
    config.train_dataloader.batch_size = 2
    config.val_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    config.val_dataloader.dataset.length = 2
    config.model.generator.update(
        dict(width=4) if 'width' in config.model.generator else dict(widths=(4, 8))
    )
    config.train_cfg.stages[0].epochs = 2
    return build_runner(config)


@pytest.mark.parametrize('name', ['cyclegan', 'pix2pix', 'runet'])
def test_stopped_enhancer_goes_on_where_it_was(tmp_path, name, monkeypatch):
    monkeypatch.setattr(ImagePool, 'SIZE', 2)  # full after one step: old images are shown
    whole = tiny_run(name, tmp_path / 'whole')
    whole.train()
    broken = tiny_run(name, tmp_path / 'broken')
    end = broken.train_loop._run_epoch

    def end_after_one():
        end()
        raise InterruptedError

    broken.train_loop._run_epoch = end_after_one
    with pytest.raises(InterruptedError):
        broken.train()
    resumed = tiny_run(name, tmp_path / 'broken', resume=True)
    resumed.train()
    weights = unwrap(whole.model).state_dict()
    for key, value in unwrap(resumed.model).state_dict().items():
        assert torch.equal(value, weights[key]), key
    grid = read_image(tmp_path / 'whole' / 'grids' / 'epoch_001.png')
    assert grid.shape[1] == 4 * (256 + 2)


def test_measured_contrast_is_that_of_the_scene():
    drawn = draw_scene('standard', seed=3, epoch=0, index=0)
    before, after = measure_tip_contrast(lambda x: 0.5 * x, drawn, exposures=8, seed=0)
    assert before == pytest.approx(drawn.cnr.numpy(), rel=0.25)
    assert after == pytest.approx(before, rel=1e-3)


def test_frechet_distance():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4000, 3))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + [3, 0, 4]) == pytest.approx(25, rel=1e-6)
    # Of two Gaussians of one dimension it is (difference of means)^2 + (of deviations)^2.
    assert frechet_distance(a, 3 * a) == pytest.approx(3 * 2**2, rel=0.05)
