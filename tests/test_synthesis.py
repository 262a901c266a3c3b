import dataclasses

import numpy as np
import pytest
import torch

from pipedet.synthesis import (
    FROZEN_SETS,
    RECIPES,
    FrozenSetError,
    contrast_to_noise,
    draw_scene,
    expose,
    frozen_scene,
    noise_std,
    render,
    render_at,
    stack,
)
from pipedet.synthesis import frozen as frozen_module
from pipedet.synthesis.sample import MIN_DISTANCE_UM
from pipedet.synthesis.scene import Neuropil, Waves
from pipedet.synthesis.sensor import detector_blur, draw_photons, jitter_rows
from pipedet.synthesis.stream import SCENES_PER_SESSION


def scenes(recipe, count, seed=5):
    return [
        draw_scene(recipe, seed=seed, epoch=0, index=i * SCENES_PER_SESSION) for i in range(count)
    ]


def without_light(blobs):
    return dataclasses.replace(blobs, amplitude=torch.zeros_like(blobs.amplitude))


@pytest.mark.parametrize('recipe', sorted(RECIPES))
def test_a_scene_is_a_function_of_its_address(recipe):
    first, again = (draw_scene(recipe, seed=1, epoch=2, index=3) for _ in range(2))
    other = draw_scene(recipe, seed=1, epoch=3, index=3)
    assert torch.equal(first.tips, again.tips) and first.session == again.session
    assert np.array_equal(first.capture(), again.capture())
    assert not np.array_equal(first.capture(), other.capture())


def test_every_frame_has_noise_of_its_own():
    drawn = draw_scene('standard', seed=1, epoch=0, index=0)
    assert not np.array_equal(drawn.capture(frame=0), drawn.capture(frame=1))


def test_neighbours_share_a_session_and_its_pixel_size():
    drawn = [draw_scene('standard', seed=1, epoch=0, index=i) for i in range(9)]
    sizes = [d.scene.pixel_size_um.item() for d in drawn]
    assert len({d.session for d in drawn[:8]}) == 1 and len(set(sizes[:8])) == 1
    assert drawn[8].session != drawn[0].session and sizes[8] != sizes[0]


def test_counts_distances_and_frame_follow_the_recipe():
    for recipe in ('standard', 'empty', 'crowded'):
        allowed = np.flatnonzero(RECIPES[recipe].counts)
        for drawn in scenes(recipe, 12):
            tips = drawn.tips.numpy()
            assert len(tips) in allowed
            assert ((tips >= 5) & (tips <= 250)).all()
            gaps = np.linalg.norm(tips[:, None] - tips[None], axis=-1) + 1e9 * np.eye(len(tips))
            assert (gaps * drawn.scene.pixel_size_um.item() >= MIN_DISTANCE_UM - 1e-3).all()


def test_clear_scenes_have_clear_tips():
    assert all((drawn.cnr >= 2).all() for drawn in scenes('clear', 4))


def test_an_intruder_has_no_label():
    rules = dataclasses.replace(RECIPES['standard'], intruder=1.0)
    RECIPES['_test'] = rules
    try:
        drawn = draw_scene('_test', seed=3, epoch=0, index=0)
    finally:
        del RECIPES['_test']
    assert drawn.scene.pipettes.tip.shape[1] == len(drawn.tips) + 1


def test_batches_render_as_single_scenes_do():
    parts = [drawn.scene for drawn in scenes('standard', 4)]
    together = render(stack(parts))
    for one, part in zip(together, parts, strict=True):
        assert torch.allclose(one, render(part)[0], atol=1e-4)
    with pytest.raises(ValueError, match='modality'):
        stack([parts[0], scenes('brightfield', 1)[0].scene])


def test_neuropil_is_felt_by_tissue_alone_and_needs_no_place_in_other_scenes():
    with_it, without = scenes('neuropil', 1)[0].scene, scenes('standard', 1)[0].scene
    bald = dataclasses.replace(with_it, neuropil=without.neuropil)
    image, plain = render(with_it), render(bald)
    assert (image >= plain).all() and (image > 1.02 * plain).any()
    again, other = render(stack([with_it, without]))
    assert torch.allclose(again, image[0], atol=1e-4)
    assert torch.allclose(other, render(without)[0], atol=1e-4)


def test_fibres_are_as_many_as_their_field_has_zeros():
    waves = Waves(*(torch.tensor([[value]]) for value in (2 * torch.pi / 20, 0.0, 0.0, 1.0)))
    level = Waves(*torch.zeros(4, 1, 0))  # half as dense as can be, without grain
    felt = Neuropil(waves, level, level, strength=torch.ones(1), width=torch.tensor([0.2]))
    scene = dataclasses.replace(scenes('empty', 1)[0].scene, neuropil=felt)
    nothing = dataclasses.replace(felt, strength=torch.zeros(1))
    axis = torch.arange(0.0, 100.0)[None]
    bare = dataclasses.replace(scene, plume=without_light(scene.plume), neuropil=nothing)
    lit = dataclasses.replace(bare, neuropil=felt)
    ratio = (render_at(lit, axis, axis) / render_at(bare, axis, axis))[0]
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio), atol=1e-3)  # the wave goes along x
    peaks = ((ratio[0, 1:-1] > ratio[0, :-2]) & (ratio[0, 1:-1] > ratio[0, 2:])).sum()
    assert peaks == 10 and ratio.max() == pytest.approx(1.5, abs=0.01)


def test_a_sessions_fibres_are_as_bright_and_the_typical_one_has_half_a_pixel():
    pieces = [draw_scene('neuropil', seed=5, epoch=0, index=i).scene.neuropil for i in range(40)]
    sessions = [pieces[i : i + SCENES_PER_SESSION] for i in range(0, 40, SCENES_PER_SESSION)]
    for own in sessions:
        assert len({float(felt.strength) for felt in own}) == 1
    assert len({float(own[0].strength) for own in sessions}) == len(sessions)
    for felt in pieces:
        web = felt.web
        steepness = (web.amplitude.square() * (web.kx.square() + web.ky.square())).sum() / 2
        assert float(felt.width / steepness.sqrt()) >= 0.5 - 1e-6


def test_gradients_of_a_padded_batch_are_finite():
    drawn = [
        d.scene for r, n in (('crowded', 2), ('standard', 4), ('neuropil', 2)) for d in scenes(r, n)
    ]
    scene = stack(drawn)
    tip = scene.pipettes.tip.requires_grad_()
    (gradient,) = torch.autograd.grad(render(scene, (64, 64)).square().sum(), tip)
    assert gradient.isfinite().all()


@pytest.mark.parametrize('recipe', ['standard', 'diffraction'])
def test_a_window_renders_as_the_frame_does(recipe):
    scene = scenes(recipe, 1)[0].scene
    ys, xs = torch.arange(40.0, 60.0)[None], torch.arange(90.0, 130.0)[None]
    assert torch.allclose(render_at(scene, ys, xs), render(scene)[:, 40:60, 90:130], atol=1e-4)


@pytest.mark.parametrize('recipe', ['standard', 'brightfield', 'diffraction', 'slice'])
def test_the_image_is_differentiable_in_every_tip(recipe):
    scene = scenes(recipe, 1, seed=8)[0].scene
    tip = scene.pipettes.tip.clone().requires_grad_()
    pipettes = dataclasses.replace(scene.pipettes, tip=tip)
    scene = dataclasses.replace(scene, pipettes=pipettes)
    xs = ys = torch.arange(256.0)[None]
    image = render_at(scene, ys, xs)
    weight = torch.rand(image.shape)
    (gradient,) = torch.autograd.grad((image * weight).sum(), tip)
    assert gradient.isfinite().all() and (gradient.abs() > 0).all()
    step = torch.zeros_like(tip)
    step[0, 0, 0] = 0.02
    moved = [
        dataclasses.replace(scene, pipettes=dataclasses.replace(pipettes, tip=tip.detach() + s))
        for s in (step, -step)
    ]
    ahead, behind = ((render_at(m, ys, xs) * weight).double().sum() for m in moved)
    assert ((ahead - behind) / 0.04).item() == pytest.approx(gradient[0, 0, 0].item(), rel=0.03)


def test_a_brighter_mark_and_more_photons_raise_the_cnr():
    scene = scenes('standard', 1, seed=2)[0].scene
    base = contrast_to_noise(scene)
    louder = dataclasses.replace(scene.pipettes, mark=scene.pipettes.mark * 3 + 1)
    assert (contrast_to_noise(dataclasses.replace(scene, pipettes=louder)) > base).all()
    sensor = dataclasses.replace(scene.sensor, photons=scene.sensor.photons * 4)
    assert (contrast_to_noise(dataclasses.replace(scene, sensor=sensor)) > base).all()
    assert contrast_to_noise(scene.without(0))[0, 0] == 0
    dimmer = contrast_to_noise(scene, light=lambda *where: 0.5 * render_at(*where))
    assert (dimmer < base).all()


def test_photons_have_poisson_mean_and_variance_on_both_sides_of_the_switch():
    for mean in (0.5, 5.0, 9.9, 10.1, 40.0):
        counts = draw_photons(torch.full((400, 400), mean), torch.Generator().manual_seed(0))
        assert counts.mean().item() == pytest.approx(mean, rel=0.01)
        assert counts.var().item() == pytest.approx(mean, rel=0.03)
        assert counts.min() >= 0


def test_noise_is_what_noise_std_says():
    drawn = scenes('standard', 1, seed=11)[0]
    sensor = dataclasses.replace(
        drawn.scene.sensor,
        jitter=torch.zeros(1),
        bits=torch.tensor([16.0]),
        gain=torch.tensor([0.1]),
    )
    scene = dataclasses.replace(drawn.scene, sensor=sensor)
    brightness = torch.full((1, 256, 256), 0.8)
    image = expose(scene, brightness, torch.Generator().manual_seed(1))[0].astype(float)
    unit = (2**16 - 1) * sensor.gain.item()
    assert image.std() / unit == pytest.approx(
        noise_std(brightness, sensor).mean().item(), rel=0.03
    )


def test_detector_blur_keeps_the_mean_and_jitter_moves_less_than_a_pixel():
    image = torch.rand(2, 32, 32)
    blurred = detector_blur(image, torch.tensor([0.0, 0.2]))
    assert torch.allclose(blurred[0], image[0]) and blurred[1].std() < image[1].std()
    ramp = torch.arange(64.0).expand(1, 16, 64)
    moved = jitter_rows(ramp, torch.tensor([5.0]), torch.Generator().manual_seed(0))
    assert ((moved - ramp)[..., 1:-1].abs() <= 1 + 1e-5).all()


def test_tips_move_smoothly_in_time():
    drawn = scenes('standard', 1, seed=4)[0]
    path = torch.stack([drawn.at(t / 30).scene.pipettes.tip[0] for t in range(10)])
    assert torch.equal(path[0], drawn.scene.pipettes.tip[0])
    steps = path.diff(dim=0).norm(dim=-1)
    assert (steps > 0).all() and steps.max() < 10


@pytest.mark.parametrize('name', FROZEN_SETS)
def test_frozen_sets_come_out_as_their_manifests_say(name):
    for index in (0, 123, 499):
        drawn, cnr = frozen_scene(name, index)
        assert np.allclose(drawn.cnr, cnr, rtol=0.02, atol=0.01)


def test_frozen_standard_set_is_as_hard_as_it_was_meant_to_be():
    cnr = np.concatenate([row['cnr'] for row in frozen_module._manifest('standard')])
    assert 0.9 < np.median(cnr) < 1.1 and 0.08 < (cnr < 0.3).mean() < 0.12


def test_a_drifted_engine_is_noticed(monkeypatch):
    monkeypatch.setattr(frozen_module, 'SEED', frozen_module.SEED + 1)
    with pytest.raises(FrozenSetError, match='has changed'):
        frozen_scene('standard', 0)


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="no recipe named 'dark'; there are"):
        draw_scene('dark', seed=0, epoch=0, index=0)
    with pytest.raises(ValueError, match='no frozen set'):
        frozen_scene('easy', 0)
