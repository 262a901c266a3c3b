"""Pipettes in transmitted light: what any optics has to obey."""

from dataclasses import fields, replace

import torch

from pipedet.synthesis import diffraction, draw_scene, render, stack
from pipedet.synthesis.diffraction import transmitted
from pipedet.synthesis.limits import PARAMETERS, cramer_rao, slope
from pipedet.synthesis.render import along_and_across, draw_pipettes
from pipedet.synthesis.scene import Pipettes

WEAK = 2e-4  # difference of refractive indices that turns the phase by hundredths of a radian


def bath(index=0, **changes):
    """A scene, its pipette changed."""
    scene = draw_scene('diffraction', seed=4, epoch=0, index=8 * index).scene
    values = {
        name: torch.full_like(getattr(scene.pipettes, name), v) for name, v in changes.items()
    }
    return replace(scene, pipettes=replace(scene.pipettes, **values))


def with_optics(scene, **changes):
    values = {name: torch.full_like(getattr(scene.optics, name), v) for name, v in changes.items()}
    return replace(scene, optics=replace(scene.optics, **values))


def light_of(scene):
    """The light that its first pipette leaves, without what its bath does."""
    return transmitted(scene.pipettes.pick(0), scene.optics, scene.relief, scene.pixel_size_um)


def test_glass_like_the_bath_is_not_seen():
    scene = with_optics(bath(), index=0.0)
    assert torch.allclose(light_of(scene), torch.ones(()), atol=2e-3)
    assert torch.allclose(render(scene), render(scene.bare()), atol=2e-3)


def test_thin_glass_is_seen_out_of_focus_only_and_with_the_other_sign_on_the_other_side():
    def change(height):
        scene = bath(z_um=height, tilt=0.0, taper=0.0)
        return light_of(with_optics(scene, index=WEAK, condenser=0.0, aperture=0.8)) - 1

    above, below = change(5.0), change(-5.0)
    assert above.abs().max() > 3 * change(0.0).abs().max()
    assert torch.allclose(above, -below, atol=0.1 * above.abs().max().item())


def test_what_passes_the_aperture_is_spread_and_not_lost():
    scene = with_optics(bath(z_um=8.0, tilt=0.0, taper=0.0), index=2e-3, aperture=0.9)
    mean = light_of(scene).mean(dim=2)
    assert torch.allclose(mean, torch.ones(()), atol=5e-3)


def test_thick_walls_are_dark():
    scene = with_optics(bath(z_um=0.0, tilt=0.3, taper=0.3, wall=0.6), aperture=0.3, condenser=0.1)
    assert light_of(scene).amin(dim=2)[0, 150:].max() < 0.3


def test_light_ahead_of_the_tip_is_the_bath_s():
    scene = bath(z_um=-8.0)
    far_ahead = light_of(scene)[:, :5]
    assert torch.allclose(far_ahead, torch.ones(()), atol=0.02)


def test_a_pipette_shows_where_it_crosses_the_focal_plane():
    """Below the focus the dark begins where the shaft crosses it, not at the tip."""
    scene = with_optics(
        bath(z_um=-10.0, tilt=0.5, taper=0.3, mouth=0.6, wall=0.6), aperture=0.5, condenser=0.02
    )
    dark = 1 - light_of(scene).amin(dim=2)[0]
    crossing_px = 10.0 / torch.tan(torch.tensor(0.5)) / scene.pixel_size_um
    tip, waist = int(32 / 0.6), int((32 + crossing_px) / 0.6)
    assert dark[tip + 4 : waist - 4].mean() < 0.8 * dark[waist + 20 : 150].mean()


def test_the_bound_is_finite():
    for scene in (bath(), with_relief(bath(), 1.0, 0.5, 0.3)):
        bound = cramer_rao(scene)
        assert bound.isfinite().all() and (bound > 0).all() and (bound < 2).all()


def test_a_weak_rod_has_the_contrast_that_its_defocus_transfers():
    """2 sin(pi lambda z f^2 / n) times the phase; a thick rod is a lens: bright on the far side."""
    radius, wavelength, um = 3.0, 0.6, 0.75
    for height in (-6.0, 6.0):
        scene = bath(z_um=height, tilt=0.0, taper=0.0, mouth=radius, wall=0.0)
        scene = replace(scene, pixel_size_um=torch.tensor([um]))
        scene = with_optics(
            scene, index=WEAK, wavelength_um=wavelength, aperture=0.8, condenser=0.0
        )
        light = light_of(scene)[0, 150] - 1
        room = 24.0 + 1.5 * radius + 0.3 * abs(height)
        x = torch.linspace(-room, room, len(light) + 1)[:-1]
        thickness = 2 * (radius**2 - x.square()).clamp(min=0).sqrt()
        f = torch.fft.fftfreq(len(x), float(x[1] - x[0]))
        transfer = -2 * torch.sin(torch.pi * wavelength / 1.33 * height * f.square())
        seen = transfer * torch.exp(-((f * wavelength / 0.8) ** 8))
        seen = seen * torch.exp(-2 * (torch.pi * f).square() * um**2 / 12)
        phase = 2 * torch.pi / wavelength * WEAK * thickness
        expected = torch.fft.ifft(torch.fft.fft(phase) * seen).real
        assert (light - expected).abs().max() < 0.04 * expected.abs().max()
        assert light[len(light) // 2].sign() == -torch.tensor(height).sign()


def with_relief(scene, strength, shear_x, shear_y):
    return replace(scene, relief=torch.tensor([[strength, shear_x, shear_y]]))


def test_interference_contrast_shows_the_slope_of_thin_glass_and_not_the_glass():
    """In focus: the difference of the phase a shear apart, in the tissue's contrast."""
    flat = bath(z_um=0.0, tilt=0.0, taper=0.0, mouth=3.0, wall=0.0, angle=0.0)
    flat = with_optics(flat, index=WEAK, aperture=0.9, condenser=0.0)
    seen = light_of(with_relief(flat, 1.6, 0.0, 1.0))[0, 150] - 1
    assert light_of(flat).sub(1).abs().max() < 0.1 * seen.abs().max()
    um = flat.pixel_size_um.item()
    x = torch.linspace(-28.5, 28.5, len(seen) + 1)[:-1]

    def phase(x):
        wavelength = flat.optics.wavelength_um.item()
        return 4 * torch.pi / wavelength * WEAK * (9 - x.square()).clamp(min=0).sqrt()

    expected = 1.6 / 0.8 * (phase(x + um) - phase(x - um))
    assert torch.corrcoef(torch.stack([seen, expected]))[0, 1] > 0.97
    assert 0.8 < seen.abs().max() / expected.abs().max() < 1.1


def test_a_slanted_shaft_has_the_relief_that_tissue_of_its_thickness_has():
    """At the tip and far behind it, the shear nearly along the shaft."""
    strength, shear = 1.6, torch.tensor([-0.6, 0.8])
    scene = bath(
        z_um=0.0, tilt=0.0, taper=0.4, flare=1e9, mouth=1.5, wall=0.0, angle=2.3, depth=1.0
    )
    angle = torch.tensor([[2.3]])
    pipettes = replace(scene.pipettes, tip=torch.tensor([[[128.0, 128.0]]]), angle=angle)
    scene = with_optics(replace(scene, pipettes=pipettes), index=WEAK, aperture=0.9, condenser=0.0)
    scene = with_relief(scene, strength, *shear.tolist())
    axis = torch.arange(256.0)[None]
    bare = torch.ones(1, 256, 256)
    seen = draw_pipettes(bare, scene, axis, axis)[0] - 1

    def thickness(shift):
        p = scene.pipettes.pick(0)
        along, across = along_and_across(p, axis + shift[1], axis + shift[0])
        um = scene.pixel_size_um
        radius = p.mouth[..., None] + um * p.half_width(along.clamp(min=0))
        half = (radius.square() - (um * across).square()).clamp(min=0).sqrt()
        return (2 * half * (along > 0))[0], along[0]

    (ahead, along), (behind, _) = thickness(shear), thickness(-shear)
    turn = 2 * torch.pi / scene.optics.wavelength_um * WEAK  # radians a um
    expected = strength / 0.8 * turn * (ahead - behind)
    for first, last in ((3, 25), (32, 60)):
        part = (along > first) & (along < last)
        assert torch.corrcoef(torch.stack([seen[part], expected[part]]))[0, 1] > 0.9
        assert 0.7 < seen[part].std() / expected[part].std() < 1.05


def test_half_a_turn_of_the_shear_mirrors_the_pipette():
    scene = bath(angle=0.0)
    one, other = (light_of(with_relief(scene, 1.0, 0.0, shear)) for shear in (0.8, -0.8))
    assert torch.allclose(one[..., 1:], other[..., 1:].flip(2), atol=2e-3)
    assert (one - other).abs().max() > 0.1


def test_a_shear_along_the_shaft_shows_the_tip():
    """Ahead of the tip nothing; behind it what does not change along the shaft is flat again."""
    flat = bath(z_um=0.0, tilt=0.0, taper=0.0, mouth=2.0, wall=0.0, angle=0.0)
    flat = with_optics(flat, index=WEAK, aperture=0.9, condenser=0.0)
    seen = (light_of(with_relief(flat, 1.6, 1.0, 0.0)) - 1).abs().amax(dim=2)[0]
    tip = int(32 / 0.6)
    assert seen[tip - 3 : tip + 3].max() > 5 * max(seen[:20].max(), seen[tip + 15 : tip + 40].max())


def test_a_scene_without_interference_is_the_same_beside_one_with_it():
    plain, sheared = bath(0), with_relief(bath(1), 1.2, 0.7, -0.5)
    both = render(stack([plain, sheared]))
    assert torch.allclose(both[:1], render(plain), atol=1e-4)
    assert torch.allclose(both[1:], render(sheared), atol=1e-4)


def test_both_sides_of_the_axis_are_alike():
    light = light_of(bath(2))
    assert torch.allclose(light[..., 1:], light[..., 1:].flip(2), atol=1e-3)


def test_finer_cross_sections_show_the_same(monkeypatch):
    scene = bath(1, tilt=0.4, taper=0.3)
    coarse = render(scene)
    monkeypatch.setattr(diffraction, '_ACROSS', 768)
    assert (render(scene) - coarse).square().mean().sqrt() < 0.02


def test_the_slope_by_the_taper_is_what_a_difference_shows():
    scene = bath(2, taper=0.3)
    ahead, behind = (
        render(replace(scene, pipettes=replace(scene.pipettes, taper=scene.pipettes.taper + d)))
        for d in (2e-3, -2e-3)
    )
    difference, told = (ahead - behind) / 4e-3, slope(scene, 0, 'taper')
    pair = torch.stack([difference.flatten(), told.flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.8


def test_a_bound_without_knowledge_of_the_glass_is_larger(monkeypatch):
    scene = bath()
    unknown = cramer_rao(scene)
    monkeypatch.setitem(PARAMETERS, scene.modality, ('x', 'y', 'angle', 'taper', 'depth'))
    assert (cramer_rao(scene) < unknown).all()


def test_scenes_of_no_one_and_two_pipettes_stack():
    single = [draw_scene('diffraction', seed=4, epoch=0, index=i).scene for i in (30, 7, 0)]
    assert [s.pipettes.tip.shape[1] for s in single] == [0, 2, 1]
    both = stack(single)
    for one, alone in zip(render(both), map(render, single), strict=True):
        assert torch.allclose(one, alone[0], atol=1e-4)
    leaves = {
        f.name: getattr(both.pipettes, f.name).requires_grad_() for f in fields(both.pipettes)
    }
    render(replace(both, pipettes=Pipettes(**leaves))).square().sum().backward()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves.values())
