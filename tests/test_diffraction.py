"""Pipettes in transmitted light: what any optics has to obey."""

from dataclasses import replace

import pytest
import torch

from pipedet.synthesis import draw_scene, render, stack
from pipedet.synthesis.diffraction import transmitted
from pipedet.synthesis.limits import cramer_rao

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
    return transmitted(scene.pipettes.pick(0), scene.optics, scene.pixel_size_um)[0]


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


def test_heights_are_labelled_and_the_bound_is_finite():
    scene = bath()
    bound = cramer_rao(scene)
    assert bound.isfinite().all() and (bound > 0).all() and (bound < 2).all()


@pytest.mark.parametrize('index', range(3))
def test_scenes_stack(index):
    both = stack([bath(index), bath(index + 1)])
    alone = render(bath(index))
    assert torch.allclose(render(both)[:1], alone, atol=1e-4)
