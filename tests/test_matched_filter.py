"""The matched filter: before Gaussian noise it finds what it is told of, wherever that is."""

from dataclasses import replace

import pytest
import torch

from pipedet.synthesis.clutter import PERIOD
from pipedet.synthesis.matched_filter import best_fit
from pipedet.synthesis.render import render
from pipedet.synthesis.stream import draw_scene


@pytest.fixture(scope='module')
def scene():
    scene = draw_scene('clear', seed=5, epoch=0, index=8).scene
    for other in reversed(range(1, scene.pipettes.tip.shape[1])):
        scene = scene.without(other)
    return scene


def noisy(scene, variance):
    with_it, without = (render(s)[0].clamp(min=1e-3) for s in (scene, scene.bare()))
    noise = torch.randn(with_it.shape, generator=torch.Generator().manual_seed(0))
    return ((with_it / without).log() + variance**0.5 * noise).exp()


@pytest.mark.parametrize('place', [(5.3, 30.0), (128.0, 128.0), (250.0, 247.6), (200.0, 6.0)])
def test_a_tip_is_found_anywhere(scene, place):
    tip = torch.tensor(place)
    moved = replace(scene, pipettes=replace(scene.pipettes, tip=tip.view(1, 1, 2)))
    white = torch.full((PERIOD, PERIOD), 0.05, dtype=torch.float64)
    found = best_fit(moved, noisy(moved, 0.05), white, turns=12)
    assert (found - tip).norm() < 2.5


def test_what_is_not_there_is_found_anywhere_else(scene):
    white = torch.full((PERIOD, PERIOD), 0.05, dtype=torch.float64)
    empty = noisy(scene.bare(), 0.05)
    assert (best_fit(scene, empty, white, turns=4) - scene.pipettes.tip[0, 0]).norm() > 5
