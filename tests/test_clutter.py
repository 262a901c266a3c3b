"""The best linear observer before clutter: what must hold of it whatever the scene."""

import numpy as np
import pytest
import torch

from pipedet.synthesis.clutter import (
    background_spectrum,
    cramer_rao_in_clutter,
    detectability,
    found_among,
)
from pipedet.synthesis.limits import cramer_rao
from pipedet.synthesis.render import render
from pipedet.synthesis.stream import backgrounds_of_session, draw_scene


@pytest.fixture(scope='module')
def drawn():
    found = draw_scene('clear', seed=5, epoch=0, index=8)
    assert found.labelled.any()
    return found


@pytest.fixture(scope='module')
def spectrum(drawn):
    return background_spectrum(backgrounds_of_session(drawn, 6))


def test_before_no_clutter_noise_alone_is_left(drawn, spectrum):
    nothing = torch.zeros_like(spectrum)
    assert cramer_rao_in_clutter(drawn.scene, 0, nothing) == pytest.approx(
        float(cramer_rao(drawn.scene)[0, 0]), rel=0.02
    )


@pytest.mark.parametrize('variance', [0.01, 0.3])
def test_clutter_of_one_power_everywhere_is_noise(drawn, spectrum, variance):
    sensor = drawn.scene.sensor
    with_it, without = (render(s)[0].double() for s in (drawn.scene, drawn.scene.without(0)))
    charge = with_it * sensor.photons
    noise = ((1 + sensor.excess) * charge + sensor.read_noise**2) / charge.square()
    expected = ((with_it / without).log().square() / (noise + variance)).sum().sqrt()
    white = torch.full_like(spectrum, variance)
    assert detectability(drawn.scene, 0, white) == pytest.approx(float(expected), rel=1e-3)


def test_clutter_hides_a_tip_and_blurs_its_place(drawn, spectrum):
    scene = drawn.scene
    seen = [detectability(scene, 0, share * spectrum) for share in (0.0, 0.1, 1.0)]
    assert seen[0] > seen[1] > seen[2] > 0
    bounds = [cramer_rao_in_clutter(scene, 0, share * spectrum) for share in (0.0, 0.1, 1.0)]
    assert 0 < bounds[0] < bounds[1] < bounds[2]


def test_a_pipette_that_is_not_there_cannot_be_told(drawn, spectrum):
    assert detectability(drawn.scene.without(0), 0, spectrum) == 0
    assert cramer_rao_in_clutter(drawn.scene.without(0), 0, spectrum) == float('inf')


def test_a_spectrum_holds_the_variance_of_its_backgrounds_whatever_their_brightness():
    noise = 0.2 * torch.randn(4, 256, 256, generator=torch.Generator().manual_seed(0))
    power = background_spectrum(noise.exp())
    assert float(power.mean()) == pytest.approx(0.04, rel=0.02)
    assert torch.allclose(background_spectrum(7 * noise.exp()), power)
    assert torch.equal(power, power.T) and torch.equal(power[1:], power[1:].flip(0))


def test_backgrounds_of_a_session_are_its_own_tissue_elsewhere(drawn):
    first, second = backgrounds_of_session(drawn, 2)
    again, _ = backgrounds_of_session(drawn, 2)
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert first.shape == (256, 256) and not torch.equal(first, render(drawn.scene.bare())[0])


def test_who_searches_a_frame_finds_what_stands_out_of_as_many_places():
    # One other place: the better of two normal answers, a standard error of sqrt(2) apart.
    assert found_among([0.0, 1.0], places=1) == pytest.approx([0.5, 0.7602], abs=1e-4)
    assert found_among([0.0], places=99) == pytest.approx([0.01], abs=1e-4)
    chances = found_among(np.arange(0, 12.0), places=1e5)
    assert np.all(np.diff(chances) >= 0) and chances[-1] == pytest.approx(1)
    assert np.all(found_among(np.arange(2, 7.0), places=1e6) < chances[2:7])
