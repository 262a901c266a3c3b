"""ONNX Runtime gives the predictions that torch gives."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

import pipedet
from pipedet.models import onnx_network
from pipedet.models.fusing import fuse
from pipedet.models.onnx_network import OnnxNetwork, run_by
from pipedet.models.tip_detector import build_detector
from pipedet.synthesis import draw_scene

CONFIGS = Path(__file__).parent.parent / 'configs'


def detector(name, **changes):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.merge_from_dict(changes)
    torch.manual_seed(0)
    return fuse(build_detector(config.model).eval()).requires_grad_(False)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('quickstart', {}),  # one tensor, the mean of eight views
        ('tipnet_n', {}),  # maps and a summary
        ('small/ours', {'model.enhancer': None}),  # maps and slots, a transformer
    ],
)
def test_predictions_are_those_of_torch(name, changes):
    model = detector(name, **changes)
    images = torch.randn(1, 1, 128, 128)
    points, scores = model.read(images)
    others, other_scores = run_by('onnxruntime', model).read(images)
    torch.testing.assert_close(other_scores, scores, rtol=1e-4, atol=1e-5)
    sure = scores > 0.01  # of an untrained map, peaks of the same height may change places
    torch.testing.assert_close(others[sure], points[sure], rtol=1e-4, atol=1e-2)


def test_the_model_that_ships_finds_the_same_tips():
    image = draw_scene('clear', seed=5, epoch=0, index=3).capture()
    tips, same = (pipedet.load(runtime=r)(image, (0.76, 0.76)) for r in onnx_network.RUNTIMES)
    assert len(tips.scores)
    np.testing.assert_allclose(same.points_px, tips.points_px, atol=1e-3)
    np.testing.assert_allclose(same.scores, tips.scores, atol=1e-4)
    np.testing.assert_allclose(same.covariance_px, tips.covariance_px, rtol=1e-3)


def test_every_shape_is_translated_once(monkeypatch):
    translated = []
    monkeypatch.setattr(
        OnnxNetwork, '_translate', lambda self, images: translated.append(images.shape)
    )
    network = OnnxNetwork(torch.nn.Identity())
    for size in (32, 48, 32):
        with pytest.raises(TypeError):  # None is no session
            network(torch.zeros(1, 1, size, size))
    assert translated == [(1, 1, 32, 32), (1, 1, 48, 48)]


def test_what_cannot_be_is_told(monkeypatch):
    model = detector('tipnet_n')
    with pytest.raises(ValueError, match='there are torch, onnxruntime'):
        run_by('onnx', model)
    with pytest.raises(ValueError, match='eval mode'):
        run_by('onnxruntime', model.train())
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install -e "\.\[onnx\]"'):
        run_by('onnxruntime', model.eval())
