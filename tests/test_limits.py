"""The Cramer-Rao bound: what must hold of it whatever the scene."""

from dataclasses import replace

import pytest
import torch

from pipedet.synthesis.limits import PARAMETERS, cramer_rao, slope, tip_covariance
from pipedet.synthesis.render import render
from pipedet.synthesis.stream import draw_scene

SIZE = (256, 256)


@pytest.fixture(scope='module')
def scene():
    drawn = draw_scene('clear', seed=5, epoch=0, index=8)
    assert drawn.labelled.any()
    return drawn.scene


def change_sensor(scene, **values):
    filled = {key: torch.full_like(scene.sensor.photons, v) for key, v in values.items()}
    return replace(scene, sensor=replace(scene.sensor, **filled))


def test_four_times_the_photons_halve_the_bound_and_noise_raises_it(scene):
    few = cramer_rao(change_sensor(scene, photons=20.0, read_noise=0.0))
    many = cramer_rao(change_sensor(scene, photons=80.0, read_noise=0.0))
    noisy = cramer_rao(change_sensor(scene, photons=20.0, read_noise=5.0))
    assert few.isfinite().all() and (few > 0).all()
    assert torch.allclose(few / many, torch.full_like(few, 2.0), rtol=1e-3)
    assert (noisy > few).all()


def test_the_bound_is_in_um(scene):
    larger = replace(scene, pixel_size_um=2 * scene.pixel_size_um)
    assert torch.allclose(cramer_rao(larger), 2 * cramer_rao(scene))


def test_a_pipette_that_is_not_there_cannot_be_located(scene):
    covariance = tip_covariance(scene.without(0), 0)
    assert covariance.isinf().all()
    assert cramer_rao(scene.without(0))[0, 0].isinf()


def test_knowing_more_never_widens_the_bound(scene, monkeypatch):
    free = cramer_rao(scene)
    monkeypatch.setitem(PARAMETERS, scene.modality, ('x', 'y', 'angle'))
    assert (cramer_rao(scene) <= free * 1.001).all()


@pytest.mark.parametrize('name', ['x', 'angle', 'depth'])
def test_slopes_are_those_of_finite_differences(scene, name):
    step = {'x': 0.05, 'angle': 1e-3, 'depth': 1e-3}[name]
    ends = []
    for sign in (-1, 1):
        field = 'tip' if name == 'x' else name
        value = getattr(scene.pipettes, field).clone()
        if name == 'x':
            value[:, 0, 0] += sign * step
        else:
            value[:, 0] += sign * step
        ends.append(
            render(replace(scene, pipettes=replace(scene.pipettes, **{field: value})), SIZE)
        )
    expected = (ends[1] - ends[0]) / (2 * step)
    off = slope(scene, 0, name, SIZE) - expected
    assert off.square().mean() < 1e-3 * expected.square().mean()
